//! OpenGraph: properties in `meta`, lists of them, and those that describe another (`og:image:width`).

use serde_json::{Map, Value};

use crate::extract::metadata::said::Meta;

/// What is described by properties of its own; each is an object with `url`.
const OBJECTS: [&str; 3] = ["image", "video", "audio"];
/// Namespaces besides `og`.
const OTHERS: [&str; 6] = ["article:", "book:", "profile:", "product:", "music:", "video:"];

/// What `metas` say, by property without `og:`; a property said several times is a list, pictures, films and sounds are always
/// lists of objects.
pub fn read(metas: &[Meta]) -> Map<String, Value> {
    let mut graph = Map::new();
    for meta in metas {
        if let Some(name) = meta.name.strip_prefix("og:") {
            property(&mut graph, name, &meta.content);
        } else if OTHERS.iter().any(|other| meta.name.starts_with(other)) {
            plain(&mut graph, &meta.name, &meta.content);
        }
    }
    graph
}

fn property(graph: &mut Map<String, Value>, name: &str, content: &str) {
    let (head, detail) = name.split_once(':').unwrap_or((name, "url"));
    if !OBJECTS.contains(&head) {
        plain(graph, name, content);
        return;
    }
    let Value::Array(list) = graph.entry(head).or_insert_with(|| Value::Array(Vec::new())) else { return };
    // `og:image` and `og:image:url` begin a further one, unless the last has still no address.
    let begins = detail == "url" && list.last().is_none_or(|last| last.get("url").is_some());
    if begins || list.is_empty() {
        list.push(Value::Object(Map::new()));
    }
    if let Some(Value::Object(last)) = list.last_mut() {
        last.entry(detail).or_insert_with(|| content.into());
    }
}

fn plain(graph: &mut Map<String, Value>, name: &str, content: &str) {
    match graph.get_mut(name) {
        None => {
            graph.insert(name.to_owned(), content.into());
        }
        Some(Value::Array(list)) if list.iter().all(|known| known != content) => list.push(content.into()),
        Some(Value::String(first)) if first != content => {
            let first = std::mem::take(first);
            graph.insert(name.to_owned(), Value::Array(vec![first.into(), content.into()]));
        }
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::metadata::source::Source;
    use serde_json::json;

    fn of(pairs: &[(&str, &str)]) -> Value {
        let meta = |(name, content): &(&str, &str)| Meta {
            name: (*name).to_owned(),
            content: (*content).to_owned(),
            source: Source::OpenGraph,
        };
        Value::Object(read(&pairs.iter().map(meta).collect::<Vec<_>>()))
    }

    #[test]
    fn lists_and_what_describes_them() {
        let found = of(&[
            ("og:title", "T"),
            ("og:title", "T"),
            ("og:image", "a.png"),
            ("og:image:width", "3"),
            ("og:image", "b.png"),
            ("og:image:alt", "B"),
            ("og:locale", "en"),
            ("og:locale:alternate", "de"),
            ("og:locale:alternate", "fr"),
            ("article:tag", "x"),
            ("article:tag", "y"),
            ("article:tag", "x"),
            ("description", "none of it"),
        ]);
        let expected = json!({
            "title": "T", "image": [{"url": "a.png", "width": "3"}, {"url": "b.png", "alt": "B"}],
            "locale": "en", "locale:alternate": ["de", "fr"], "article:tag": ["x", "y"],
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_detail_may_come_first() {
        let found = of(&[("og:video:type", "t"), ("og:video:url", "v"), ("og:video:secure_url", "s")]);
        assert_eq!(found, json!({"video": [{"type": "t", "url": "v", "secure_url": "s"}]}));
    }
}
