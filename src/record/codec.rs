//! Avro values: single-object encoding (Avro specification 1.12, "Single-object encoding": `C3 01`, the schema's 64-bit
//! Rabin fingerprint little-endian, the datum). Writer schemas of earlier versions are kept in `schemas/history/`, so old
//! records stay readable.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use apache_avro::rabin::Rabin;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Marker of single-object encoding.
const MAGIC: [u8; 2] = [0xC3, 0x01];
const HEADER: usize = 10;

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
    /// The Avro library's own error.
    #[error("not a valid {name}: {error}")]
    Avro {
        /// Schema expected.
        name: &'static str,
        /// Cause.
        error: Box<apache_avro::Error>,
    },
}

/// A record with a schema file; implemented by [`schema!`].
pub trait Schema: Serialize + DeserializeOwned {
    /// File name without `.avsc`.
    const NAME: &'static str;
    /// The schema's text.
    const AVSC: &'static str;
    /// Where the compiled schema lives, one cell a type.
    fn cell() -> &'static OnceLock<Compiled>;
}

/// `schema!(UrlTask, "url_task")`: the record's schema is `schemas/url_task.avsc`.
macro_rules! schema {
    ($record:ty, $name:literal) => {
        impl $crate::record::codec::Schema for $record {
            const NAME: &'static str = $name;
            const AVSC: &'static str = include_str!(concat!("../../schemas/", $name, ".avsc"));
            fn cell() -> &'static std::sync::OnceLock<$crate::record::codec::Compiled> {
                static CELL: std::sync::OnceLock<$crate::record::codec::Compiled> = std::sync::OnceLock::new();
                &CELL
            }
        }
    };
}
pub(crate) use schema;

/// A schema ready to write and read with.
pub struct Compiled {
    fingerprint: u64,
    writer: GenericDatumWriter<'static>,
    reader: GenericDatumReader<'static>,
}

/// Schemas live as long as the process: there is one of each, so leaking it is no leak.
fn compile(text: &str) -> Result<Compiled, apache_avro::Error> {
    let schema: &'static apache_avro::Schema = Box::leak(Box::new(apache_avro::Schema::parse_str(text)?));
    let bytes: [u8; 8] = schema.fingerprint::<Rabin>().bytes.try_into().unwrap_or_default();
    Ok(Compiled {
        fingerprint: u64::from_le_bytes(bytes),
        writer: GenericDatumWriter::builder(schema).build()?,
        reader: GenericDatumReader::builder(schema).build()?,
    })
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

/// Every schema ever released, the current ones included: a file is added and never changed.
const HISTORY: &[(&str, &str)] = &[
    ("url_task", include_str!("../../schemas/history/url_task-1.avsc")),
    ("page", include_str!("../../schemas/history/page-1.avsc")),
    ("document", include_str!("../../schemas/history/document-1.avsc")),
    ("enriched", include_str!("../../schemas/history/enriched-1.avsc")),
    ("status_event", include_str!("../../schemas/history/status_event-1.avsc")),
];

/// The released schemas by fingerprint.
static RELEASED: LazyLock<HashMap<u64, Compiled>> =
    LazyLock::new(|| HISTORY.iter().filter_map(|(_, text)| compile(text).ok()).map(|c| (c.fingerprint, c)).collect());

/// Whether the bytes claim to be single-object Avro.
pub fn is_avro(value: &[u8]) -> bool {
    value.starts_with(&MAGIC)
}

/// Writes a record.
pub fn encode<T: Schema>(record: &T) -> Result<Bytes, CodecError> {
    let compiled = current::<T>()?;
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&compiled.fingerprint.to_le_bytes());
    compiled.writer.write_ser(&mut out, record).map_err(avro::<T>)?;
    Ok(Bytes::from(out))
}

