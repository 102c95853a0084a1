//! One small event a step: what a stage said of a record. Jobs, progress and `explain` are read from these.

use serde::{Deserialize, Serialize};

use super::schemas::schema;

/// How a step ended (the engine's outcome, without its data).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// Handed on to the next topics.
    Emitted,
    /// Done, nothing to write.
    Done,
    /// Ended on purpose.
    Dropped,
    /// Failed, will be tried again.
    Retried,
    /// Waits for its turn.
    Parked,
    /// Rests in the dead letters.
    DeadLettered,
    /// Was put back from the dead letters; written by the replay, not by a stage.
    Replayed,
}

impl OutcomeKind {
    /// Every kind.
    pub const ALL: [OutcomeKind; 7] = [
        OutcomeKind::Emitted,
        OutcomeKind::Done,
        OutcomeKind::Dropped,
        OutcomeKind::Retried,
        OutcomeKind::Parked,
        OutcomeKind::DeadLettered,
        OutcomeKind::Replayed,
    ];

    /// The name in metrics and events.
    pub fn as_str(self) -> &'static str {
        match self {
            OutcomeKind::Emitted => "emitted",
            OutcomeKind::Done => "done",
            OutcomeKind::Dropped => "dropped",
            OutcomeKind::Retried => "retried",
            OutcomeKind::Parked => "parked",
            OutcomeKind::DeadLettered => "dead_lettered",
            OutcomeKind::Replayed => "replayed",
        }
    }

    /// Whether the record's way ends here.
    pub fn is_final(self) -> bool {
        matches!(self, OutcomeKind::Done | OutcomeKind::Dropped | OutcomeKind::DeadLettered)
    }
}

/// One step of one record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusEvent {
    /// Id of the input record.
    pub task: String,
    /// Job, if any.
    pub job: Option<String>,
    /// URL of the record at this step.
    pub url: String,
    /// Stage.
    pub stage: String,
    /// How it ended.
    pub outcome: OutcomeKind,
    /// Failure class or drop reason.
    pub class: Option<String>,
    /// One sentence.
    pub message: Option<String>,
    /// Attempts made at this stage, this one included.
    pub attempt: i32,
    /// Unix ms.
    pub at: i64,
    /// Time in the handler, ms.
    pub took_ms: f64,
    /// Time between the record's writing and its handling, ms.
    pub waited_ms: f64,
    /// Records handed on.
    pub emitted: i32,
    /// Unix ms until which it waits (retried, parked).
    pub until: Option<i64>,
    /// Trace id, 32 hex digits.
    pub trace: String,
}

schema!(StatusEvent, "status_event");
