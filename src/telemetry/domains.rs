//! Metrics by domain, whose labels are bounded: the busiest domains have one of their own, all others are `other`.
//!
//! What is kept of domains is bounded too: a domain that is seen now and then is forgotten in favour of those that are
//! seen often. One that has become busier than the least busy of those with a label takes its place, and the series of that
//! one end. A rate is right at all times; a sum over all domains falls when a series ends, as when a process does.

use std::collections::{BTreeSet, HashMap};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::{BUCKETS, register};

/// Domains with a label of their own.
const OWN: usize = 50;
/// Domains whose requests are counted to find the busiest.
const WATCHED: usize = 1_000;
/// Label of all others.
const OTHER: &str = "other";

/// Which domains are the busiest. Pure.
#[derive(Debug, Default)]
struct Busiest {
    own: usize,
    watched: usize,
    requests: HashMap<String, u64>,
    labelled: BTreeSet<String>,
}

impl Busiest {
    fn new(own: usize, watched: usize) -> Busiest {
        Busiest { own, watched, ..Busiest::default() }
    }

    /// Counts a request; the domain that lost its label by it, if one did.
    fn request(&mut self, domain: &str) -> Option<String> {
        let count = match self.requests.get_mut(domain) {
            Some(count) => {
                *count += 1;
                *count
            }
            None => {
                // Halving everything forgets those seen once, and what is long ago.
                while self.requests.len() >= self.watched {
                    self.requests.retain(|_, n| {
                        *n /= 2;
                        *n > 0
                    });
                }
                self.requests.insert(domain.to_owned(), 1);
                1
            }
        };
        if self.labelled.contains(domain) {
            return None;
        }
        if self.labelled.len() < self.own {
            self.labelled.insert(domain.to_owned());
            return None;
        }
        let requests = |d: &String| self.requests.get(d).copied().unwrap_or(0);
        let least = self.labelled.iter().min_by_key(|d| requests(d))?.clone();
        // By a margin, so that two of the same pace do not take turns.
        if count <= requests(&least).saturating_mul(2) {
            return None;
        }
        self.labelled.remove(&least);
        self.labelled.insert(domain.to_owned());
        Some(least)
    }

    fn label<'a>(&self, domain: &'a str) -> &'a str {
        if self.labelled.contains(domain) { domain } else { OTHER }
    }
}

/// A metric whose first label is `domain`, and its series.
struct ByDomain<T: MetricVecBuilder> {
    all: MetricVec<T>,
    /// By label: the other labels, and the metric itself, so that it need not be looked for again.
    series: HashMap<String, Series<T::M>>,
}

type Series<M> = Vec<(Vec<String>, M)>;

impl<T: MetricVecBuilder + 'static> ByDomain<T>
where
    MetricVec<T>: Collector + Clone,
{
    fn new(made: prometheus::Result<MetricVec<T>>) -> ByDomain<T> {
        #[allow(clippy::unwrap_used, reason = "names and labels are literals of this file; a test makes each one")]
        let all = register(made.unwrap());
        ByDomain { all, series: HashMap::new() }
    }

    /// The metric of a label of [`Busiest`] and of these others.
    fn of(&mut self, label: &str, rest: &[&str]) -> T::M {
        let known = self.series.get(label).and_then(|all| all.iter().find(|(labels, _)| labels == rest));
        if let Some((_, metric)) = known {
            return metric.clone();
        }
        let labels: Vec<&str> = std::iter::once(label).chain(rest.iter().copied()).collect();
        let metric = self.all.with_label_values(&labels);
        let rest = rest.iter().map(|label| (*label).to_owned()).collect();
        self.series.entry(label.to_owned()).or_default().push((rest, metric.clone()));
        metric
    }

    /// Ends all series of a label.
    fn end(&mut self, label: &str) {
        for (rest, _) in self.series.remove(label).unwrap_or_default() {
            let labels: Vec<&str> = std::iter::once(label).chain(rest.iter().map(String::as_str)).collect();
            let _it_is_there = self.all.remove_label_values(&labels);
        }
    }
}

macro_rules! domains {
    ($($name:ident: $vec:ident = $opts:expr, [$($label:literal),*];)*) => {
        /// All of it.
        struct Domains {
            busiest: Busiest,
            $($name: ByDomain<<$vec as Of>::Builder>,)*
        }

        impl Domains {
            fn new() -> Domains {
                let busiest = Busiest::new(OWN, WATCHED);
                Domains { busiest, $($name: ByDomain::new($vec::new($opts, &["domain", $($label),*])),)* }
            }

            /// Ends the series of a label in every metric.
            fn end(&mut self, label: &str) {
                $(self.$name.end(label);)*
            }
        }
    };
}

/// What makes the metrics of a vector.
trait Of {
    type Builder: MetricVecBuilder;
}

impl<T: MetricVecBuilder> Of for MetricVec<T> {
    type Builder = T;
}

