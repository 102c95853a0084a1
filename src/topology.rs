//! Which stage reads what and writes what: pure data, and the only owner of topic names.
//!
//! ```text
//! urls.high 24 ┐
//! urls      12 ├► fetch ─► pages ─► extract ─► documents ─► enrich ─► enriched ─► index
//! urls.bulk  3 ┘    └► urls (a redirect to another host)
//! every stage ─► <stage>.retry.1 … .4     every stage ─► <stage>.dlq     every stage ─► status
//! ```
//!
//! `topics/*.toml` describes the same topics for people and for tools that create them; a test holds the two together.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record::codec::Ids;
use crate::record::schemas::Schema;
use crate::record::{Kind, StatusEvent};

/// Topic of the high-priority lane.
pub const URLS_HIGH: &str = "urls.high";
/// Topic of the normal lane.
pub const URLS: &str = "urls";
/// Topic of the bulk lane.
pub const URLS_BULK: &str = "urls.bulk";
/// Topic of fetched pages.
pub const PAGES: &str = "pages";
/// Topic of extracted documents.
pub const DOCUMENTS: &str = "documents";
/// Topic of enriched documents, the pipeline's output.
pub const ENRICHED: &str = "enriched";
/// Topic of status events.
pub const STATUS: &str = "status";
/// Topic of replay markers: key `topic/partition/offset` of the letter.
pub const REPLAYS: &str = "replays";
/// Topic of jobs (JSON); key: job id.
pub const JOBS: &str = "jobs";
/// Retry topics a stage has, whatever the ladder.
pub const TIERS: usize = 4;
/// Partitions of every topic a stage reads. They are equal so that one member owns a host in all of them.
pub const PARTITIONS: u32 = 12;

/// A stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageName {
    Fetch,
    Extract,
    Enrich,
    Index,
}

impl StageName {
    /// In the order of the pipeline.
    pub const ALL: [StageName; 4] = [StageName::Fetch, StageName::Extract, StageName::Enrich, StageName::Index];

    /// Lower-case name: topic prefix, metric label, command line.
    pub fn as_str(self) -> &'static str {
        match self {
            StageName::Fetch => "fetch",
            StageName::Extract => "extract",
            StageName::Enrich => "enrich",
            StageName::Index => "index",
        }
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for StageName {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        StageName::ALL
            .into_iter()
            .find(|n| n.as_str() == s)
            .ok_or_else(|| format!("no stage is called {s:?}; stages are fetch, extract, enrich, index"))
    }
}

/// A topic a stage reads, without its retry topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// Name without prefix.
    pub topic: &'static str,
    /// Share of admissions while several inputs have work.
    pub weight: u32,
}

/// Share of admissions of each retry topic; replays enter the first, so that they take no more than a thirteenth from live
/// work of the usual lane, whatever waits there.
pub const RETRY_WEIGHT: u32 = 1;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageDef {
    /// The stage.
    pub name: StageName,
    /// What its inputs carry.
    pub reads: Kind,
    /// Its input topics.
    pub inputs: &'static [Input],
    /// Topic of each kind of record it may emit.
    pub outputs: &'static [(Kind, &'static str)],
}

/// The table.
pub const STAGES: [StageDef; 4] = [
    StageDef {
        name: StageName::Fetch,
        reads: Kind::UrlTask,
        inputs: &[
            Input { topic: URLS_HIGH, weight: 24 },
            Input { topic: URLS, weight: 12 },
            Input { topic: URLS_BULK, weight: 3 },
        ],
        outputs: &[(Kind::Page, PAGES), (Kind::UrlTask, URLS)],
    },
    StageDef {
        name: StageName::Extract,
        reads: Kind::Page,
        inputs: &[Input { topic: PAGES, weight: 24 }],
        outputs: &[(Kind::Document, DOCUMENTS)],
    },
    StageDef {
        name: StageName::Enrich,
        reads: Kind::Document,
        inputs: &[Input { topic: DOCUMENTS, weight: 24 }],
        outputs: &[(Kind::Enriched, ENRICHED)],
    },
    StageDef {
        name: StageName::Index,
        reads: Kind::Enriched,
        inputs: &[Input { topic: ENRICHED, weight: 24 }],
        outputs: &[],
    },
];

/// The row of a stage.
pub fn stage(name: StageName) -> &'static StageDef {
    &STAGES[name as usize]
}

impl StageDef {
    /// Name of retry topic `tier`, counted from 0.
    pub fn retry(&self, tier: usize) -> String {
        format!("{}.retry.{}", self.name, tier + 1)
    }

