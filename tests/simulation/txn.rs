//! The transaction coordinator, in the protocol that librdkafka speaks (no KIP-890 part 2: the epoch stays the same from
//! one transaction to the next).
//!
//! ```text
//! Empty ─ AddPartitions/AddOffsets ─► Ongoing ─ EndTxn ─► PrepareCommit │ PrepareAbort ─ markers ─► Complete… ─► Ongoing
//!                                        └ InitProducerId of another, or time-out: epoch + 1, PrepareAbort
//! ```

use std::collections::BTreeSet;

use super::broker::{Broker, Refused, Target, Timer};

/// `transaction.timeout.ms`.
pub const TIMEOUT: i64 = 8_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Empty,
    Ongoing,
    Prepare { commit: bool },
    Complete { commit: bool },
}

/// A transactional id.
#[derive(Debug)]
pub struct Txn {
    pub pid: i64,
    pub epoch: i16,
    pub state: State,
    /// What the open transaction, or the one being settled, takes part in.
    pub parts: BTreeSet<Target>,
    /// Markers not yet written.
    unmarked: usize,
    /// How many transactions there were.
    number: u64,
}

impl Txn {
    pub fn at_rest(&self) -> bool {
        !matches!(self.state, State::Ongoing | State::Prepare { .. })
    }

    fn check(&self, pid: i64, epoch: i16) -> Result<(), Refused> {
        if (self.pid, self.epoch) == (pid, epoch) { Ok(()) } else { Err(Refused::Fenced) }
    }
}

impl Broker {
    /// InitProducerId.
    pub fn init_producer(&mut self, id: &str) -> Result<(i64, i16), Refused> {
        let Some(txn) = self.txns.get_mut(id) else {
            let pid = self.next_pid;
            self.next_pid += 1;
            let (state, parts) = (State::Empty, BTreeSet::new());
            self.txns.insert(id.to_owned(), Txn { pid, epoch: 0, state, parts, unmarked: 0, number: 0 });
            return Ok((pid, 0));
        };
        match txn.state {
            State::Ongoing => {
                txn.epoch += 1;
                self.count("open transaction fenced by init");
                self.prepare(id, false);
                Err(Refused::Concurrent)
            }
            State::Prepare { .. } => Err(Refused::Concurrent),
            State::Empty | State::Complete { .. } => {
                txn.epoch += 1;
                txn.state = State::Empty;
                Ok((txn.pid, txn.epoch))
            }
        }
    }

    /// InitProducerId of a living producer that wants a new epoch, so that what it sent before can do nothing any more.
    pub fn bump(&mut self, id: &str, pid: i64, epoch: i16) -> Result<(i64, i16), Refused> {
        self.txn(id, pid, epoch)?;
        self.init_producer(id)
    }

    fn txn(&mut self, id: &str, pid: i64, epoch: i16) -> Result<&mut Txn, Refused> {
        let txn = self.txns.get_mut(id).ok_or(Refused::Fenced)?;
        txn.check(pid, epoch)?;
        Ok(txn)
    }

    /// AddPartitionsToTxn, AddOffsetsToTxn.
    pub fn add(&mut self, id: &str, pid: i64, epoch: i16, parts: &[Target]) -> Result<(), Refused> {
        let now = self.now;
        let txn = self.txn(id, pid, epoch)?;
        match txn.state {
            State::Prepare { .. } => return Err(Refused::Concurrent),
            State::Ongoing => txn.parts.extend(parts.iter().cloned()),
            State::Empty | State::Complete { .. } => {
                txn.state = State::Ongoing;
                txn.number += 1;
                txn.parts = parts.iter().cloned().collect();
                let number = txn.number;
                self.at(now + TIMEOUT, Timer::Expiry { id: id.to_owned(), number });
            }
        }
        Ok(())
    }

    /// Whether something is in the open transaction (KIP-890 part 1: what leaders ask before they write).
    pub fn verify(&self, id: &str, pid: i64, epoch: i16, part: &Target) -> Result<(), Refused> {
        let txn = self.txns.get(id).ok_or(Refused::InvalidState)?;
        txn.check(pid, epoch)?;
        if txn.state == State::Ongoing && txn.parts.contains(part) { Ok(()) } else { Err(Refused::InvalidState) }
    }

    /// EndTxn. Answered when it is decided; the markers follow.
    pub fn end(&mut self, id: &str, pid: i64, epoch: i16, commit: bool) -> Result<(), Refused> {
        let state = self.txn(id, pid, epoch)?.state;
        match state {
            State::Ongoing => {
                self.prepare(id, commit);
                Ok(())
            }
            State::Prepare { commit: c } if c == commit => Err(Refused::Concurrent),
            // Asked again after a lost reply.
            State::Complete { commit: c } if c == commit => Ok(()),
            _ => Err(Refused::InvalidState),
        }
    }

    fn prepare(&mut self, id: &str, commit: bool) {
        let (now, dice) = (self.now, self.dice.clone());
        let Some(txn) = self.txns.get_mut(id) else { return };
        txn.state = State::Prepare { commit };
        txn.unmarked = txn.parts.len();
        let (pid, epoch) = (txn.pid, txn.epoch);
        if txn.parts.is_empty() {
            txn.state = State::Complete { commit };
        }
        for target in txn.parts.clone() {
            let slow = if dice.chance(0.05) { 1_500 } else { 30 };
            let due = now + dice.range(1, slow);
            self.at(due, Timer::Marker { id: id.to_owned(), pid, epoch, commit, target });
        }
    }

    /// One marker is written.
    pub fn marked(&mut self, id: &str, pid: i64) {
        let Some(txn) = self.txns.get_mut(id).filter(|t| t.pid == pid) else { return };
        txn.unmarked -= 1;
        if let (0, State::Prepare { commit }) = (txn.unmarked, txn.state) {
            txn.state = State::Complete { commit };
            txn.parts.clear();
        }
    }

    pub fn expire_txn(&mut self, id: &str, number: u64) {
        let Some(txn) = self.txns.get_mut(id) else { return };
        if txn.state == State::Ongoing && txn.number == number {
            txn.epoch += 1;
            self.count("transaction timed out");
            self.prepare(id, false);
        }
    }
}
