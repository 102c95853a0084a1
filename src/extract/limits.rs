//! How much of a document the extractor looks at.

/// Bounds that keep one document's cost in time, memory and stack bounded, whatever it holds.
///
/// Past a bound markup is dropped and its text is kept, except for `max_bytes`, which cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the decoded document; the rest is cut at a character's border.
    pub max_bytes: usize,
    /// Elements open inside one another. Browsers stop at 512; a page by hand or template stays under 60.
    pub max_depth: usize,
    /// Elements; an element costs 28 bytes, and one with text directly in it up to 1 KB.
    pub max_tags: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 10 << 20, max_depth: 256, max_tags: 250_000 }
    }
}
