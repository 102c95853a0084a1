//! Topics by the names people type: with the prefix or without.

use super::UsageError;
use crate::topology::{self, Names, Topic};

/// The full name of what was typed: one of ours with or without the prefix, else a name as it stands.
pub fn full(names: &Names, typed: &str) -> String {
    find(names, typed).map_or_else(|_| typed.to_owned(), |t| names.full(&t.name))
}

/// The topic that is meant, its name without prefix; else a sentence that names the nearest.
pub fn find(names: &Names, typed: &str) -> Result<Topic, UsageError> {
    let bare = names.bare(typed);
    let mut all = topology::topics();
    if let Some(i) = all.iter().position(|t| t.name == bare || t.name == typed) {
        return Ok(all.swap_remove(i));
    }
    // A prefix that is not the configured one is no reason to look like another topic.
    let nearest = all.iter().max_by(|a, b| likeness(&a.name, bare).total_cmp(&likeness(&b.name, bare)));
    let nearest = nearest.map(|t| t.name.as_str()).unwrap_or_default();
    Err(UsageError(format!("no topic is called {typed:?}; the nearest is {nearest} (--help lists them all)")))
}

fn likeness(name: &str, typed: &str) -> f64 {
    let last = typed.split_once('.').map_or(typed, |(_, rest)| rest);
    strsim::jaro_winkler(name, typed).max(strsim::jaro_winkler(name, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_found_with_and_without_prefix_and_the_nearest_is_named() {
        let names = Names::new("tidemill.");
        for typed in ["fetch.dlq", "tidemill.fetch.dlq"] {
            assert_eq!(find(&names, typed).unwrap().name, "fetch.dlq");
        }
        for (typed, near) in [
            ("paegs", "pages"),
            ("fetch-dlq", "fetch.dlq"),
            ("other.documents", "documents"),
            ("url", "urls"),
            ("", ""),
        ] {
            let said = find(&names, typed).unwrap_err().to_string();
            assert!(said.contains(&format!("the nearest is {near}")), "{said}");
        }
    }
}
