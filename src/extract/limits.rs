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
    /// Attributes of one tag; the rest of them is dropped.
    pub max_attributes: usize,
    /// Elements that the markup makes a parser create, those that misnested formatting repeats included.
    /// An element costs the extractor up to 2.5 KB of memory.
    pub max_tags: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 10 << 20, max_depth: 256, max_attributes: 256, max_tags: 100_000 }
    }
}
