//! robots.txt of each origin: fetched once at a time, kept for a day, asked before every request (RFC 9309).
//!
//! A copy that is older is used only while the file cannot be read (section 2.4), for a week at most: after that nothing of
//! the origin may be fetched until it can be read again (section 2.3.1.4).

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::future::Cache;
use url::Url;

use super::archive::Archive;
use super::http::{Answer, Client, FetchError};
use crate::config;
use crate::engine::Outcome;
use crate::record::FailureClass;
use crate::web::robots::{self, RobotsAnswer};

/// A crawler should not use a copy for more than 24 hours (section 2.4).
const KEEP: Duration = Duration::from_secs(86_400);
/// An origin whose robots.txt could not be read is asked again after this; shorter than most retries.
const KEEP_FAILURE: Duration = Duration::from_secs(5);
/// How long a copy is used whose file cannot be read any more.
const KEEP_STALE: Duration = Duration::from_secs(7 * 86_400);
/// After this the file is asked for again, which a stale copy stands in for.
const KEEP_STANDING_IN: Duration = Duration::from_secs(60);
/// Bytes read of a file: what the parser takes, a byte order mark, and one that shows whether the last line ends there.
const START: usize = robots::MAX_BYTES + 4;
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

/// What is remembered of an origin.
#[derive(Clone)]
struct Remembered {
    known: Known,
    /// When it is to be read again.
    until: Instant,
    /// When it was last read, and not only asked for.
    read: Instant,
}

impl Remembered {
    /// What was just read; what was remembered `before` stands in for a file that cannot be read.
    fn of(known: Known, before: Option<Remembered>, keep: Duration) -> Remembered {
        let now = Instant::now();
        let stale = before.filter(|b| b.known.is_ok() && b.read.elapsed() < KEEP_STALE);
        match (&known, stale) {
            (Ok(_), _) => Remembered { known, until: now + keep, read: now },
            (Err(e), Some(copy)) => {
                tracing::debug!(error = e.message, "an older copy stands in for robots.txt");
                Remembered { until: now + KEEP_STANDING_IN, ..copy }
            }
            (Err(_), None) => Remembered { known, until: now + KEEP_FAILURE, read: now },
        }
    }
}

/// The robots.txt of all origins.
pub struct Origins {
    client: Arc<Client>,
    archive: Option<Arc<Archive>>,
    known: Cache<String, Remembered>,
    /// [`KEEP`]; shorter in tests.
    keep: Duration,
}

/// What they say to one agent.
pub struct Robots {
    origins: Origins,
    agent: String,
    max_delay: Duration,
}

impl Robots {
    /// The product token is the first word of the user agent, up to its version.
    pub fn new(client: Arc<Client>, config: &config::Fetch, archive: Option<Arc<Archive>>) -> Robots {
        let agent = config.user_agent.split(['/', ' ']).next().unwrap_or_default().to_owned();
        Robots { origins: Origins { archive, ..Origins::new(client) }, agent, max_delay: config.max_delay }
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
        let known = Cache::builder().max_capacity(ORIGINS).time_to_live(KEEP_STALE).build();
        Origins { client, archive: None, known, keep: KEEP }
    }

    /// The robots.txt that holds for this URL, and whether it was read for that, rather than remembered.
    pub async fn answer(&self, url: &Url) -> (Known, bool) {
        let origin = origin(url);
        let before = self.known.get(origin).await;
        if let Some(known) = before.as_ref().filter(|r| r.until > Instant::now()) {
            return (known.known.clone(), false);
        }
        // Rare and large: with it, the future of every page would be four times the size.
        Box::pin(self.read_anew(url, origin.to_owned(), before)).await
    }

    async fn read_anew(&self, url: &Url, origin: String, before: Option<Remembered>) -> (Known, bool) {
        let read = async { Remembered::of(self.read(url).await, before, self.keep) };
        let outdated = |r: &Remembered| r.until <= Instant::now();
        let known = self.known.entry(origin).or_insert_with_if(read, outdated).await;
        let read = known.is_fresh();
        (known.into_value().known, read)
    }

    async fn read(&self, url: &Url) -> Known {
        let mut at = url.clone();
        at.set_path("/robots.txt");
        at.set_query(None);
        at.set_fragment(None);
        for hop in 0..=REDIRECTS {
            let answer = match self.client.get_start(&at, START).await {
                Ok(answer) => self.archived(answer).await,
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

    /// Archives an answer, if answers are. What it says holds though it could not be written.
    async fn archived(&self, mut answer: Answer) -> Answer {
        if let (Some(archive), Some(exchange)) = (&self.archive, answer.exchange.take())
            && let Err(e) = archive.keep(exchange, None).await
        {
            tracing::warn!(error = %e, "a robots.txt could not be archived");
        }
        answer
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

/// Scheme, host and port (and credentials, where somebody left them in).
fn origin(url: &Url) -> &str {
    &url[..url::Position::BeforePath]
}

fn path_and_query(url: &Url) -> &str {
    &url[url::Position::BeforePath..url::Position::AfterQuery]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn an_older_copy_stands_in_for_a_file_that_cannot_be_read() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/page", listener.local_addr().unwrap())).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        // 503, a file, 503 from then on.
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (status, body) = match count.fetch_add(1, Ordering::SeqCst) {
                    1 => (200, "User-agent: *\nDisallow: /page"),
                    _ => (503, ""),
                };
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
                let _read = stream.read(&mut [0; 4096]).await;
                let _written = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        let config = config::Fetch { allow_addresses: vec!["127.0.0.1/32".parse().unwrap()], ..Default::default() };
        let mut origins = Origins::new(Arc::new(Client::new(&config).unwrap()));
        origins.keep = Duration::ZERO;
        let (known, read) = origins.answer(&url).await;
        assert!(known.is_err() && read, "there is no copy yet");
        assert!(!origins.answer(&url).await.1, "a failure is remembered for a while");
        origins.known.invalidate_all();
        for standing_in in [false, true] {
            let (known, read) = origins.answer(&url).await;
            let Ok(RobotsAnswer::Rules(rules)) = known.as_deref() else { panic!("{standing_in}: {known:?}") };
            assert!(read && !rules.check("Tidemill", "/page").allowed);
        }
        assert!(!origins.answer(&url).await.1, "it is not asked for at once again");
        assert_eq!(asked.load(Ordering::SeqCst), 3);
        // What was read longer ago than a week is no rule any more.
        let old = Instant::now().checked_sub(KEEP_STALE);
        let copy =
            Remembered { known: Ok(Arc::new(RobotsAnswer::AllowAll)), until: Instant::now(), read: Instant::now() };
        let failed = || Err(Unreachable { class: FailureClass::RobotsUnreachable, message: String::new() });
        assert!(Remembered::of(failed(), Some(copy.clone()), KEEP).known.is_ok());
        if let Some(old) = old {
            assert!(Remembered::of(failed(), Some(Remembered { read: old, ..copy }), KEEP).known.is_err());
        }
    }
}
