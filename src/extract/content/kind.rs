//! What kind of page it is.

/// Kinds of pages by what their main text is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum PageKind {
    /// One text by someone: news, a blog entry, an essay, a recipe.
    #[default]
    Article,
    /// Products or entries of one sort, with pictures and prices more than words.
    Collection,
    /// How something is used: manuals, references, tutorials.
    Documentation,
    /// Several people's messages, one after the other.
    Forum,
    /// Links to other pages with a few words about each.
    Listing,
    /// One thing for sale.
    Product,
    /// What an organisation offers or says of itself.
    Service,
}

impl PageKind {
    /// In the order of the model's outputs.
    pub const ALL: [Self; 7] = [
        Self::Article,
        Self::Collection,
        Self::Documentation,
        Self::Forum,
        Self::Listing,
        Self::Product,
        Self::Service,
    ];

    /// The name for records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Article => "article",
            Self::Collection => "collection",
            Self::Documentation => "documentation",
            Self::Forum => "forum",
            Self::Listing => "listing",
            Self::Product => "product",
            Self::Service => "service",
        }
    }

    /// The one with the highest of `scores`, which are in the order of [`PageKind::ALL`].
    pub fn most_likely(scores: &[f32]) -> Self {
        let best = Self::ALL.iter().zip(scores).max_by(|a, b| a.1.total_cmp(b.1));
        best.map_or(Self::default(), |(kind, _)| *kind)
    }
}
