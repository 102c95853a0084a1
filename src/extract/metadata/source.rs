//! Where a statement of a page was found.

/// The kinds of places, the most deliberate first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A JSON-LD block.
    JsonLd,
    /// An OpenGraph property (`og:`, `article:`, `product:`, …), or one of Twitter's cards.
    OpenGraph,
    /// An `itemprop`.
    Microdata,
    /// An RDFa `property` of an element that is no `meta`.
    Rdfa,
    /// Dublin Core in `meta`.
    DublinCore,
    /// Any other `meta`, or a `link` in the head.
    Meta,
    /// What the page shows: its `title`, headings, bylines, links.
    Page,
    /// The page's address.
    Url,
}

impl Source {
    /// As it stands in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::JsonLd => "json-ld",
            Self::OpenGraph => "opengraph",
            Self::Microdata => "microdata",
            Self::Rdfa => "rdfa",
            Self::DublinCore => "dublin-core",
            Self::Meta => "meta",
            Self::Page => "page",
            Self::Url => "url",
        }
    }

    /// Of the `meta` whose `property`, `name` or `http-equiv` is `name` (lower case).
    pub fn of_meta(name: &str) -> Self {
        const SHARED: [&str; 9] =
            ["og:", "article:", "product:", "book:", "profile:", "music:", "video:", "twitter:", "fb:"];
        const DUBLIN_CORE: [&str; 6] = ["dc.", "dc:", "dcterms.", "dcterms:", "dct.", "dct:"];
        match () {
            () if SHARED.iter().any(|prefix| name.starts_with(prefix)) => Self::OpenGraph,
            () if DUBLIN_CORE.iter().any(|prefix| name.starts_with(prefix)) => Self::DublinCore,
            () => Self::Meta,
        }
    }
}

/// A value and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<T> {
    /// The value.
    pub value: T,
    /// Its source.
    pub source: Source,
}

impl<T> Found<T> {
    /// `value`, found in `source`.
    pub fn new(value: T, source: Source) -> Self {
        Self { value, source }
    }

    /// Another value of the same source.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Found<U> {
        Found { value: change(self.value), source: self.source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_meta_tell_the_source() {
        assert_eq!(Source::of_meta("article:author"), Source::OpenGraph);
        assert_eq!(Source::of_meta("dcterms.created"), Source::DublinCore);
        assert_eq!(Source::of_meta("author"), Source::Meta);
    }
}
