//! Takes one item, answers one item; does the work in batches. Whoever waits right now goes into the next batch, so a
//! lone item is never held up and a crowd shares one transaction, one fsync or one request.
//!
//! ```text
//! call(item) ─► bounded queue ─► Inbox::next: all that waits, up to count and bytes ─► work ─► Batch::answer ─► call returns
//! ```
//!
//! Where a batch should be larger than what waits at this moment, [`Inbox::gather`] stays for a while; where items of one
//! batch end at different times, [`Batch::each`] lets each have its answer at its time.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// How much goes into one batch, and how much may wait for it.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Items in a batch, at least 1; as many may wait in the queue.
    pub items: usize,
    /// Bytes after which a batch takes no further item.
    pub bytes: usize,
}

/// An item whose size counts.
pub trait Weigh {
    /// Rough size in memory, bytes.
    fn weight(&self) -> usize;
}

/// The worker is gone.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("closed")]
pub struct Closed;

struct Request<I, O> {
    item: I,
    reply: oneshot::Sender<O>,
}

/// The callers' end. Cheap to clone.
pub struct Batcher<I, O> {
    requests: mpsc::Sender<Request<I, O>>,
    /// Declared after `requests`, so that the queue is closed before the thread is waited for.
    _thread: Option<Arc<Thread>>,
}

impl<I, O> Clone for Batcher<I, O> {
    fn clone(&self) -> Self {
        Batcher { requests: self.requests.clone(), _thread: self._thread.clone() }
    }
}

/// Waits for the thread when the last handle goes, so that files are closed and locks free by then.
struct Thread(Mutex<Option<JoinHandle<()>>>);

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(handle) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            let _panicked = handle.join();
        }
    }
}

/// The worker's end.
pub struct Inbox<I, O> {
    requests: mpsc::Receiver<Request<I, O>>,
    limits: Limits,
}

/// Items to work on together.
pub struct Batch<I, O> {
    /// In the order of their arrival.
    pub items: Vec<I>,
    replies: Vec<oneshot::Sender<O>>,
    /// Weight of the items.
    bytes: usize,
}

/// A queue and its two ends.
pub fn channel<I: Weigh, O>(limits: Limits) -> (Batcher<I, O>, Inbox<I, O>) {
    let (requests, inbox) = mpsc::channel(limits.items.max(1));
    (Batcher { requests, _thread: None }, Inbox { requests: inbox, limits })
}

/// A thread of that name that works on batches, one after the other; it answers one outcome an item, in order. It ends
/// with the last [`Batcher`], which waits for it.
pub fn on_thread<I, O>(
    name: &str,
    limits: Limits,
    mut work: impl FnMut(&[I]) -> Vec<O> + Send + 'static,
) -> std::io::Result<Batcher<I, O>>
where
    I: Weigh + Send + 'static,
    O: Send + 'static,
{
    let (mut batcher, mut inbox) = channel(limits);
    let run = move || {
        while let Some(batch) = inbox.next_blocking() {
            let outcomes = work(&batch.items);
            batch.answer(outcomes);
        }
    };
    let handle = std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
    batcher._thread = Some(Arc::new(Thread(Mutex::new(Some(handle)))));
    Ok(batcher)
}

impl<I: Weigh, O> Batcher<I, O> {
    /// Has one item worked on. If the caller stops waiting, the work may be done all the same.
    pub async fn call(&self, item: I) -> Result<O, Closed> {
        let (reply, mut answer) = oneshot::channel();
        self.requests.send(Request { item, reply }).await.map_err(|_| Closed)?;
        tokio::select! {
            biased;
            outcome = &mut answer => outcome.map_err(|_| Closed),
            // An item that is put into the queue while the worker's end goes stays there, its reply with it, as long as
            // there are callers (seen once, on a busy machine): so the reply alone is not enough to wait for.
            () = self.requests.closed() => answer.try_recv().map_err(|_| Closed),
        }
    }
}

impl<I: Weigh, O> Inbox<I, O> {
    /// The next batch, for a task; None when no caller is left. Cancel-safe.
    pub async fn next(&mut self) -> Option<Batch<I, O>> {
        let first = self.requests.recv().await?;
        Some(self.fill(first))
    }

