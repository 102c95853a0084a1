//! The schema registry: ids for what we write, schemas for what others wrote.
//!
//! ```text
//! start   each topic that carries one schema ─► POST /subjects/<full topic name>-value/versions ─► id  (TopicNameStrategy)
//!                                               without auto_register: POST /subjects/<…>, which only looks
//! learn   a record with an id never seen     ─► GET /schemas/ids/{id} ─► writers::learn ─► it can be decoded
//! ```
//!
//! A registry that is away at start is waited for (`registry.wait`). Later, writing needs it no more; a record that does
//! need it waits without an attempt. The same text gets the same id under every subject (Confluent and Apicurio alike), so
//! one id a schema is written, whatever the topic.

mod client;
mod folder;

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{error, info};

use crate::config;
use crate::record::codec::Ids;
use crate::record::schemas::schema_of;
use crate::record::writers::{self, LearnError};
use crate::topology::{self, Names};
use client::{Client, Failure};
pub use folder::Folder;

/// First wait for a registry that is away; each further one is twice as long.
const BACKOFF: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A registry found away is not asked again for so long: as long as a parked record waits.
const AGAIN: Duration = Duration::from_secs(2);
/// How long an id that cannot be read with counts as such, and how many are remembered.
const NEVER_FOR: Duration = Duration::from_secs(60);
const NEVER: u64 = 10_000;
/// Newest versions of the status topic's schema that are learned at start.
const VERSIONS: usize = 50;

/// Why a start failed, in one sentence with the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// May pass.
    #[error(
        "the schema registry at {url} is away: {why}; start it, or leave registry.url empty to go on in single-object encoding"
    )]
    Away { url: String, why: String },
    /// Only a person can mend it.
    #[error("{0}")]
    Refused(String),
}

/// Why an id was not learned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unlearned {
    /// The registry is away: it may be learned later.
    #[error("schema id {0} cannot be asked for: {1}")]
    Away(u32, String),
    /// It is not there, or it is nothing that can be read with.
    #[error("{0}")]
    Never(Arc<str>),
}

/// A registry in use.
pub struct Registry {
    client: Client,
    folder: Folder,
    /// One question at a time; since when the registry is away, and why.
    turn: Mutex<Option<(Instant, String)>>,
    never: Cache<u32, Arc<str>>,
}

impl Registry {
    /// Finds the ids of our schemas, registering them if that is configured; waits for a registry that is away.
    pub async fn start(
        config: &config::Registry,
        folder: Folder,
        names: &Names,
    ) -> Result<(Registry, Ids), RegistryError> {
        let client = Client::new(config)
            .map_err(|e| RegistryError::Refused(format!("registry.url {} cannot be used: {e}", config.url)))?;
        let never = Cache::builder().max_capacity(NEVER).time_to_live(NEVER_FOR).build();
        let registry = Registry { client, folder, turn: Mutex::default(), never };
        let until = Instant::now() + config.wait;
        let mut pause = BACKOFF;
        loop {
            match registry.announce(names, config.auto_register).await {
                Ok(ids) => return Ok((registry, ids)),
                Err(RegistryError::Away { url, why }) if Instant::now() + pause < until => {
                    if pause == BACKOFF {
                        // Nothing works until it is back, and until then nobody says so.
                        error!(%url, %why, "the schema registry is away; waiting up to {} s for it", config.wait.as_secs());
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF_MAX);
                }
                Err(e) => return Err(e),
            }
        }
    }

    async fn announce(&self, names: &Names, register: bool) -> Result<Ids, RegistryError> {
        let mut ids = vec![];
        for (topic, name) in topology::schemas() {
            let subject = subject(names, topic);
            let text = schema_of(name).unwrap_or_default();
            let found = match register {
                true => self.client.register(&subject, text).await,
                false => self.client.look_up(&subject, text).await,
            };
            let id = found.map_err(|e| self.refusal(e, name, &subject))?;
            self.note(id, text).await?;
            if !ids.iter().any(|(n, _)| *n == name) {
                ids.push((name, id));
            }
        }
        // Status is read outside the engine too, where no record can wait for a schema: what other versions of Tidemill
        // write there is learned beforehand.
        let subject = subject(names, topology::STATUS);
        let versions = self.client.versions(&subject).await.map_err(|e| self.refusal(e, "status_event", &subject))?;
        for version in versions.iter().rev().take(VERSIONS) {
            let found = self.client.version(&subject, *version).await;
            let found = found.map_err(|e| self.refusal(e, "status_event", &subject))?;
            self.note(found.id, &found.schema).await?;
        }
        Ok(ids.into_iter().collect())
    }

