//! What a page says of itself, not yet judged.

use super::source::{Found, Source};
use crate::extract::links::{Anchor, Other};

/// Statements kept of one sort.
pub const MAX_STATEMENTS: usize = 200;

/// What a `meta` says.
#[derive(Debug)]
pub struct Meta {
    /// Its name, property, itemprop or http-equiv in lower case.
    pub name: String,
    /// Its content.
    pub content: String,
    /// By its name; microdata if that is an itemprop.
    pub source: Source,
}

/// What a page says of itself, in document order, entities decoded, not yet judged.
#[derive(Debug, Default)]
pub struct Statements<'a> {
    /// `lang` of the root element.
    pub language: Option<String>,
    /// `href` of `link rel=canonical`.
    pub canonical: Option<String>,
    /// The `title` element.
    pub title: Option<String>,
    /// First-level headings.
    pub headings: Vec<String>,
    /// What `meta` says.
    pub metas: Vec<Meta>,
    /// Bodies of JSON-LD scripts, as they stand there.
    pub json_ld: Vec<&'a str>,
    /// Text of elements marked as author (`rel`, `itemprop`, `property`).
    pub marked_authors: Vec<Found<String>>,
    /// Text of elements whose class speaks of a byline or author.
    pub bylines: Vec<String>,
    /// Text of links to a page of an author's, such as `/author/ana-sa`.
    pub author_links: Vec<String>,
    /// Text of elements whose class speaks of a member's name, as forums have them.
    pub users: Vec<String>,
    /// `datetime`, `content` or text of elements marked as publication date.
    pub marked_dates: Vec<Found<String>>,
    /// The same of those marked as date of creation.
    pub created: Vec<Found<String>>,
    /// The same of those marked as date of the last change.
    pub changed: Vec<Found<String>>,
    /// `datetime` or text of other `time` elements and elements whose class speaks of a date.
    pub dates: Vec<String>,
    /// Short texts with digits that stand alone soon after the first heading: perhaps a date.
    pub bare: Vec<String>,
    /// Address or text of what is marked as the licence.
    pub licenses: Vec<Found<String>>,
    /// Address of what is marked as the page's picture.
    pub images: Vec<Found<String>>,
    /// Text of links of `rel=tag`.
    pub tags: Vec<String>,
    /// Links to other documents.
    pub links: Vec<Anchor<'a>>,
    /// `link rel=alternate`.
    pub alternates: Vec<Other<'a>>,
    /// Is there an `itemscope`?
    pub has_items: bool,
    /// Is there a `typeof` or a `vocab`?
    pub has_rdfa: bool,
    /// Has the first heading begun?
    pub has_heading: bool,
    /// Texts seen since.
    pub after_heading: usize,
    /// Are there tables?
    pub has_tables: bool,
}

impl Statements<'_> {
    /// The first non-empty content of the first of `names` (lower case) that the page has.
    pub fn meta(&self, names: &[&str]) -> Option<Found<String>> {
        names.iter().find_map(|name| self.metas_named(name).next()).map(|found| found.map(str::to_owned))
    }

    /// All non-empty contents of `name` (lower case).
    pub fn metas_named(&self, name: &str) -> impl Iterator<Item = Found<&str>> {
        self.metas
            .iter()
            .filter(move |meta| meta.name == name)
            .map(|meta| Found::new(meta.content.as_str(), meta.source))
    }
}