domains! {
    requests: IntCounterVec = Opts::new("tidemill_fetch_requests_total", "Requests that ended, by domain, method and status: of HTTP, or a failure class."), ["method", "status"];
    request_time: HistogramVec = HistogramOpts::new("tidemill_fetch_request_seconds", "Time of a request with its body.").buckets(BUCKETS.to_vec()), ["method"];
    active: IntGaugeVec = Opts::new("tidemill_fetch_active_requests", "Requests under way."), [];
    breakers: IntGaugeVec = Opts::new("tidemill_fetch_open_breakers", "Hosts that are left alone because they keep failing."), [];
    cache: IntCounterVec = Opts::new("tidemill_fetch_cache_total", "URLs by what the HTTP cache knew: fresh, not-modified, modified, miss, forced."), ["result"];
    robots: IntCounterVec = Opts::new("tidemill_robots_decisions_total", "URLs by what robots.txt says: allowed, disallowed, unreachable."), ["decision"];
}

/// One lock for labels and series: a series could else begin after its domain lost the label.
static DOMAINS: LazyLock<Mutex<Domains>> = LazyLock::new(|| Mutex::new(Domains::new()));

fn domains() -> MutexGuard<'static, Domains> {
    // Nothing here leaves it half changed.
    DOMAINS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What robots.txt says of a URL of this domain: allowed, disallowed, unreachable.
pub fn robots(domain: &str, decision: &str) {
    let all = &mut *domains();
    all.robots.of(all.busiest.label(domain), &[decision]).inc();
}

/// What the HTTP cache knew of a URL of this domain: fresh, not-modified, modified, miss, forced.
pub fn cache(domain: &str, result: &str) {
    let all = &mut *domains();
    all.cache.of(all.busiest.label(domain), &[result]).inc();
}

/// One more in a gauge for as long as it lives.
#[derive(Debug)]
pub struct OneMore(IntGauge);

impl OneMore {
    fn of(gauge: IntGauge) -> OneMore {
        gauge.inc();
        OneMore(gauge)
    }

    /// A host of this domain whose breaker is open.
    pub fn open_breaker(domain: &str) -> OneMore {
        let all = &mut *domains();
        OneMore::of(all.breakers.of(all.busiest.label(domain), &[]))
    }
}

impl Drop for OneMore {
    fn drop(&mut self) {
        // The one it was added to, even if the domain has lost its label since.
        self.0.dec();
    }
}

/// A request under way.
#[derive(Debug)]
pub struct Request<'d> {
    domain: &'d str,
    method: &'static str,
    started: Instant,
    _active: OneMore,
}

impl Request<'_> {
    /// It starts now.
    pub fn start<'d>(domain: &'d str, method: &'static str) -> Request<'d> {
        let all = &mut *domains();
        if let Some(gone) = all.busiest.request(domain) {
            all.end(&gone);
        }
        let _active = OneMore::of(all.active.of(all.busiest.label(domain), &[]));
        Request { domain, method, started: Instant::now(), _active }
    }

    /// It ended with this status of HTTP, or failure class. One that is dropped without is not counted.
    pub fn ended(self, status: &str) {
        let all = &mut *domains();
        let label = all.busiest.label(self.domain);
        all.requests.of(label, &[self.method, status]).inc();
        all.request_time.of(label, &[self.method]).observe(self.started.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_busiest_have_a_label() {
        let mut b = Busiest::new(2, 10);
        for domain in ["a", "a", "a", "b", "c", "c"] {
            assert_eq!(b.request(domain), None);
        }
        assert_eq!(["a", "b", "c"].map(|d| b.label(d).to_owned()), ["a", "b", OTHER]);
        assert_eq!(b.request("c").as_deref(), Some("b"), "more than twice as busy");
        assert_eq!(["a", "b", "c"].map(|d| b.label(d).to_owned()), ["a", OTHER, "c"]);
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_a_steady_domain_keeps_its_label(passing in proptest::collection::vec(0u32..5_000, 0..3_000)) {
            let mut b = Busiest::new(3, 20);
            for (i, other) in passing.iter().enumerate() {
                let gone = b.request(&other.to_string());
                prop_assert!(b.labelled.len() <= 3 && b.requests.len() <= 20);
                prop_assert!(gone.as_deref() != Some("steady") || i < 50);
                if i % 2 == 0 {
                    b.request("steady");
                }
            }
            prop_assert!(passing.len() < 100 || b.label("steady") == "steady");
        }
    }

    #[test]
    fn series_end_with_their_label_and_a_request_ends_where_it_began() {
        for n in 0..OWN {
            Request::start(&format!("filler-{n}.test"), "GET").ended("200");
        }
        let here = |line: &str| crate::telemetry::exposition().contains(&format!("\ntidemill_{line}\n"));
        let busy = |domain: &str, n: usize| (0..n).for_each(|_| Request::start(domain, "GET").ended("200"));
        // Other tests of this process make requests too; nobody is as busy as these.
        busy("first.test", 1_000);
        assert!(here("fetch_active_requests{domain=\"first.test\"} 0"));
        robots("first.test", "allowed");
        assert!(here("robots_decisions_total{decision=\"allowed\",domain=\"first.test\"} 1"));
        let under_way = Request::start("first.test", "GET");
        for n in 0..OWN {
            busy(&format!("next-{n}.test"), 2_100);
        }
        assert!(!here("robots_decisions_total{decision=\"allowed\",domain=\"first.test\"} 1"));
        under_way.ended("timeout");
        assert!(here("fetch_requests_total{domain=\"other\",method=\"GET\",status=\"timeout\"} 1"));
        drop(OneMore::open_breaker("first.test"));
        assert!(here("fetch_open_breakers{domain=\"other\"} 0"));
    }
}
