//! A change to letters on their way back: of value, headers or key. The letter itself stays as it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::Value as Json;

use crate::record::codec::{self, Ids};
use crate::record::schemas::Schema;
use crate::record::url_task::UrlTask;
use crate::record::{Document, Enriched, Page, StatusEvent, headers};
use crate::transport::Outgoing;

/// What is changed:
///
/// ```json
/// {"value": {"url": "https://example.org/", "attrs": {"retry": null}}, "headers": {"x-source": "fixed", "x-old": null}}
/// ```
///
/// | field | is |
/// |---|---|
/// | `value` | an object: a merge patch (RFC 7396) of the decoded value; a list: a JSON Patch (RFC 6902); a text: the new value, where that is text |
/// | `headers` | name to new value; null takes it away |
/// | `key` | the new key; null for none |
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    value: Option<Json>,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, Option<String>>,
    #[serde(default, deserialize_with = "given")]
    key: Option<Option<String>>,
}

fn given<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Option<String>>, D::Error> {
    Deserialize::deserialize(d).map(Some)
}

impl std::str::FromStr for Edit {
    type Err = String;
    fn from_str(text: &str) -> Result<Edit, String> {
        let example = "write {\"value\": {\"url\": \"https://…\"}, \"headers\": {\"name\": \"text\"}}; null takes away";
        // A list would be taken for the fields in their order.
        let given = serde_json::from_str::<serde_json::Map<String, Json>>(text);
        let edit = given.and_then(|map| serde_json::from_value(Json::Object(map)));
        let edit: Edit = edit.map_err(|e| format!("not an edit: {e}; {example}"))?;
        match &edit.value {
            Some(Json::Array(_)) => serde_json::from_value::<json_patch::Patch>(edit.value.clone().unwrap_or_default())
                .map(drop)
                .map_err(|e| format!("value is no JSON Patch (RFC 6902): {e}; an object is a merge patch"))?,
            Some(Json::Object(_) | Json::String(_)) | None => {}
            Some(_) => return Err(format!("value is an object, a list or a text; {example}")),
        }
        if edit == Edit::default() {
            return Err(format!("an edit of nothing; {example}"));
        }
        Ok(edit)
    }
}

impl Edit {
    /// Changes a record; why it cannot. A URL task whose URL changes goes where its new host belongs.
    pub fn apply(&self, record: &mut Outgoing, ids: &Ids) -> Result<(), String> {
        if let Some(change) = &self.value {
            self.change(change, record, ids)?;
        }
        for (name, value) in &self.headers {
            match value {
                Some(value) => record.headers.set(name, value.clone()),
                None => record.headers.remove(name),
            }
        }
        if let Some(key) = &self.key {
            record.key = key.clone().map(Bytes::from);
            record.partition = None;
        }
        Ok(())
    }

    fn change(&self, change: &Json, record: &mut Outgoing, ids: &Ids) -> Result<(), String> {
        if let Some((schema, before)) = codec::to_json(&record.value) {
            let after = patched(change, before.clone())?;
            record.value = encode(schema, &after, ids)?;
            let url = |v: &Json| v.get("url").and_then(Json::as_str).map(str::to_owned);
            self.moved(record, schema == UrlTask::NAME, url(&before), url(&after));
            return Ok(());
        }
        let text = std::str::from_utf8(&record.value).map_err(|_| "its value is neither a record of ours nor text")?;
        if let Json::String(new) = change {
            record.value = Bytes::from(new.clone());
            return Ok(());
        }
        let before: Json =
            serde_json::from_str(text).map_err(|_| "its value is no JSON: give the new value as a text")?;
        let after = patched(change, before.clone())?;
        record.value = after.to_string().into();
        // A producer's task in JSON, as far as one can tell.
        let url = |v: &Json| UrlTask::decode(v.to_string().as_bytes()).ok().map(|t| t.url);
        if record.headers.get(headers::URL).is_some() {
            self.moved(record, true, url(&before), url(&after));
        }
        Ok(())
    }

    /// After the value's URL changed.
    fn moved(&self, record: &mut Outgoing, is_task: bool, before: Option<String>, after: Option<String>) {
        let Some(after) = after.filter(|after| before.as_ref() != Some(after)) else { return };
        if is_task {
            record.key = Some(UrlTask::new(&after).host_key().into());
            record.partition = None;
        }
        record.headers.set(headers::URL, after);
    }
}

