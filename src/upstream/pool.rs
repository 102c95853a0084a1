//! Several endpoints that do the same: in turn, each as often as its weight says, without those that are known to be away.
//!
//! ```text
//! pick ─► in turn, whose last check was good and whose breaker is closed ─► its token bucket ─► call ─► told how it went
//!            none such: in turn, whoever it is                                                     every `check`: those are asked
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
/// Microseconds.
const SECOND: u64 = 1_000_000;

/// What is known of an endpoint.
struct Health {
    breaker: Breaker,
    /// What the last check said.
    sick: bool,
}

struct Endpoint<T> {
    name: String,
    value: T,
    weight: u32,
    health: Mutex<Health>,
    bucket: Mutex<Bucket>,
}

/// So many calls a second, and no more of them at once. Pure; times in microseconds.
#[derive(Debug)]
struct Bucket {
    /// Between two calls; 0: any number will do.
    every: u64,
    /// When the next is due, at an even pace.
    due: u64,
}

/// The endpoints of one service.
pub struct Pool<T> {
    /// Label of its metrics: `opensearch`, …
    service: &'static str,
    endpoints: Vec<Endpoint<T>>,
    /// How much each has coming to it, in turns times weights.
    owed: Mutex<Vec<i64>>,
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
    /// Endpoints by name, each with its weight (1 or more), in the order of their first turn; and how many calls a second are made to one
    /// of weight 1 (0: any number).
    pub fn new(
        service: &'static str,
        calls_per_second: u32,
        endpoints: impl IntoIterator<Item = (String, u32, T)>,
    ) -> Pool<T> {
        let endpoint = |(name, weight, value): (String, u32, T)| {
            metrics::up(service, &name, true);
            let health = Mutex::new(Health { breaker: Breaker::new(TRIP, RESET), sick: false });
            let bucket = Mutex::new(Bucket::new(calls_per_second.saturating_mul(weight)));
            Endpoint { name, value, weight, health, bucket }
        };
        let endpoints: Vec<_> = endpoints.into_iter().map(endpoint).collect();
        let owed = Mutex::new(vec![0; endpoints.len()]);
        Pool { service, endpoints, owed, born: Instant::now() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// As [`Pool::pick`], once that one may be called: another would have its turn twice.
    pub async fn turn(&self, tried: &[usize]) -> Option<Pick<'_, T>> {
        let pick = self.pick(tried)?;
        let take = || {
            let now = u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.endpoints[pick.at].bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now)
        };
        while let Err(wait) = take() {
            tokio::time::sleep(Duration::from_micros(wait)).await;
        }
        Some(pick)
    }

    /// The next in turn that is well, but for those that were `tried`; if none is, the next in turn, if there is one that was
    /// not. Turns are spread evenly: of weights 3 and 1, the first has two, the second one, the first one (as nginx does).
    fn pick(&self, tried: &[usize]) -> Option<Pick<'_, T>> {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let weight = |at: usize| i64::from(self.endpoints[at].weight);
        let mut order: Vec<usize> = (0..self.endpoints.len()).filter(|at| !tried.contains(at)).collect();
        // Stable: of equals the first.
        order.sort_by_key(|at| std::cmp::Reverse(owed[*at] + weight(*at)));
        let well = |at: &usize| {
            let mut health = self.health(*at);
            match health.breaker.admit(self.now()) {
                // A sick one's probe is its next check.
                admitted if health.sick => {
                    health.breaker.abandoned(admitted);
                    None
                }
                Admit::Refused { .. } => None,
                admitted => Some((*at, admitted)),
            }
        };
        let found = order.iter().find_map(well);
        let nobody = found.is_none();
        // Its breaker learns nothing from it: it is open, or a check will say.
        let (at, admitted) = found.or_else(|| order.first().map(|at| (*at, Admit::Refused { until: 0 })))?;
        // Who is away while others are well has nothing coming to it.
        for other in order.into_iter().filter(|other| nobody || *other == at || self.is_up(*other)) {
            owed[other] += weight(other);
            owed[at] -= weight(other);
        }
        Some(Pick { pool: self, at, admitted, told: false })
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

impl Bucket {
    fn new(calls_per_second: u32) -> Bucket {
        Bucket { every: SECOND.checked_div(u64::from(calls_per_second)).unwrap_or(0), due: 0 }
    }

    /// Takes a token, or says how long to wait for one.
    fn take(&mut self, now: u64) -> Result<(), u64> {
        let due = self.due.max(now);
        match due.saturating_sub(now + SECOND.saturating_sub(self.every)) {
            0 => {
                self.due = due + self.every;
                Ok(())
            }
            wait => Err(wait),
        }
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
        Pool::new("test", 0, (0..endpoints).map(|n| (n.to_string(), 1, n)))
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

    #[test]
    fn turns_by_weight_are_spread_and_go_on_without_who_is_away() {
        let pool = Pool::new("test", 0, [("a".to_owned(), 3, 0), ("b".to_owned(), 1, 1), ("c".to_owned(), 2, 2)]);
        let turns = |n: usize| (0..n).map(|_| next(&pool)).collect::<Vec<_>>();
        let count = |turns: &[usize]| [0, 1, 2].map(|at| turns.iter().filter(|t| **t == at).count());
        assert_eq!(turns(6), [0, 2, 0, 1, 2, 0]);
        assert_eq!(count(&turns(60)), [30, 10, 20]);
        pool.pick(&[1, 2]).unwrap().ended(Ended::Unanswered);
        let without = turns(30);
        assert_eq!(count(&without), [0, 10, 20]);
        // Back, it has what its weight says, and not what it missed.
        pool.health(0).breaker = Breaker::new(TRIP, RESET);
        let [a, b, c] = count(&turns(60));
        assert!(a.abs_diff(30) <= 1 && b.abs_diff(10) <= 1 && c.abs_diff(20) <= 1, "{a} {b} {c}");
    }

    #[test]
    fn so_many_at_once_and_so_many_a_second() {
        let mut bucket = Bucket::new(2);
        assert_eq!((bucket.take(7), bucket.take(7), bucket.take(7)), (Ok(()), Ok(()), Err(500_000)));
        assert_eq!((bucket.take(500_007), bucket.take(500_007)), (Ok(()), Err(500_000)));
        // What was not used is not saved beyond a second's worth.
        let later = 60 * SECOND;
        assert_eq!((bucket.take(later), bucket.take(later), bucket.take(later)), (Ok(()), Ok(()), Err(500_000)));
        let mut once = Bucket::new(1);
        assert_eq!((once.take(0), once.take(1)), (Ok(()), Err(SECOND - 1)));
        let mut any = Bucket::new(0);
        assert!((0..1_000).all(|_| any.take(0).is_ok()));
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
