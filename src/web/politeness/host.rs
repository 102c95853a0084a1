//! One host's clock: pure arithmetic on unix milliseconds.
//!
//! Two instances of the generic cell rate algorithm (GCRA) run side by side. One counts slots
//! promised, so that each record that has to wait is told a time of its own; the other counts
//! requests started, so that the distance between them holds whatever became of the promises:
//! records come back late, or not at all, or the process that promised is gone.

use super::Limits;

/// Least extra distance after a penalty, for hosts with a short delay.
const MIN_BACKOFF: u64 = 1_000;

/// Shortest wait for a host whose every place is taken.
const BUSY_WAIT: u64 = 1_000;

/// An answer that takes longer is slow: its host is asked no more often than it answers.
const SLOW: u64 = 1_000;

/// Starts that the pace is a mean of. They come in bursts, as many as there are places.
const SMOOTH: u64 = 16;

/// What to do with a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The request starts at this time, now or within [`Limits::hold`].
    Start(u64),
    /// Only a place is missing: wait for one in memory, with this slot.
    Queue(u64),
    /// Come back at this time; the slot is promised.
    Park(u64),
}

/// How much of the host is in use at the moment of a decision.
pub(super) struct Load {
    /// As many requests run as may.
    pub(super) full: bool,
    /// Another record may wait in memory.
    pub(super) may_hold: bool,
    /// This record had to wait for its place.
    pub(super) queued: bool,
}

#[derive(Debug)]
pub(super) struct Host {
    /// Wanted between two starts, without what penalties add.
    delay: u64,
    /// Added by penalties; melts with each start.
    backoff: u64,
    /// How long its slow answers take, smoothed.
    slow: u64,
    /// Nothing starts before.
    penalty_until: u64,
    /// Theoretical arrival time of the next promise.
    promised: u64,
    /// Theoretical arrival time of the next start.
    started: u64,
    last_start: u64,
    /// A record found the host full since the last start.
    congested: bool,
    /// Distance of starts while full, times [`SMOOTH`]: what the host itself can take. Promises keep to it, or most of them
    /// would be broken.
    pace: u64,
}

