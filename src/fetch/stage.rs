//! The fetch stage: one URL, one request.
//!
//! ```text
//! normalise ► address guard ► taken in this job? ► cache: fresh? ► breaker ► robots.txt ► politeness: go, wait a little, or park ► request
//! ```
//!
//! A redirect is not followed here: it becomes a URL task of its own, keyed by its host, with the hops so far. So each
//! host is visited by its one owner only, at its pace, and its robots.txt is asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::HeaderMap;
use url::Url;

use super::archive::Archive;
use super::body::{Overflow, Received};
use super::breakers::{Breakers, End, Pass, Refused};
use super::cache::{Cache, Entry, Known};
use super::http::{Answer, Client, FetchError};
use super::inputs::{Inputs, is_input};
use super::lease::{Denied, Leases};
use super::robots::{Robots, Ruling};
use crate::blob::{BlobError, Blobs};
use crate::config;
use crate::engine::{Ctx, Outcome, Stage};
use crate::record::codec::CodecError;
use crate::record::url_task::host_key;
use crate::record::{Body, DropReason, FailureClass, Hop, Page, Record, UrlTask, now_ms, time};
use crate::store::{Claimed, Store, StoreError};
use crate::telemetry::domains;
use crate::topology::StageName;
use crate::web::politeness::{Admission, HostLimits, Permit, Politeness, PolitenessConfig};
use crate::web::url::{fingerprint, normalise, redact};

/// Namespace of URLs taken, by job, in the store.
const TAKEN: &str = "url";

/// The stage.
pub struct Fetch {
    client: Arc<Client>,
    inputs: Inputs,
    robots: Robots,
    breakers: Arc<Breakers>,
    politeness: Politeness,
    leases: Leases,
    cache: Cache,
    archive: Option<Arc<Archive>>,
    store: Arc<dyn Store>,
    blobs: Arc<dyn Blobs>,
    config: config::Fetch,
    overflow: Overflow,
    keep: Duration,
}

impl Fetch {
    /// Builds the stage from its settings.
    pub fn new(config: &config::Config, store: Arc<dyn Store>, blobs: Arc<dyn Blobs>) -> Result<Fetch, FetchError> {
        let open = |folder: &PathBuf| Archive::open(config, folder, Arc::clone(&store)).map(Arc::new);
        let archive = config.warc.folder.as_ref().map(open).transpose();
        let archive = archive.map_err(|e| FetchError::new(FailureClass::Storage, e.to_string()))?;
        let format = archive.as_ref().map(|a| a.format().clone());
        let client = Arc::new(Client::new(&config.fetch)?.recording(format));
        let pace = PolitenessConfig {
            delay: config.fetch.delay,
            max_delay: config.fetch.max_delay,
            concurrency_per_host: config.fetch.concurrency_per_host,
            // One host may keep a part of the window waiting, not all of it.
            held_per_host: (config.in_flight(StageName::Fetch) / 8).max(4),
            ..PolitenessConfig::default()
        };
        let rules = config.fetch.clone();
        let politeness = Politeness::with_own(pace, move |host| {
            let own = rules.conduct(host);
            (!rules.hosts.is_empty()).then_some(HostLimits { delay: own.delay, concurrency: own.concurrency })
        });
        Ok(Fetch {
            inputs: Inputs::new(config)?,
            robots: Robots::new(Arc::clone(&client), &config.fetch, archive.clone()),
            archive,
            breakers: Breakers::new(&config.fetch),
            cache: Cache::new(&config.fetch, Arc::clone(&store), Arc::clone(&blobs)),
            client,
            politeness,
            leases: Leases::new(Arc::clone(&store), &config.prefix),
            store,
            overflow: Overflow {
                drafts: blobs.drafts().clone(),
                threshold: usize::try_from(config.blob.threshold.as_u64()).unwrap_or(usize::MAX),
            },
            blobs,
            keep: config.store.keep,
            config: config.fetch.clone(),
        })
    }
}

#[async_trait]
impl Stage for Fetch {
    type Task = UrlTask;

    fn name(&self) -> StageName {
        StageName::Fetch
    }

