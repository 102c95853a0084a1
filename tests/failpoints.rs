//! The crash table, row by row: the real binary copies a topic and dies (SIGKILL) at a named step between reading and the
//! reply of a commit; it is started again, and a reader of committed records, Kafka's own client, finds every record once.
//! Then the steps at which a process lives on but a call fails, hangs, or loses its answer. `src/failpoints.rs` lists the
//! points.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "waits for processes")]

mod copy;
#[path = "failpoints/replay.rs"]
mod replay;
#[path = "services/mod.rs"]
mod services;
mod whole;

use std::time::{Duration, Instant};

use copy::{Bench, RECORDS};
use services::Kafka;
use whole::{Ended, LIMIT, Running, eventually};

/// What is true after a death, before anything is started again.
#[derive(Clone, Copy, PartialEq)]
enum After {
    /// Nothing of the n-th transaction shows, whatever the coordinator knows of it.
    Nothing,
    /// It is open: nothing of it shows, and its producer's next init aborts it.
    Open,
    /// It is committed, outputs and progress, although nobody was told.
    Committed,
}

/// Dies at the n-th commit, for several n, with both group protocols.
fn row(point: &str, after: After) {
    for (n, protocol) in [(1, "classic"), (4, "consumer")] {
        let bench = Bench::new(protocol);
        bench.dies(point, n);
        let state = |expected: &str| {
            let is = eventually(Duration::from_secs(20), || bench.transaction(n) == expected);
            assert!(is, "{point} {n}: {} and not {expected}", bench.transaction(n));
        };
        match after {
            After::Nothing => {}
            After::Open => state("Ongoing"),
            After::Committed => state("CompleteCommit"),
        }
        let (done, beyond) = bench.done();
        let copied = bench.copied();
        println!("{point} {n}: {done} done, {beyond} of them beyond the base; {copied} copies show");
        // A transaction that is still open hides what others have committed behind its first record.
        assert!(copied <= done, "{point}: {copied} copies of {done} show");
        if n == 1 {
            (1..=2).for_each(|n| drop(bench.twin(n)));
            assert_eq!(bench.copied(), done, "{point}: outputs and progress show together");
            assert_eq!(done > 0, after == After::Committed, "{point}: {done} done");
        } else {
            assert!(beyond > 0, "{point}: nothing was done out of order, so the map is not put to the test");
        }
        bench.goes_on();
    }
}

#[test]
fn dies_between_handling_and_commit() {
    row("runner.commit", After::Nothing);
}

#[test]
fn dies_before_the_offsets() {
    row("kafka.offsets.before", After::Nothing);
}

#[test]
fn dies_when_the_offsets_are_on_their_way() {
    row("kafka.sent.TxnOffsetCommit", After::Open);
}

#[test]
fn dies_after_the_offsets() {
    row("kafka.offsets.after", After::Open);
}

#[test]
fn dies_before_the_end_of_the_transaction() {
    row("kafka.commit.before", After::Open);
}

#[test]
fn dies_when_the_end_of_the_transaction_is_on_its_way() {
    row("kafka.sent.EndTxn", After::Committed);
}

#[test]
fn dies_after_the_commit_before_the_runner_knows() {
    row("kafka.commit.after", After::Committed);
}

/// The requests of a transaction that are not counted by commits.
#[test]
fn dies_while_a_transaction_begins() {
    for (point, n) in
        [("kafka.sent.AddPartitionsToTxn", 3), ("kafka.sent.Produce", 5), ("kafka.sent.AddOffsetsToTxn", 2)]
    {
        let bench = Bench::new("classic");
        bench.dies(point, n);
        let (done, copied) = (bench.done().0, bench.copied());
        assert!(copied <= done, "{point}: {copied} copies of {done} show");
        bench.goes_on();
    }
}

/// Before anything was read; and again while the outcome of a commit is unknown, so that its settling is cut short.
#[test]
fn dies_while_a_producer_is_initialised() {
    for (point, n) in [("kafka.init.before", 1), ("kafka.sent.InitProducerId", 2), ("kafka.init.after", 2)] {
        let bench = Bench::new("classic");
        bench.dies(point, n);
        assert_eq!((bench.done().0, bench.copied()), (0, 0), "{point}");
        bench.goes_on();
    }
    for (answered, point) in [
        ("kafka.commit.after", "kafka.init.before"),
        ("kafka.commit.after", "kafka.sent.InitProducerId"),
        ("kafka.commit.before", "kafka.init.before"),
        ("kafka.commit.before", "kafka.init.after"),
    ] {
        let bench = Bench::new("classic");
        let points = format!("{answered}=3*off->1*return(fatal)->off;{point}=2*off->panic");
        let ended = Running::start(&mut bench.relay("m", &points)).ended(LIMIT);
        assert_eq!(ended.code, None, "{}", ended.stderr);
        assert!(ended.stderr.contains("outcome of a commit is unknown"), "{}", ended.stderr);
        bench.goes_on();
    }
}

/// A second member takes partitions over from one that dies while it lets go of them.
#[test]
fn dies_while_partitions_are_revoked() {
    for protocol in ["classic", "consumer"] {
        for point in ["kafka.revoke", "kafka.release.before", "kafka.release.after"] {
            // Nobody comes back under the name of the one that died.
            let bench = Bench { transaction_timeout: Duration::from_secs(10), ..Bench::new(protocol) };
            let mut first = Running::start(&mut bench.relay("m", &format!("{point}=panic")));
            let at_work = eventually(LIMIT, || first.poll().is_some() || bench.done().0 > 20);
            assert!(at_work && first.poll().is_none(), "{protocol} {point}: it was quicker than this test");
            let second = Running::start(&mut bench.relay("other", ""));
            let ended = first.ended(LIMIT);
            assert_eq!(ended.code, None, "{protocol} {point}: {}", ended.stderr);
            second.ended(LIMIT).expect(0);
            bench.is_exact();
        }
    }
}

