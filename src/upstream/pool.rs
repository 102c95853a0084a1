//! Several endpoints that do the same: one after the other, without those that are known to be away.
//!
//! ```text
//! pick ─► in turn, whose last check was good and whose breaker is closed ─► call ─► told how it went
//!            none such: in turn, whoever it is                                 every `check`: those are asked
//!                                                                              whether they are there, which says it sooner
//! ```
//!
//! The breaker is passive (what calls tell), the check is active. A check that is answered closes the breaker. Nobody is
//! refused here: who has only sick endpoints tries one, and its own pauses keep it from trying too often.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::breaker::{Admit, Breaker, Ended, Share, State, Trip};
use crate::telemetry::calls as metrics;

/// One call without an answer is enough: there are others. Else half of at least ten within a minute.
const TRIP: Trip = Trip {
    consecutive: 0,
    unanswered: 1,
    share: Some(Share { failed: 0.5, volume: 10, window: Duration::from_secs(60) }),
};
/// How long an endpoint is left alone, if no check finds it well before.
const RESET: Duration = Duration::from_secs(30);

/// What is known of an endpoint.
struct Health {
    breaker: Breaker,
    /// What the last check said.
    sick: bool,
}

struct Endpoint<T> {
    name: String,
    value: T,
    health: Mutex<Health>,
}

/// The endpoints of one service.
pub struct Pool<T> {
    /// Label of its metrics: `opensearch`, …
    service: &'static str,
    endpoints: Vec<Endpoint<T>>,
    turn: std::sync::atomic::AtomicUsize,
    born: Instant,
}

/// An endpoint that was chosen. Dropped without a word, it says nothing of the endpoint.
pub struct Pick<'a, T> {
    pool: &'a Pool<T>,
    at: usize,
    admitted: Admit,
    told: bool,
}

impl<T> Pool<T> {
    /// Endpoints by name, in the order of their first turn.
    pub fn new(service: &'static str, endpoints: impl IntoIterator<Item = (String, T)>) -> Pool<T> {
        let endpoint = |(name, value): (String, T)| {
            metrics::up(service, &name, true);
            Endpoint { name, value, health: Mutex::new(Health { breaker: Breaker::new(TRIP, RESET), sick: false }) }
        };
        let endpoints = endpoints.into_iter().map(endpoint).collect();
        Pool { service, endpoints, turn: Default::default(), born: Instant::now() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// The next in turn that is well, but for those that were `tried`; if none is, the next in turn, if there is one that was
    /// not.
    pub fn pick(&self, tried: &[usize]) -> Option<Pick<'_, T>> {
        let first = self.turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let count = self.endpoints.len();
        let order = (0..count).map(|n| first.wrapping_add(n) % count).filter(|at| !tried.contains(at));
        let well = |at: usize| {
            let mut health = self.health(at);
            match health.breaker.admit(self.now()) {
                // A sick one's probe is its next check.
                admitted if health.sick => {
                    health.breaker.abandoned(admitted);
                    None
                }
                Admit::Refused { .. } => None,
                admitted => Some(Pick { pool: self, at, admitted, told: false }),
            }
        };
        order.clone().find_map(well).or_else(|| {
            // Its breaker learns nothing from it: it is open, or a check will say.
            let refused = Admit::Refused { until: 0 };
            order.clone().next().map(|at| Pick { pool: self, at, admitted: refused, told: false })
        })
    }

    /// Asks each one whether it is there.
    pub async fn check<F: Future<Output = bool>>(&self, ask: impl Fn(&T) -> F) {
        let asked = self.endpoints.iter().map(|e| ask(&e.value));
        for (at, well) in futures::future::join_all(asked).await.into_iter().enumerate() {
            let mut health = self.health(at);
            health.sick = !well;
            if well && health.breaker.state(self.now()) != State::Closed {
                health.breaker = Breaker::new(TRIP, RESET);
            }
            drop(health);
            self.show(at);
        }
    }

    fn health(&self, at: usize) -> std::sync::MutexGuard<'_, Health> {
        self.endpoints[at].health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_up(&self, at: usize) -> bool {
        let health = self.health(at);
        !health.sick && health.breaker.state(self.now()) == State::Closed
    }

    fn show(&self, at: usize) {
        metrics::up(self.service, &self.endpoints[at].name, self.is_up(at));
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl<T: Send + Sync + 'static> Pool<T> {
    /// Checks again and again, as long as somebody holds the pool. Within a runtime.
    pub fn keep_checking<F>(self: &Arc<Self>, every: Duration, ask: impl Fn(&T) -> F + Send + Sync + 'static)
    where
        F: Future<Output = bool> + Send + 'static,
    {
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                let Some(pool) = pool.upgrade() else { return };
                pool.check(&ask).await;
            }
        });
    }
}

