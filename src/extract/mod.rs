//! From the bytes of a page to its text: what kind of body it is, its main text, its metadata, links, tables and
//! structured data.
//!
//! ```text
//! bytes ─► sniff, charset ─► scan (tokens) ─► tree ─┬─► content: blocks, features, forests ─► text, Markdown, kind
//!                                                    └─► metadata, links, tables, structured
//! ```

pub mod content;
pub mod elements;
#[cfg(test)]
mod hostile;
pub mod html;
pub mod limits;
pub mod links;
pub mod metadata;
pub mod plain;
pub mod pool;
pub mod scan;
pub mod sniff;
pub mod stage;
pub mod structured;
pub mod tables;
pub mod tree;

pub use html::{ExtractError, Extracted, extract};
pub use limits::Limits;

/// Stack of a parser thread. Nothing of ours recurses; JSON of 128 levels needs 64 KiB.
const STACK: usize = 8 << 20;

/// The threads that parse.
pub fn pool(threads: usize) -> Result<pool::Pool, pool::PoolError> {
    pool::Pool::new(threads, STACK)
}
