//! robots.txt of each origin: fetched once at a time, kept for a day, asked before every request (RFC 9309).

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;
use url::Url;

use super::http::{Client, FetchError};
use crate::config;
use crate::engine::Outcome;
use crate::record::FailureClass;
use crate::web::robots::{self, RobotsAnswer};

/// A crawler should not use a copy for more than 24 hours (section 2.4).
const KEEP: Duration = Duration::from_secs(86_400);
/// An origin whose robots.txt could not be read is asked again after this; shorter than most retries.
const KEEP_FAILURE: Duration = Duration::from_secs(5);
/// Origins remembered.
const ORIGINS: u64 = 50_000;
/// Redirects followed (section 2.3.1.2).
const REDIRECTS: usize = 5;

/// What robots.txt says of a URL.
#[derive(Debug)]
pub enum Ruling {
    Allowed {
        crawl_delay: Option<Duration>,
    },
    /// The line that says so.
    Disallowed(String),
    /// It could not be read, so nothing may be fetched (section 2.3.1.4).
    Unreachable(Unreachable),
}

impl Ruling {
    /// As metrics have it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Ruling::Allowed { .. } => "allowed",
            Ruling::Disallowed(_) => "disallowed",
            Ruling::Unreachable(_) => "unreachable",
        }
    }
}

/// Why robots.txt could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    /// A failure of the host itself (no such name, refused address) keeps its own class.
    pub class: FailureClass,
    /// One sentence.
    pub message: String,
}

impl Unreachable {
    /// As a stage's outcome.
    pub fn into_outcome(self) -> Outcome {
        Outcome::fail(self.class, self.message)
    }
}

/// What is known of an origin.
pub type Known = Result<Arc<RobotsAnswer>, Unreachable>;

struct Lifetime;

impl Expiry<String, Known> for Lifetime {
    fn expire_after_create(&self, _origin: &String, known: &Known, _at: Instant) -> Option<Duration> {
        Some(if known.is_ok() { KEEP } else { KEEP_FAILURE })
    }
}

/// The robots.txt of all origins.
pub struct Origins {
    client: Arc<Client>,
    known: Cache<String, Known>,
}

/// What they say to one agent.
pub struct Robots {
    origins: Origins,
    agent: String,
    max_delay: Duration,
}

impl Robots {
    /// The product token is the first word of the user agent, up to its version.
    pub fn new(client: Arc<Client>, config: &config::Fetch) -> Robots {
        let agent = config.user_agent.split(['/', ' ']).next().unwrap_or_default().to_owned();
        Robots { origins: Origins::new(client), agent, max_delay: config.max_delay }
    }

    /// What robots.txt says of this URL, and whether it was read for that, rather than remembered.
    pub async fn ruling(&self, url: &Url) -> (Ruling, bool) {
        let (known, read) = self.origins.answer(url).await;
        (self.ruled(known, url), read)
    }

    fn ruled(&self, known: Known, url: &Url) -> Ruling {
        match known.as_deref() {
            Err(e) => Ruling::Unreachable(e.clone()),
            Ok(RobotsAnswer::AllowAll) => Ruling::Allowed { crawl_delay: None },
            // `read` turns this into an error, which is remembered for a shorter time.
            Ok(RobotsAnswer::Unreachable) => Ruling::Unreachable(Unreachable {
                class: FailureClass::RobotsUnreachable,
                message: "robots.txt cannot be read".into(),
            }),
            Ok(RobotsAnswer::Rules(rules)) => {
                let verdict = rules.check(&self.agent, path_and_query(url));
                if verdict.allowed {
                    let delay = rules.crawl_delay(&self.agent);
                    let delay = delay.filter(|d| d.is_finite() && *d > 0.0).map(Duration::from_secs_f64);
                    Ruling::Allowed { crawl_delay: delay.map(|d| d.min(self.max_delay)) }
                } else {
                    let rule =
                        verdict.rule.map_or_else(|| "disallowed".into(), |r| format!("line {}: {}", r.line, r.text));
                    Ruling::Disallowed(format!("robots.txt {rule}"))
                }
            }
        }
    }
}

impl Origins {
    /// Nothing is known yet.
    pub fn new(client: Arc<Client>) -> Origins {
        Origins { client, known: Cache::builder().max_capacity(ORIGINS).expire_after(Lifetime).build() }
    }

    /// The robots.txt that holds for this URL, and whether it was read for that, rather than remembered.
    pub async fn answer(&self, url: &Url) -> (Known, bool) {
        let origin = url.origin().ascii_serialization();
        let known = self.known.entry(origin).or_insert_with(self.read(url)).await;
        let read = known.is_fresh();
        (known.into_value(), read)
    }

    async fn read(&self, url: &Url) -> Known {
        let mut at = url.clone();
        at.set_path("/robots.txt");
        at.set_query(None);
        at.set_fragment(None);
        for hop in 0..=REDIRECTS {
            let answer = match self.client.get(&at, None).await {
                Ok(answer) => answer,
                // Where a redirect leads is no word about the host itself.
                Err(e) if hop > 0 => return unreadable(FetchError { class: FailureClass::RobotsUnreachable, ..e }),
                Err(e) => return unreadable(e),
            };
            match (answer.status, &answer.location) {
                (300..=399, Some(location)) => match at.join(location) {
                    Ok(next) => at = next,
                    // A redirect to nowhere is as good as no file (section 2.3.1.2).
                    Err(_) => return Ok(Arc::new(RobotsAnswer::AllowAll)),
                },
                (status, _) => {
                    return match robots::from_status(status, answer.body.in_memory()) {
                        RobotsAnswer::Unreachable => Err(Unreachable {
                            class: FailureClass::RobotsUnreachable,
                            message: format!("robots.txt answered {status}"),
                        }),
                        known => Ok(Arc::new(known)),
                    };
                }
            }
        }
        // More than five redirects: a crawler may assume that there is no file.
        Ok(Arc::new(RobotsAnswer::AllowAll))
    }
}

fn unreadable(e: FetchError) -> Known {
    use FailureClass as F;
    let class = match e.class {
        // These would fail the page just the same, and say more.
        F::Dns | F::Connect | F::Tls | F::BlockedAddress | F::InvalidUrl => e.class,
        _ => F::RobotsUnreachable,
    };
    Err(Unreachable { class, message: format!("robots.txt: {}", e.message) })
}

fn path_and_query(url: &Url) -> &str {
    &url[url::Position::BeforePath..url::Position::AfterQuery]
}
