//! A document as two lines of a bulk request.

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::schema;
use crate::batch::Weigh;
use crate::record::Enriched;

/// Longest `_id`, bytes.
const ID: usize = 512;

/// A document ready to be sent.
#[derive(Debug)]
pub struct Entry {
    /// Two lines: what to do, and the document.
    pub lines: Bytes,
    /// Its place among those that wait, held until it has its end, also when its caller has gone.
    pub place: Option<OwnedSemaphorePermit>,
}

impl Weigh for Entry {
    fn weight(&self) -> usize {
        self.lines.len()
    }
}

#[derive(Serialize)]
struct Action<'a> {
    index: Target<'a>,
}

#[derive(Serialize)]
struct Target<'a> {
    _id: &'a str,
    version: i64,
    version_type: &'static str,
}

/// The fields of [`Enriched`] by their names, without what is too large for what it is worth there (links, tables,
/// structured data, Markdown), and what only the index needs.
#[derive(Serialize)]
struct Source<'a> {
    id: &'a str,
    url: &'a str,
    final_url: &'a str,
    canonical: Option<&'a str>,
    host: &'a str,
    domains: Vec<&'a str>,
    fetched_at: i64,
    title: Option<&'a str>,
    author: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    authors: &'a [String],
    date: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified: Option<&'a str>,
    site_name: Option<&'a str>,
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    license: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    page_kind: Option<&'a str>,
    language: Option<&'a str>,
    language_confidence: f64,
    text_hash: &'a str,
    words: i64,
    chars: i64,
    attrs: &'a std::collections::BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<&'a [f32]>,
    /// Only said of those that are: a tombstone, which no search finds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    gone: bool,
}

/// The lines, with the document's vector or without it; why a document cannot be sent.
pub fn encode(d: &Enriched, vector: bool) -> Result<Entry, String> {
    if d.id.len() > ID {
        return Err(format!("the id of {} has {} bytes; OpenSearch takes {ID}", d.url, d.id.len()));
    }
    // Versions begin at 0 there.
    let target = Target { _id: &d.id, version: d.fetched_at.max(0), version_type: "external_gte" };
    let source = Source {
        id: &d.id,
        url: &d.url,
        final_url: &d.final_url,
        canonical: d.canonical.as_deref(),
        host: &d.host,
        domains: domains(&d.host),
        fetched_at: d.fetched_at,
        title: d.title.as_deref(),
        author: d.author.as_deref(),
        authors: &d.authors,
        date: d.date.as_deref(),
        modified: d.modified.as_deref(),
        site_name: d.site_name.as_deref(),
        description: d.description.as_deref(),
        image: d.image.as_deref(),
        tags: &d.tags,
        license: d.license.as_deref(),
        page_kind: d.page_kind.as_deref(),
        language: d.language.as_deref(),
        language_confidence: d.language_confidence,
        text_hash: &d.text_hash,
        words: d.words,
        chars: d.chars,
        attrs: &d.attrs,
        vector: d.vector.as_deref().filter(|_| vector),
        gone: d.gone,
    };
    let mut lines = Vec::with_capacity(2 * d.text.len() + 2048);
    let written = serde_json::to_writer(&mut lines, &Action { index: target })
        .and_then(|()| {
            lines.push(b'\n');
            serde_json::to_writer(&mut lines, &source)
        })
        .and_then(|()| add_text(&mut lines, d));
    written.map_err(|e| format!("no JSON can be made of {}: {e}", d.url))?;
    lines.push(b'\n');
    Ok(Entry { lines: lines.into(), place: None })
}

