//! Avro values in one of two framings. Both are always read, whatever is written:
//!
//! | framing | bytes before the datum | written |
//! |---|---|---|
//! | single-object encoding (Avro specification 1.12) | `C3 01`, the schema's 64-bit Rabin fingerprint little-endian | without a schema registry |
//! | Confluent wire format | `00`, the schema's id in the registry, 4 bytes big-endian | with one: [`Ids`] says so |
//!
//! Our own schemas are in [`super::schemas`]; what registry ids mean is in [`super::writers`].

use std::collections::BTreeMap;
use std::sync::Arc;

use apache_avro::types::Value;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

use super::schemas::{Compiled, Datum, RELEASED, Schema, compile};
use super::writers::{self, Writer};

/// Marker of single-object encoding.
const SINGLE: [u8; 2] = [0xC3, 0x01];
const SINGLE_HEADER: usize = 10;
/// Marker of Confluent wire format. No text begins with it, so JSON and URLs are never taken for it.
const CONFLUENT: u8 = 0;
const CONFLUENT_HEADER: usize = 5;

/// Why a value could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Not what the topic carries.
    #[error("{0}")]
    Malformed(String),
    /// Single-object encoding of a schema this version does not know.
    #[error(
        "written with schema {fingerprint:016x}, which this version does not know as {name}: upgrade tidemill, or produce with schemas/{name}.avsc"
    )]
    UnknownSchema {
        /// Rabin fingerprint.
        fingerprint: u64,
        /// Schema expected.
        name: &'static str,
    },
    /// Confluent wire format with an id whose schema is not known here (yet).
    #[error(
        "written with schema id {id} of a schema registry, which is not known here: set registry.url to that registry, or produce with schemas/{name}.avsc"
    )]
    UnknownId {
        /// Id in the registry.
        id: u32,
        /// Schema expected.
        name: &'static str,
    },
    /// A foreign schema that does not resolve to ours, or bytes that do not fit it.
    #[error("not a {name} as schema id {id} of the schema registry writes it: {why}; produce with schemas/{name}.avsc")]
    Foreign {
        /// Id in the registry.
        id: u32,
        /// Schema expected.
        name: &'static str,
        /// Cause.
        why: String,
    },
    /// The Avro library's own error.
    #[error("not a valid {name}: {error}")]
    Avro {
        /// Schema expected.
        name: &'static str,
        /// Cause.
        error: Box<apache_avro::Error>,
    },
}

fn avro<T: Schema>(error: apache_avro::Error) -> CodecError {
    CodecError::Avro { name: T::NAME, error: Box::new(error) }
}

fn current<T: Schema>() -> Result<&'static Compiled, CodecError> {
    if let Some(c) = T::cell().get() {
        return Ok(c);
    }
    let compiled = compile(T::AVSC).map_err(avro::<T>)?;
    Ok(T::cell().get_or_init(|| compiled))
}

/// Which framing is written: the registry's id of each record's current schema by name, or none for single-object
/// encoding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids(Arc<BTreeMap<&'static str, u32>>);

impl FromIterator<(&'static str, u32)> for Ids {
    fn from_iter<I: IntoIterator<Item = (&'static str, u32)>>(ids: I) -> Ids {
        Ids(Arc::new(ids.into_iter().collect()))
    }
}

/// Whether the bytes claim to be Avro, in either framing.
pub fn is_avro(value: &[u8]) -> bool {
    value.starts_with(&SINGLE) || value.first() == Some(&CONFLUENT)
}

/// The registry's id of a value in Confluent wire format.
fn registry_id(value: &[u8]) -> Option<u32> {
    let (marker, rest) = value.split_first()?;
    (*marker == CONFLUENT).then_some(())?;
    rest.first_chunk().map(|id| u32::from_be_bytes(*id))
}

/// The id that must be learned ([`writers::learn`]) before a value can be read.
pub fn unknown_id(value: &[u8]) -> Option<u32> {
    registry_id(value).filter(|id| !writers::knows(*id))
}