    /// Name of the dead-letter topic.
    pub fn dlq(&self) -> String {
        format!("{}.dlq", self.name)
    }

    /// Every topic it reads with its weight: the inputs, then the retry topics.
    pub fn subscribed(&self) -> Vec<(String, u32)> {
        let inputs = self.inputs.iter().map(|i| (i.topic.to_owned(), i.weight));
        inputs.chain((0..TIERS).map(|t| (self.retry(t), RETRY_WEIGHT))).collect()
    }
}

/// The topics that carry one schema's records and no others, with the schema's name: what a registry holds under their
/// names. Retry and dead-letter topics are none of them: they keep what came, byte for byte.
pub fn schemas() -> Vec<(&'static str, &'static str)> {
    let inputs = STAGES.iter().flat_map(|def| def.inputs.iter().map(|i| (i.topic, def.reads.schema())));
    inputs.chain([(STATUS, StatusEvent::NAME)]).collect()
}

/// Prepends the configured prefix to topic names and takes it off again; and says in which framing their values are
/// written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    prefix: String,
    ids: Ids,
}

impl Names {
    /// A prefix such as `tidemill.`; may be empty.
    pub fn new(prefix: impl Into<String>) -> Names {
        Names { prefix: prefix.into(), ids: Ids::default() }
    }

    /// The same names, with the schema registry's ids of what is written.
    pub fn with_ids(self, ids: Ids) -> Names {
        Names { ids, ..self }
    }

    /// The framing of what is written.
    pub fn ids(&self) -> &Ids {
        &self.ids
    }

    /// Full name.
    pub fn full(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// Name without prefix; the name itself when it does not have it.
    pub fn bare<'a>(&self, topic: &'a str) -> &'a str {
        topic.strip_prefix(self.prefix.as_str()).unwrap_or(topic)
    }
}

/// A named list of delays: one delay a retry topic; the end of the list is the dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Ladder {
    /// 2, 4, 8 s: for a run that should end soon.
    Quick,
    /// 10 s, 1 m, 10 m, 1 h.
    #[default]
    Standard,
    /// 60 s · 2^n: 1, 2, 4, 8 minutes.
    Patient,
}

impl Ladder {
    /// The delays, shortest first.
    pub fn delays(self) -> &'static [Duration] {
        const fn s(n: u64) -> Duration {
            Duration::from_secs(n)
        }
        match self {
            Ladder::Quick => const { &[s(2), s(4), s(8)] },
            Ladder::Standard => const { &[s(10), s(60), s(600), s(3600)] },
            Ladder::Patient => const { &[s(60), s(120), s(240), s(480)] },
        }
    }

    /// How long a record waits in each retry topic before it moves on, shortest first: for a later attempt, or for its
    /// host's turn, which may be hours away. Each is several times the one before, so that a record is where it should be
    /// after a few moves, whatever it waits for; one with nothing but short ones moved hundreds of times.
    pub fn tiers(self) -> [Duration; TIERS] {
        const fn s(n: u64) -> Duration {
            Duration::from_secs(n)
        }
        match self {
            Ladder::Quick => [s(2), s(8), s(90), s(900)],
            Ladder::Standard => [s(10), s(60), s(600), s(3600)],
            Ladder::Patient => [s(60), s(240), s(960), s(3840)],
        }
    }

    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Ladder::Quick => "quick",
            Ladder::Standard => "standard",
            Ladder::Patient => "patient",
        }
    }
}

/// What a topic keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cleanup {
    /// Old records go by age.
    Delete,
    /// The last record of a key stays.
    Compact,
}

/// Settings of one topic, in Kafka's terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    /// Name without prefix.
    pub name: String,
    /// Number of partitions.
    pub partitions: u32,
    /// `cleanup.policy`.
    pub cleanup: Cleanup,
    /// `retention.ms`; -1 for ever.
    pub retention_ms: i64,
    /// `max.message.bytes`.
    pub max_message_bytes: u32,
    /// What it carries, in words.
    pub carries: String,
}

/// Kafka's name of [`Topic::cleanup`].
pub const CLEANUP_POLICY: &str = "cleanup.policy";
/// Kafka's name of [`Topic::retention_ms`].
pub const RETENTION_MS: &str = "retention.ms";
/// Kafka's name of [`Topic::max_message_bytes`].
pub const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