    /// The next batch, for a thread; None when no caller is left.
    pub fn next_blocking(&mut self) -> Option<Batch<I, O>> {
        let first = self.requests.blocking_recv()?;
        Some(self.fill(first))
    }

    /// The next batch under limits of its own, which waits so long for more than its first item; None when no caller is
    /// left. Not cancel-safe: items it holds when it is dropped are told that the worker is gone.
    pub async fn gather(&mut self, limits: Limits, linger: Duration) -> Option<Batch<I, O>> {
        let first = self.requests.recv().await?;
        let mut batch = Batch::of(first);
        batch.fill(&mut self.requests, limits);
        let until = tokio::time::Instant::now() + linger;
        while !linger.is_zero() && batch.has_room(limits) {
            let Ok(Some(next)) = tokio::time::timeout_at(until, self.requests.recv()).await else { break };
            batch.push(next);
            batch.fill(&mut self.requests, limits);
        }
        Some(batch)
    }

    fn fill(&mut self, first: Request<I, O>) -> Batch<I, O> {
        let mut batch = Batch::of(first);
        batch.fill(&mut self.requests, self.limits);
        batch
    }
}

impl<I: Weigh, O> Batch<I, O> {
    fn of(first: Request<I, O>) -> Batch<I, O> {
        let mut batch = Batch { items: vec![], replies: vec![], bytes: 0 };
        batch.push(first);
        batch
    }

    fn push(&mut self, request: Request<I, O>) {
        self.bytes += request.item.weight();
        self.items.push(request.item);
        self.replies.push(request.reply);
    }

    fn has_room(&self, limits: Limits) -> bool {
        self.bytes < limits.bytes && self.items.len() < limits.items
    }

    /// Takes what waits now.
    fn fill(&mut self, requests: &mut mpsc::Receiver<Request<I, O>>, limits: Limits) {
        while self.has_room(limits) {
            let Ok(next) = requests.try_recv() else { break };
            self.push(next);
        }
    }
}

/// Where one item's caller waits.
pub struct Reply<O>(oneshot::Sender<O>);

impl<O> Reply<O> {
    /// Answers. Dropped without it, the caller is told that the worker is gone.
    pub fn answer(self, outcome: O) {
        let _caller_gone = self.0.send(outcome);
    }
}

impl<I, O> Batch<I, O> {
    /// Answers each item, in order; items without an outcome are told that the worker is gone.
    pub fn answer(self, outcomes: Vec<O>) {
        for (reply, outcome) in self.replies.into_iter().zip(outcomes) {
            let _caller_gone = reply.send(outcome);
        }
    }

