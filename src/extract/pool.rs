//! Threads with a large stack for work that may hang, panic or recurse deeply.
//!
//! ```text
//! run ──► bounded queue ──► worker: takes a job, answers it
//!              │                     │ panic            → caught, answered; the thread is replaced
//!              │ full                │ deadline passed  → answered at once; the thread is abandoned and replaced
//!              ▼
//!          the caller waits, within its deadline
//! ```
//! A thread cannot be ended from outside, so one that passes its deadline is left to finish alone. When
//! `max_abandoned` are left so, the pool refuses work until one of them ends: better no answer than a machine full
//! of stuck threads. A thread that caught a panic ends too, for a library may have left its thread-locals half set.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Why a job has no result.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum PoolError {
    /// It did not finish (or did not start, with all workers busy) in time.
    #[error("not finished within {0:?}")]
    Deadline(Duration),
    /// It panicked with this message.
    #[error("panicked: {0}")]
    Panic(String),
    /// As many threads as allowed are stuck in jobs past their deadline.
    #[error("{0} extraction threads are stuck past their deadline; refusing more work until one ends")]
    Stuck(usize),
    /// The system gave no thread.
    #[error("no worker thread: {0}")]
    Spawn(String),
}

type Job = Box<dyn FnOnce() -> Then + Send>;

/// What the worker does after a job.
#[derive(PartialEq, Eq)]
enum Then {
    /// Takes the next.
    Stay,
    /// Ends, and is replaced.
    Replace,
    /// Ends; it was replaced when its job passed the deadline.
    Leave,
}

/// States of a job, so that exactly one of caller and worker decides what becomes of the thread.
const WAITING: u8 = 0;
const RUNNING: u8 = 1;
const FINISHED: u8 = 2;
const ABANDONED: u8 = 3;

/// A fixed number of worker threads; cheap to clone. The threads end when the last clone is dropped.
#[derive(Clone)]
pub struct Pool {
    send: SyncSender<Job>,
    /// One permit a job that waits or runs: the queue's bound.
    room: Arc<Semaphore>,
    shared: Arc<Shared>,
}

struct Shared {
    queue: Arc<Mutex<Receiver<Job>>>,
    stack_bytes: usize,
    abandoned: AtomicUsize,
    max_abandoned: usize,
    /// Threads that ended and could not be replaced.
    missing: AtomicUsize,
}

impl Pool {
    /// `threads` workers (at least one) with `stack_bytes` of stack each; twice as many jobs may wait, and four times
    /// as many threads may be stuck. Stack is reserved address space; only touched pages cost memory. Extraction within
    /// the default [`super::Limits`] needs under 128 KiB; 8 MiB leaves room for what no test thought of.
    ///
    /// # Errors
    /// [`PoolError::Spawn`] when the system gives no thread.
    pub fn new(threads: usize, stack_bytes: usize) -> Result<Self, PoolError> {
        let threads = threads.max(1);
        let jobs = threads * 3;
        let (send, receive) = sync_channel(jobs);
        let shared = Arc::new(Shared {
            queue: Arc::new(Mutex::new(receive)),
            stack_bytes,
            abandoned: AtomicUsize::new(0),
            max_abandoned: threads * 4,
            missing: AtomicUsize::new(0),
        });
        for _ in 0..threads {
            shared.spawn()?;
        }
        Ok(Self { send, room: Arc::new(Semaphore::new(jobs)), shared })
    }

    /// How many threads are stuck past their deadline.
    pub fn abandoned(&self) -> usize {
        self.shared.abandoned.load(Ordering::Acquire)
    }

    /// Runs `f` on a worker and waits for its result, at most `deadline` from now, the wait for a worker included.
    /// When the returned future is dropped, `f` still runs to its end.
    ///
    /// # Errors
    /// See [`PoolError`].
    pub async fn run<F, T>(&self, deadline: Duration, f: F) -> Result<T, PoolError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let stuck = self.abandoned();
        if stuck >= self.shared.max_abandoned {
            return Err(PoolError::Stuck(stuck));
        }
        let take_one = |missing: usize| missing.checked_sub(1);
        if self.shared.missing.fetch_update(Ordering::AcqRel, Ordering::Acquire, take_one).is_ok() {
            self.shared.replace();
        }
        let until = tokio::time::Instant::now() + deadline;
        let permit = match tokio::time::timeout_at(until, Arc::clone(&self.room).acquire_owned()).await {
            Ok(Ok(permit)) => permit,
            // The semaphore is never closed, so this is the time-out.
            _ => return Err(PoolError::Deadline(deadline)),
        };
        let state = Arc::new(AtomicU8::new(WAITING));
        let (answer, answered) = oneshot::channel();
        let (job_state, shared) = (Arc::clone(&state), Arc::clone(&self.shared));
        // The permit is given back when the job ends or is abandoned, whichever comes first.
        let permit = Arc::new(Mutex::new(Some(permit)));
        let job_permit = Arc::clone(&permit);
        let job: Job = Box::new(move || {
            if job_state.compare_exchange(WAITING, RUNNING, Ordering::AcqRel, Ordering::Acquire).is_err() {
                return Then::Stay;
            }
            let result = catch_unwind(AssertUnwindSafe(f));
            let left = job_state.swap(FINISHED, Ordering::AcqRel) == ABANDONED;
            let panicked = result.is_err();
            // Nobody listens any more when the deadline has passed.
            let _ = answer.send(result.map_err(|panic| PoolError::Panic(message(panic))));
            release(&job_permit);
            if left {
                shared.abandoned.fetch_sub(1, Ordering::AcqRel);
                return Then::Leave;
            }
            if panicked { Then::Replace } else { Then::Stay }
        });
        // Holding a permit means there is room, so this cannot block or fail while a worker holds the queue.
        if self.send.try_send(job).is_err() {
            return Err(PoolError::Spawn("all workers have ended".to_owned()));
        }
        match tokio::time::timeout_at(until, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(PoolError::Panic("the worker ended without an answer".to_owned())),
            Err(_) => {
                self.shared.give_up(&state, &permit);
                Err(PoolError::Deadline(deadline))
            }
        }
    }
}

