//! The one place that puts stages, engine, transport, stores and sinks together.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::blob::folder::Folder;
use crate::blob::s3::S3;
use crate::blob::tiered::Tiered;
use crate::blob::{self, Blobs};
use crate::config::{self, Config};
use crate::engine::attempt::{Handler, Learning};
use crate::engine::route::Router;
use crate::engine::{Limits, Runner, StageWork};
use crate::enrich::stage::Enrich;
use crate::extract;
use crate::extract::stage::Extract;
use crate::fetch::stage::Fetch;
use crate::index::Index;
use crate::monitor::{self, Watched};
use crate::record::now_ms;
use crate::registry::{self, Registry};
use crate::sink::fanout::Fanout;
use crate::sink::jsonl::{JsonLines, Mode};
use crate::sink::opensearch::OpenSearchIndex;
use crate::sink::sqlite::SqliteIndex;
use crate::sink::{SearchIndex, Sink};
use crate::store::redis::RedisStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{self, Store};
use crate::topology::{self, Ladder, Names, StageName};
use crate::transport::Transport;
use crate::transport::kafka::Kafka;
use crate::transport::sqlite::Sqlite;
use crate::upstream::calls::Calls;

/// How often old records, store entries and blobs are swept, and old blobs archived.
const SWEEP: Duration = Duration::from_secs(600);
/// Longest time that blobs are archived before somebody looks at the clock again.
const ARCHIVING: Duration = Duration::from_secs(300);

/// Everything a run needs, opened.
pub struct Pipeline {
    /// What was configured.
    pub config: Config,
    /// Topic names.
    pub names: Names,
    /// The log.
    pub transport: Arc<dyn Transport>,
    registry: Option<Arc<Registry>>,
    store: Arc<dyn Store>,
    blobs: Arc<dyn Blobs>,
    /// What `blobs` are, if old ones move to an archive.
    tiers: Option<Arc<Tiered>>,
    /// The index; what is written goes to it through `sink`.
    pub index: Arc<dyn SearchIndex>,
    sink: Arc<dyn Sink>,
}

/// The cluster if there is one, else the embedded log.
fn transport(config: &Config) -> Result<Arc<dyn Transport>> {
    Ok(match config.kafka.brokers.is_empty() {
        true => Arc::new(Sqlite::open(&config.log_file())?),
        false => Arc::new(Kafka::open(&config.kafka, &config.data)?),
    })
}

/// The log alone, as it is.
pub async fn connect(config: &Config) -> Result<(Arc<dyn Transport>, Names)> {
    Ok((transport(config)?, Names::new(&config.prefix)))
}

/// The log as it is, and the framing of its values.
pub async fn connect_framed(config: &Config) -> Result<(Arc<dyn Transport>, Names)> {
    let (names, _) = open_registry(config).await?;
    Ok((transport(config)?, names))
}

/// The log alone, its topics made and their schemas registered: for commands that submit and look.
pub async fn open_log(config: &Config) -> Result<(Arc<dyn Transport>, Names)> {
    let (transport, names, _) = open_wire(config).await?;
    Ok((transport, names))
}

/// The log as it is: no topic is made. For tools that also work where there is no Tidemill.
pub async fn look_at_log(config: &Config) -> Result<(Arc<dyn Transport>, Names)> {
    let (names, _) = open_registry(config).await?;
    Ok((transport(config)?, names))
}

async fn open_wire(config: &Config) -> Result<(Arc<dyn Transport>, Names, Option<Arc<Registry>>)> {
    let (names, registry) = open_registry(config).await?;
    let transport = transport(config)?;
    let topics: Vec<_> =
        topology::topics().into_iter().map(|t| topology::Topic { name: names.full(&t.name), ..t }).collect();
    transport.create_topics(&topics).await?;
    Ok((transport, names, registry))
}

/// The framing of values. What a registry's ids mean is recalled even when none is configured any more.
async fn open_registry(config: &Config) -> Result<(Names, Option<Arc<Registry>>)> {
    let names = Names::new(&config.prefix);
    let folder = registry::Folder::recall(&config.schema_dir());
    if config.registry.url.is_empty() {
        return Ok((names, None));
    }
    let (registry, ids) = Registry::start(&config.registry, folder, &names).await?;
    Ok((names.with_ids(ids), Some(Arc::new(registry))))
}

/// The index alone: the cluster if there is one, else the embedded one. Within a runtime.
pub fn open_index(config: &Config) -> Result<Arc<dyn SearchIndex>> {
    Ok(match config.opensearch.is_set() {
        true => Arc::new(OpenSearchIndex::open(&config.opensearch, &config.prefix).map_err(anyhow::Error::msg)?),
        false => Arc::new(SqliteIndex::open(&config.index_file())?),
    })
}

