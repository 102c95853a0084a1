//! Documents that are text already.

use std::collections::BTreeMap;

use super::html::{ExtractError, Extracted};
use super::limits::Limits;
use super::metadata::Metadata;
use super::metadata::source::Source;
use crate::record::Confidence;

/// Characters of the first line that become the title.
const MAX_TITLE: usize = 200;

/// The text as it is, its first line with words as the title.
///
/// # Errors
/// [`ExtractError::Empty`] when there is no text at all.
pub fn extract(text: &str, limits: &Limits) -> Result<Extracted, ExtractError> {
    let text = &text[..text.floor_char_boundary(limits.max_bytes)];
    let text = text.trim_start_matches('\u{feff}').replace('\0', "");
    let text = text.trim_end();
    let title = text.lines().map(str::trim).find(|line| line.chars().any(char::is_alphanumeric));
    let title = title.map(|line| line.chars().take(MAX_TITLE).collect::<String>().trim_end().to_owned());
    let page = Extracted {
        text: text.to_owned(),
        confidence: BTreeMap::from([("text", Confidence { score: 1.0, parts: BTreeMap::new() })]),
        metadata: Metadata {
            sources: title.iter().map(|_| ("title", Source::Page)).collect(),
            title,
            ..Metadata::default()
        },
        ..Extracted::default()
    };
    if text.trim().is_empty() { Err(ExtractError::Empty(Box::new(page))) } else { Ok(page) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_title() {
        let page = extract("\u{feff}\n ===\n  A title \nbody\n", &Limits::default()).unwrap_or_default();
        assert_eq!(page.metadata.title.as_deref(), Some("A title"));
        assert_eq!(page.metadata.sources.get("title"), Some(&Source::Page));
        assert_eq!(page.text, "\n ===\n  A title \nbody");
        let long = extract(&"é".repeat(1_000), &Limits::default()).unwrap_or_default();
        assert_eq!(long.metadata.title.map(|title| title.chars().count()), Some(MAX_TITLE));
        assert!(extract(" \n", &Limits::default()).is_err());
    }
}