    /// The items with where their answers go, in order.
    pub fn each(self) -> impl Iterator<Item = (I, Reply<O>)> {
        self.items.into_iter().zip(self.replies.into_iter().map(Reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;
    use std::sync::atomic::{AtomicBool, Ordering};

    impl Weigh for usize {
        fn weight(&self) -> usize {
            10
        }
    }

    #[tokio::test]
    async fn what_waits_goes_together_up_to_the_limits_and_each_gets_its_own_answer() {
        for (limits, expect) in [
            (Limits { items: 4, bytes: 1000 }, vec![4, 4, 2]),
            (Limits { items: 10, bytes: 30 }, vec![3, 3, 3, 1]),
            (Limits { items: 100, bytes: 0 }, vec![1; 10]),
        ] {
            let (batcher, mut inbox) = channel::<usize, usize>(limits);
            let callers: Vec<_> = (0..10)
                .map(|i| {
                    let batcher = batcher.clone();
                    tokio::spawn(async move { batcher.call(i).await })
                })
                .collect();
            drop(batcher);
            let mut sizes = vec![];
            while let Some(batch) = {
                // Everyone who can is in the queue by now.
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
                inbox.next().await
            } {
                sizes.push(batch.items.len());
                let outcomes = batch.items.iter().map(|i| i * 2).collect();
                batch.answer(outcomes);
            }
            assert_eq!(sizes, expect);
            for (i, answer) in join_all(callers).await.into_iter().enumerate() {
                assert_eq!(answer.unwrap(), Ok(i * 2));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_waits_for_more_as_long_as_it_may_and_each_item_can_be_answered_alone() {
        let (batcher, mut inbox) = channel::<usize, usize>(Limits { items: 100, bytes: 1000 });
        let caller = |item, after| {
            let batcher = batcher.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(after)).await;
                batcher.call(item).await
            })
        };
        let callers = [caller(0, 0), caller(1, 50), caller(2, 80), caller(3, 200)];
        let few = Limits { items: 3, bytes: 1000 };
        let full = inbox.gather(few, Duration::from_millis(100)).await.unwrap();
        assert_eq!(full.items, [0, 1, 2]);
        let mut each = full.each();
        let (first, second) = (each.next().unwrap(), each.next().unwrap());
        second.1.answer(second.0 + 10);
        drop(each);
        let began = tokio::time::Instant::now();
        let late = inbox.gather(few, Duration::from_millis(100)).await.unwrap();
        assert_eq!((late.items.len(), began.elapsed() >= Duration::from_millis(200)), (1, true));
        late.answer(vec![13]);
        first.1.answer(10);
        let answers: Vec<_> = join_all(callers).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, [Ok(10), Ok(11), Err(Closed), Ok(13)]);
        // Without a wait: what is there.
        let alone = caller(4, 0);
        assert_eq!(inbox.gather(few, Duration::ZERO).await.unwrap().items, [4]);
        assert_eq!(alone.await.unwrap(), Err(Closed));
    }

    #[tokio::test]
    async fn callers_of_a_worker_that_died_are_told() {
        let batcher = on_thread("test", Limits { items: 8, bytes: 100 }, |items: &[usize]| {
            assert!(!items.contains(&3), "a bug in the worker");
            items.to_vec()
        })
        .unwrap();
        assert_eq!(batcher.call(2).await, Ok(2));
        assert_eq!(batcher.call(3).await, Err(Closed));
        assert_eq!(batcher.call(2).await, Err(Closed));
    }

    /// An item may be put into the queue at the very moment at which the worker's end goes: nobody takes it out again.
    #[tokio::test]
    async fn a_worker_that_dies_while_it_is_called_leaves_nobody_waiting() {
        let (give, take) = std::sync::mpsc::sync_channel::<Inbox<usize, usize>>(1);
        let near = Arc::new(AtomicBool::new(false));
        let dies = Arc::clone(&near);
        let thread = std::thread::spawn(move || {
            for inbox in take {
                while !dies.swap(false, Ordering::AcqRel) {
                    std::hint::spin_loop();
                }
                drop(inbox);
            }
        });
        for round in 0..5_000 {
            let (batcher, inbox) = channel::<usize, usize>(Limits { items: 8, bytes: 100 });
            give.send(inbox).unwrap();
            near.store(true, Ordering::Release);
            (0..round % 256).for_each(|_| std::hint::spin_loop());
            let told = tokio::time::timeout(Duration::from_secs(20), batcher.call(1)).await;
            assert_eq!(told, Ok(Err(Closed)), "round {round}");
        }
        drop(give);
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn the_last_handle_waits_for_the_thread() {
        let ended = Arc::new(Mutex::new(false));
        struct AtEnd(Arc<Mutex<bool>>);
        impl Drop for AtEnd {
            fn drop(&mut self) {
                #[allow(clippy::disallowed_methods, reason = "a slow worker of a test")]
                std::thread::sleep(std::time::Duration::from_millis(20));
                *self.0.lock().unwrap() = true;
            }
        }
        let at_end = AtEnd(Arc::clone(&ended));
        let batcher = on_thread("test", Limits { items: 8, bytes: 100 }, move |items: &[usize]| {
            let _kept_alive = &at_end;
            items.to_vec()
        })
        .unwrap();
        let other = batcher.clone();
        drop(batcher);
        assert_eq!(other.call(1).await, Ok(1));
        drop(other);
        assert!(*ended.lock().unwrap());
    }
}