    fn decode(&self, value: &[u8]) -> Result<UrlTask, CodecError> {
        let mut task = UrlTask::decode(value)?;
        // Events and messages name the URL, and must not repeat a password.
        if task.url.contains('@') {
            task.url = normalise(&task.url).map_or_else(|_| redact(&task.url), String::from);
        }
        Ok(task)
    }

    fn url<'a>(&self, task: &'a UrlTask) -> &'a str {
        &task.url
    }

    async fn handle(&self, task: UrlTask, ctx: &Ctx) -> Outcome {
        if task.expires.is_some_and(|e| e <= now_ms()) {
            return Outcome::fail(FailureClass::Expired, "the task's `expires` is past");
        }
        match self.fetch(task, ctx).await {
            Ok(outcome) | Err(outcome) => outcome,
        }
    }
}

impl Fetch {
    /// Err is an outcome that ended the way early.
    async fn fetch(&self, task: UrlTask, ctx: &Ctx) -> Result<Outcome, Outcome> {
        let url = normalise(&task.url).map_err(|e| Outcome::fail(FailureClass::InvalidUrl, e.to_string()))?;
        let host = host_key(&url);
        if !ctx.is_home_of(host.as_bytes()) {
            // A producer that set no key, another one, or places keys in its own way: one owner a host, so first there.
            return Err(Outcome::Move { key: host.into() });
        }
        if is_input(&url) {
            self.take(&url, ctx).await?;
            let answer = self.inputs.get(&url, &self.overflow).await.map_err(failed)?;
            return self.page(task, url, answer, None).await;
        }
        self.client.check(&url).map_err(failed)?;
        self.take(&url, ctx).await?;
        let known = self.known(&task, &url, &host, ctx).await?;
        let pass = self.pass(&host, ctx)?;
        let pass = if self.config.conduct(&host).robots { self.robots(&url, &host, pass).await? } else { pass };
        let permit = self.turn(&host, ctx).await?;
        let (entry, conditions) = known.map_or_else(Default::default, |(entry, conditions)| (Some(entry), conditions));
        let asked_for_changes = !conditions.is_empty();
        let started = Instant::now();
        let mut answer = self.client.get_if(&url, &host, conditions, &self.overflow).await;
        drop(permit);
        self.politeness.answered(&host, unix(), started.elapsed());
        if let Some(end) = End::of(&answer) {
            pass.ended(&end, unix());
        }
        if let Ok(answer) = &mut answer {
            self.archived(&host, answer, entry.as_deref()).await?;
        }
        let status = answer.as_ref().map_or(0, |a| a.status);
        let outdated = matches!(status, 404 | 410) && (entry.is_some() || task.force)
            || !matches!(status, 200 | 304) && entry.as_ref().is_some_and(|e| e.task == ctx.meta.task);
        if outdated {
            // Gone; or its task found it uncommitted after a crash and failed: nobody else may find it fresh.
            self.cache.forget(&url).await.map_err(stored)?;
        }
        match (answer, entry) {
            (Ok(answer), Some(entry)) if status == 304 && asked_for_changes => {
                self.unchanged(task, url, &host, *entry, answer, ctx).await
            }
            (Ok(answer), entry) => {
                if status == 200 && !task.force {
                    domains::cache(&host, if entry.is_some() { "modified" } else { "miss" });
                }
                self.answered(task, url, &host, answer, ctx).await
            }
            (Err(e), _) => Err(failed(e)),
        }
    }

    /// What the cache has of the URL to ask for its changes; what is fresh is dropped.
    async fn known(
        &self,
        task: &UrlTask,
        url: &Url,
        host: &str,
        ctx: &Ctx,
    ) -> Result<Option<(Box<Entry>, HeaderMap)>, Outcome> {
        if task.force {
            domains::cache(host, "forced");
            return Ok(None);
        }
        match self.cache.look(url, &ctx.meta.task, self.client.sent()).await.map_err(stored)? {
            Known::Nothing => Ok(None),
            // Its body is in no WARC file yet, and a 304 would bring none.
            Known::Stale(entry, _) if self.archive.is_some() && entry.archived.is_none() => {
                Ok(Some((entry, HeaderMap::new())))
            }
            Known::Stale(entry, conditions) => Ok(Some((entry, conditions))),
            Known::Fresh(entry, left) => {
                domains::cache(host, "fresh");
                let (since, left) = (time(entry.fetched_at), left.as_secs());
                let message = format!("fetched at {since} by task {} and fresh for {left} s more", entry.task);
                Err(Outcome::dropped(DropReason::Fresh, message))
            }
        }
    }

