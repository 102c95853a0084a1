//! A breaker a host: one that keeps failing is left alone for a while, and what is for it waits.
//!
//! Only hosts with failures are remembered. A record that comes while its host is left alone parks; but a host that has
//! been away for longer than the patience fails its records, attempt by attempt and unasked, or they would wait for ever.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::http::{Answer, FetchError};
use crate::config::{self, HostBreaker};
use crate::record::FailureClass;
use crate::telemetry::domains::OneMore;
use crate::upstream::breaker::{Admit, Breaker, Ended, Share, State, Trip};

/// Hosts remembered; beyond it, those that are not left alone are forgotten.
const HOSTS: usize = 50_000;

/// Why a request may not be made now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Not before this time, Unix ms.
    Until(u64),
    /// A probe is under way; at this time, Unix ms, it may be known how it went.
    Probed(u64),
    /// It has been away for longer than its records are to wait.
    Away { class: FailureClass, message: String },
}

struct Failing {
    breaker: Breaker,
    patience: u64,
    /// When it was left alone for the first time since it last answered well, Unix ms.
    since: Option<u64>,
    /// Its last failure.
    class: FailureClass,
    message: String,
    gauge: Option<OneMore>,
}

/// The breakers of all hosts.
pub struct Breakers {
    config: config::Fetch,
    hosts: Mutex<HashMap<String, Failing>>,
}

/// The right to make requests to a host, until it is said how they ended. Dropped before, it says nothing of the host.
pub struct Pass {
    of: Arc<Breakers>,
    host: String,
    admitted: Admit,
    said: bool,
}

impl Breakers {
    /// All closed.
    pub fn new(config: &config::Fetch) -> Arc<Breakers> {
        Arc::new(Breakers { config: config.clone(), hosts: Mutex::default() })
    }

    /// Asks to make a request to a host (a [`crate::web::url::host_key`]) at `now`, Unix ms.
    pub fn admit(self: &Arc<Self>, host: &str, now: u64) -> Result<Pass, Refused> {
        let admitted = match self.hosts().get_mut(host) {
            None => Admit::Go,
            Some(failing) => match failing.breaker.admit(now) {
                Admit::Refused { until } => return Err(failing.refuse(host, now, until)),
                admitted => admitted,
            },
        };
        Ok(Pass { of: Arc::clone(self), host: host.to_owned(), admitted, said: false })
    }

