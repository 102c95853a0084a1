//! What holds for one host, or for all below a name, where it differs from the rest of `fetch`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::{Fetch, secs};

/// When a host that keeps failing is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostBreaker {
    /// Failed answers (5xx, broken off, no HTTP) without a good one between them; 0: they are not counted.
    pub failures: u32,
    /// Time-outs and connection errors without an answer between them; 0: they are not counted.
    pub timeouts: u32,
    /// Share of the requests within `window` that failed in either way, 0 to 1; 0: it is not looked at.
    #[serde(deserialize_with = "share")]
    pub share: f64,
    /// Requests within `window` that it takes for a share.
    pub volume: usize,
    /// How long a request counts for a share.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub window: Duration,
    /// How long the host is left alone before it is tried with one request; with the quick ladder 4 s at most.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub reset: Duration,
    /// How long records wait for it, uncounted; after that each attempt fails at once, and so they become dead letters.
    /// With the quick ladder 15 s at most.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub patience: Duration,
}

impl Default for HostBreaker {
    fn default() -> Self {
        HostBreaker {
            failures: 5,
            timeouts: 5,
            share: 0.0,
            volume: 10,
            window: secs(60),
            reset: secs(300),
            patience: secs(3600),
        }
    }
}

/// Longest reset and patience of a run that should end soon.
const QUICK: (Duration, Duration) = (secs(4), secs(15));

impl HostBreaker {
    /// For a run that should end soon.
    pub fn hasten(&mut self) {
        self.reset = self.reset.min(QUICK.0);
        self.patience = self.patience.min(QUICK.1);
    }
}

impl BreakerRule {
    /// For a run that should end soon.
    pub fn hasten(&mut self) {
        self.reset = self.reset.map(|reset| reset.min(QUICK.0));
    }
}

/// What a host has of its own; what is left out is as for all.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostRule {
    /// As `fetch.delay`.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::optional")]
    pub delay: Option<Duration>,
    /// As `fetch.concurrency_per_host`.
    pub concurrency: Option<usize>,
    /// As `fetch.robots`.
    pub robots: Option<bool>,
    /// As `fetch.cache.ttl`.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::optional")]
    pub ttl: Option<Duration>,
    /// As `fetch.breaker`.
    pub breaker: BreakerRule,
}

/// What a host's breaker has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerRule {
    /// As `fetch.breaker.failures`.
    pub failures: Option<u32>,
    /// As `fetch.breaker.timeouts`.
    pub timeouts: Option<u32>,
    /// As `fetch.breaker.reset`.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::optional")]
    pub reset: Option<Duration>,
}

/// What holds for one host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conduct {
    pub delay: Duration,
    pub concurrency: usize,
    pub robots: bool,
    pub ttl: Duration,
    pub breaker: HostBreaker,
}

impl Fetch {
    /// What holds for a host (its name, with the port if that is not the scheme's): the rule of this host and port, else of
    /// its name, else of the longest `*.` above it.
    pub fn conduct(&self, host: &str) -> Conduct {
        let rule = self.rule(host).copied().unwrap_or_default();
        let breaker = HostBreaker {
            failures: rule.breaker.failures.unwrap_or(self.breaker.failures),
            timeouts: rule.breaker.timeouts.unwrap_or(self.breaker.timeouts),
            reset: rule.breaker.reset.unwrap_or(self.breaker.reset),
            ..self.breaker
        };
        Conduct {
            delay: rule.delay.unwrap_or(self.delay),
            concurrency: rule.concurrency.unwrap_or(self.concurrency_per_host),
            robots: rule.robots.unwrap_or(self.robots),
            ttl: rule.ttl.unwrap_or(self.cache.ttl),
            breaker,
        }
    }

    fn rule(&self, host: &str) -> Option<&HostRule> {
        if self.hosts.is_empty() {
            return None;
        }
        let port = host.rfind(':').filter(|at| host[at + 1..].bytes().all(|b| b.is_ascii_digit()));
        let name = port.map_or(host, |at| &host[..at]);
        let above = name.match_indices('.').map(|(at, _)| format!("*{}", &name[at..]));
        self.hosts
            .get(host)
            .or_else(|| self.hosts.get(name))
            .or_else(|| above.into_iter().find_map(|pattern| self.hosts.get(&pattern)))
    }
}

/// Names that a URL's host can equal: anything else would be a rule for nothing.
pub(super) fn hosts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, HostRule>, D::Error> {
    let rules = BTreeMap::<String, HostRule>::deserialize(deserializer)?;
    for name in rules.keys() {
        let host = name.strip_prefix("*.").unwrap_or(name);
        let url = url::Url::parse(&format!("http://{host}/"));
        if host.contains('*') || !url.is_ok_and(|u| crate::record::url_task::host_key(&u) == host) {
            let hint = "write a host in lower case (international names as xn--…), with its port or not, or *.host";
            return Err(serde::de::Error::custom(format!("{name:?} is no host; {hint}")));
        }
    }
    Ok(rules)
}

fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let share = f64::deserialize(deserializer)?;
    if (0.0..=1.0).contains(&share) {
        return Ok(share);
    }
    Err(serde::de::Error::custom("a share lies between 0 and 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(toml: &str) -> Result<Fetch, String> {
        toml::from_str(toml).map_err(|e| e.to_string())
    }

    #[test]
    fn the_nearest_rule_holds() {
        let f = fetch(
            "delay = '1s'\nconcurrency_per_host = 3\n[breaker]\nfailures = 9\ntimeouts = 8\n\
             [hosts.'example.org']\ndelay = '5s'\nbreaker.failures = 1\n[hosts.'*.example.org']\nrobots = false\n\
             [hosts.'*.b.example.org']\nconcurrency = 1\n[hosts.'example.org:8080']\ndelay = '0s'",
        );
        let f = f.unwrap();
        let of = |host| {
            let c = f.conduct(host);
            (c.delay.as_secs(), c.concurrency, c.robots, c.breaker.failures, c.breaker.timeouts)
        };
        assert_eq!(of("other.org"), (1, 3, true, 9, 8));
        assert_eq!(of("example.org"), (5, 3, true, 1, 8));
        assert_eq!(of("example.org:81"), (5, 3, true, 1, 8));
        assert_eq!(of("example.org:8080"), (0, 3, true, 9, 8));
        assert_eq!(of("a.example.org"), (1, 3, false, 9, 8));
        assert_eq!(of("x.b.example.org:81"), (1, 1, true, 9, 8));
        assert_eq!(of("[::1]:81"), (1, 3, true, 9, 8));
    }

    #[test]
    fn a_rule_for_nothing_is_refused() {
        for (toml, says) in [
            ("[hosts.'Example.org']", "lower case"),
            ("[hosts.'http://example.org']", "is no host"),
            ("[hosts.'a.*.org']", "is no host"),
            ("[hosts.'example.org']\ndealy = '1s'", "dealy"),
            ("[breaker]\nshare = 1.5", "between 0 and 1"),
        ] {
            let e = fetch(toml).unwrap_err();
            assert!(e.contains(says), "{toml}: {e}");
        }
    }
}
