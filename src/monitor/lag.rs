//! What a group has yet to finish.
//!
//! ```text
//! start ……… base ▒▒░▒░▒▒▒ highest done ░░░░░░ end      ▒ done   ░ waits, or is in work
//!            └──── gap ────┘                            lag: all ░
//! ```

use futures::future::try_join_all;
use serde::Serialize;

use crate::engine::offset_map::{self, Map};
use crate::topology::{Names, StageDef};
use crate::transport::{Bounds, Result, Transport};

/// How far a group is in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PartitionLag {
    pub partition: i32,
    /// Lowest offset the log still has.
    pub start: i64,
    /// Offset the next record will get.
    pub end: i64,
    /// Lowest offset that is not done.
    pub base: i64,
    /// Records that are not done. Where a log gives offsets to more than records (Kafka's transaction markers, compacted
    /// records), these count until the group has read past them.
    pub lag: i64,
    /// From base to the highest offset that is done; 0 when nothing beyond base is.
    pub gap: i64,
    /// Offsets in the gap that are not done.
    pub incomplete: i64,
}

impl PartitionLag {
    /// From what the log has and what the group committed, base and map; None: nothing yet. A map that cannot be read
    /// means that nothing beyond base is done, as it does to the engine.
    pub fn of(bounds: Bounds, committed: Option<(i64, &str)>) -> PartitionLag {
        let (committed, map) = committed.unwrap_or((bounds.start, ""));
        PartitionLag::at(bounds, committed, offset_map::decode(committed, map).as_ref())
    }

    /// The same from a base and what is done beyond it.
    pub fn at(bounds: Bounds, base: i64, done: Option<&Map>) -> PartitionLag {
        let Bounds { partition, start, end } = bounds;
        // What the log deleted by age is nobody's work.
        let base = base.max(start);
        let (gap, incomplete, done) = done.filter(|m| m.high >= base).map_or((0, 0, 0), |m| {
            let incomplete = i64::try_from(m.incomplete.range(base..).count()).unwrap_or(i64::MAX);
            (m.high - base, incomplete, m.high - base + 1 - incomplete)
        });
        PartitionLag { partition, start, end, base, lag: (end - base - done).max(0), gap, incomplete }
    }
}

/// How far a stage is in one of its topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicLag {
    /// Name without prefix.
    pub topic: String,
    /// Which retry topic it is, counted from 0; None for an input.
    pub tier: Option<usize>,
    /// Of all partitions.
    pub lag: i64,
    pub partitions: Vec<PartitionLag>,
}

/// How far a stage is in every topic it reads: the inputs, then the retry topics.
pub async fn of_stage(transport: &dyn Transport, names: &Names, def: &StageDef) -> Result<Vec<TopicLag>> {
    let group = &names.full(def.name.as_str());
    let one = async |i: usize, topic: String| {
        let full = names.full(&topic);
        // In this order: what is appended in between waits, and nothing is done that is not there.
        let committed = transport.progress(group, &full).await?;
        let of = |b: Bounds| {
            let mine = committed.iter().find(|(p, _, _)| *p == b.partition);
            PartitionLag::of(b, mine.map(|(_, base, map)| (*base, map.as_str())))
        };
        let partitions: Vec<PartitionLag> = transport.bounds(&full).await?.into_iter().map(of).collect();
        let lag = partitions.iter().map(|p| p.lag).sum();
        Ok(TopicLag { topic, tier: i.checked_sub(def.inputs.len()), lag, partitions })
    };
    // Side by side: for a broker each is a round trip or two.
    try_join_all(def.subscribed().into_iter().enumerate().map(|(i, (topic, _))| one(i, topic))).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn of(start: i64, end: i64, committed: Option<(i64, &str)>) -> (i64, i64, i64, i64) {
        let l = PartitionLag::of(Bounds { partition: 0, start, end }, committed);
        (l.base, l.lag, l.gap, l.incomplete)
    }

    #[test]
    fn base_and_map_say_what_waits() {
        assert_eq!(of(5, 25, None), (5, 20, 0, 0), "nothing committed");
        assert_eq!(of(5, 25, Some((25, ""))), (25, 0, 0, 0));
        assert_eq!(of(0, 25, Some((10, ""))), (10, 15, 0, 0));
        // 10 and 12 are not done, 11 and 13 to 15 are, the rest waits.
        let map = offset_map::encode(10, 15, [10, 12]);
        assert_eq!(of(0, 25, Some((10, &map))), (10, 11, 5, 2));
        assert_eq!(of(0, 25, Some((10, "no map"))), (10, 15, 0, 0));
        assert_eq!(of(12, 25, Some((10, &map))), (12, 10, 3, 1), "10 and 11 are gone");
        assert_eq!(of(20, 25, Some((10, &map))), (20, 5, 0, 0));
    }

    proptest! {
        #[test]
        fn lag_counts_what_is_neither_done_nor_deleted(
            base in 0i64..1_000, high in -1i64..60, holes in prop::collection::btree_set(0i64..60, 0..30),
            more in 0i64..50, deleted in 0i64..120,
        ) {
            let mut holes: BTreeSet<i64> = holes.into_iter().filter(|o| *o < high).map(|o| base + o).collect();
            if high >= 0 {
                holes.insert(base);
            }
            let (high, start) = (base + high, (base - 60 + deleted).max(0));
            let end = (high + 1 + more).max(start);
            let map = offset_map::encode(base, high, holes.iter().copied());
            let waits = (start.max(base)..end).filter(|o| *o > high || holes.contains(o)).count() as i64;
            prop_assert_eq!(of(start, end, Some((base, &map))).1, waits);
        }
    }
}
