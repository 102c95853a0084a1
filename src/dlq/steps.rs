//! The transactions of a run, one after the other under the lock: what is written of some letters, and their markers.

use std::time::Duration;

use fail::fail_point;

use super::lock::Lock;
use super::replays::Replays;
use crate::topology::{self, Names, Topic};
use crate::transport::{Committed, Outgoing, Result, Transport, TransportError};

/// Tries of a step that the log refuses, and the wait between them.
const TRIES: u32 = 20;
const AGAIN: Duration = Duration::from_millis(500);

/// Numbers a run's transactions.
///
/// ```text
/// turn ─► the caller looks which letters have no marker ─► none: done
///   ▲                                                  └─► commit (records and markers) ─┐
///   └────────────────────────────────────────────────────────────────────────────────────┘
/// ```
pub struct Steps<'a> {
    run: &'a str,
    /// Transactions begun.
    step: u64,
    /// Refused one after the other.
    refused: u32,
}

impl<'a> Steps<'a> {
    /// Of a run.
    pub fn new(run: &'a str) -> Steps<'a> {
        Steps { run, step: 0, refused: 0 }
    }

    /// Number of the transaction that [`Steps::commit`] makes next.
    pub fn next(&self) -> u64 {
        self.step + 1
    }

    /// Holds the lock, with markers read up to now. Always true, for a loop; an error when the log refuses for good.
    pub async fn turn(&mut self, lock: &mut Lock, transport: &dyn Transport, replays: &mut Replays) -> Result<bool> {
        if self.refused >= TRIES {
            return Err(TransportError::Unavailable(format!(
                "the log refuses what run {} writes; what it has done stays done, and the same command goes on",
                self.run
            )));
        }
        if !lock.settle().await? {
            lock.renew(transport, replays).await?;
        }
        Ok(true)
    }

    /// Writes these, with so many markers among them, or nothing. What was done the caller sees by the markers.
    pub async fn commit(
        &mut self,
        lock: &mut Lock,
        transport: &dyn Transport,
        replays: &mut Replays,
        records: Vec<Outgoing>,
        markers: u64,
    ) -> Result<()> {
        self.step += 1;
        fail_point!("dlq.replay.before");
        match lock.commit(transport, replays, (self.run, self.step, markers), records).await? {
            Committed::Done => {
                fail_point!("dlq.replay.after");
                self.refused = 0;
            }
            refused => {
                tracing::warn!(run = self.run, outcome = refused.as_str(), "a step of the run is made again");
                self.refused += 1;
                lock.pass(AGAIN).await?;
            }
        }
        Ok(())
    }

    /// Says in the group's progress that nothing is left to be waited for.
    pub async fn end(&self, lock: &mut Lock, transport: &dyn Transport, replays: &mut Replays) -> Result<()> {
        if self.step > 0 && lock.settle().await? {
            // It is only for those who look at the group; the markers are there.
            let _any = lock.commit(transport, replays, (self.run, self.step, 0), vec![]).await?;
        }
        Ok(())
    }
}

/// Makes the topic of the markers where it is missing: on a cluster that has no Tidemill it is all that is made.
pub async fn markers_exist(transport: &dyn Transport, names: &Names) -> Result<()> {
    let markers = topology::topics().into_iter().filter(|t| t.name == topology::REPLAYS);
    let markers: Vec<Topic> = markers.map(|t| Topic { name: names.full(&t.name), ..t }).collect();
    transport.create_topics(&markers).await
}