    /// Archives an answer, if answers are. It is on the disk before anything of it is committed.
    async fn archived(&self, host: &str, answer: &mut Answer, entry: Option<&Entry>) -> Result<(), Outcome> {
        let (Some(archive), Some(exchange)) = (&self.archive, answer.exchange.take()) else { return Ok(()) };
        let of = entry.filter(|_| answer.status == 304).and_then(|e| e.archived.clone());
        match archive.keep(exchange, of).await {
            Ok(kept) => answer.archived = Some(kept),
            Err(e) => {
                if matches!(answer.status, 429 | 503) {
                    // It comes again, and not sooner than it was asked to.
                    let _as_an_outcome = self.slow_down(host, answer);
                }
                return Err(Outcome::unavailable(e.to_string()));
            }
        }
        fail::fail_point!("fetch.archived");
        Ok(())
    }

    /// 304: the body of the cache, once more.
    async fn unchanged(
        &self,
        task: UrlTask,
        url: Url,
        host: &str,
        entry: Entry,
        a: Answer,
        ctx: &Ctx,
    ) -> Result<Outcome, Outcome> {
        let found = self.cache.unchanged(&url, &ctx.meta.task, self.client.sent(), entry, &a).await.map_err(stored)?;
        let Some((entry, body)) = found else {
            let message = "answered 304 for a version that is not in the cache; it will be asked for whole";
            return Err(Outcome::fail(FailureClass::Protocol, message));
        };
        domains::cache(host, "not-modified");
        let headers = entry.http_headers();
        Ok(emit(task, &url, Answer { status: 200, headers, content_type: entry.content_type, ..a }, body))
    }

    /// Asks the host's breaker.
    fn pass(&self, host: &str, ctx: &Ctx) -> Result<Pass, Outcome> {
        let now = unix();
        self.breakers.admit(host, now).map_err(|refused| match refused {
            Refused::Until(until) => {
                // Each of its records gets a slot of its own after that, or all would come back at once.
                let until = self.politeness.park(host, now, slot(ctx), until);
                parked(until, format!("{host} keeps failing and is left alone for a while"))
            }
            Refused::Probed(until) => {
                // The probe may still wait for its turn, which must not move away from it with each of these.
                let until = self.politeness.postpone(host, now, slot(ctx), until);
                parked(until, format!("{host} keeps failing and is being tried"))
            }
            Refused::Away { class, message } => Outcome::fail(class, message),
        })
    }

    /// Asks robots.txt. To read it may take the first request to the host.
    async fn robots(&self, url: &Url, host: &str, pass: Pass) -> Result<Pass, Outcome> {
        let (ruling, read) = self.robots.ruling(url).await;
        domains::robots(host, ruling.as_str());
        match ruling {
            Ruling::Allowed { crawl_delay } => {
                if let Some(delay) = crawl_delay {
                    self.politeness.set_delay(host, unix(), delay);
                }
                Ok(pass)
            }
            Ruling::Disallowed(rule) => Err(Outcome::dropped(DropReason::Robots, rule)),
            Ruling::Unreachable(e) => {
                // What is only remembered was counted when it was read.
                if let Some(end) = End::of_failure(e.class, &e.message).filter(|_| read) {
                    pass.ended(&end, unix());
                }
                Err(e.into_outcome())
            }
        }
    }

    /// Takes the URL for this task, or finds that another task of the job has it.
    async fn take(&self, url: &Url, ctx: &Ctx) -> Result<(), Outcome> {
        let Some(job) = &ctx.meta.job else { return Ok(()) };
        let key = format!("{job}/{}", fingerprint(url));
        match self.store.claim(TAKEN, &key, ctx.meta.task.clone().into(), self.keep).await {
            Ok(Claimed::Mine) => Ok(()),
            Ok(Claimed::Theirs(task)) => {
                let task = String::from_utf8_lossy(&task).into_owned();
                Err(Outcome::dropped(DropReason::DuplicateUrl, format!("task {task} of the same job has this URL")))
            }
            Err(e) => Err(stored(e)),
        }
    }