/// Adds the text to an object that has been written, and all words once more in the field of their language. The text is
/// most of a document, and is escaped once for both.
fn add_text(lines: &mut Vec<u8>, d: &Enriched) -> serde_json::Result<()> {
    lines.pop();
    lines.extend_from_slice(br#","text":"#);
    let start = lines.len();
    serde_json::to_writer(&mut *lines, &d.text)?;
    let text = start..lines.len();
    if let Some(language) = d.language.as_deref().and_then(schema::stems) {
        lines.extend_from_slice(format!(r#","stemmed":{{"{language}":["#).as_bytes());
        for part in [&d.title, &d.description] {
            serde_json::to_writer(&mut *lines, part.as_deref().unwrap_or_default())?;
            lines.push(b',');
        }
        lines.extend_from_within(text);
        lines.extend_from_slice(b"]}");
    }
    lines.push(b'}');
    Ok(())
}

/// A host and every name above it, so that `site:` finds what lies below.
fn domains(host: &str) -> Vec<&str> {
    if host.parse::<std::net::IpAddr>().is_ok() {
        return vec![host];
    }
    let dots = host.char_indices().filter(|(_, c)| *c == '.').map(|(at, _)| &host[at + 1..]);
    std::iter::once(host).chain(dots).filter(|d| !d.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value as Json, json};

    fn read(d: &Enriched) -> Vec<Json> {
        let lines = encode(d, false).unwrap().lines;
        lines.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect()
    }

    #[test]
    fn what_is_empty_is_not_sent() {
        let empty = read(&Enriched::default());
        assert!(
            ["authors", "modified", "image", "tags", "license", "page_kind"].iter().all(|f| empty[1].get(f).is_none())
        );
        let full = read(&Enriched {
            authors: vec!["A B".into(), "C".into()],
            modified: Some("2020-01-02".into()),
            image: Some("https://a.example/i.png".into()),
            tags: vec!["x".into()],
            license: Some("CC BY 4.0".into()),
            page_kind: Some("article".into()),
            structured: Some("{}".into()),
            ..Enriched::default()
        });
        assert_eq!((&full[1]["authors"], &full[1]["tags"]), (&json!(["A B", "C"]), &json!(["x"])));
        assert_eq!((&full[1]["modified"], &full[1]["page_kind"]), (&json!("2020-01-02"), &json!("article")));
        assert!(full[1]["image"].is_string() && full[1]["license"].is_string() && full[1].get("structured").is_none());
    }

    #[test]
    fn two_lines_whatever_the_document_holds() {
        let d = Enriched {
            id: "a\n\"".into(),
            fetched_at: -7,
            host: "www.example.org".into(),
            language: Some("PT".into()),
            language_confidence: f64::NAN,
            title: Some("um\ndois".into()),
            text: "três \u{2028}\0".into(),
            ..Enriched::default()
        };
        let lines = read(&d);
        assert_eq!(lines[0], json!({"index": {"_id": "a\n\"", "version": 0, "version_type": "external_gte"}}));
        assert_eq!(lines[1]["domains"], json!(["www.example.org", "example.org", "org"]));
        assert_eq!(lines[1]["stemmed"], json!({"pt": ["um\ndois", "", "três \u{2028}\0"]}));
        assert_eq!((&lines[1]["language_confidence"], lines.len()), (&Json::Null, 2));
        let none = encode(&Enriched { language: Some("xx".into()), host: "::1".into(), ..d.clone() }, false).unwrap();
        let none: Json = serde_json::from_slice(none.lines.split(|b| *b == b'\n').nth(1).unwrap()).unwrap();
        assert_eq!((&none["stemmed"], &none["domains"]), (&Json::Null, &json!(["::1"])));
        assert!(encode(&Enriched { id: "x".repeat(513), ..d }, false).unwrap_err().contains("513"));
    }

    #[test]
    fn a_vector_is_sent_where_it_is_indexed() {
        let d = Enriched { vector: Some(vec![0.5, -1.0]), ..Enriched::default() };
        assert_eq!(read(&d)[1].get("vector"), None);
        let lines = encode(&d, true).unwrap().lines;
        assert!(String::from_utf8_lossy(&lines).contains(r#""vector":[0.5,-1.0]"#));
    }
}
