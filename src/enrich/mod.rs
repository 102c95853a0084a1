//! The enrich stage, and what can be said of a text alone: its language, its fingerprint, its size.

pub mod counts;
pub mod language;
pub mod stage;
pub mod text_hash;

pub use counts::{Counts, counts};
pub use language::{Language, language};
pub use text_hash::{TextHash, text_hash};