    /// Waits for the host's turn: a little while here, else parked until the slot reserved.
    async fn turn(&self, host: &str, ctx: &Ctx) -> Result<Permit, Outcome> {
        let busy = |until| parked(until, format!("{host} is busy"));
        self.lease(host, ctx).await?;
        let mut admission = self.politeness.admit(host, unix(), slot(ctx));
        let permit = loop {
            admission = match admission {
                Admission::Go(permit) => break permit,
                Admission::Wait(moment, held) => {
                    tokio::time::sleep(moment).await;
                    break held.start(unix()).map_err(busy)?;
                }
                Admission::Queue(mut queued) => {
                    let longest = queued.longest();
                    let _gave_up = tokio::time::timeout(longest, queued.place()).await;
                    queued.admit(unix())
                }
                Admission::Park { until } => return Err(busy(until)),
            };
        };
        // The wait was longer than the lease is sure to hold: a machine that slept.
        if !self.leases.holds(host, self.politeness.interval(host), unix()) {
            let now = unix();
            return Err(busy(self.politeness.park(host, now, None, now)));
        }
        Ok(permit)
    }

    /// Makes sure that whoever had the host before has ended with it.
    async fn lease(&self, host: &str, ctx: &Ctx) -> Result<(), Outcome> {
        let now = unix();
        match self.leases.take(host, self.politeness.interval(host), now).await {
            Ok(()) => Ok(()),
            Err(Denied::Until(until)) => {
                let until = self.politeness.park(host, now, slot(ctx), until);
                Err(parked(until, format!("another member was the owner of {host} a moment ago")))
            }
            Err(Denied::Store(StoreError::Unavailable(why))) => Err(Outcome::unavailable(why)),
            Err(Denied::Store(e)) => Err(Outcome::fail(FailureClass::Storage, e.to_string())),
        }
    }

    async fn answered(&self, task: UrlTask, url: Url, host: &str, a: Answer, ctx: &Ctx) -> Result<Outcome, Outcome> {
        match a.status {
            301 | 302 | 303 | 307 | 308 if a.location.is_some() => self.redirected(task, &url, a),
            429 | 503 if a.status == 429 || a.retry_after.is_some() => Err(self.slow_down(host, &a)),
            410 => Ok(gone(task, &url, a)),
            400..=499 => Err(Outcome::fail(FailureClass::Http4xx, format!("answered {}", a.status))),
            500..=599 => {
                self.politeness.penalise(host, unix(), None);
                Err(Outcome::fail(FailureClass::Http5xx, format!("answered {}", a.status)))
            }
            200..=299 => self.page(task, url, a, Some(ctx)).await,
            other => Err(Outcome::fail(FailureClass::Protocol, format!("answered {other}"))),
        }
    }

    fn redirected(&self, mut task: UrlTask, url: &Url, a: Answer) -> Result<Outcome, Outcome> {
        let location = a.location.unwrap_or_default();
        let target = url
            .join(&location)
            .map_err(|e| e.to_string())
            .and_then(|u| normalise(u.as_str()).map_err(|e| e.to_string()))
            .map_err(|e| {
                Outcome::fail(FailureClass::InvalidUrl, format!("redirects to {:?}: {e}", redact(&location)))
            })?;
        if is_input(&target) {
            // What may be read here is for those to say who submit URLs, not for a page.
            return Err(Outcome::fail(FailureClass::BlockedAddress, format!("a page redirects to {target}")));
        }
        let seen =
            |u: &Url| normalise(&task.url).is_ok_and(|t| t == *u) || task.hops.iter().any(|h| h.url == u.as_str());
        if seen(&target) {
            return Err(Outcome::fail(
                FailureClass::RedirectLoop,
                format!("redirects to {target}, which it came from"),
            ));
        }
        if task.hops.len() >= self.config.max_redirects {
            let message = format!("more than {} redirects; the next would be {target}", self.config.max_redirects);
            return Err(Outcome::fail(FailureClass::RedirectLimit, message));
        }
        task.hops.push(Hop { url: url.to_string(), status: i32::from(a.status) });
        task.url = target.into();
        Ok(Outcome::Emit(vec![Record::UrlTask(Box::new(task))]))
    }