fn patched(change: &Json, mut value: Json) -> Result<Json, String> {
    match change {
        Json::Object(_) => json_patch::merge(&mut value, change),
        Json::String(_) => return Err("its value is a record, which no text replaces: give an object or a list".into()),
        _ => {
            let patch: json_patch::Patch = serde_json::from_value(change.clone()).map_err(|e| e.to_string())?;
            json_patch::patch(&mut value, &patch).map_err(|e| format!("the patch does not fit: {e}"))?;
        }
    }
    Ok(value)
}

/// A record of ours again.
fn encode(schema: &str, fields: &Json, ids: &Ids) -> Result<Bytes, String> {
    match schema {
        UrlTask::NAME => typed::<UrlTask>(fields.clone(), fields, ids),
        Page::NAME => page(fields, ids),
        Document::NAME => typed::<Document>(fields.clone(), fields, ids),
        Enriched::NAME => typed::<Enriched>(fields.clone(), fields, ids),
        StatusEvent::NAME => typed::<StatusEvent>(fields.clone(), fields, ids),
        other => Err(format!("a {other} cannot be edited")),
    }
}

/// Bytes travel as base64 in JSON.
fn page(fields: &Json, ids: &Ids) -> Result<Bytes, String> {
    let mut given = fields.clone();
    let body = given.pointer_mut("/body/inline").filter(|b| b.is_string()).map(Json::take);
    let mut page: Page = serde_json::from_value(given).map_err(|e| format!("no page any more: {e}"))?;
    if let Some(Json::String(body)) = body {
        let bytes = BASE64.decode(body).map_err(|e| format!("body.inline is no base64: {e}"))?;
        page.body.length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        page.body.inline = Some(bytes);
    }
    let value = codec::encode(&page, ids).map_err(|e| e.to_string())?;
    same(value, Page::NAME, fields, &["/body/length"])
}

fn typed<T: Schema + for<'de> Deserialize<'de>>(given: Json, fields: &Json, ids: &Ids) -> Result<Bytes, String> {
    let record: T = serde_json::from_value(given).map_err(|e| format!("no {} any more: {e}", T::NAME))?;
    let value = codec::encode(&record, ids).map_err(|e| e.to_string())?;
    same(value, T::NAME, fields, &[])
}

/// Nothing that the edit names was dropped: a field that the record does not have would be.
fn same(value: Bytes, schema: &str, wanted: &Json, but: &[&str]) -> Result<Bytes, String> {
    let (_, is) = codec::to_json(&value).ok_or_else(|| format!("no {schema} any more"))?;
    match lost(wanted, &is, "", but) {
        None => Ok(value),
        Some(path) => Err(format!("a {schema} cannot have that {path}: schemas/{schema}.avsc has what it can")),
    }
}

