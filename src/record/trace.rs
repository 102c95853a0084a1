//! W3C Trace Context, level 1: `00-<trace id>-<span id>-<flags>`.

use std::fmt;

use sha2::{Digest, Sha256};

/// One position in a trace. Shape: 16 and 8 bytes, neither all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// Shared by all records that descend from one input record.
    pub trace_id: [u8; 16],
    /// This step.
    pub span_id: [u8; 8],
    /// Bit 0: sampled.
    pub flags: u8,
}

impl TraceParent {
    /// Reads a header value; None when it is not valid, so that the caller starts a new trace (as the standard asks).
    pub fn parse(s: &str) -> Option<TraceParent> {
        let mut parts = s.trim().split('-');
        let version = parts.next()?;
        if version.len() != 2 || version == "ff" {
            return None;
        }
        let mut t = TraceParent { trace_id: [0; 16], span_id: [0; 8], flags: 0 };
        hex::decode_to_slice(parts.next()?, &mut t.trace_id).ok()?;
        hex::decode_to_slice(parts.next()?, &mut t.span_id).ok()?;
        let mut flags = [0u8];
        hex::decode_to_slice(parts.next()?, &mut flags).ok()?;
        t.flags = flags[0];
        (t.trace_id != [0; 16] && t.span_id != [0; 8] && (version != "00" || parts.next().is_none())).then_some(t)
    }

    /// A new random trace.
    pub fn random() -> TraceParent {
        TraceParent { trace_id: nonzero(rand::random::<u128>()).to_be_bytes(), span_id: span(), flags: 1 }
    }

    /// The trace of an input record that came without one: a function of its id, so a repeat joins the same trace.
    pub fn derived(task: &str) -> TraceParent {
        let digest = Sha256::digest(task.as_bytes());
        let mut t = TraceParent { trace_id: [0; 16], span_id: [0; 8], flags: 1 };
        t.trace_id.copy_from_slice(&digest[..16]);
        t.span_id.copy_from_slice(&digest[16..24]);
        t.trace_id[15] |= 1;
        t.span_id[7] |= 1;
        t
    }

    /// The same trace, a new span.
    pub fn child(&self) -> TraceParent {
        TraceParent { span_id: span(), ..*self }
    }

    /// The trace id as 32 hex digits, for logs.
    pub fn trace_hex(&self) -> String {
        hex::encode(self.trace_id)
    }
}

fn nonzero(n: u128) -> u128 {
    n.max(1)
}

fn span() -> [u8; 8] {
    rand::random::<u64>().max(1).to_be_bytes()
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", hex::encode(self.trace_id), hex::encode(self.span_id), self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_refuses_what_the_standard_refuses() {
        let t = TraceParent::random();
        assert_eq!(TraceParent::parse(&t.to_string()), Some(t));
        for bad in [
            "",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
            "00-0af7-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad:?}");
        }
    }
}
