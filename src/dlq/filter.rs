//! Which letters are meant.

use crate::record::FailureClass;
use crate::topology::StageName;

use super::{Letter, LetterId};

/// All that is set must hold; nothing set means every letter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this stage.
    pub stage: Option<StageName>,
    /// Of this failure class.
    pub class: Option<FailureClass>,
    /// Of this host, with its port if that is not the default.
    pub host: Option<String>,
    /// Of this cause.
    pub fingerprint: Option<String>,
    /// One of these; empty: any.
    pub ids: Vec<LetterId>,
    /// Given up at this time (Unix ms) or later.
    pub since: Option<i64>,
    /// Not put back yet.
    pub not_replayed: bool,
}

impl Filter {
    /// Whether a letter is meant. One without failure headers has no class and no fingerprint.
    pub fn lets_through(&self, letter: &Letter) -> bool {
        let class = letter.failure.as_ref().map(|f| f.class);
        self.stage.is_none_or(|s| letter.stage == s)
            && self.class.is_none_or(|c| class == Some(c))
            && self.fingerprint.as_deref().is_none_or(|f| letter.fingerprint() == Some(f))
            && (self.ids.is_empty() || self.ids.contains(&letter.id))
            && self.since.is_none_or(|since| letter.at() >= since)
            && (!self.not_replayed || letter.replayed.is_none())
            && self.host.as_ref().is_none_or(|h| letter.host().is_some_and(|host| host.eq_ignore_ascii_case(h)))
    }
}
