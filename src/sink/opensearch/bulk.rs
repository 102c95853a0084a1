//! Bulk requests: documents in, an outcome for each.
//!
//! ```text
//! put ─► batcher ─► gather: as much as the pace allows ─► request ─► each document: done, refused, or once more
//!                        │                                   │
//!                        └── so many on their way at once ◄──┴── pace: grows when quick, shrinks when busy
//! ```
//!
//! What the cluster has no room for is sent again, later each time, as long as patience lasts; then its callers are told
//! and the records wait in the retry topics. Sending a document twice does no harm: the second time its version is there.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::Semaphore;
use tracing::warn;

use super::body::Entry;
use super::client::Client;
use super::index;
use super::pace::Pace;
use super::reply::{Later, Outcome, Verdict, judge};
use super::schema::Schema;
use crate::batch::{Batch, Inbox, Limits, Reply, Weigh};
use crate::sink::{SinkError, Written};
use crate::telemetry;

/// Pause before a document is sent again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// What a caller is asked to wait when the cluster is busy beyond our patience.
const BUSY: Duration = Duration::from_secs(10);

/// What a caller gets.
pub type Answer = Result<Written, SinkError>;

/// A document on its way, and whoever waits for it.
struct Waiting {
    entry: Entry,
    reply: Reply<Answer>,
    /// Why it is not written yet.
    last: Option<Later>,
}

/// The sender.
pub struct Bulk {
    client: Arc<Client>,
    schema: Schema,
    path: String,
    pace: Mutex<Pace>,
    patience: Duration,
    /// Whether the index is known to be there.
    made: AtomicBool,
    /// Held by the one who sees to it.
    making: tokio::sync::Mutex<()>,
}

impl Bulk {
    /// A sender to the alias of `schema`.
    pub fn new(client: Arc<Client>, schema: Schema, batch: usize, most: Limits, patience: Duration) -> Bulk {
        // Only what is read of the answer, which else repeats much of the request.
        let wanted = "filter_path=items.*.status,items.*.result,items.*.error";
        Bulk {
            path: format!("/{}/_bulk?require_alias=true&{wanted}", schema.alias),
            client,
            schema,
            pace: Mutex::new(Pace::new(batch, most)),
            patience,
            made: AtomicBool::new(false),
            making: tokio::sync::Mutex::new(()),
        }
    }

