//! How documents are indexed: template, index and alias, as they should be.

use serde_json::{Map, Value as Json, json};

use crate::config;

/// Languages whose words are found in their other forms too: code, stemmer, whether articles run into the next word.
const LANGUAGES: &[(&str, &str, bool)] = &[
    ("pt", "light_portuguese", false),
    ("en", "light_english", false),
    ("es", "light_spanish", false),
    ("de", "light_german", false),
    ("fr", "light_french", true),
    ("it", "light_italian", true),
    ("nl", "dutch", false),
    ("sv", "light_swedish", false),
    ("da", "danish", false),
    ("no", "light_norwegian", false),
    ("fi", "light_finnish", false),
    ("ro", "romanian", false),
    ("hu", "light_hungarian", false),
    ("ru", "light_russian", false),
];

/// Longest text that a keyword is found by; longer ones are kept and not found.
const KEYWORD: u32 = 8_000;

/// The code under which a language's words are stemmed; None if they are not.
pub fn stems(language: &str) -> Option<&'static str> {
    LANGUAGES.iter().map(|l| l.0).find(|code| code.eq_ignore_ascii_case(language))
}

/// All of them.
pub fn languages() -> impl Iterator<Item = &'static str> {
    LANGUAGES.iter().map(|l| l.0)
}

/// Names under one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// What is written to and searched, and the template's name: `<prefix>documents`.
    pub alias: String,
    /// The first index behind it.
    pub index: String,
    shards: u16,
    /// Numbers of a vector, and how vectors are compared.
    vector: Option<(u16, String)>,
}

impl Schema {
    /// Under a prefix; an error if it makes no name of an index.
    pub fn new(prefix: &str, shards: u16) -> Result<Schema, String> {
        let alias = format!("{prefix}documents");
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        if !alias.chars().all(legal) || alias.starts_with(['-', '_']) || alias.len() > 200 {
            return Err(format!(
                "the prefix {prefix:?} makes no name of an OpenSearch index: lower-case letters, digits, '.', '-' and '_' \
                 do, the first a letter or a digit; choose another prefix"
            ));
        }
        Ok(Schema { index: format!("{alias}-000001"), alias, shards: shards.max(1), vector: None })
    }

    /// As the configuration says, under a prefix.
    pub fn of(config: &config::OpenSearch, prefix: &str) -> Result<Schema, String> {
        let vector = (config.vector_dimension > 0).then(|| (config.vector_dimension, config.vector_space.clone()));
        Ok(Schema { vector, ..Schema::new(prefix, config.shards)? })
    }

    /// Whether documents' vectors are indexed.
    pub fn has_vector(&self) -> bool {
        self.vector.is_some()
    }

    /// Body of `PUT /_index_template/<alias>`.
    pub fn template(&self) -> Json {
        json!({
            "index_patterns": [format!("{}-*", self.alias)],
            "priority": 100,
            "template": {"settings": {"index": self.settings()}, "mappings": self.mappings()},
            "_meta": {"made_by": "tidemill"},
        })
    }

    /// Body of `PUT /<index>`.
    pub fn first_index(&self) -> Json {
        json!({
            "settings": {"index": self.settings()}, "mappings": self.mappings(),
            "aliases": {&self.alias: {"is_write_index": true}},
        })
    }

    fn settings(&self) -> Json {
        let mut settings = json!({
            "number_of_shards": self.shards.to_string(),
            // A copy where there is a second node.
            "auto_expand_replicas": "0-1",
            "analysis": analysis(),
        });
        if self.has_vector() {
            // As a cluster shows it: in words.
            settings["knn"] = "true".into();
        }
        settings
    }

    /// Fields. What is not named is kept and not indexed.
    pub fn mappings(&self) -> Json {
        let mut mappings = mappings();
        if let Some((dimension, space)) = &self.vector {
            // Lucene's, which every node has: the others are native libraries.
            let method = json!({"name": "hnsw", "engine": "lucene", "space_type": space});
            mappings["properties"]["vector"] = json!({"type": "knn_vector", "dimension": dimension, "method": method});
        }
        mappings
    }
}

/// Accents that stand behind their letter (Unicode's combining diacritical marks): folding knows only whole letters.
fn marks() -> Json {
    let dropped: Vec<String> = (0x300..=0x36f).map(|mark: u32| format!("\\u{mark:04X}=>")).collect();
    json!({"type": "mapping", "mappings": dropped})
}