/// The path of the first thing that is wanted and is not there.
fn lost(wanted: &Json, is: &Json, path: &str, but: &[&str]) -> Option<String> {
    match (wanted, is) {
        (Json::Object(wanted), Json::Object(is)) => wanted.iter().find_map(|(k, v)| {
            let path = format!("{path}/{k}");
            is.get(k).map_or_else(|| (!v.is_null()).then(|| path.clone()), |is| lost(v, is, &path, but))
        }),
        (Json::Array(wanted), Json::Array(is)) if wanted.len() == is.len() => {
            wanted.iter().zip(is).enumerate().find_map(|(i, (w, v))| lost(w, v, &format!("{path}/{i}"), but))
        }
        (Json::Number(a), Json::Number(b)) if a.as_f64() == b.as_f64() => None,
        _ if wanted == is || but.contains(&path) => None,
        _ => Some(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Body, Headers};

    fn record(value: impl Into<Bytes>) -> Outgoing {
        let headers = Headers(vec![("a".into(), "1".into()), (headers::URL.into(), "http://a.example/".into())]);
        let value = value.into();
        Outgoing {
            tombstone: false,
            topic: "t".into(),
            partition: Some(3),
            key: Some("a.example".into()),
            value,
            headers,
        }
    }

    fn edited(edit: &str, value: impl Into<Bytes>) -> Result<Outgoing, String> {
        let mut record = record(value);
        edit.parse::<Edit>()?.apply(&mut record, &Ids::default())?;
        Ok(record)
    }

    fn task() -> Bytes {
        let mut task = UrlTask::new("http://a.example/");
        task.attrs.insert("k".into(), "v".into());
        codec::encode(&task, &Ids::default()).unwrap()
    }

    #[test]
    fn a_task_that_gets_another_url_goes_where_its_host_belongs() {
        let r = edited(r#"{"value":{"url":"http://b.example:81/x","attrs":{"k":null,"n":"1"}}}"#, task()).unwrap();
        let task: UrlTask = codec::decode(&r.value).unwrap();
        assert_eq!((task.url.as_str(), task.attrs.len(), task.attrs["n"].as_str()), ("http://b.example:81/x", 1, "1"));
        assert_eq!((r.key.as_deref(), r.partition), (Some(&b"b.example:81"[..]), None));
        assert_eq!(r.headers.str(headers::URL), Some("http://b.example:81/x"));
        let r = edited(r#"{"value":{"maxdepth":2},"headers":{"a":null,"b":"2"}}"#, self::task()).unwrap();
        assert_eq!((r.partition, r.headers.str("a"), r.headers.str("b")), (Some(3), None, Some("2")));
        let r = edited(r#"{"key":null}"#, "x").unwrap();
        assert_eq!((r.key, r.partition, &r.value[..]), (None, None, &b"x"[..]));
    }

    #[test]
    fn a_page_keeps_its_bytes_and_json_stays_json() {
        let page = Page {
            id: "1".into(),
            url: "http://a.example/".into(),
            final_url: "http://a.example/".into(),
            fetched_at: 1,
            status: 200,
            headers: vec![],
            content_type: "text/html".into(),
            body: Body { inline: Some(vec![0, 255, 7]), blob: None, length: 3 },
            hops: vec![],
            attrs: Default::default(),
        };
        let value = codec::encode(&page, &Ids::default()).unwrap();
        let r = edited(r#"{"value":[{"op":"replace","path":"/content_type","value":"text/plain"}]}"#, value.clone())
            .unwrap();
        let now: Page = codec::decode(&r.value).unwrap();
        assert_eq!(now, Page { content_type: "text/plain".into(), ..page.clone() });
        let r = edited(r#"{"value":{"body":{"inline":"AAE="}}}"#, value).unwrap();
        assert_eq!(codec::decode::<Page>(&r.value).unwrap().body.inline, Some(vec![0, 1]));

        let r = edited(r#"{"value":{"b":null,"c":[1]}}"#, r#"{"a":1,"b":2}"#).unwrap();
        assert_eq!(&r.value[..], br#"{"a":1,"c":[1]}"#);
        let r = edited(r#"{"value":"http://b.example/"}"#, "htp:/b.example").unwrap();
        assert_eq!(&r.value[..], b"http://b.example/");
    }

    #[test]
    fn what_does_not_fit_is_said() {
        for (edit, value, why) in [
            ("{}", task(), "of nothing"),
            ("[1]", task(), "not an edit"),
            (r#"{"value":7}"#, task(), "object, a list or a text"),
            (r#"{"value":[{"op":"jump"}]}"#, task(), "RFC 6902"),
            (r#"{"wert":{}}"#, task(), "unknown field"),
            (r#"{"value":{"uri":"x"}}"#, task(), "uri"),
            (r#"{"value":{"maxdepth":"deep"}}"#, task(), "no url_task any more"),
            (r#"{"value":[{"op":"remove","path":"/nothing"}]}"#, task(), "does not fit"),
            (r#"{"value":"x"}"#, task(), "no text replaces"),
            (r#"{"value":{"a":1}}"#, Bytes::from_static(b"not json"), "no JSON"),
            (r#"{"value":{"a":1}}"#, Bytes::from_static(b"\xff"), "neither"),
        ] {
            let said = edited(edit, value).unwrap_err();
            assert!(said.contains(why), "{edit}: {said}");
        }
        // Of a document, which passes over what it does not know.
        let document = codec::encode(&Document::default(), &Ids::default()).unwrap();
        assert!(edited(r#"{"value":{"titel":"x"}}"#, document.clone()).unwrap_err().contains("/titel"));
        assert!(edited(r#"{"value":{"title":"x","text_confidence":1}}"#, document).is_ok());
    }
}
