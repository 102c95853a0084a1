//! Dead letters: find them, look at them, put them back.
//!
//! A letter rests in its stage's dead-letter topic for as long as that keeps it. Replaying copies it to the stage's first
//! retry topic, on the same partition, and writes a marker to `replays` in the same transaction: so a replay that was cut
//! short, or is run again, puts nothing back twice. One replay is at work at a time.

mod cause;
mod edit;
mod filter;
mod kept;
mod letter;
mod lock;
mod outcomes;
mod purge;
mod replay;
mod replays;
mod scan;
mod stats;
mod steps;
mod way;

pub use cause::{Cause, Writer};
pub use edit::Edit;
pub use filter::{Filter, Walk};
pub use letter::{Letter, LetterId};
pub use outcomes::{RunReport, Tally, runs};
pub use purge::{Purged, purge};
pub use replay::{Order, PARK_AFTER, Report, Sample, preview, replay};
pub use replays::Replay;
pub use stats::{By, GROUPS, Group, Key, Stats, stats};
pub use way::{Back, To};

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::topology::Names;
use crate::transport::{Result, Transport};
use scan::Scan;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The newest, newest first, as many as were asked for.
    pub letters: Vec<Letter>,
    /// How many there are.
    pub matched: u64,
}

/// The newest letters that a filter lets through. Holds `limit` letters whole, and 24
/// bytes for each that was put back.
pub async fn list(transport: &dyn Transport, names: &Names, filter: &Filter, limit: usize) -> Result<Listing> {
    let mut scan = Scan::start(transport, names, filter).await?;
    let (mut newest, mut matched) = (BTreeMap::new(), 0);
    while let Some(batch) = scan.next().await? {
        for letter in batch {
            matched += 1;
            newest.insert((letter.at(), letter.id.clone()), letter);
            if newest.len() > limit {
                newest.pop_first();
            }
        }
    }
    Ok(Listing { letters: newest.into_values().rev().collect(), matched })
}

/// Hands over every letter that a filter lets through, in the log's order within a partition, until told to stop; how many
/// there were.
pub async fn each(
    transport: &dyn Transport,
    names: &Names,
    filter: &Filter,
    mut take: impl FnMut(&Letter) -> ControlFlow<()>,
) -> Result<u64> {
    let mut scan = Scan::start(transport, names, filter).await?;
    let mut matched = 0;
    while let Some(batch) = scan.next().await? {
        for letter in &batch {
            matched += 1;
            if take(letter).is_break() {
                return Ok(matched);
            }
        }
    }
    Ok(matched)
}

/// One letter; None when it is not there, or no longer.
pub async fn show(transport: &dyn Transport, names: &Names, id: &LetterId) -> Result<Option<Letter>> {
    let filter = Filter { ids: vec![id.clone()], ..Filter::default() };
    Ok(list(transport, names, &filter, 1).await?.letters.pop())
}
