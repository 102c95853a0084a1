//! Points at which a test stops the process, holds it up, or lets a call fail. They exist in what tests build (`fail`'s
//! feature `failpoints`, a dev-dependency) and nowhere else.
//!
//! `FAILPOINTS="kafka.commit.before=3*off->panic"` in the environment: at the fourth commit the process is killed where it
//! stands, with SIGKILL, as if the machine had gone. `sleep(MS)` holds up; `return(retriable|abort|fatal)` is the answer
//! of a call that has one.
//!
//! | point | where | answers |
//! |---|---|---|
//! | `runner.commit` | records are handled, their outcomes collected; nothing of the commit has begun | |
//! | `blob.archived` | a blob is in the archive, and in its first place still | |
//! | `fetch.archived` | the answer is in a WARC file; nobody else has it | |
//! | `fetch.cached` | the HTTP cache has the page; nobody else has | |
//! | `fetch.lease` | a host's lease is asked for; any answer: it is taken without asking the store | yes |
//! | `kafka.join` | a consumer is about to enter its group; any answer: no broker is there | yes |
//! | `kafka.init.before`, `kafka.init.after` | a producer takes its transactional id over | |
//! | `kafka.offsets.before` | the batch's records are handed to the producer, its progress is not sent | yes |
//! | `kafka.offsets.after` | the group coordinator has the progress, as part of the open transaction | yes |
//! | `kafka.commit.before` | all but EndTxn is done | yes |
//! | `kafka.sent.REQUEST` | Produce, InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit, EndTxn: the request has left for the broker, and nobody has acted on an answer; `panic` alone | |
//! | `kafka.commit.after` | the transaction is committed, the runner does not know it yet | yes |
//! | `kafka.revoke` | the group takes partitions away, the runner does not know it yet | |
//! | `kafka.release.before` | the runner has committed what was finished of them | |
//! | `kafka.release.after` | they are released, the group does not know it yet | |
//! | `kafka.map` | the map of what is done beyond base is read at assignment; any answer empties it | yes |
//! | `dlq.replay.locked` | a replay holds the lock and has read the markers; nothing is put back yet | |
//! | `dlq.replay.before` | a step is made up, nothing of it is sent | |
//! | `dlq.replay.after` | a step is committed and its markers are seen; the next has not begun | |
//! | `kafka.read.MEMBER` | once a turn of the reading thread | |
#![allow(unsafe_code, reason = "one call into the C library, which says why it is sound")]

use std::ffi::c_int;

use fail::FailScenario;

const SIGKILL: c_int = 9;

unsafe extern "C" {
    // SAFETY: takes any number, touches no memory.
    safe fn raise(signal: c_int) -> c_int;
}

/// Sets the points that the environment names; they stay as long as what is returned.
pub fn start() -> Option<FailScenario<'static>> {
    if !fail::has_failpoints() || std::env::var_os("FAILPOINTS").is_none() {
        return None;
    }
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload_as_str().is_some_and(|message| message.starts_with("failpoint ")) {
            // No unwinding, no destructor, no goodbye to a broker.
            raise(SIGKILL);
        }
        usual(info);
    }));
    Some(FailScenario::setup())
}