    /// 429, or 503 with Retry-After: nobody visits this host before then.
    fn slow_down(&self, host: &str, a: &Answer) -> Outcome {
        let now = unix();
        let until = a.retry_after.map(|d| now.saturating_add(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)));
        self.politeness.penalise(host, now, until);
        let message = match a.retry_after {
            Some(d) => format!("answered {} and asks to wait {} s", a.status, d.as_secs()),
            None => format!("answered {}", a.status),
        };
        match a.retry_after {
            Some(d) if d > self.config.max_retry_after => Outcome::DeadLetter {
                class: FailureClass::Http429,
                message: format!("{message}, more than fetch.max_retry_after"),
            },
            after => Outcome::Retry { class: FailureClass::Http429, message, after },
        }
    }

    /// The page of an answer; kept in the cache unless it is an input of ours (no `ctx`).
    async fn page(&self, task: UrlTask, url: Url, mut a: Answer, ctx: Option<&Ctx>) -> Result<Outcome, Outcome> {
        if a.skipped {
            let what = format!("{} is not read yet", a.content_type);
            return Err(Outcome::dropped(DropReason::UnsupportedType, what));
        }
        let length = i64::try_from(a.body.length()).unwrap_or(i64::MAX);
        let body = match std::mem::replace(&mut a.body, Received::Small(vec![])) {
            Received::Small(bytes) => Body { inline: Some(bytes), blob: None, length },
            Received::Large(draft) => {
                let key = self.blobs.keep(*draft).await.map_err(|e| match e {
                    BlobError::Unavailable(why) => Outcome::unavailable(why),
                    e => Outcome::fail(FailureClass::Storage, e.to_string()),
                })?;
                Body { inline: None, blob: Some(key), length }
            }
        };
        if let Some(ctx) = ctx
            && let Err(e) = self.cache.keep(&url, &ctx.meta.task, self.client.sent(), &a, &body).await
        {
            // The page is here; a memory that has a gap does no harm.
            tracing::warn!(error = %e, "a page could not be cached");
        }
        fail::fail_point!("fetch.cached");
        Ok(emit(task, &url, a, body))
    }
}

/// The page of an answer, its body apart.
fn emit(task: UrlTask, url: &Url, a: Answer, body: Body) -> Outcome {
    let asked = task.hops.first().map_or_else(|| url.to_string(), |h| h.url.clone());
    Outcome::Emit(vec![Record::Page(Box::new(Page {
        id: fingerprint(url),
        url: asked,
        final_url: url.to_string(),
        fetched_at: a.at,
        status: i32::from(a.status),
        headers: a.headers,
        content_type: a.content_type,
        body,
        hops: task.hops,
        attrs: task.attrs,
    }))])
}

/// The store is away, or broken.
fn stored(e: StoreError) -> Outcome {
    match e {
        StoreError::Unavailable(why) => Outcome::unavailable(why),
        e => Outcome::fail(FailureClass::Storage, e.to_string()),
    }
}

/// Parked until a slot that is its own, Unix ms.
fn parked(until: u64, message: String) -> Outcome {
    Outcome::Park { until: i64::try_from(until).unwrap_or(i64::MAX), message, reserved: true }
}

/// The slot it was parked for.
fn slot(ctx: &Ctx) -> Option<u64> {
    ctx.slot().and_then(|s| u64::try_from(s).ok())
}

/// A page without a body goes down the pipeline, and takes out of the index what that has of it.
fn gone(task: UrlTask, url: &Url, a: Answer) -> Outcome {
    let a = Answer { headers: vec![], content_type: String::new(), ..a };
    emit(task, url, a, Body { inline: Some(vec![]), blob: None, length: 0 })
}

/// Unix ms, as politeness counts.
fn unix() -> u64 {
    u64::try_from(now_ms()).unwrap_or(0)
}

fn failed(e: FetchError) -> Outcome {
    match e.class {
        // The disk is full, and the page is well.
        FailureClass::Storage => Outcome::unavailable(e.message),
        class => Outcome::fail(class, e.message),
    }
}