impl Topic {
    /// Its settings as Kafka spells them.
    pub fn settings(&self) -> [(&'static str, String); 3] {
        [
            (CLEANUP_POLICY, self.cleanup.as_str().to_owned()),
            (RETENTION_MS, self.retention_ms.to_string()),
            (MAX_MESSAGE_BYTES, self.max_message_bytes.to_string()),
        ]
    }
}

impl Cleanup {
    /// As `cleanup.policy` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Cleanup::Delete => "delete",
            Cleanup::Compact => "compact",
        }
    }
}

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
const MIB: u32 = 1 << 20;

/// Every topic, in the order of the pipeline.
pub fn topics() -> Vec<Topic> {
    let topic = |name: &str, retention_ms: i64, max_message_bytes: u32, carries: &str| Topic {
        name: name.to_owned(),
        partitions: PARTITIONS,
        cleanup: Cleanup::Delete,
        retention_ms,
        max_message_bytes,
        carries: carries.to_owned(),
    };
    let mut all = vec![
        topic(
            URLS_HIGH,
            7 * DAY,
            MIB,
            "URL tasks, admitted first: Avro (schemas/url_task.avsc), JSON or a bare URL; key: host",
        ),
        topic(URLS, 7 * DAY, MIB, "URL tasks: Avro (schemas/url_task.avsc), JSON or a bare URL; key: host"),
        topic(
            URLS_BULK,
            7 * DAY,
            MIB,
            "URL tasks, admitted last: Avro (schemas/url_task.avsc), JSON or a bare URL; key: host",
        ),
        topic(PAGES, DAY, 2 * MIB, "fetched pages (schemas/page.avsc); key: document id"),
        topic(DOCUMENTS, 3 * DAY, 12 * MIB, "extracted documents (schemas/document.avsc); key: document id"),
        topic(
            ENRICHED,
            7 * DAY,
            12 * MIB,
            "enriched documents (schemas/enriched.avsc), the pipeline's output; key: document id",
        ),
    ];
    for def in &STAGES {
        let size =
            def.inputs.iter().filter_map(|i| all.iter().find(|t| t.name == i.topic)).map(|t| t.max_message_bytes).max();
        // With room for the headers they get.
        let size = size.unwrap_or(MIB) + MIB;
        for tier in 0..TIERS {
            all.push(topic(
                &def.retry(tier),
                7 * DAY,
                size,
                &format!(
                    "records of {} that wait for delay {} of the retry ladder; key and value as they came",
                    def.name,
                    tier + 1
                ),
            ));
        }
        all.push(topic(
            &def.dlq(),
            30 * DAY,
            size,
            &format!("dead letters of {}; key, value and headers as they came, failure in headers", def.name),
        ));
    }
    all.push(topic(STATUS, 7 * DAY, MIB, "one event a step (schemas/status_event.avsc); key: task id"));
    for (name, carries) in [
        (JOBS, "jobs and how many URLs of each are submitted (JSON); key: job id"),
        (REPLAYS, "which dead letters were replayed (JSON); key: topic/partition/offset of the letter"),
    ] {
        all.push(Topic { cleanup: Cleanup::Compact, ..topic(name, -1, MIB, carries) });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::Path;

    /// `TOPICS=write cargo test topics_folder` writes the folder anew from the table.
    #[test]
    fn the_topics_folder_matches_the_table() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("topics");
        if std::env::var("TOPICS").is_ok_and(|v| v == "write") {
            for t in topics() {
                std::fs::write(dir.join(format!("{}.toml", t.name)), toml::to_string(&t).unwrap()).unwrap();
            }
        }
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let topic: Topic = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            assert_eq!(path.file_name().unwrap().to_str().unwrap(), format!("{}.toml", topic.name));
            files.insert(topic.name.clone(), topic);
        }
        let table: BTreeMap<_, _> = topics().into_iter().map(|t| (t.name.clone(), t)).collect();
        assert_eq!(files, table);
    }

    #[test]
    fn every_topic_a_stage_reads_has_the_same_partitions() {
        let all: BTreeMap<_, _> = topics().into_iter().map(|t| (t.name, t.partitions)).collect();
        for def in &STAGES {
            assert_eq!(stage(def.name), def, "the table is in the order of StageName");
            for (topic, _) in def.subscribed() {
                assert_eq!(all.get(&topic), Some(&PARTITIONS), "{topic}");
            }
            for (_, topic) in def.outputs {
                assert!(all.contains_key(*topic));
            }
        }
    }

    #[test]
    fn ladders_climb_and_fit_the_tiers() {
        for ladder in [Ladder::Quick, Ladder::Standard, Ladder::Patient] {
            assert!(ladder.delays().is_sorted() && ladder.tiers().is_sorted());
        }
    }
}