/// Writes a record.
pub fn encode<T: Schema>(record: &T, ids: &Ids) -> Result<Bytes, CodecError> {
    let compiled = current::<T>()?;
    let mut out = Vec::with_capacity(256);
    match ids.0.get(T::NAME) {
        Some(id) => {
            out.push(CONFLUENT);
            out.extend_from_slice(&id.to_be_bytes());
        }
        None => {
            out.extend_from_slice(&SINGLE);
            out.extend_from_slice(&compiled.fingerprint.to_le_bytes());
        }
    }
    compiled.writer.write_ser(&mut out, record).map_err(avro::<T>)?;
    Ok(Bytes::from(out))
}

/// Reads a record in either framing, written with the current, an earlier or a foreign schema; fields that the writer
/// did not have take their defaults.
pub fn decode<T: Schema>(value: &[u8]) -> Result<T, CodecError> {
    if let Some(id) = registry_id(value) {
        let datum = &value[CONFLUENT_HEADER..];
        return match writers::get(id) {
            None => Err(CodecError::UnknownId { id, name: T::NAME }),
            Some(Writer::Released(name, compiled)) if name == T::NAME => read(compiled, datum),
            Some(Writer::Released(name, _)) => {
                Err(CodecError::Foreign { id, name: T::NAME, why: format!("it describes a {name}") })
            }
            Some(Writer::Foreign(foreign)) => foreign
                .read(current::<T>()?.schema, datum)
                .map_err(|why| CodecError::Foreign { id, name: T::NAME, why }),
        };
    }
    if !is_avro(value) || value.len() < SINGLE_HEADER {
        return Err(CodecError::Malformed(format!(
            "not Avro in single-object encoding or Confluent wire format: produce with schemas/{}.avsc",
            T::NAME
        )));
    }
    let mut print = [0u8; 8];
    print.copy_from_slice(&value[SINGLE.len()..SINGLE_HEADER]);
    let fingerprint = u64::from_le_bytes(print);
    let mut compiled = current::<T>()?;
    if compiled.fingerprint != fingerprint {
        let released = RELEASED.get(&fingerprint).filter(|r| r.name == T::NAME);
        compiled = released.map(|r| &r.compiled).ok_or(CodecError::UnknownSchema { fingerprint, name: T::NAME })?;
    }
    read(compiled, &value[SINGLE_HEADER..])
}

fn read<T: Schema>(compiled: &Compiled, datum: &[u8]) -> Result<T, CodecError> {
    compiled.reader.read_deser(&mut Datum(datum)).map_err(avro::<T>)
}

/// Any record of ours, for people and other programs: the name of its schema and its fields as JSON, bytes as base64.
/// None for what no schema known here reads.
pub fn to_json(value: &[u8]) -> Option<(&'static str, serde_json::Value)> {
    let shown =
        |name, compiled: &Compiled, datum| Some((name, json(compiled.reader.read_value(&mut Datum(datum)).ok()?)));
    if let Some(id) = registry_id(value) {
        return match writers::get(id)? {
            Writer::Released(name, compiled) => shown(name, compiled, value.get(CONFLUENT_HEADER..)?),
            Writer::Foreign(_) => None,
        };
    }
    if !value.starts_with(&SINGLE) {
        return None;
    }
    let print = value.get(SINGLE.len()..SINGLE_HEADER)?.try_into().ok()?;
    let released = RELEASED.get(&u64::from_le_bytes(print))?;
    shown(released.name, &released.compiled, &value[SINGLE_HEADER..])
}

