//! The stage of the simulation: the URL says what becomes of a record, and each attempt writes an effect outside the
//! transaction before its outcome is known.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tidemill::engine::attempt::Handler;
use tidemill::engine::{Ctx, Outcome};
use tidemill::record::headers::{JOB, TASK};
use tidemill::record::{DropReason, FailureClass, Headers, UrlTask};
use tidemill::transport::Outgoing;
use tokio::time::sleep;

use super::common::engine::{full, page, stage};
use super::plan::Point;
use super::world::{Process, World, clock};

/// Shorter than the engine's tests have it: virtual time costs little, but not nothing.
pub const DELAYS: &[Duration] = &[Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(800)];
/// Longest time in a handler.
pub const DEADLINE: Duration = Duration::from_secs(30);
pub const JOB_ID: &str = "job";

/// What each kind of URL is expected to come to: see [`super::ledger`].
pub const KINDS: [&str; 9] = ["emit", "two", "done", "drop", "flaky", "hopeless", "park", "letter", "move"];

/// A number among the inputs, and what becomes of it.
pub fn kind(url: &str) -> &str {
    url.split('/').nth(3).unwrap_or_default()
}

/// All inputs, on all lanes: task and record.
pub fn inputs(count: usize) -> Vec<(String, String, Outgoing)> {
    let lanes = ["urls", "urls.high", "urls.bulk"];
    let input = |i: usize| {
        let (task, url) = (format!("task-{i}"), format!("http://host-{}/{}/{i}", i % 13, KINDS[i % KINDS.len()]));
        let mut headers = Headers::default();
        headers.set(TASK, task.clone());
        headers.set(JOB, JOB_ID);
        // One that is to move comes without a key, as from a producer that knows no hosts.
        let key = (kind(&url) != "move").then(|| Bytes::from(UrlTask::new(url.as_str()).host_key()));
        let record = Outgoing {
            tombstone: false,
            topic: full(lanes[i / KINDS.len() % lanes.len()]).into(),
            partition: None,
            key,
            value: Bytes::from(url.clone()),
            headers,
        };
        (task, url, record)
    };
    (0..count).map(input).collect()
}

/// Counts a record in its handler, also when that is dropped.
struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub fn handler(world: &Arc<World>, process: &Arc<Process>) -> Arc<dyn Handler> {
    let (world, process) = (Arc::clone(world), Arc::clone(process));
    stage(move |url, ctx| work(Arc::clone(&world), Arc::clone(&process), url.to_owned(), ctx.clone()).boxed())
}

async fn work(world: Arc<World>, process: Arc<Process>, url: String, ctx: Ctx) -> Outcome {
    let running = process.running.fetch_add(1, Ordering::Relaxed) + 1;
    let _running = Running(&process.running);
    if running > world.plan.in_flight {
        world.wrong(format!("{running} records are handled at once, {} are allowed", world.plan.in_flight));
    }
    let slow = world.dice.chance(world.plan.slow);
    sleep(if slow { world.dice.ms(1_000, 4_000) } else { world.dice.ms(0, 80) }).await;
    process.alive().await;
    world.point(&process, Point::BeforeSink);
    process.alive().await;
    *world.sink.lock().unwrap().entry(ctx.meta.task.clone()).or_default() += 1;
    world.point(&process, Point::AfterSink);
    sleep(world.dice.ms(0, 20)).await;
    process.alive().await;
    world.note(&process, || format!("handled {url}, attempt {}", ctx.meta.attempt));
    outcome(&url, &ctx)
}

fn outcome(url: &str, ctx: &Ctx) -> Outcome {
    let number = url.rsplit('/').next().and_then(|n| n.parse::<i64>().ok()).unwrap_or(0);
    match kind(url) {
        "two" => Outcome::Emit(vec![page(url), page(&format!("{url}#2"))]),
        "done" => Outcome::Done,
        "drop" => Outcome::dropped(DropReason::Robots, "not allowed"),
        "flaky" if ctx.meta.attempt < 2 => Outcome::fail(FailureClass::Timeout, "too slow"),
        "hopeless" => Outcome::fail(FailureClass::Http5xx, "503 again"),
        "park" if ctx.slot().is_none() => {
            // Some wait longer than any tier, and go from one wait to the next.
            let until = clock() + 100 + number * 67 % 1_700;
            Outcome::Park { until, message: "busy host".into(), reserved: true }
        }
        "letter" => Outcome::DeadLetter { class: FailureClass::Parse, message: "nonsense".into() },
        "move" => {
            let host = UrlTask::new(url).host_key();
            if ctx.is_home_of(host.as_bytes()) {
                Outcome::Emit(vec![page(url)])
            } else {
                Outcome::Move { key: host.into() }
            }
        }
        _ => Outcome::Emit(vec![page(url)]),
    }
}