/// Analyzers: `folded` for the words as they are written, without case and accents; `parts` for those of a URL, which are
/// what is between its punctuation; and one a language. These fold accents after the stemmer: its rules speak of accented endings.
pub fn analysis() -> Json {
    let custom = |filters: Vec<String>| json!({"type": "custom", "char_filter": ["marks"], "tokenizer": "standard", "filter": filters});
    let mut analyzers = Map::new();
    let mut filters = Map::new();
    analyzers.insert("folded".into(), custom(vec!["lowercase".into(), "asciifolding".into()]));
    for (code, stemmer, elision) in LANGUAGES {
        let stem = format!("stem_{code}");
        filters.insert(stem.clone(), json!({"type": "stemmer", "language": stemmer}));
        let mut chain = vec!["lowercase".to_owned()];
        if *elision {
            filters.insert(format!("elision_{code}"), elided(code));
            chain.insert(0, format!("elision_{code}"));
        }
        chain.extend([stem, "asciifolding".into()]);
        analyzers.insert(format!("stemmed_{code}"), custom(chain));
    }
    let parts = json!({
        "type": "custom", "char_filter": ["marks"], "tokenizer": "parts", "filter": ["lowercase", "asciifolding"],
    });
    analyzers.insert("parts".into(), parts);
    let between = json!({"type": "char_group", "tokenize_on_chars": ["whitespace", "punctuation", "symbol"]});
    let lower = json!({"type": "custom", "filter": ["lowercase"]});
    json!({
        "analyzer": analyzers, "char_filter": {"marks": marks()}, "filter": filters,
        "normalizer": {"lower": lower}, "tokenizer": {"parts": between},
    })
}

/// Articles that run into the next word, as the server's own analyzers have them.
fn elided(code: &str) -> Json {
    let articles: &[&str] = match code {
        "fr" => &["l", "m", "t", "qu", "n", "s", "j", "d", "c", "jusqu", "quoiqu", "lorsqu", "puisqu"],
        _ => &[
            "c", "l", "all", "dall", "dell", "nell", "sull", "coll", "pell", "gl", "agl", "dagl", "degl", "negl",
            "sugl", "un", "m", "t", "s", "v", "d",
        ],
    };
    json!({"type": "elision", "articles": articles, "articles_case": "true"})
}

/// A query for tombstones.
pub fn gone() -> Json {
    json!({"term": {"gone": true}})
}

/// Fields of every index.
fn mappings() -> Json {
    let keyword = json!({"type": "keyword", "ignore_above": KEYWORD});
    let lower = json!({"type": "keyword", "normalizer": "lower", "ignore_above": KEYWORD});
    let words = json!({"type": "text", "analyzer": "folded"});
    let named = json!({"type": "text", "analyzer": "folded", "fields": {"keyword": keyword}});
    let stemmed: Map<String, Json> = languages()
        .map(|code| (code.to_owned(), json!({"type": "text", "analyzer": format!("stemmed_{code}")})))
        .collect();
    json!({
        "dynamic": "false",
        // The same words again: found by, and not kept twice.
        "_source": {"excludes": ["stemmed"]},
        "properties": {
            "id": {"type": "keyword"},
            "url": keyword,
            "final_url": {
                "type": "keyword", "ignore_above": KEYWORD, "fields": {"words": {"type": "text", "analyzer": "parts"}},
            },
            "canonical": keyword,
            "host": lower,
            "domains": lower,
            "fetched_at": {"type": "date", "format": "epoch_millis"},
            "title": words,
            "author": named,
            "authors": lower,
            "site_name": named,
            "description": words,
            "date": {"type": "date", "format": "strict_date"},
            "modified": {"type": "date", "format": "strict_date"},
            "tags": lower,
            "license": keyword,
            "image": {"type": "keyword", "index": false, "doc_values": false},
            "page_kind": {"type": "keyword"},
            "language": lower,
            "language_confidence": {"type": "float"},
            "text_hash": {"type": "keyword"},
            "words": {"type": "long"},
            "chars": {"type": "long"},
            "text": words,
            "attrs": {"type": "flat_object"},
            "gone": {"type": "boolean"},
            "stemmed": {"properties": stemmed},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_makes_a_name_or_is_refused_with_the_fix() {
        let schema = Schema::new("tidemill.linkedin.", 3).unwrap();
        assert_eq!(
            (&*schema.alias, &*schema.index),
            ("tidemill.linkedin.documents", "tidemill.linkedin.documents-000001")
        );
        assert_eq!(schema.template()["template"]["settings"]["index"]["number_of_shards"], "3");
        for bad in ["Team.", "-a", "a b", "a,b", "a*", &"x".repeat(300)] {
            assert!(Schema::new(bad, 1).unwrap_err().contains("choose another prefix"), "{bad}");
        }
    }

    #[test]
    fn accents_are_folded_after_the_stemmer() {
        for code in languages() {
            let analysis = analysis();
            let chain = analysis["analyzer"][format!("stemmed_{code}")]["filter"].as_array().unwrap().clone();
            assert_eq!(chain[chain.len() - 2..], [json!(format!("stem_{code}")), json!("asciifolding")]);
        }
    }
}