/// The store: Redis if there is one, else the embedded one.
pub async fn open_store(config: &Config) -> Result<Arc<dyn Store>> {
    let (store, calls): (Arc<dyn Store>, Calls) = match config.store.redis.is_empty() {
        true => (Arc::new(SqliteStore::open(&config.store_file())?), Calls::embedded("store.sqlite")),
        false => {
            let redis = RedisStore::open(&config.store, &config.prefix).await?;
            (Arc::new(redis), Calls::remote("store.redis", &config.store.breaker))
        }
    };
    Ok(Arc::new(store::guarded::Guarded::new(store, calls)))
}

/// The blobs: in S3 if there is one, else in the folder; and what is old, in the archive if there is one.
pub async fn open_blobs(config: &Config) -> Result<Arc<dyn Blobs>> {
    Ok(match open_tiers(config).await? {
        Some(tiers) => Arc::new(tiers),
        None => open_first_blobs(config).await?,
    })
}

/// The two places of blobs, if there is an archive.
pub async fn open_tiers(config: &Config) -> Result<Option<Tiered>> {
    let (first, archive) = (&config.blob.s3, &config.blob.archive.s3);
    if archive.is_empty() {
        return Ok(None);
    }
    if first.trim_end_matches('/') == archive.trim_end_matches('/') {
        bail!("blob.archive.s3 is where blob.s3 puts bodies already: name another bucket or prefix");
    }
    let place = config::Blob { s3: archive.clone(), ..config.blob.clone() };
    let first = open_first_blobs(config).await?;
    let archive = S3::open(&place, &config.s3, &config.blob_dir().join("tmp")).await.context("blob.archive")?;
    let calls = Calls::remote("blob.archive", &config.blob.breaker);
    Ok(Some(Tiered::new(first, Arc::new(blob::guarded::Guarded::new(Arc::new(archive), calls)))))
}

/// Where bodies are put.
async fn open_first_blobs(config: &Config) -> Result<Arc<dyn Blobs>> {
    let (blobs, calls): (Arc<dyn Blobs>, Calls) = match config.blob.s3.is_empty() {
        true => {
            let folder = Folder::open(&config.blob_dir(), config.blob.compression)?;
            (Arc::new(folder), Calls::embedded("blob.folder"))
        }
        false => {
            let s3 = S3::open(&config.blob, &config.s3, &config.blob_dir().join("tmp")).await?;
            (Arc::new(s3), Calls::remote("blob.s3", &config.blob.breaker))
        }
    };
    Ok(Arc::new(blob::guarded::Guarded::new(blobs, calls)))
}

impl Pipeline {
    /// Opens or creates everything in the data folder.
    pub async fn open(config: Config) -> Result<Pipeline> {
        let (transport, names, registry) = open_wire(&config).await?;
        let index = open_index(&config)?;
        let tiers = open_tiers(&config).await?.map(Arc::new);
        let blobs: Arc<dyn Blobs> = match &tiers {
            Some(tiers) => Arc::clone(tiers) as _,
            None => open_first_blobs(&config).await?,
        };
        Ok(Pipeline {
            names,
            transport,
            registry,
            store: open_store(&config).await?,
            blobs,
            tiers,
            sink: index.clone(),
            index,
            config,
        })
    }

    /// Writes each document to a JSON-lines file too. A resumed file keeps what it has and gets nothing twice.
    pub fn also_write(&mut self, file: &Path, resume: bool) -> Result<()> {
        let lines = JsonLines::open(file, if resume { Mode::Resume } else { Mode::Fresh })?;
        self.sink = Arc::new(Fanout::new(vec![self.index.clone(), Arc::new(lines)]));
        Ok(())
    }

    /// A stage, ready to handle records.
    fn handler(&self, stage: StageName, ladder: Ladder) -> Result<Arc<dyn Handler>> {
        let inner: Arc<dyn Handler> = match stage {
            StageName::Fetch => Arc::new(self.fetch(ladder)?),
            StageName::Extract => Arc::new(self.extract()?),
            StageName::Enrich => Arc::new(self.enrich()),
            StageName::Index => Arc::new(self.index()),
        };
        Ok(match &self.registry {
            Some(registry) => Arc::new(Learning { inner, registry: Arc::clone(registry) }),
            None => inner,
        })
    }

    /// The fetch stage. With the quick ladder it waits for no host for long.
    pub fn fetch(&self, ladder: Ladder) -> Result<Fetch> {
        let mut config = self.config.clone();
        if ladder == Ladder::Quick {
            config.fetch.breaker.hasten();
            config.fetch.hosts.values_mut().for_each(|rule| rule.breaker.hasten());
        }
        Ok(Fetch::new(&config, Arc::clone(&self.store), Arc::clone(&self.blobs))?)
    }

    /// The extract stage.
    pub fn extract(&self) -> Result<Extract> {
        extract_stage(&self.config, Arc::clone(&self.blobs))
    }

    /// The enrich stage.
    pub fn enrich(&self) -> Enrich {
        Enrich { store: Arc::clone(&self.store), keep: self.config.store.keep }
    }