impl<T> Pick<'_, T> {
    /// What was chosen.
    pub fn value(&self) -> &T {
        &self.pool.endpoints[self.at].value
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.pool.endpoints[self.at].name
    }

    /// Its place, for [`Pool::pick`] to leave it out.
    pub fn at(&self) -> usize {
        self.at
    }

    /// How the call went.
    pub fn ended(mut self, how: Ended) {
        self.told = true;
        let was_up = self.pool.is_up(self.at);
        self.pool.health(self.at).breaker.ended(self.admitted, how, self.pool.now());
        if was_up && !self.pool.is_up(self.at) {
            tracing::warn!(service = self.pool.service, endpoint = self.name(), "away: the others do its work");
        }
        let outcome = match how {
            Ended::Well => "ok",
            Ended::Failed => "failed",
            Ended::Unanswered => "unanswered",
        };
        metrics::request(self.pool.service, self.name(), outcome);
        self.pool.show(self.at);
    }
}

impl<T> Drop for Pick<'_, T> {
    fn drop(&mut self) {
        if !self.told {
            self.pool.health(self.at).breaker.abandoned(self.admitted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool(endpoints: usize) -> Pool<usize> {
        Pool::new("test", (0..endpoints).map(|n| (n.to_string(), n)))
    }

    fn next(pool: &Pool<usize>) -> usize {
        *pool.pick(&[]).unwrap().value()
    }

    #[test]
    fn in_turn_without_the_one_that_does_not_answer() {
        let pool = pool(3);
        assert_eq!([next(&pool), next(&pool), next(&pool), next(&pool)], [0, 1, 2, 0]);
        let pick = pool.pick(&[]).unwrap();
        assert_eq!(pick.at(), 1);
        pick.ended(Ended::Unanswered);
        assert!(!(0..6).map(|_| next(&pool)).any(|at| at == 1));
        // In the same call nobody is asked twice.
        assert_eq!(pool.pick(&[0, 2]).map(|p| p.at()), Some(1), "better than nobody");
        assert!(pool.pick(&[0, 1, 2]).is_none());
    }

    #[tokio::test]
    async fn a_check_says_who_is_there() {
        let pool = pool(2);
        pool.check(|at| std::future::ready(*at == 1)).await;
        assert!((0..4).all(|_| next(&pool) == 1));
        pool.pick(&[]).unwrap().ended(Ended::Unanswered);
        // Nobody is well: each has its turn, and what it does is no proof.
        let turns: Vec<usize> = (0..4).map(|_| next(&pool)).collect();
        assert!(turns.contains(&0) && turns.contains(&1), "{turns:?}");
        pool.check(|_| std::future::ready(true)).await;
        let turns: Vec<usize> = (0..4).map(|_| next(&pool)).collect();
        assert!(turns.contains(&0) && turns.contains(&1), "{turns:?}");
    }

    #[test]
    fn half_of_ten_failures_are_enough_and_answers_in_between_are_not() {
        let pool = pool(2);
        let call = |how| {
            let pick = pool.pick(&[1]).unwrap();
            pick.ended(how);
        };
        (0..10).for_each(|n| call(if n % 3 == 0 { Ended::Failed } else { Ended::Well }));
        assert!(pool.is_up(0));
        (0..10).for_each(|_| call(Ended::Failed));
        assert!(!pool.is_up(0) && (0..4).all(|_| next(&pool) == 1));
    }

    proptest! {
        /// Whatever happens: somebody is chosen, well before sick, and nobody who was tried.
        #[test]
        fn somebody_is_chosen_who_is_well_if_one_is(steps in proptest::collection::vec((0..4usize, 0..5u8), 1..200)) {
            let pool = pool(4);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for (at, what) in steps {
                let others: Vec<usize> = (0..4).filter(|n| *n != at).collect();
                match what {
                    0 => pool.pick(&others).unwrap().ended(Ended::Well),
                    1 => pool.pick(&others).unwrap().ended(Ended::Unanswered),
                    2 => pool.pick(&others).unwrap().ended(Ended::Failed),
                    3 => runtime.block_on(pool.check(|n| std::future::ready(*n == at))),
                    _ => drop(pool.pick(&others)),
                }
                let any_up = (0..4).any(|n| pool.is_up(n));
                let pick = pool.pick(&[]).unwrap().at();
                prop_assert!(!any_up || pool.is_up(pick));
                prop_assert!(pool.pick(&[pick]).unwrap().at() != pick);
            }
        }
    }
}
