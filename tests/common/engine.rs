//! The production runner with a stage made of a closure, and the topics it works on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use tidemill::engine::attempt::Handler;
use tidemill::engine::route::Router;
use tidemill::engine::{Ctx, Limits, Outcome, Runner, Stage, StageWork};
use tidemill::record::codec::{self, CodecError};
use tidemill::record::{Body, Page, Record, StatusEvent, UrlTask};
use tidemill::topology::{self, Names, StageName, Topic};
use tidemill::transport::{Result, Transport};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::read_all;

/// A ladder that a test can wait for.
pub const DELAYS: &[Duration] = &[Duration::from_millis(60), Duration::from_millis(120), Duration::from_millis(240)];
/// Longest time in a handler.
pub const DEADLINE: Duration = Duration::from_millis(400);
pub const LIMITS: Limits = Limits {
    in_flight: 200,
    in_flight_bytes: 16 << 20,
    commit_interval: Duration::from_millis(15),
    grace: Duration::from_secs(5),
};

/// What a test's stage does with a URL.
pub type Act = dyn Fn(&str, &Ctx) -> BoxFuture<'static, Outcome> + Send + Sync;

/// A fetch stage of a test.
pub struct Scripted(Box<Act>);

#[async_trait]
impl Stage for Scripted {
    type Task = UrlTask;
    fn name(&self) -> StageName {
        StageName::Fetch
    }
    fn decode(&self, value: &[u8]) -> std::result::Result<UrlTask, CodecError> {
        UrlTask::decode(value)
    }
    fn url<'a>(&self, task: &'a UrlTask) -> &'a str {
        &task.url
    }
    async fn handle(&self, task: UrlTask, ctx: &Ctx) -> Outcome {
        (self.0)(&task.url, ctx).await
    }
}

pub fn stage(act: impl Fn(&str, &Ctx) -> BoxFuture<'static, Outcome> + Send + Sync + 'static) -> Arc<dyn Handler> {
    Arc::new(Scripted(Box::new(act)))
}

pub fn names() -> Names {
    Names::new("t.")
}

pub fn runner(handler: &Arc<dyn Handler>, limits: Limits, deadline: Duration) -> Runner {
    let router = Router::new(topology::stage(StageName::Fetch), names(), DELAYS);
    Runner::new(Arc::new(StageWork::new(Arc::clone(handler), router, deadline)), limits)
}

/// A runner at work, as a process of its own.
pub struct Working {
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Working {
    pub fn start(log: Arc<dyn Transport>, handler: &Arc<dyn Handler>, limits: Limits) -> Working {
        Working::patient(log, handler, limits, DEADLINE)
    }

    /// The same with another deadline.
    pub fn patient(log: Arc<dyn Transport>, handler: &Arc<dyn Handler>, limits: Limits, deadline: Duration) -> Working {
        let (runner, stop) = (runner(handler, limits, deadline), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move { runner.run(&*log, stopped).await });
        Working { stop, task }
    }

    /// SIGTERM.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// As good as kill -9: no commit, no leave, and its log handle is gone with it.
    pub async fn crash(self) {
        self.task.abort();
        let _cancelled = self.task.await;
    }
}

pub fn full(topic: &str) -> String {
    names().full(topic)
}

pub async fn create(log: &dyn Transport) {
    let prefixed = |t: Topic| Topic { name: full(&t.name), ..t };
    log.create_topics(&topology::topics().into_iter().map(prefixed).collect::<Vec<_>>()).await.unwrap();
}

pub fn page(url: &str) -> Record {
    Record::Page(Box::new(Page {
        id: url.to_owned(),
        url: url.to_owned(),
        final_url: url.to_owned(),
        fetched_at: 0,
        status: 200,
        headers: vec![],
        content_type: "text/html".into(),
        body: Body { inline: Some(vec![]), blob: None, length: 0 },
        hops: vec![],
        attrs: BTreeMap::new(),
    }))
}

pub async fn events(log: &dyn Transport) -> Vec<StatusEvent> {
    let status = read_all(log, &full(topology::STATUS)).await;
    status.iter().map(|r| codec::decode(&r.value).unwrap()).collect()
}
