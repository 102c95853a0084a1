//! Calls that the Rust binding lacks or slows down, straight to librdkafka.
#![allow(unsafe_code, reason = "calls into librdkafka; each says why it is sound")]

use std::ffi::CStr;
use std::ptr::NonNull;

use rdkafka::client::{Client, ClientContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka_sys as sys;

use super::committer::TxnError;

/// What the group coordinator checks offsets against: group, member, generation.
#[derive(Debug)]
pub struct Generation(NonNull<sys::rd_kafka_consumer_group_metadata_t>);

// SAFETY: an immutable block of its own that any thread may read and free.
unsafe impl Send for Generation {}

impl Generation {
    /// As it is now; None if the client is in no group.
    pub fn read<C: ClientContext>(consumer: &Client<C>) -> Option<Generation> {
        // SAFETY: the client lives; the result is ours and freed in drop.
        NonNull::new(unsafe { sys::rd_kafka_consumer_group_metadata(consumer.native_ptr()) }).map(Generation)
    }

    /// Whether it is that of a member: one that was given up has lost its generation, one that left its id.
    pub fn is_member(&self) -> bool {
        // SAFETY: the pointer is valid as long as self, and so is the text.
        let named = unsafe {
            let id = sys::rd_kafka_consumer_group_metadata_member_id(self.0.as_ptr());
            !id.is_null() && *id != 0
        };
        named && self.id() > 0
    }

    /// Generation of a classic group, member epoch with KIP-848; 0 and less: not a member now.
    pub fn id(&self) -> i32 {
        // SAFETY: the pointer is valid as long as self.
        unsafe { sys::rd_kafka_consumer_group_metadata_generation_id(self.0.as_ptr()) }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        // SAFETY: made by rd_kafka_consumer_group_metadata and freed once.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(self.0.as_ptr()) }
    }
}

/// Offset behind all that was taken out of a partition's queue, markers too. The binding asks another thread for the whole
/// assignment first.
pub fn position<C: ClientContext>(consumer: &Client<C>, topic: &str, partition: i32) -> Option<i64> {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    // SAFETY: client and list live during the call, which reads what the client has in memory.
    let error = unsafe { sys::rd_kafka_position(consumer.native_ptr(), list.ptr()) };
    match (error, list.elements().first()?.offset()) {
        (sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR, Offset::Offset(o)) => Some(o),
        _ => None,
    }
}

/// The error of a transactional call, by what librdkafka says is to be done about it.
fn outcome(error: *mut sys::rd_kafka_error_t) -> Result<(), TxnError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: not null, so a valid error that is ours to read and to free.
    let (text, code, fatal, abort, retriable) = unsafe {
        let text = CStr::from_ptr(sys::rd_kafka_error_string(error)).to_string_lossy().into_owned();
        let flags = (
            sys::rd_kafka_error_is_fatal(error) != 0,
            sys::rd_kafka_error_txn_requires_abort(error) != 0,
            sys::rd_kafka_error_is_retriable(error) != 0,
        );
        let code = sys::rd_kafka_error_code(error);
        sys::rd_kafka_error_destroy(error);
        (text, code, flags.0, flags.1, flags.2)
    };
    use sys::rd_kafka_resp_err_t as Resp;
    let not_member = matches!(
        code,
        Resp::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID
            | Resp::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION
            | Resp::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID
            | Resp::RD_KAFKA_RESP_ERR_FENCED_MEMBER_EPOCH
    );
    // What times out while a coordinator moves names that as its cause, and is not marked.
    let moving = matches!(
        code,
        Resp::RD_KAFKA_RESP_ERR_NOT_COORDINATOR
            | Resp::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE
            | Resp::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS
    );
    Err(match (fatal, abort, retriable || moving) {
        (true, _, _) => TxnError::Fatal(text),
        _ if not_member => TxnError::NotMember(text),
        (_, true, _) => TxnError::Abort(text),
        (_, _, true) => TxnError::Retriable(text),
        _ => TxnError::Abort(text),
    })
}

/// `init_transactions`, up to `ms`.
pub fn init_transactions<C: ClientContext>(producer: &Client<C>, ms: i32) -> Result<(), TxnError> {
    // SAFETY: the client lives during the call.
    match outcome(unsafe { sys::rd_kafka_init_transactions(producer.native_ptr(), ms) }) {
        // There is no transaction yet that could be aborted: the producer is of no use.
        Err(TxnError::Abort(e)) => Err(TxnError::Fatal(e)),
        other => other,
    }
}

/// `begin_transaction`.
pub fn begin_transaction<C: ClientContext>(producer: &Client<C>) -> Result<(), TxnError> {
    // SAFETY: the client lives during the call.
    outcome(unsafe { sys::rd_kafka_begin_transaction(producer.native_ptr()) })
}

/// `send_offsets_to_transaction`, up to `ms` (which librdkafka does not always keep).
pub fn send_offsets<C: ClientContext>(
    producer: &Client<C>,
    offsets: &TopicPartitionList,
    generation: &Generation,
    ms: i32,
) -> Result<(), TxnError> {
    // SAFETY: client, list and generation live during the call, which keeps none of them.
    outcome(unsafe {
        sys::rd_kafka_send_offsets_to_transaction(producer.native_ptr(), offsets.ptr(), generation.0.as_ptr(), ms)
    })
}

/// `commit_transaction`, up to `ms`. The binding flushes first, in steps of 100 ms; here the producer's own thread serves
/// what delivery reports there are.
pub fn commit_transaction<C: ClientContext>(producer: &Client<C>, ms: i32) -> Result<(), TxnError> {
    // SAFETY: the client lives during the call.
    outcome(unsafe { sys::rd_kafka_commit_transaction(producer.native_ptr(), ms) })
}

/// `abort_transaction`, up to `ms`.
pub fn abort_transaction<C: ClientContext>(producer: &Client<C>, ms: i32) -> Result<(), TxnError> {
    // SAFETY: the client lives during the call.
    outcome(unsafe { sys::rd_kafka_abort_transaction(producer.native_ptr(), ms) })
}

/// `flush`, up to `ms`: until every record has arrived or failed. The binding's goes in steps of 100 ms.
pub fn flush<C: ClientContext>(producer: &Client<C>, ms: i32) -> Result<(), TxnError> {
    // SAFETY: the client lives during the call.
    match unsafe { sys::rd_kafka_flush(producer.native_ptr(), ms) } {
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        _ => Err(TxnError::Retriable("records have not arrived yet".into())),
    }
}
