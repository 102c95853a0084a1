//! New leaders are asked for, not taken from a reply that names them.
//!
//! A broker that refuses a request may name the partition's new leader (KIP-951), and librdkafka acts on that. Up to 2.14 at
//! least it reads memory that nobody wrote when the broker names "none yet", as one does that was killed and comes back: the
//! process dies (librdkafka #5280), or the partition is not written to any more (#5430). So the linker puts this in that
//! function's place (`build.rs`; Linux). Nothing is missing without it: whatever such a reply says, librdkafka asks for the
//! metadata too, as it did before KIP-951.
#![allow(unsafe_code, reason = "a function of librdkafka's own, called by it alone")]

use std::ffi::{c_int, c_void};

/// `RD_KAFKA_OP_RES_HANDLED`: the caller frees what came with the call.
const HANDLED: c_int = 1;

/// In place of librdkafka's `rd_kafka_metadata_update_op(client, metadata)`.
// SAFETY: of its signature, and of no other symbol's name; it looks at neither argument.
#[unsafe(no_mangle)]
extern "C" fn __wrap_rd_kafka_metadata_update_op(_client: *mut c_void, _metadata: *mut c_void) -> c_int {
    HANDLED
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    unsafe extern "C" {
        fn rd_kafka_metadata_update_op(client: *mut c_void, metadata: *mut c_void) -> c_int;
    }

    #[test]
    fn the_linker_puts_ours_in_the_place_of_librdkafkas() {
        // SAFETY: ours reads neither; librdkafka's would not survive this.
        let answer = unsafe { rd_kafka_metadata_update_op(std::ptr::null_mut(), std::ptr::null_mut()) };
        assert_eq!(answer, HANDLED);
    }
}
