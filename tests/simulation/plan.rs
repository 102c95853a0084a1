//! What a seed decides: how many of what, and which faults happen how often.

use std::sync::Mutex;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::group::Protocol;

/// Which rule is broken, to see that the ledger notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    Nothing,
    /// Assignments come without their map.
    Map,
    /// All assignments have the same epoch, and none is told from another by it.
    Epoch,
    /// A batch does not wait for the one before it.
    Order,
}

/// The seed's dice. All chance of a run comes from here, in the order in which it is asked for.
pub struct Dice(Mutex<Xoshiro256PlusPlus>);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(Mutex::new(Xoshiro256PlusPlus::seed_from_u64(seed)))
    }

    pub fn chance(&self, p: f64) -> bool {
        p > 0.0 && self.0.lock().unwrap().random_bool(p)
    }

    /// From `low` to `high`, both included.
    pub fn range(&self, low: i64, high: i64) -> i64 {
        self.0.lock().unwrap().random_range(low..=high)
    }

    pub fn ms(&self, low: i64, high: i64) -> Duration {
        Duration::from_millis(self.range(low, high) as u64)
    }

    pub fn pick<T: Copy>(&self, of: &[T]) -> T {
        of[self.range(0, of.len() as i64 - 1) as usize]
    }
}

/// Where a process may be killed to the instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// The stage has not written its effect outside yet.
    BeforeSink,
    /// It has, and its outcome is not known to anyone.
    AfterSink,
    Begun,
    Produced,
    OffsetsSent,
    /// EndTxn is on its way.
    Ending,
    /// The coordinator has decided; the markers are not written, the reply is on its way.
    Prepared,
    Committed,
    /// Partitions came, and nothing of them was read.
    Assigned,
    /// Partitions are being given back.
    Revoking,
}

impl Point {
    pub const ALL: [Point; 10] = [
        Point::BeforeSink,
        Point::AfterSink,
        Point::Begun,
        Point::Produced,
        Point::OffsetsSent,
        Point::Ending,
        Point::Prepared,
        Point::Committed,
        Point::Assigned,
        Point::Revoking,
    ];

    pub fn counted_as(self) -> &'static str {
        match self {
            Point::BeforeSink => "crash before the sink write",
            Point::AfterSink => "crash between sink write and commit",
            Point::Begun => "crash after begin",
            Point::Produced => "crash after produce",
            Point::OffsetsSent => "crash after offsets",
            Point::Ending => "crash with EndTxn on its way",
            Point::Prepared => "crash between EndTxn and its reply",
            Point::Committed => "crash after commit",
            Point::Assigned => "crash after assignment",
            Point::Revoking => "crash while revoking",
        }
    }
}

/// A time in which some brokers are away, ms after the start.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    pub from: i64,
    pub to: i64,
    /// Bits by [`super::world::Node`].
    pub nodes: u8,
}

#[derive(Debug, Clone)]
pub struct Plan {
    pub broken: Broken,
    pub protocol: Protocol,
    /// Members have names that outlive them.
    pub named: bool,
    pub partitions: u32,
    pub inputs: usize,
    pub members: usize,
    pub in_flight: usize,
    pub commit_interval: Duration,
    /// Faults end then, ms after the start.
    pub calm: i64,
    /// A request that never arrives, or arrives late.
    pub lost_request: f64,
    /// Of these: arrives, but after its sender has given it up.
    pub late: f64,
    pub lost_reply: f64,
    /// A call of the client library that hangs until a watchdog ends it.
    pub hang: f64,
    /// A transaction that a broker refuses for once.
    pub refused: f64,
    /// A record that takes seconds.
    pub slow: f64,
    pub kill: Option<(Point, f64)>,
    pub outages: Vec<Outage>,
    /// Mean time between two doings of [`super::run`], ms.
    pub unrest: i64,
    /// Weights of: crash, stop and start, join another, deaf, suspended.
    pub doings: [i64; 5],
}

impl Plan {
    pub fn new(broken: Broken, dice: &Dice) -> Plan {
        // Not all faults at once: which are possible is itself by chance, so that each also meets calm seas.
        let some = |p: f64| dice.pick(&[0.0, p, p, 4.0 * p]);
        let calm = dice.range(5_000, 12_000);
        let outages = if dice.chance(0.4) { dice.range(1, 2) } else { 0 };
        let outage = |_| {
            let from = dice.range(500, calm);
            Outage { from, to: from + dice.range(200, 4_000), nodes: dice.pick(&[7, 1, 2, 4]) }
        };
        let weight = |w: i64| if dice.chance(0.7) { w } else { 0 };
        Plan {
            broken,
            protocol: dice.pick(&[Protocol::Classic, Protocol::Consumer]),
            named: dice.chance(0.5),
            partitions: dice.range(1, 4) as u32,
            inputs: dice.range(25, 60) as usize,
            members: dice.range(1, 3) as usize,
            in_flight: dice.pick(&[4, 16, 64]),
            commit_interval: dice.ms(20, 250),
            calm,
            lost_request: some(0.02),
            late: dice.pick(&[0.0, 0.5, 1.0]),
            lost_reply: some(0.02),
            hang: some(0.02),
            refused: some(0.03),
            slow: 0.03,
            kill: dice.chance(0.6).then(|| (dice.pick(&Point::ALL), dice.pick(&[0.02, 0.1, 0.3]))),
            outages: (0..outages).map(outage).collect(),
            unrest: dice.range(400, 2_500),
            doings: [weight(4), weight(2), weight(2), weight(2), weight(2)],
        }
    }
}