    async fn note(&self, id: u32, text: &str) -> Result<(), RegistryError> {
        match writers::learn(id, text) {
            Ok(()) => {
                self.folder.keep(id, text).await;
                Ok(())
            }
            // A version that somebody else put there; its records will say so themselves.
            Err(LearnError::Unusable(..)) => Ok(()),
            Err(e @ LearnError::Conflict(_)) => Err(RegistryError::Refused(format!(
                "{e}; {} has those of a registry other than {}: set registry.url back, or remove that folder when no topic holds records of the other registry any more",
                self.folder.path().display(),
                self.client.url()
            ))),
        }
    }

    fn refusal(&self, failure: Failure, schema: &str, subject: &str) -> RegistryError {
        let url = self.client.url();
        RegistryError::Refused(match failure {
            Failure::Away(why) => return RegistryError::Away { url: url.to_owned(), why },
            Failure::Said(409, _, said) => format!(
                "the schema registry at {url} refuses schemas/{schema}.avsc under subject {subject}, because it is not compatible with what is there ({said}): set another `prefix` if that subject is another application's, else delete the subject or relax its compatibility level"
            ),
            Failure::Said(422, _, said) => format!(
                "the schema registry at {url} does not take schemas/{schema}.avsc under subject {subject} ({said}): does it take Avro, and may this subject be written?"
            ),
            Failure::Said(status @ (401 | 403), _, _) => format!(
                "the schema registry at {url} answers {status} for subject {subject}: set registry.basic_auth to a \"user:password\" that may read and write it"
            ),
            Failure::Said(404, Some(40401 | 40403), _) => format!(
                "schemas/{schema}.avsc is not registered under subject {subject} of the schema registry at {url}: register it, or set registry.auto_register = true"
            ),
            Failure::Said(status, _, said) => format!(
                "{url} answers {status} {said}: set registry.url to the root of a Confluent schema registry API (Apicurio's is http://HOST:8080/apis/ccompat/v7)"
            ),
        })
    }

    /// Learns what an id means, so that its records can be decoded. Only one question is under way at a time, whoever
    /// asks.
    pub async fn learn(&self, id: u32) -> Result<(), Unlearned> {
        if let Some(why) = self.never.get(&id).await {
            return Err(Unlearned::Never(why));
        }
        let mut away = self.turn.lock().await;
        if writers::knows(id) {
            return Ok(());
        }
        if let Some(why) = self.never.get(&id).await {
            return Err(Unlearned::Never(why));
        }
        if let Some((_, why)) = away.as_ref().filter(|(since, _)| since.elapsed() < AGAIN) {
            return Err(Unlearned::Away(id, why.clone()));
        }
        let url = self.client.url();
        let why: Arc<str> = match self.client.schema(id).await {
            Ok(found) if found.schema_type.as_deref().is_some_and(|t| t != "AVRO") => {
                format!("schema id {id} of the schema registry at {url} is no Avro schema").into()
            }
            Ok(found) => match writers::learn(id, &found.schema) {
                Ok(()) => {
                    *away = None;
                    self.folder.keep(id, &found.schema).await;
                    info!(id, "learned a schema from the registry");
                    return Ok(());
                }
                Err(e) => e.to_string().into(),
            },
            Err(Failure::Said(404, Some(_), _)) => {
                format!("the schema registry at {url} knows no schema id {id}: was it written with another registry?")
                    .into()
            }
            Err(failure) => {
                let why = match failure {
                    Failure::Away(why) => format!("the schema registry at {url} is away: {why}"),
                    Failure::Said(status, _, said) => format!("the schema registry at {url} answers {status} {said}"),
                };
                *away = Some((Instant::now(), why.clone()));
                return Err(Unlearned::Away(id, why));
            }
        };
        *away = None;
        self.never.insert(id, Arc::clone(&why)).await;
        Err(Unlearned::Never(why))
    }
}

/// The subject of a topic's values (TopicNameStrategy).
fn subject(names: &Names, topic: &str) -> String {
    format!("{}-value", names.full(topic))
}