/// Runs to its end in spite of these points; what it said.
fn lives_on(failpoints: &str) -> (Bench, Ended) {
    let bench = Bench::new("consumer");
    let ended = Running::start(&mut bench.relay("m", failpoints)).ended(LIMIT).expect(0);
    bench.is_exact();
    (bench, ended)
}

#[track_caller]
fn said(ended: &Ended, what: &str) {
    assert!(ended.stderr.contains(what), "{what:?} is not in {}", ended.stderr);
}

/// The broker stands still for longer than a call's time-out (10 s) when it is to end a transaction: the call is made again,
/// and goes on where it stood.
#[test]
fn a_commit_whose_reply_is_late_is_asked_for_again() {
    let kafka = Kafka::start(1, &[]);
    let bench = Bench::on(kafka.bootstrap(), "consumer");
    let mut running = Running::start(&mut bench.relay("m", "kafka.commit.before=2*off->1*sleep(8000)->off"));
    assert!(eventually(LIMIT, || running.poll().is_some() || bench.done().0 > 0));
    // It stands at the point when its progress does.
    let (mut done, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        let now = bench.done().0;
        if now != done {
            (done, since) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(running.poll().is_none());
    kafka.pause(1);
    std::thread::sleep(Duration::from_secs(19));
    kafka.resume(1);
    let ended = running.ended(LIMIT).expect(0);
    said(&ended, "a commit is not answered yet; asking again");
    bench.is_exact();
}

/// Between the cluster's first answer and the group's.
#[test]
fn a_broker_that_goes_away_while_a_member_joins_is_waited_for() {
    let (_, ended) = lives_on("kafka.join=2*return->off");
    assert_eq!(ended.stderr.matches("joining failed; trying on").count(), 2, "{}", ended.stderr);
}

/// The producer is finished, and whether its transaction is committed only the coordinator knows.
#[test]
fn a_commit_whose_reply_never_comes_is_read_again() {
    for point in ["kafka.commit.before", "kafka.commit.after"] {
        let (_, ended) = lives_on(&format!("{point}=2*off->1*return(fatal)->2*off->1*return(fatal)->off"));
        said(&ended, "outcome of a commit is unknown");
        assert_eq!(ended.stderr.matches("outcome of a commit is unknown").count(), 2, "{}", ended.stderr);
    }
}

#[test]
fn offsets_that_are_refused_are_sent_again() {
    let answers = "1*off->1*return(retriable)->1*off->1*return(abort)->1*off->1*return(fatal)->off";
    for point in ["kafka.offsets.before", "kafka.offsets.after"] {
        let (_, ended) = lives_on(&format!("{point}={answers}"));
        said(&ended, "offsets are sent again");
        assert!(ended.stderr.matches("commit failed and wrote nothing").count() >= 2, "{}", ended.stderr);
    }
}

/// librdkafka's call does not keep its time-out (librdkafka #5456): the watchdog gives the producer up after 30 s.
#[test]
fn offsets_that_hang_do_not_hold_up_the_group() {
    let (_, ended) = lives_on("kafka.offsets.before=2*off->1*sleep(34000)->off");
    said(&ended, "the call hangs");
}

/// A twin takes the transactional ids away while transactions are open.
#[test]
fn a_producer_that_is_fenced_by_a_twin_comes_back() {
    let bench = Bench::new("consumer");
    let mut running = Running::start(&mut bench.relay("m", "kafka.offsets.after=sleep(100)"));
    let mut fenced = 0;
    for n in [1, 2, 1] {
        let before = bench.done().0;
        let grown = eventually(LIMIT, || running.poll().is_some() || bench.done().0 > before);
        assert!(grown && running.poll().is_none(), "it was quicker than this test, or stands still at {before}");
        drop(bench.twin(n));
        fenced += 1;
    }
    let ended = running.ended(LIMIT).expect(0);
    assert_eq!(fenced, 3);
    said(&ended, "fenced");
    bench.is_exact();
}

/// `exactly_once = false`: what was written and not yet committed is written again, and nothing is missing.
#[test]
fn at_least_once_loses_nothing() {
    for (point, n, protocol) in [
        ("runner.commit", 4, "consumer"),
        ("kafka.offsets.before", 1, "classic"),
        ("kafka.offsets.before", 4, "consumer"),
        ("kafka.offsets.after", 4, "classic"),
    ] {
        let bench = Bench { exactly_once: false, ..Bench::new(protocol) };
        bench.dies(point, n);
        let (done, copied) = (bench.done().0, bench.copied());
        let ended = Running::start(&mut bench.relay("m", "")).ended(LIMIT).expect(0);
        said(&ended, "at least once, as [kafka] exactly_once = false says");
        let found = bench.ledger();
        println!("{point} {n}: {done} done, {copied} copied; then {found}");
        assert_eq!((&found["missing"], &found["distinct"]), (&0.into(), &RECORDS.into()), "{found}");
        // Only where outputs and progress differ is anything written again.
        let again = usize::try_from(found["records"].as_u64().unwrap()).unwrap() - RECORDS;
        assert_eq!(again, copied - done, "{found}");
        assert_eq!(again > 0, point == "kafka.offsets.before", "{found}");
    }
}
