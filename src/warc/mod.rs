//! WARC 1.1 (ISO 28500:2017): requests and answers as files that archives read.
//!
//! ```text
//! Block: the body as it comes, hashed and deflated ─► records: gzip members ─► Writer: <folder>/….warc.gz.open ─► ….warc.gz
//! ```
//!
//! A record names the hashes and the length of its block before the block, so a block is written when all of it came. It
//! waits for that deflated: in memory while it is small, then in a file that has no name. [`writer::Writer::write`] returns
//! when the records are on the disk, so what is committed after it has its records.

pub mod block;
mod files;
mod member;
pub mod record;
mod scan;
pub mod writer;

/// Why nothing was written, in one sentence: disk full, permissions and the like. It is tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WarcError(pub String);

/// Shorthand.
pub type Result<T> = std::result::Result<T, WarcError>;
