//! Several sinks as one: a document is written when all of them have it.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;

use super::{Sink, SinkError, Written};
use crate::record::Enriched;

/// Puts each document to all of its sinks at the same time.
///
/// - An error of one is an error of all. What may pass comes before what is for good, so that a document one sink
///   refuses still gets its chance with the others before it rests among the dead letters. Repeats do no harm.
/// - Without an error, the answer is the least new one: [`Written::Stale`] if any sink had a newer version.
pub struct Fanout {
    sinks: Vec<Arc<dyn Sink>>,
}

impl Fanout {
    /// These sinks together.
    pub fn new(sinks: Vec<Arc<dyn Sink>>) -> Fanout {
        Fanout { sinks }
    }
}

/// The error with the name of the sink that gave it.
fn named(sink: &dyn Sink, e: SinkError) -> SinkError {
    match e {
        SinkError::Rejected(why) => SinkError::Rejected(format!("{}: {why}", sink.name())),
        SinkError::Unavailable(why) => SinkError::Unavailable(format!("{}: {why}", sink.name())),
        busy @ SinkError::Busy { .. } => busy,
    }
}

/// The worst of the results; None if there are none.
fn worst<T: Ord>(results: impl IntoIterator<Item = Result<T, SinkError>>) -> Result<Option<T>, SinkError> {
    let mut written = None;
    let mut failed = None;
    for result in results {
        match result {
            Ok(one) => written = written.max(Some(one)),
            Err(e) => {
                failed = Some(match failed {
                    Some(other) => worse(other, e),
                    None => e,
                });
            }
        }
    }
    failed.map_or(Ok(written), Err)
}

/// The worse of two errors; the longer wait of two that are busy.
fn worse(a: SinkError, b: SinkError) -> SinkError {
    use SinkError::{Busy, Rejected, Unavailable};
    match (a, b) {
        (Busy { after: a }, Busy { after: b }) => Busy { after: a.max(b) },
        (a @ Unavailable(_), _) | (a, Rejected(_)) => a,
        (_, b) => b,
    }
}

#[async_trait]
impl Sink for Fanout {
    fn name(&self) -> &'static str {
        "fanout"
    }

    async fn sweep(&self, before: i64) -> Result<u64, SinkError> {
        let swept = worst(join_all(self.sinks.iter().map(|sink| sink.sweep(before))).await)?;
        Ok(swept.unwrap_or_default())
    }

    async fn put(&self, document: Arc<Enriched>) -> Result<Written, SinkError> {
        let puts = self.sinks.iter().map(|s| {
            let document = Arc::clone(&document);
            async move { s.put(document).await.map_err(|e| named(&**s, e)) }
        });
        let written = worst(join_all(puts).await)?;
        // Without a sink there is nowhere to be, which only a wrong configuration can bring about.
        written.ok_or_else(|| SinkError::Unavailable("no sink is configured".into()))
    }

    async fn flush(&self) -> Result<(), SinkError> {
        let flushes = self.sinks.iter().map(|s| async move { s.flush().await.map_err(|e| named(&**s, e)) });
        worst(join_all(flushes).await).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    struct Always(Result<Written, SinkError>);

    #[async_trait]
    impl Sink for Always {
        fn name(&self) -> &'static str {
            "always"
        }
        async fn put(&self, _: Arc<Enriched>) -> Result<Written, SinkError> {
            self.0.clone()
        }
    }

    #[tokio::test]
    async fn the_worst_counts() {
        let rejected = || Err(SinkError::Rejected("no".into()));
        let away = || Err(SinkError::Unavailable("away".into()));
        let busy = |s| Err(SinkError::Busy { after: Duration::from_secs(s) });
        type Answer = Result<Written, SinkError>;
        let cases: Vec<(Vec<Answer>, Answer)> = vec![
            (vec![Ok(Written::Created), Ok(Written::Updated)], Ok(Written::Updated)),
            (vec![Ok(Written::Stale), Ok(Written::Created)], Ok(Written::Stale)),
            (vec![Ok(Written::Created), rejected()], Err(SinkError::Rejected("always: no".into()))),
            (vec![rejected(), busy(1), Ok(Written::Created), busy(3), busy(2)], busy(3)),
            (vec![busy(3), away(), rejected()], Err(SinkError::Unavailable("always: away".into()))),
            (vec![], Err(SinkError::Unavailable("no sink is configured".into()))),
        ];
        for (results, expect) in cases {
            let sinks = results.into_iter().map(|r| Arc::new(Always(r)) as Arc<dyn Sink>).collect();
            assert_eq!(Fanout::new(sinks).put(Arc::default()).await, expect);
        }
    }
}
