//! From the bytes of a page to its text: what kind of body it is, its main text, its metadata.

pub mod elements;
#[cfg(test)]
mod hostile;
pub mod html;
pub mod limits;
pub mod metadata;
pub mod plain;
pub mod pool;
pub mod scan;
pub mod sniff;
pub mod stage;
mod tame;
pub mod tree;

pub use html::{ExtractError, Extracted, Link, extract};
pub use limits::Limits;

/// Stack of a parser thread. The deepest markup that [`Limits`] lets through needs 128 KiB.
const STACK: usize = 8 << 20;

/// The threads that parse.
pub fn pool(threads: usize) -> Result<pool::Pool, pool::PoolError> {
    pool::Pool::new(threads, STACK)
}
