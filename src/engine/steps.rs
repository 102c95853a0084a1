//! How records in work are run: a task each; but while many are admitted at once, their first steps are made together, and
//! only what is not done by then gets a task. A task for each costs more than a short step.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::transport::Outgoing;

/// Records whose first steps are made together.
const TOGETHER: usize = 32;
/// Time for them; what was not begun by then gets a task too.
const FIRST_STEPS: Duration = Duration::from_millis(1);

/// What came of a record.
pub(super) struct Ran {
    pub slot: usize,
    pub epoch: i64,
    pub offset: i64,
    pub outputs: Vec<Outgoing>,
    pub input_bytes: usize,
}

/// A record in work.
pub(super) type Going = BoxFuture<'static, Ran>;

/// What came of a task: records that are done, and records that want a task each.
#[derive(Default)]
pub(super) struct Steps {
    pub ran: Vec<Ran>,
    pub going: Vec<Going>,
}

/// Tasks for all of these.
pub(super) fn start(mut all: Vec<Going>) -> Vec<BoxFuture<'static, Steps>> {
    let mut tasks = vec![];
    while all.len() >= TOGETHER {
        let rest = all.split_off(TOGETHER);
        tasks.push(first_steps(std::mem::replace(&mut all, rest)).boxed());
    }
    tasks.extend(all.into_iter().map(whole));
    tasks
}

/// A task for one.
pub(super) fn whole(going: Going) -> BoxFuture<'static, Steps> {
    going.map(|ran| Steps { ran: vec![ran], going: vec![] }).boxed()
}

async fn first_steps(all: Vec<Going>) -> Steps {
    let (until, mut steps) = (Instant::now() + FIRST_STEPS, Steps::default());
    for mut going in all {
        // Whoever waits is asked again by a task of its own.
        let mut nobody = Context::from_waker(Waker::noop());
        match (Instant::now() < until).then(|| going.poll_unpin(&mut nobody)) {
            Some(Poll::Ready(ran)) => steps.ran.push(ran),
            _ => steps.going.push(going),
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: i64, takes: Option<Duration>) -> Going {
        let ran = Ran { slot: 0, epoch: 1, offset: n, outputs: vec![], input_bytes: 0 };
        async move {
            if let Some(time) = takes {
                tokio::time::sleep(time).await;
            }
            ran
        }
        .boxed()
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waits_holds_up_no_other() {
        let hour = Duration::from_secs(3600);
        let mut tasks = start((0..100).map(|n| record(n, (n % 10 == 3).then_some(hour))).collect());
        assert_eq!(tasks.len(), 3 + 4, "three times 32 together, and four");
        let (began, mut ran, mut going) = (Instant::now(), vec![], vec![]);
        for task in tasks.drain(..6) {
            let steps = task.await;
            ran.extend(steps.ran);
            going.extend(steps.going);
        }
        assert_eq!((ran.len(), going.len()), (99 - 10, 10));
        assert!(began.elapsed() < hour, "the slow ones were waited for");
        assert_eq!(tasks.remove(0).await.ran[0].offset, 99);
        for task in going {
            assert_eq!(whole(task).await.ran[0].offset % 10, 3);
        }
    }
}
