//! One record in its handler: decode, expiry, deadline, panic. Whatever happens, an outcome comes out.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;

use super::stage::{Ctx, Outcome, Stage};
use crate::record::headers::URL;
use crate::record::{FailureClass, Headers, codec, now_ms};
use crate::registry::{Registry, Unlearned};

/// What came of an attempt.
#[derive(Debug)]
pub struct Attempted {
    /// URL of the record, as far as it is known.
    pub url: String,
    /// What the stage said, or what the engine says in its stead.
    pub outcome: Outcome,
}

/// A [`Stage`] without its task type, so that the runner holds any of them.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Decodes and handles one record.
    async fn attempt(&self, value: &[u8], headers: &Headers, ctx: &Ctx, deadline: Duration) -> Attempted;
}

/// A handler behind a schema registry: what a record's schema id means is learned before the record is decoded.
pub struct Learning {
    /// The stage.
    pub inner: Arc<dyn Handler>,
    /// The registry.
    pub registry: Arc<Registry>,
}

#[async_trait]
impl Handler for Learning {
    async fn attempt(&self, value: &[u8], headers: &Headers, ctx: &Ctx, deadline: Duration) -> Attempted {
        let outcome = match codec::unknown_id(value) {
            None => return self.inner.attempt(value, headers, ctx, deadline).await,
            Some(id) => match self.registry.learn(id).await {
                Ok(()) => return self.inner.attempt(value, headers, ctx, deadline).await,
                Err(e @ Unlearned::Away(..)) => Outcome::unavailable(e.to_string()),
                Err(Unlearned::Never(why)) => {
                    Outcome::DeadLetter { class: FailureClass::Decode, message: why.to_string() }
                }
            },
        };
        Attempted { url: headers.str(URL).unwrap_or_default().to_owned(), outcome }
    }
}

#[async_trait]
impl<S: Stage> Handler for S {
    async fn attempt(&self, value: &[u8], headers: &Headers, ctx: &Ctx, deadline: Duration) -> Attempted {
        let task = match self.decode(value) {
            Ok(task) => task,
            Err(e) => {
                let url = headers.str(URL).unwrap_or_default().to_owned();
                let message = e.to_string();
                return Attempted { url, outcome: Outcome::DeadLetter { class: FailureClass::Decode, message } };
            }
        };
        let url = self.url(&task).to_owned();
        if let Some(expires) = ctx.meta.expires.filter(|e| *e <= now_ms()) {
            let message = format!("expired at {}", crate::record::time(expires));
            return Attempted { url, outcome: Outcome::DeadLetter { class: FailureClass::Expired, message } };
        }
        let work = AssertUnwindSafe(self.handle(task, ctx)).catch_unwind();
        let outcome = match tokio::time::timeout(deadline, work).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => {
                let what = panic
                    .downcast_ref::<&str>()
                    .map(|s| (*s).to_owned())
                    .or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_else(|| "no message".to_owned());
                Outcome::fail(FailureClass::Panic, format!("{} panicked: {what}", self.name()))
            }
            Err(_) => Outcome::fail(
                FailureClass::Deadline,
                format!("{} was not done within {} s", self.name(), deadline.as_secs_f64()),
            ),
        };
        Attempted { url, outcome }
    }
}