impl Host {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            delay: limits.delay,
            backoff: 0,
            slow: 0,
            penalty_until: 0,
            promised: 0,
            started: 0,
            last_start: 0,
            congested: false,
            pace: 0,
        }
    }

    /// Decides for a record that comes for the first time, or back at (or after) the time that an
    /// earlier [`Decision::Park`] named.
    pub(super) fn decide(&mut self, now: u64, reserved: Option<u64>, load: &Load, limits: &Limits) -> Decision {
        self.congested |= load.queued;
        let interval = self.interval(limits);
        let earliest = now.max(self.penalty_until).max(before_burst(self.started, interval, limits));
        // Who holds a promise need not queue again behind later ones.
        let slot = earliest.max(reserved.unwrap_or_else(|| self.next_free(limits)));
        // A start fixed for later bars every earlier one. It may be fixed only where no promise can
        // fall due before: right behind the starts so far, or less than one step ahead.
        let undisturbed = slot == earliest || slot - now < self.step(limits);
        let soon = slot - now <= limits.hold && load.may_hold;
        let waits = soon && undisturbed;
        if !load.full && (slot == now || waits) {
            self.start(slot, reserved.is_none(), limits);
            Decision::Start(slot)
        } else if load.full && soon {
            self.congested = true;
            if reserved.is_none() {
                self.promised = self.promised.max(slot).saturating_add(self.step(limits));
            }
            Decision::Queue(slot)
        } else if reserved == Some(slot) && slot > now {
            // Too early; the promise stands.
            Decision::Park(slot)
        } else if load.full {
            Decision::Park(self.full(now, slot, limits))
        } else {
            Decision::Park(self.promise(slot, limits))
        }
    }

    /// A slot, not before `slot`, for a record that finds every place taken.
    pub(super) fn full(&mut self, now: u64, slot: u64, limits: &Limits) -> u64 {
        self.congested = true;
        let wait = self.step(limits).max(BUSY_WAIT);
        self.promise(slot.max(now.saturating_add(wait)), limits)
    }

    /// A slot for a record that cannot start now, not before `slot` and behind all promises.
    pub(super) fn promise(&mut self, slot: u64, limits: &Limits) -> u64 {
        let unspoiled = before_burst(self.started, self.interval(limits), limits);
        let slot = slot.max(unspoiled).max(self.next_free(limits));
        self.promised = self.promised.max(slot).saturating_add(self.step(limits));
        slot
    }

    /// Nothing starts before `not_before`: a slot after it, or the one that is reserved if that is after it.
    pub(super) fn park(&mut self, reserved: Option<u64>, not_before: u64, limits: &Limits) -> u64 {
        self.penalty_until = self.penalty_until.max(not_before);
        self.postpone(reserved, not_before, limits)
    }

    /// The same for one record, which bars no other.
    pub(super) fn postpone(&mut self, reserved: Option<u64>, not_before: u64, limits: &Limits) -> u64 {
        match reserved.filter(|slot| *slot >= not_before) {
            Some(slot) => slot,
            None => self.promise(not_before, limits),
        }
    }

    fn start(&mut self, slot: u64, uses_free_slot: bool, limits: &Limits) {
        if uses_free_slot {
            self.promised = self.promised.max(slot).saturating_add(self.step(limits));
        }
        self.started = self.started.max(slot).saturating_add(self.interval(limits));
        let gap = slot.saturating_sub(self.last_start).min(limits.max_delay);
        self.pace = match (self.congested, self.pace) {
            (true, 0) => gap * SMOOTH,
            (true, pace) => pace - pace / SMOOTH + gap,
            (false, pace) => pace - pace.div_ceil(8),
        };
        self.congested = false;
        self.last_start = slot;
        self.backoff -= self.backoff.div_ceil(4);
    }

    /// A request that was to start at `slot` starts only `now`: the next keep their distance.
    pub(super) fn started_late(&mut self, now: u64, limits: &Limits) {
        let next = now.saturating_add(self.interval(limits));
        self.started = self.started.max(next);
        self.last_start = self.last_start.max(now);
    }

    /// The host asked for less. Nothing starts before `until` (without it: one grown interval from
    /// now), and the interval doubles, once for all answers to requests of one penalty.
    pub(super) fn penalise(&mut self, now: u64, until: Option<u64>, limits: &Limits) {
        if now >= self.penalty_until {
            let least = self.delay.max(MIN_BACKOFF);
            let grown = self.backoff.saturating_mul(2).max(least);
            self.change_interval(limits, |host| host.backoff = grown.min(limits.max_delay));
        }
        let until = until.unwrap_or_else(|| now.saturating_add(self.interval(limits)));
        self.penalty_until = self.penalty_until.max(until);
    }

    /// Sets what the host asks for; never less than the configured delay.
    pub(super) fn set_delay(&mut self, delay: u64, limits: &Limits) {
        let delay = delay.min(limits.max_delay).max(limits.delay);
        self.change_interval(limits, |host| host.delay = delay);
    }

    /// An answer took so long. The interval follows slow ones, up to the longest delay, and eases back with quick ones;
    /// where no delay is wanted at all it stays out of it.
    pub(super) fn answered(&mut self, took: u64, limits: &Limits) {
        let slow = if took >= SLOW && limits.delay > 0 { took } else { 0 };
        if slow != 0 || self.slow != 0 {
            self.change_interval(limits, |host| host.slow = (3 * host.slow + slow) / 4);
        }
    }

    /// Before this time nothing may start, on account of a penalty.
    pub(super) fn penalty_until(&self) -> u64 {
        self.penalty_until
    }

    /// From this time on, the host could be forgotten and nobody would notice.
    pub(super) fn busy_until(&self) -> u64 {
        self.penalty_until.max(self.promised).max(self.started)
    }

    /// A longer interval also counts from the last start, not only from the next.
    fn change_interval(&mut self, limits: &Limits, change: impl FnOnce(&mut Self)) {
        let before = self.interval(limits);
        change(self);
        let longer = self.interval(limits).saturating_sub(before);
        self.started = self.started.saturating_add(longer);
    }

    /// Least distance between two starts.
    pub(super) fn interval(&self, limits: &Limits) -> u64 {
        let eased = self.delay.saturating_add(self.backoff).max(self.slow);
        eased.min(limits.max_delay).max(self.delay)
    }

    /// Distance between two promises. A little less than the pace, since a place that nobody takes is lost, while who comes
    /// too early waits or is promised another slot.
    fn step(&self, limits: &Limits) -> u64 {
        self.interval(limits).max(3 * self.pace / (4 * SMOOTH))
    }

    fn next_free(&self, limits: &Limits) -> u64 {
        before_burst(self.promised, self.step(limits), limits)
    }
}

/// When a cell conforms to GCRA: `burst - 1` intervals before its theoretical arrival time.
fn before_burst(arrival: u64, interval: u64, limits: &Limits) -> u64 {
    arrival.saturating_sub(interval.saturating_mul(u64::from(limits.burst.max(1) - 1)))
}