fn json(value: Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Value::Boolean(b) => b.into(),
        Value::Int(n) => n.into(),
        Value::Long(n) => n.into(),
        Value::Float(n) => n.into(),
        Value::Double(n) => n.into(),
        Value::Bytes(b) => BASE64.encode(b).into(),
        Value::String(s) | Value::Enum(_, s) => s.into(),
        Value::Union(_, inner) => json(*inner),
        Value::Array(list) => Json::Array(list.into_iter().map(json).collect()),
        Value::Map(map) => Json::Object(map.into_iter().map(|(k, v)| (k, json(v))).collect()),
        Value::Record(fields) => Json::Object(fields.into_iter().map(|(k, v)| (k, json(v))).collect()),
        // Null, and what none of our schemas has.
        _ => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::*;

    #[test]
    fn a_page_reads_back_with_any_bytes() {
        let page = Page {
            id: "0af".into(),
            url: "http://x/".into(),
            final_url: "http://x/y".into(),
            fetched_at: 1_700_000_000_000,
            status: 200,
            headers: vec![HttpHeader { name: "etag".into(), value: "\"1\"".into() }],
            content_type: "text/html".into(),
            body: Body { inline: Some(vec![0, 255, 128]), blob: None, length: 3 },
            hops: vec![Hop { url: "http://x/".into(), status: 301 }],
            attrs: [("a".to_owned(), "b".to_owned())].into(),
        };
        assert_eq!(decode::<Page>(&encode(&page, &Ids::default()).unwrap()).unwrap(), page);
    }

    #[test]
    fn no_text_is_taken_for_avro() {
        for text in [&b"http://x/"[..], b"{\"url\":\"http://x/\"}", b"", "\u{c3}\u{1}".as_bytes()] {
            assert!(!is_avro(text), "{text:?}");
            assert_eq!(unknown_id(text), None);
            assert!(matches!(decode::<UrlTask>(text), Err(CodecError::Malformed(_))));
        }
        for cut in [&b"\0"[..], b"\0\0\0\0", b"\xc3\x01\0"] {
            assert!(is_avro(cut) && matches!(UrlTask::decode(cut), Err(CodecError::Malformed(_))));
        }
    }

    /// Another of our records under its own fingerprint is not the one expected.
    #[test]
    fn a_document_is_no_enriched_document() {
        let document = encode(&Document::default(), &Ids::default()).unwrap();
        assert!(matches!(decode::<Enriched>(&document), Err(CodecError::UnknownSchema { name: "enriched", .. })));
    }

    #[test]
    fn any_of_our_records_is_shown_as_json_by_its_fingerprint() {
        let mut task = UrlTask::new("http://x/");
        task.attrs.insert("k".into(), "v".into());
        let (name, shown) = to_json(&encode(&task, &Ids::default()).unwrap()).unwrap();
        assert_eq!((name, shown), ("url_task", serde_json::to_value(&task).unwrap()));
        let page = Page {
            id: "0af".into(),
            url: "http://x/".into(),
            final_url: "http://x/".into(),
            fetched_at: 1,
            status: 200,
            headers: vec![],
            content_type: String::new(),
            body: Body { inline: Some(vec![0, 255]), blob: None, length: 2 },
            hops: vec![],
            attrs: Default::default(),
        };
        let (name, shown) = to_json(&encode(&page, &Ids::default()).unwrap()).unwrap();
        assert_eq!((name, &shown["status"], &shown["body"]["inline"]), ("page", &200.into(), &"AP8=".into()));
    }

    #[test]
    fn garbage_is_an_error_not_a_panic() {
        let good = encode(&UrlTask::new("http://x/"), &Ids::default()).unwrap();
        for cut in 0..good.len() {
            let _ = decode::<UrlTask>(&good[..cut]);
            assert_eq!(to_json(&good[..cut]), None);
        }
        let mut other = good.to_vec();
        other[5] ^= 1;
        assert!(matches!(decode::<UrlTask>(&other), Err(CodecError::UnknownSchema { .. })));
        // A length of 2^60 must not be allocated.
        let mut huge = good[..SINGLE_HEADER].to_vec();
        huge.extend_from_slice(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20]);
        assert!(decode::<UrlTask>(&huge).is_err());
        assert_eq!(to_json(&huge), None);
    }
}
