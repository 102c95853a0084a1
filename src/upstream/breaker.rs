//! A circuit breaker: whoever keeps failing is left alone for a while, then tried with one call at a time.
//!
//! ```text
//!            trips                     `reset` is over
//!   closed ─────────► open (refuses) ─────────────────► half-open: one probe, all others are refused
//!     ▲                 ▲                                  │    │
//!     │                 └──────────── the probe fails ─────┘    │
//!     └──────────────────────────── the probe succeeds ─────────┘
//! ```
//!
//! Pure: times are handed in, as milliseconds of any clock that does not run backwards.

use std::collections::VecDeque;
use std::time::Duration;

/// When it opens. Each alone is enough.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Trip {
    /// So many failures with no success between them; 0: this alone never opens it.
    pub consecutive: u32,
    /// So many calls without an answer (time-outs, connection errors) with no answer between them; 0: this alone never
    /// opens it. They are counted apart: they are no failures to the count above.
    pub unanswered: u32,
    /// So much of what ended lately failed, answered or not.
    pub share: Option<Share>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Well,
    /// It was answered, and the answer is a failure.
    Failed,
    /// No connection, or no answer in time.
    Unanswered,
}

/// A share of failures over a sliding window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// From 0 to 1.
    pub failed: f64,
    /// Fewer calls than this in the window say nothing.
    pub volume: usize,
    /// How long a call counts. No more than [`Breaker::MOST`] are kept.
    pub window: Duration,
}

/// What a breaker says of a call that is about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// Go; say with [`Breaker::ended`] how it went.
    Go,
    /// Go, the others wait for how this one goes: it must be said with [`Breaker::ended`] or [`Breaker::abandoned`].
    Probe,
    /// Do not, before this time; at that time there may be a probe on its way.
    Refused {
        /// ms.
        until: u64,
    },
}

/// As metrics show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Closed,
    HalfOpen,
    Open,
}

/// The breaker of one endpoint.
#[derive(Debug, Clone)]
pub struct Breaker {
    trip: Trip,
    reset: u64,
    /// None: closed.
    opened: Option<Opened>,
    failures: u32,
    unanswered: u32,
    /// When calls ended and whether they failed, oldest first; kept only if a share is looked at.
    lately: VecDeque<(u64, bool)>,
}

#[derive(Debug, Clone, Copy)]
struct Opened {
    until: u64,
    probing: bool,
}

impl Breaker {
    /// Calls that are remembered for a share, at most.
    pub const MOST: usize = 1_024;

    /// Closed. `reset`: how long it stays open before it is tried again.
    pub fn new(trip: Trip, reset: Duration) -> Breaker {
        Breaker { trip, reset: ms(reset), opened: None, failures: 0, unanswered: 0, lately: VecDeque::new() }
    }

    /// Whether a call may be made now.
    pub fn admit(&mut self, now: u64) -> Admit {
        match &mut self.opened {
            None => Admit::Go,
            Some(o) if now >= o.until && !o.probing => {
                o.probing = true;
                Admit::Probe
            }
            // The probe will not take much longer than a reset; a moment later is soon enough to look again.
            Some(o) => Admit::Refused { until: o.until.max(now.saturating_add(self.reset.min(1_000))) },
        }
    }

    /// A call that was admitted ended. One that began before the breaker opened changes nothing any more.
    pub fn ended(&mut self, admitted: Admit, how: Ended, now: u64) {
        match (admitted, self.opened) {
            (Admit::Probe, Some(_)) if how == Ended::Well => {
                self.opened = None;
                (self.failures, self.unanswered) = (0, 0);
                self.lately.clear();
            }
            (Admit::Probe, Some(_)) => self.open(now),
            (Admit::Go, None) => {
                match how {
                    Ended::Well => (self.failures, self.unanswered) = (0, 0),
                    // An answer, though a bad one.
                    Ended::Failed => (self.failures, self.unanswered) = (self.failures.saturating_add(1), 0),
                    Ended::Unanswered => self.unanswered = self.unanswered.saturating_add(1),
                }
                let reached = |count: u32, limit: u32| limit > 0 && count >= limit;
                let too_many =
                    reached(self.failures, self.trip.consecutive) || reached(self.unanswered, self.trip.unanswered);
                if self.count(how != Ended::Well, now) || too_many {
                    self.open(now);
                }
            }
            _ => {}
        }
    }

    /// A call that was admitted was dropped before its end, and says nothing of the other side.
    pub fn abandoned(&mut self, admitted: Admit) {
        if let (Admit::Probe, Some(o)) = (admitted, &mut self.opened) {
            o.probing = false;
        }
    }

    /// What it is now.
    pub fn state(&self, now: u64) -> State {
        match self.opened {
            None => State::Closed,
            Some(o) if o.probing || now >= o.until => State::HalfOpen,
            Some(_) => State::Open,
        }
    }

    /// Whether it knows of nothing that a new one does not know.
    pub fn is_new(&self) -> bool {
        self.opened.is_none() && self.failures == 0 && self.unanswered == 0 && self.lately.is_empty()
    }

    fn open(&mut self, now: u64) {
        self.opened = Some(Opened { until: now.saturating_add(self.reset), probing: false });
    }

    /// Takes a call into the window; whether too many in it failed.
    fn count(&mut self, failed: bool, now: u64) -> bool {
        let Some(share) = self.trip.share else { return false };
        self.lately.push_back((now, failed));
        let from = now.saturating_sub(ms(share.window));
        while self.lately.front().is_some_and(|(at, _)| *at < from) || self.lately.len() > Breaker::MOST {
            self.lately.pop_front();
        }
        let failures = self.lately.iter().filter(|(_, failed)| *failed).count();
        failed && self.lately.len() >= share.volume && failures as f64 >= share.failed * self.lately.len() as f64
    }
}

fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RESET: u64 = 30_000;
    const ROW: Trip = Trip { consecutive: 3, unanswered: 2, share: None };
    const HALF: Trip = Trip {
        consecutive: 0,
        unanswered: 0,
        share: Some(Share { failed: 0.5, volume: 10, window: Duration::from_secs(60) }),
    };

    fn breaker(trip: Trip) -> Breaker {
        Breaker::new(trip, Duration::from_millis(RESET))
    }

    fn call(b: &mut Breaker, failed: bool, now: u64) {
        let admitted = b.admit(now);
        assert!(!matches!(admitted, Admit::Refused { .. }), "refused at {now}");
        b.ended(admitted, if failed { Ended::Failed } else { Ended::Well }, now);
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_probe_closes_it() {
        let mut b = breaker(ROW);
        for failed in [true, true, false, true, true] {
            call(&mut b, failed, 0);
        }
        assert_eq!(b.state(0), State::Closed);
        call(&mut b, true, 5);
        assert_eq!(b.state(5), State::Open);
        assert_eq!(b.admit(6), Admit::Refused { until: 5 + RESET });
        let later = 5 + RESET;
        assert_eq!((b.state(later), b.admit(later)), (State::HalfOpen, Admit::Probe));
        // One at a time.
        assert!(matches!(b.admit(later), Admit::Refused { until } if until > later));
        b.ended(Admit::Probe, Ended::Failed, later);
        assert_eq!(b.admit(later + 1), Admit::Refused { until: later + RESET });
        assert_eq!(b.admit(later + RESET), Admit::Probe);
        b.ended(Admit::Probe, Ended::Well, later + RESET);
        assert_eq!((b.state(later + RESET), b.admit(later + RESET)), (State::Closed, Admit::Go));
        // Old failures are forgotten.
        call(&mut b, true, later + RESET);
        assert_eq!(b.state(later + RESET), State::Closed);
    }

    #[test]
    fn what_is_not_answered_is_counted_apart() {
        let mut b = breaker(ROW);
        let mut end = |how| {
            let admitted = b.admit(0);
            b.ended(admitted, how, 0);
            b.state(0)
        };
        for how in [Ended::Unanswered, Ended::Failed, Ended::Unanswered, Ended::Failed] {
            assert_eq!(end(how), State::Closed, "an answer between two that were none");
        }
        assert_eq!(end(Ended::Unanswered), State::Closed);
        assert_eq!(end(Ended::Unanswered), State::Open);
        let mut never = breaker(Trip { unanswered: 0, ..ROW });
        for _ in 0..100 {
            let admitted = never.admit(0);
            never.ended(admitted, Ended::Unanswered, 0);
        }
        assert_eq!(never.state(0), State::Closed);
        assert!(!never.is_new() && breaker(ROW).is_new());
    }

    #[test]
    fn a_probe_that_is_dropped_makes_room_for_another() {
        let mut b = breaker(Trip { consecutive: 1, ..ROW });
        call(&mut b, true, 0);
        assert_eq!(b.admit(RESET), Admit::Probe);
        b.abandoned(Admit::Probe);
        assert_eq!(b.admit(RESET), Admit::Probe);
    }

    #[test]
    fn a_call_from_before_it_opened_neither_closes_nor_prolongs_it() {
        let mut b = breaker(Trip { consecutive: 1, ..ROW });
        let (slow, other) = (b.admit(0), b.admit(0));
        call(&mut b, true, 0);
        b.ended(slow, Ended::Well, 10);
        b.ended(other, Ended::Failed, 20);
        b.abandoned(Admit::Go);
        assert_eq!(b.admit(30), Admit::Refused { until: RESET });
    }

    #[test]
    fn a_share_counts_what_ended_lately_and_enough_of_it() {
        let mut b = breaker(HALF);
        for i in 0..9 {
            call(&mut b, true, i);
        }
        assert_eq!(b.state(9), State::Closed, "nine are too few to say anything");
        // A minute later they count no more.
        for i in 0..9 {
            call(&mut b, i % 2 == 0, 70_000 + i);
        }
        assert_eq!(b.state(70_010), State::Closed);
        call(&mut b, true, 70_020);
        assert_eq!(b.state(70_020), State::Open);
    }

    proptest! {
        /// Whatever happens: never two probes at once, nothing is admitted before `reset` is over, and it never stays
        /// shut for ever.
        #[test]
        fn it_always_comes_back(steps in proptest::collection::vec((0u64..20_000, 0..3u8), 1..200), share: bool) {
            let mut b = breaker(if share { HALF } else { ROW });
            let (mut now, mut out, mut opened) = (0, vec![], None);
            for (passed, what) in steps {
                now += passed;
                match (what, out.pop()) {
                    (0, admitted) => {
                        out.extend(admitted);
                        match b.admit(now) {
                            Admit::Refused { until } => prop_assert!(until > now),
                            admitted => {
                                if let Some(at) = opened { prop_assert!(now >= at + RESET) }
                                out.push(admitted);
                            }
                        }
                    }
                    (1, Some(admitted)) => b.ended(admitted, [Ended::Well, Ended::Failed, Ended::Unanswered][(now % 3) as usize], now),
                    (_, Some(admitted)) => b.abandoned(admitted),
                    (_, None) => {}
                }
                prop_assert!(out.iter().filter(|a| **a == Admit::Probe).count() <= 1);
                opened = match b.state(now) {
                    State::Open => opened.or(Some(now)),
                    _ => None,
                };
            }
            for admitted in out {
                b.abandoned(admitted);
            }
            let refused = matches!(b.admit(now + RESET), Admit::Refused { .. });
            prop_assert!(!refused);
        }
    }
}
