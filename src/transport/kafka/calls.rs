//! Blocking calls into librdkafka on a thread of their own. Some do not keep their time-out (librdkafka #5456, #5511): a
//! watchdog gives such a client up.

use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::committer::TxnError;
use crate::transport::TransportError;

/// After this a call hangs.
const WATCHDOG: Duration = Duration::from_secs(30);

type Call<C> = Box<dyn FnOnce(&C) + Send>;

/// A client, and the thread it is called on. The client goes when this is dropped and its last call has come back.
pub struct Calls<C> {
    calls: std_mpsc::SyncSender<Call<C>>,
}

impl<C: Send + 'static> Calls<C> {
    /// Starts the thread.
    pub fn start(client: C) -> Result<Calls<C>, TransportError> {
        let (calls, waiting) = std_mpsc::sync_channel::<Call<C>>(1);
        std::thread::Builder::new()
            .name("kafka-txn".into())
            .spawn(move || {
                for call in waiting {
                    call(&client);
                }
            })
            .map_err(|e| TransportError::Fatal(format!("cannot start a producer thread: {e}")))?;
        Ok(Calls { calls })
    }

    /// One call on the thread, given up after the watchdog's time.
    pub async fn call<T: Send + 'static>(
        &self,
        f: impl FnOnce(&C) -> Result<T, TxnError> + Send + 'static,
    ) -> Result<T, TxnError> {
        let (reply, answer) = oneshot::channel();
        let call: Call<C> = Box::new(move |client| drop(reply.send(f(client))));
        self.calls.try_send(call).map_err(|_| TxnError::Fatal("an earlier call on this producer hangs".into()))?;
        match tokio::time::timeout(WATCHDOG, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(TxnError::Fatal("the producer's thread ended".into())),
            Err(_) => Err(TxnError::Fatal(format!("no answer for {} s: the call hangs", WATCHDOG.as_secs()))),
        }
    }
}