/// Reads a record written with the current or an earlier schema; fields added since take their defaults.
pub fn decode<T: Schema>(value: &[u8]) -> Result<T, CodecError> {
    if !is_avro(value) || value.len() < HEADER {
        return Err(CodecError::Malformed(format!(
            "not Avro single-object encoding: produce with schemas/{}.avsc",
            T::NAME
        )));
    }
    let mut print = [0u8; 8];
    print.copy_from_slice(&value[2..HEADER]);
    let fingerprint = u64::from_le_bytes(print);
    let mut compiled = current::<T>()?;
    if compiled.fingerprint != fingerprint {
        compiled = RELEASED.get(&fingerprint).ok_or(CodecError::UnknownSchema { fingerprint, name: T::NAME })?;
    }
    compiled.reader.read_deser(&mut &value[HEADER..]).map_err(avro::<T>)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::*;
    use apache_avro::schema_compatibility::SchemaCompatibility;

    fn texts() -> [(&'static str, &'static str); 5] {
        [
            (UrlTask::NAME, UrlTask::AVSC),
            (Page::NAME, Page::AVSC),
            (Document::NAME, Document::AVSC),
            (Enriched::NAME, Enriched::AVSC),
            (StatusEvent::NAME, StatusEvent::AVSC),
        ]
    }

    fn parse(text: &str) -> apache_avro::Schema {
        apache_avro::Schema::parse_str(text).unwrap()
    }

    /// A reader of today reads what every released version wrote.
    #[test]
    fn every_change_is_backward_compatible() {
        for (name, text) in texts() {
            for (_, old) in HISTORY.iter().filter(|(n, _)| *n == name) {
                SchemaCompatibility::can_read(&parse(old), &parse(text)).unwrap_or_else(|e| panic!("{name}: {e}"));
            }
        }
    }

    /// Changing a schema means adding it to the history as the next number.
    #[test]
    fn the_current_schemas_are_the_newest_of_the_history() {
        for (name, text) in texts() {
            let newest = HISTORY.iter().rfind(|(n, _)| *n == name).map(|(_, t)| *t);
            assert_eq!(newest, Some(text), "schemas/{name}.avsc changed: add it to schemas/history and to HISTORY");
        }
    }

    #[test]
    fn the_compatibility_check_can_fail() {
        let with_new_required_field =
            UrlTask::AVSC.replacen("\"fields\": [", "\"fields\": [{\"name\": \"must\", \"type\": \"string\"},", 1);
        assert!(SchemaCompatibility::can_read(&parse(UrlTask::AVSC), &parse(&with_new_required_field)).is_err());
    }

    /// A record written by an older version, without the fields added since.
    #[test]
    fn reads_a_record_of_an_older_schema() {
        let old = r#"{"type":"record","name":"UrlTask","fields":[{"name":"url","type":"string"}]}"#;
        #[derive(Serialize)]
        struct Old {
            url: &'static str,
        }
        let compiled = compile(old).unwrap();
        let datum = compiled.writer.write_ser_to_vec(&Old { url: "http://x/" }).unwrap();
        let read: UrlTask = compiled.reader.read_deser(&mut datum.as_slice()).unwrap();
        assert_eq!(read, UrlTask::new("http://x/"));
    }

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
        assert_eq!(decode::<Page>(&encode(&page).unwrap()).unwrap(), page);
    }

    #[test]
    fn garbage_is_an_error_not_a_panic() {
        let good = encode(&UrlTask::new("http://x/")).unwrap();
        for cut in 0..good.len() {
            let _ = decode::<UrlTask>(&good[..cut]);
        }
        let mut other = good.to_vec();
        other[5] ^= 1;
        assert!(matches!(decode::<UrlTask>(&other), Err(CodecError::UnknownSchema { .. })));
        // A length of 2^60 must not be allocated.
        let mut huge = good[..HEADER].to_vec();
        huge.extend_from_slice(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20]);
        assert!(decode::<UrlTask>(&huge).is_err());
    }
}