    /// Works until no caller is left, with so many requests on their way at once. While none is, nothing waits for
    /// company.
    pub async fn run(self: Arc<Self>, mut inbox: Inbox<Entry, Answer>, requests: usize, linger: Duration) {
        let requests = requests.max(1);
        let places = Arc::new(Semaphore::new(requests));
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let idle = places.available_permits() + 1 == requests;
            let linger = if idle { Duration::ZERO } else { linger };
            let Some(batch) = inbox.gather(self.limits(), linger).await else { break };
            let this = Arc::clone(&self);
            tokio::spawn(async move {
                this.write(batch).await;
                drop(place);
            });
        }
    }

    /// Returns when each document of the batch has its answer.
    async fn write(&self, batch: Batch<Entry, Answer>) {
        let mut waiting: VecDeque<_> =
            batch.each().map(|(entry, reply)| Waiting { entry, reply, last: None }).collect();
        let give_up = Instant::now() + self.patience;
        let mut pause = FIRST_PAUSE;
        // Documents of a request, after one was too much; it grows again with each that is not.
        let mut most = usize::MAX;
        while !waiting.is_empty() {
            let part = self.part(&mut waiting, most);
            let documents = part.len();
            let later = match self.request(&part).await {
                Verdict::Divide { .. } if documents > 1 => {
                    most = documents / 2;
                    part.into_iter().rev().for_each(|w| waiting.push_front(w));
                    continue;
                }
                Verdict::Divide { why, .. } => settle(part, vec![Outcome::Refused(why)]),
                Verdict::Each(outcomes) => settle(part, outcomes),
                Verdict::Nothing(why) => {
                    if why.busy {
                        most = (documents / 2).max(1);
                    }
                    settle(part, vec![Outcome::Later(why); documents])
                }
            };
            if later.len() < documents {
                (most, pause) = (most.saturating_mul(2), FIRST_PAUSE);
            }
            let Some(why) = later.first().and_then(|w| w.last.clone()) else { continue };
            waiting.extend(later);
            let wait = pause.mul_f64(rand::random_range(0.5..1.0));
            if Instant::now() + wait > give_up {
                warn!(error = %why.why, documents = waiting.len(), "documents wait: OpenSearch does not take them now");
                return waiting.into_iter().for_each(|w| w.give_up(&why));
            }
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn limits(&self) -> Limits {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).limits()
    }

    /// The next documents, as many as the pace allows now.
    fn part(&self, waiting: &mut VecDeque<Waiting>, most: usize) -> Vec<Waiting> {
        let limits = self.limits();
        let (mut part, mut bytes) = (vec![], 0);
        while part.is_empty() || (bytes < limits.bytes && part.len() < limits.items.min(most)) {
            let Some(next) = waiting.pop_front() else { break };
            bytes += next.entry.weight();
            part.push(next);
        }
        part
    }

    /// Sends one request, and has the pace learn from it.
    async fn request(&self, part: &[Waiting]) -> Verdict {
        if let Err(why) = self.make().await {
            return Verdict::Nothing(Later::unavailable(why));
        }
        let body = together(part);
        let (documents, bytes, began) = (part.len(), body.len(), Instant::now());
        let (verdict, broke_off, took) = match self.client.lines(&self.path, body).await {
            Ok(answer) => (judge(&answer, documents), false, answer.took),
            Err(away) => (Verdict::Nothing(Later::unavailable(away.to_string())), away.reached, began.elapsed()),
        };
        let any_later = |of: fn(&Later) -> bool| match &verdict {
            Verdict::Each(outcomes) => outcomes.iter().any(|o| matches!(o, Outcome::Later(later) if of(later))),
            Verdict::Nothing(later) => of(later),
            Verdict::Divide { .. } => false,
        };
        if any_later(|later| later.missing) {
            self.made.store(false, Ordering::Relaxed);
        }
        let busy = any_later(|later| later.busy);
        telemetry::bulk(verdict.name(busy), documents, took);
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        // One document cannot be made smaller.
        let large = documents > 1 && (broke_off || matches!(verdict, Verdict::Divide { large: true, .. }));
        if busy || large {
            pace.refused(documents, bytes);
        } else if matches!(verdict, Verdict::Each(_)) {
            pace.answered(documents, bytes, took);
        }
        drop(pace);
        verdict
    }

    /// Sees to it that the index is there.
    pub async fn make(&self) -> Result<(), String> {
        if self.made.load(Ordering::Relaxed) {
            return Ok(());
        }
        let _alone = self.making.lock().await;
        if !self.made.load(Ordering::Relaxed) {
            index::make(&self.client, &self.schema).await.map_err(|e| e.to_string())?;
            self.made.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn together(part: &[Waiting]) -> Bytes {
    let mut body = BytesMut::with_capacity(part.iter().map(|w| w.entry.lines.len()).sum());
    part.iter().for_each(|w| body.extend_from_slice(&w.entry.lines));
    body.freeze()
}

/// Answers those that have their outcome; the others come back with why.
fn settle(part: Vec<Waiting>, outcomes: Vec<Outcome>) -> Vec<Waiting> {
    let one = |(mut w, outcome): (Waiting, Outcome)| {
        telemetry::bulk_document(outcome.name());
        match outcome {
            Outcome::Done(written) => w.reply.answer(Ok(written)),
            Outcome::Refused(why) => w.reply.answer(Err(SinkError::Rejected(why))),
            Outcome::Later(why) => {
                w.last = Some(why);
                return Some(w);
            }
        }
        None
    };
    part.into_iter().zip(outcomes).filter_map(one).collect()
}

impl Waiting {
    /// Tells the caller why; `otherwise` if it was never sent.
    fn give_up(self, otherwise: &Later) {
        let why = self.last.as_ref().unwrap_or(otherwise);
        self.reply.answer(Err(match why.busy {
            true => SinkError::Busy { after: BUSY },
            false => SinkError::Unavailable(why.why.clone()),
        }));
    }
}