type Permit = Mutex<Option<OwnedSemaphorePermit>>;

impl Shared {
    /// The caller of a job stops waiting for it.
    fn give_up(self: &Arc<Self>, state: &AtomicU8, permit: &Permit) {
        // Not started: the worker that comes upon it passes over it, and its place in the queue is free then.
        if state.compare_exchange(WAITING, ABANDONED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return;
        }
        // Counted first, so that the worker never uncounts what is not counted yet.
        self.abandoned.fetch_add(1, Ordering::AcqRel);
        if state.compare_exchange(RUNNING, ABANDONED, Ordering::AcqRel, Ordering::Acquire).is_err() {
            self.abandoned.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        release(permit);
        self.replace();
    }

    /// A thread instead of one that is lost; when there is none to be had, [`Pool::run`] tries again.
    fn replace(self: &Arc<Self>) {
        if let Err(error) = self.spawn() {
            tracing::error!(%error, "an extraction thread could not be replaced");
            self.missing.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn spawn(self: &Arc<Self>) -> Result<(), PoolError> {
        let shared = Arc::clone(self);
        std::thread::Builder::new()
            .name("extract".to_owned())
            .stack_size(self.stack_bytes)
            .spawn(move || shared.work())
            .map(drop)
            .map_err(|error| PoolError::Spawn(error.to_string()))
    }

    fn work(self: Arc<Self>) {
        loop {
            // The lock is held while waiting: one worker waits for the queue, the others for the lock.
            let job = self.queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            match job() {
                Then::Stay => {}
                Then::Replace => return self.replace(),
                Then::Leave => return,
            }
        }
    }
}

fn release(permit: &Permit) {
    permit.lock().unwrap_or_else(PoisonError::into_inner).take();
}

fn message(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().map_or("no message", |text| *text).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(50);

    fn pool(threads: usize) -> Pool {
        match Pool::new(threads, 1 << 20) {
            Ok(pool) => pool,
            Err(error) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn answers_and_survives_panics() {
        let pool = pool(1);
        for round in 0..5 {
            assert_eq!(pool.run(LONG, move || round + 1).await, Ok(round + 1));
            let panicked = pool.run(LONG, || -> u8 { panic!("no {}", "good") }).await;
            assert_eq!(panicked, Err(PoolError::Panic("no good".to_owned())));
        }
        assert_eq!(pool.abandoned(), 0);
    }

    #[tokio::test]
    async fn a_stuck_thread_is_replaced_and_too_many_are_refused() {
        let pool = pool(1);
        let mut locks = Vec::new();
        for stuck in 1..=4 {
            let (free, wait) = sync_channel::<()>(1);
            locks.push(free);
            let late = pool.run(SHORT, move || wait.recv().is_ok()).await;
            assert_eq!(late, Err(PoolError::Deadline(SHORT)));
            assert_eq!(pool.abandoned(), stuck);
        }
        assert_eq!(pool.run(LONG, || 1).await, Err(PoolError::Stuck(4)));
        locks.clear();
        while pool.abandoned() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(pool.run(LONG, || 1).await, Ok(1));
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_waiting_counts() {
        let pool = pool(1);
        let (free, wait) = sync_channel::<()>(1);
        let busy = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(LONG, move || wait.recv().is_ok()).await }
        });
        tokio::time::sleep(SHORT).await;
        let late = (0..10).map(|_| pool.run(SHORT, || ()));
        for late in futures::future::join_all(late).await {
            assert_eq!(late, Err(PoolError::Deadline(SHORT)));
        }
        drop(free);
        assert!(matches!(busy.await, Ok(Ok(false))));
        // The places of the jobs given up are free again.
        for _ in 0..10 {
            assert_eq!(pool.run(LONG, || 2).await, Ok(2));
        }
    }

    #[tokio::test]
    async fn the_stack_is_as_large_as_asked() {
        #[inline(never)]
        fn deep(levels: usize) -> usize {
            let room = std::hint::black_box([levels as u8; 1024]);
            if levels == 0 { usize::from(room[0]) } else { deep(levels - 1) + usize::from(room[1] == room[0]) }
        }
        let large = match Pool::new(1, 64 << 20) {
            Ok(pool) => pool,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(large.run(LONG, || deep(20_000)).await, Ok(20_000));
    }
}
