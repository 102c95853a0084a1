//! Calls of one service: counted, timed, and held back while it is away.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::breaker::{Admit, Breaker, Ended, State, Trip};
use crate::config;
use crate::telemetry::calls;

/// A call that took longer is logged.
const SLOW: Duration = Duration::from_secs(1);

/// What an error says of the service.
pub trait Verdict: Display {
    /// What was asked for is not there; the service is well.
    fn is_missing(&self) -> bool {
        false
    }

    /// The service cannot now; it may later.
    fn is_unavailable(&self) -> bool;

    /// The error of a call that was not made.
    fn refused(why: String) -> Self;
}

/// The calls of one service.
pub struct Calls {
    /// Label of its metrics: `store.redis`, `blob.folder`, …
    service: String,
    /// None before what is embedded: a file that is locked or a disk that is full says so by itself, at once.
    breaker: Option<Mutex<Breaker>>,
    began: Instant,
}

impl Calls {
    /// Of something embedded: timed only.
    pub fn embedded(service: impl Into<String>) -> Calls {
        Calls { service: service.into(), breaker: None, began: Instant::now() }
    }

    /// Of a service that may be away.
    pub fn remote(service: impl Into<String>, config: &config::Breaker) -> Calls {
        let trip = Trip { consecutive: config.failures, ..Trip::default() };
        let calls = Calls {
            service: service.into(),
            breaker: Some(Mutex::new(Breaker::new(trip, config.reset))),
            began: Instant::now(),
        };
        calls::breaker(&calls.service, 0);
        calls
    }

    /// Makes a call, or refuses it at once while the breaker is open. A call that is dropped counts for nothing.
    pub async fn call<T, E: Verdict>(
        &self,
        operation: &'static str,
        f: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let from = Instant::now();
        let admitted = match self.admit() {
            Admit::Refused { .. } => {
                calls::call(&self.service, operation, "refused", from.elapsed());
                return Err(E::refused(format!(
                    "{} has failed several times and is left alone for a moment",
                    self.service
                )));
            }
            admitted => admitted,
        };
        let mut pending = Pending { calls: self, admitted, failed: None };
        let result = f.await;
        let took = from.elapsed();
        let outcome = match &result {
            Ok(_) => "ok",
            Err(e) if e.is_missing() => "missing",
            Err(e) if e.is_unavailable() => "unavailable",
            Err(_) => "failed",
        };
        pending.failed = Some(outcome == "unavailable");
        drop(pending);
        calls::call(&self.service, operation, outcome, took);
        if took > SLOW {
            let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(service = %self.service, operation, outcome, took_ms, "slow");
        }
        if let Err(e) = &result
            && outcome == "unavailable"
        {
            tracing::debug!(service = %self.service, operation, error = %e, "unavailable");
        }
        result
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn admit(&self) -> Admit {
        self.with(|b, now| b.admit(now)).unwrap_or(Admit::Go)
    }

    /// Does something with the breaker, and tells of it if its state is another then.
    fn with<T>(&self, f: impl FnOnce(&mut Breaker, u64) -> T) -> Option<T> {
        let mut breaker = self.breaker.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        let before = breaker.state(now);
        let done = f(&mut breaker, now);
        let after = breaker.state(now);
        let gauge = match after {
            State::Closed => 0,
            State::HalfOpen => 1,
            State::Open => 2,
        };
        calls::breaker(&self.service, gauge);
        match (before, after) {
            (State::Closed, State::Open) => {
                tracing::warn!(service = %self.service, "away: it is left alone for a moment, and what needs it waits");
            }
            (State::HalfOpen, State::Closed) => tracing::info!(service = %self.service, "back"),
            _ => {}
        }
        Some(done)
    }
}

/// A call on its way; dropped with the future of the call.
struct Pending<'a> {
    calls: &'a Calls,
    admitted: Admit,
    failed: Option<bool>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let _breaker = self.calls.with(|b, now| match self.failed {
            Some(true) => b.ended(self.admitted, Ended::Failed, now),
            Some(false) => b.ended(self.admitted, Ended::Well, now),
            None => b.abandoned(self.admitted),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, thiserror::Error)]
    #[error("{0}")]
    enum E {
        Away(String),
        Bad(String),
    }

    impl Verdict for E {
        fn is_unavailable(&self) -> bool {
            matches!(self, E::Away(_))
        }
        fn refused(why: String) -> E {
            E::Away(why)
        }
    }

    fn calls(failures: u32, reset: Duration) -> Calls {
        Calls::remote("test", &config::Breaker { failures, reset })
    }

    async fn fail(c: &Calls) -> E {
        c.call("get", async { Err::<(), _>(E::Away("away".into())) }).await.unwrap_err()
    }

    #[tokio::test]
    async fn while_it_is_away_no_call_is_made() {
        let c = calls(2, Duration::from_secs(3600));
        let bad = c.call("get", async { Err::<(), _>(E::Bad("no".into())) });
        assert_eq!(bad.await, Err(E::Bad("no".into())), "a service that says no is not away");
        assert_eq!(fail(&c).await, E::Away("away".into()));
        assert_eq!(fail(&c).await, E::Away("away".into()));
        let mut made = false;
        let refused = c.call("get", async {
            made = true;
            Ok::<_, E>(())
        });
        let refused = refused.await.unwrap_err();
        assert!(!made && refused.is_unavailable() && refused.to_string().contains("test"), "{refused}");
    }

    #[tokio::test]
    async fn a_probe_that_is_dropped_does_not_shut_it_for_ever() {
        let c = calls(1, Duration::ZERO);
        fail(&c).await;
        let probe =
            tokio::time::timeout(Duration::from_millis(1), c.call("get", std::future::pending::<Result<(), E>>()));
        assert!(probe.await.is_err());
        assert_eq!(c.call("get", async { Ok::<_, E>(7) }).await, Ok(7));
        assert_eq!(c.call("get", async { Ok::<_, E>(8) }).await, Ok(8));
    }
}