    fn ended(&self, pass: &Pass, end: &End, now: u64) {
        let mut hosts = self.hosts();
        if !hosts.contains_key(&pass.host) {
            let config = self.config.conduct(&pass.host).breaker;
            let counts = config.failures > 0 || config.timeouts > 0 || config.share > 0.0;
            if !counts || end.how() == Ended::Well && config.share == 0.0 {
                return;
            }
            if hosts.len() >= HOSTS {
                hosts.retain(|_, f| f.breaker.state(now) != State::Closed);
            }
            hosts.insert(pass.host.clone(), Failing::new(config));
        }
        let Some(failing) = hosts.get_mut(&pass.host) else { return };
        failing.ended(&pass.host, pass.admitted, end, now);
        if failing.breaker.is_new() {
            hosts.remove(&pass.host);
        }
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<String, Failing>> {
        // Nothing here leaves an entry half changed.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failing {
    fn new(config: HostBreaker) -> Failing {
        let share = (config.share > 0.0).then_some(Share {
            failed: config.share,
            volume: config.volume,
            window: config.window,
        });
        let trip = Trip { consecutive: config.failures, unanswered: config.timeouts, share };
        Failing {
            breaker: Breaker::new(trip, config.reset),
            patience: u64::try_from(config.patience.as_millis()).unwrap_or(u64::MAX),
            since: None,
            class: FailureClass::Connect,
            message: String::new(),
            gauge: None,
        }
    }

    fn refuse(&self, host: &str, now: u64, until: u64) -> Refused {
        match self.since {
            // While a probe is under way, the host may be well again: its end is waited for.
            Some(since) if now.saturating_sub(since) > self.patience && self.breaker.state(now) == State::Open => {
                let away = now.saturating_sub(since) / 1_000;
                let message = format!("not asked, {host} has failed for {away} s: {}", self.message);
                Refused::Away { class: self.class, message }
            }
            _ if self.breaker.state(now) == State::HalfOpen => Refused::Probed(until),
            _ => Refused::Until(until),
        }
    }

    fn ended(&mut self, host: &str, admitted: Admit, end: &End, now: u64) {
        let before = self.breaker.state(now);
        self.breaker.ended(admitted, end.how(), now);
        if let End::Failed(_, class, message) = end {
            (self.class, self.message) = (*class, message.clone());
        }
        match (before, self.breaker.state(now)) {
            (State::Closed, State::Open) => {
                tracing::warn!(host, class = self.class.as_str(), error = %self.message, "keeps failing; left alone for a while");
                self.since = Some(now);
                self.gauge = Some(OneMore::open_breaker(host));
            }
            (State::HalfOpen, State::Closed) => {
                tracing::info!(host, "answers again");
                (self.since, self.gauge) = (None, None);
            }
            _ => {}
        }
    }
}

/// What a request says of its host.
#[derive(Debug)]
pub enum End {
    Well,
    Failed(Ended, FailureClass, String),
}

impl End {
    fn how(&self) -> Ended {
        match self {
            End::Well => Ended::Well,
            End::Failed(how, ..) => *how,
        }
    }

    /// Of an answer, or of none. `None` says nothing of the host.
    pub fn of(result: &Result<Answer, FetchError>) -> Option<End> {
        match result {
            // A host that asks to be left in peace is well; that is for politeness.
            Ok(a) if a.status == 429 => None,
            Ok(a) if a.status >= 500 => {
                Some(End::Failed(Ended::Failed, FailureClass::Http5xx, format!("answered {}", a.status)))
            }
            Ok(_) => Some(End::Well),
            Err(e) => End::of_failure(e.class, &e.message),
        }
    }

    /// Of a failure. `None` says nothing of the host.
    pub fn of_failure(class: FailureClass, message: &str) -> Option<End> {
        use FailureClass as F;
        let how = match class {
            F::Timeout | F::Connect | F::Dns => Ended::Unanswered,
            F::Tls | F::Protocol | F::Truncated | F::Http5xx | F::RobotsUnreachable => Ended::Failed,
            // Refused by us before anything was sent, or our own trouble.
            F::BlockedAddress | F::InvalidUrl | F::Storage | F::Panic => return None,
            // It answered, though with nothing we take.
            _ => return Some(End::Well),
        };
        Some(End::Failed(how, class, message.to_owned()))
    }
}

impl Pass {
    /// The requests ended so.
    pub fn ended(mut self, end: &End, now: u64) {
        self.said = true;
        self.of.ended(&self, end, now);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.said
            && let Some(failing) = self.of.hosts().get_mut(&self.host)
        {
            failing.breaker.abandoned(self.admitted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const HOST: &str = "example.org";

    fn breakers(toml: &str) -> Arc<Breakers> {
        Breakers::new(&toml::from_str(toml).unwrap())
    }

    fn fail(b: &Arc<Breakers>, class: FailureClass, now: u64) {
        let end = End::of_failure(class, "it failed").unwrap();
        b.admit(HOST, now).unwrap_or_else(|r| panic!("{r:?}")).ended(&end, now);
    }

    fn refused(b: &Arc<Breakers>, now: u64) -> Refused {
        b.admit(HOST, now).map(|_| ()).unwrap_err()
    }

    #[test]
    fn a_host_that_keeps_failing_is_left_alone_then_tried_once() {
        let b = breakers("breaker.patience = '20m'");
        for n in 0..4 {
            fail(&b, FailureClass::Http5xx, n);
        }
        fail(&b, FailureClass::Timeout, 4);
        fail(&b, FailureClass::Http5xx, 5);
        assert_eq!(refused(&b, 6), Refused::Until(300_005));
        assert!(b.admit("other.org", 6).is_ok());
        let probe = b.admit(HOST, 300_005).ok().unwrap();
        assert!(matches!(refused(&b, 300_005), Refused::Probed(301_005)));
        drop(probe);
        fail(&b, FailureClass::Connect, 300_006);
        assert_eq!(refused(&b, 300_007), Refused::Until(600_006));
        // It has been away for longer than its records wait.
        fail(&b, FailureClass::Connect, 1_200_000);
        let Refused::Away { class, message } = refused(&b, 1_200_006) else { panic!("still waits") };
        assert_eq!((class, message.contains("1200 s: it failed")), (FailureClass::Connect, true), "{message}");
        let probe = b.admit(HOST, 1_500_000).ok().unwrap();
        assert!(matches!(refused(&b, 1_500_000), Refused::Probed(_)), "the probe may find it well");
        probe.ended(&End::Well, 1_500_000);
        assert!(b.hosts().is_empty(), "a host that is well takes no memory");
    }

    #[test]
    fn connections_that_fail_are_counted_apart_and_rules_hold_for_hosts() {
        let b = breakers("[breaker]\ntimeouts = 0\n[hosts.'example.org'.breaker]\nfailures = 2\nreset = '1s'");
        (0..50).for_each(|n| fail(&b, FailureClass::Connect, n));
        fail(&b, FailureClass::Protocol, 50);
        fail(&b, FailureClass::Truncated, 51);
        assert_eq!(refused(&b, 52), Refused::Until(1_052));
        let off = breakers("breaker = { failures = 0, timeouts = 0 }");
        (0..50).for_each(|n| fail(&off, FailureClass::Http5xx, n));
        assert!(off.hosts().is_empty());
    }

    #[test]
    fn a_share_of_failures_opens_it_too() {
        let b = breakers("breaker = { failures = 0, timeouts = 0, share = 0.5 }");
        for n in 0..5 {
            b.admit(HOST, n).ok().unwrap().ended(&End::Well, n);
            fail(&b, if n % 2 == 0 { FailureClass::Timeout } else { FailureClass::Http5xx }, n);
        }
        assert!(matches!(refused(&b, 6), Refused::Until(_)));
    }

    #[test]
    fn what_an_end_says() {
        for class in FailureClass::ALL {
            if let Some(End::Failed(..)) = End::of_failure(*class, "") {
                assert!(class.retried(), "{class}: the host's trouble may pass");
            }
        }
        let mut quick = HostBreaker::default();
        quick.hasten();
        assert!(quick.reset < Duration::from_secs(5) && quick.patience < Duration::from_secs(20));
    }
}
