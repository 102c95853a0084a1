//! The index stage: an enriched document in, an entry in every sink.

use std::sync::Arc;

use async_trait::async_trait;

use crate::engine::{Ctx, Outcome, Stage};
use crate::record::codec::{self, CodecError};
use crate::record::{DropReason, Enriched, FailureClass};
use crate::sink::{Sink, SinkError};
use crate::topology::StageName;

/// The stage. Batching is the sink's own business: it takes one document and answers one.
pub struct Index {
    /// Where documents go.
    pub sink: Arc<dyn Sink>,
}

#[async_trait]
impl Stage for Index {
    type Task = Enriched;

    fn name(&self) -> StageName {
        StageName::Index
    }

    fn decode(&self, value: &[u8]) -> Result<Enriched, CodecError> {
        codec::decode(value)
    }

    fn url<'a>(&self, document: &'a Enriched) -> &'a str {
        &document.url
    }

    async fn handle(&self, document: Enriched, _ctx: &Ctx) -> Outcome {
        let gone = document.gone;
        match self.sink.put(Arc::new(document)).await {
            Ok(_) if gone => Outcome::dropped(DropReason::Gone, "the page is no more; the index holds its tombstone"),
            // A stale document is done: the index holds a newer version of it.
            Ok(_) => Outcome::Done,
            Err(SinkError::Rejected(why)) => Outcome::fail(FailureClass::Rejected, why),
            Err(e @ SinkError::Busy { after }) => {
                Outcome::Retry { class: FailureClass::Upstream429, message: e.to_string(), after: Some(after) }
            }
            Err(SinkError::Unavailable(why)) => Outcome::unavailable(why),
        }
    }
}