    /// The index stage.
    pub fn index(&self) -> Index {
        Index { sink: Arc::clone(&self.sink) }
    }

    /// Runs these stages until `stop`, or until one of them cannot go on.
    pub async fn run(&self, stages: &[StageName], ladder: Ladder, stop: CancellationToken) -> Result<()> {
        let engine = &self.config.engine;
        let (mut running, mut watched) = (JoinSet::new(), vec![]);
        for &stage in stages {
            let router =
                Router::new(topology::stage(stage), self.names.clone(), ladder.delays()).with_tiers(ladder.tiers());
            let limits = Limits {
                in_flight: self.config.in_flight(stage),
                in_flight_bytes: usize::try_from(engine.in_flight_bytes.as_u64()).unwrap_or(usize::MAX),
                commit_interval: self.config.commit_interval(),
                grace: engine.grace,
            };
            let runner = Runner::new(
                Arc::new(StageWork::new(self.handler(stage, ladder)?, router, self.config.deadline(stage))),
                limits,
            );
            watched.push(Watched::of(&runner, &self.names));
            let (transport, stop) = (Arc::clone(&self.transport), stop.clone());
            running.spawn(async move { (stage, runner.run(&*transport, stop).await) });
        }
        let archiving = self.tiers.clone().map(|t| tokio::spawn(archive(t, self.config.blob.archive.after)));
        // What moves is not swept, however long the archive has been away.
        let (swept, keep) = match &self.tiers {
            Some(tiers) => (tiers.first(), Duration::MAX),
            None => (&self.blobs, self.config.blob.keep),
        };
        let sweeper = tokio::spawn(sweep(
            Arc::clone(&self.transport),
            Arc::clone(&self.store),
            Arc::clone(swept),
            self.index.clone(),
            Kept { blobs: keep, tombstones: self.config.index.keep_tombstones },
        ));
        let watching = tokio::spawn(monitor::watch(Arc::clone(&self.transport), watched, self.config.lag_interval()));
        let mut first_error = None;
        while let Some(ended) = running.join_next().await {
            let error = match ended {
                Ok((_, Ok(()))) => None,
                Ok((stage, Err(e))) => Some(anyhow::Error::from(e).context(format!("{stage} stopped"))),
                Err(e) => Some(anyhow::Error::from(e).context("a stage's loop ended abnormally")),
            };
            if let Some(e) = error {
                first_error.get_or_insert(e);
                stop.cancel();
            }
        }
        sweeper.abort();
        archiving.inspect(|a| a.abort());
        watching.abort();
        let flushed = self.sink.flush().await.context("the sink could not be flushed");
        first_error.map_or(flushed, Err)
    }
}

/// The extract stage over any blob store.
pub fn extract_stage(config: &Config, blobs: Arc<dyn Blobs>) -> Result<Extract> {
    Ok(Extract {
        blobs,
        pool: crate::extract::pool(config.extract.threads())?,
        limits: extract::Limits { max_bytes: config.extract.max_bytes(), ..extract::Limits::default() },
        deadline: config.extract.deadline,
        large: Semaphore::new(2 * config.extract.threads()),
    })
}

/// Moves old blobs to the archive.
async fn archive(tiers: Arc<Tiered>, after: Duration) {
    loop {
        tokio::time::sleep(SWEEP).await;
        match tiers.move_old(after, Some(Instant::now() + ARCHIVING), |_| {}).await {
            Ok(moved) if moved.blobs == 0 => {}
            Ok(moved) => tracing::info!(blobs = moved.blobs, bytes = moved.bytes, "old blobs archived"),
            Err(e) => tracing::warn!(error = %e, "old blobs could not be archived"),
        }
    }
}

/// How long what is swept is kept.
struct Kept {
    blobs: Duration,
    tombstones: Duration,
}

async fn sweep(
    transport: Arc<dyn Transport>,
    store: Arc<dyn Store>,
    blobs: Arc<dyn Blobs>,
    index: Arc<dyn Sink>,
    keep: Kept,
) {
    loop {
        tokio::time::sleep(SWEEP).await;
        match transport.sweep().await {
            Ok(0) => {}
            Ok(records) => tracing::info!(records, "old records swept"),
            Err(e) => tracing::warn!(error = %e, "old records could not be swept"),
        }
        if let Err(e) = store.sweep(now_ms()).await {
            tracing::warn!(error = %e, "old store entries could not be swept");
        }
        if let Err(e) = blobs.sweep(keep.blobs).await {
            tracing::warn!(error = %e, "old blobs could not be swept");
        }
        let age = i64::try_from(keep.tombstones.as_millis()).unwrap_or(i64::MAX);
        if let Err(e) = index.sweep(now_ms().saturating_sub(age)).await {
            tracing::warn!(error = %e, "old tombstones could not be swept");
        }
    }
}
