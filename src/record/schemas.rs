//! Our own schemas: those of today, one a record, and every one ever released (`schemas/history/`), so that old records
//! stay readable.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{LazyLock, OnceLock};

use apache_avro::rabin::Rabin;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use serde::Serialize;
use serde::de::DeserializeOwned;

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
        impl $crate::record::schemas::Schema for $record {
            const NAME: &'static str = $name;
            const AVSC: &'static str = include_str!(concat!("../../schemas/", $name, ".avsc"));
            fn cell() -> &'static std::sync::OnceLock<$crate::record::schemas::Compiled> {
                static CELL: std::sync::OnceLock<$crate::record::schemas::Compiled> = std::sync::OnceLock::new();
                &CELL
            }
        }
    };
}
pub(crate) use schema;

/// A schema ready to write and read with.
pub struct Compiled {
    pub(super) schema: &'static apache_avro::Schema,
    /// 64-bit Rabin.
    pub(super) fingerprint: u64,
    pub(super) writer: GenericDatumWriter<'static>,
    pub(super) reader: GenericDatumReader<'static>,
}

/// Schemas live as long as the process: there is one of each, so leaking it is no leak.
pub(super) fn compile(text: &str) -> Result<Compiled, apache_avro::Error> {
    let schema: &'static apache_avro::Schema = Box::leak(Box::new(apache_avro::Schema::parse_str(text)?));
    let bytes: [u8; 8] = schema.fingerprint::<Rabin>().bytes.try_into().unwrap_or_default();
    Ok(Compiled {
        schema,
        fingerprint: u64::from_le_bytes(bytes),
        writer: GenericDatumWriter::builder(schema).build()?,
        reader: GenericDatumReader::builder(schema).build()?,
    })
}

/// Every schema ever released, the current ones included: a file is added and never changed.
pub(super) const HISTORY: &[(&str, &str)] = &[
    ("url_task", include_str!("../../schemas/history/url_task-1.avsc")),
    ("url_task", include_str!("../../schemas/history/url_task-2.avsc")),
    ("page", include_str!("../../schemas/history/page-1.avsc")),
    ("document", include_str!("../../schemas/history/document-1.avsc")),
    ("document", include_str!("../../schemas/history/document-2.avsc")),
    ("document", include_str!("../../schemas/history/document-3.avsc")),
    ("enriched", include_str!("../../schemas/history/enriched-1.avsc")),
    ("enriched", include_str!("../../schemas/history/enriched-2.avsc")),
    ("enriched", include_str!("../../schemas/history/enriched-3.avsc")),
    ("status_event", include_str!("../../schemas/history/status_event-1.avsc")),
];

/// A schema of the history.
pub(super) struct Released {
    pub name: &'static str,
    canonical: String,
    pub compiled: Compiled,
}

/// The released schemas by fingerprint.
pub(super) static RELEASED: LazyLock<HashMap<u64, Released>> = LazyLock::new(|| {
    let read = |(name, text): &(&'static str, &str)| {
        let compiled = compile(text).ok()?;
        Some((compiled.fingerprint, Released { name, canonical: compiled.schema.canonical_form(), compiled }))
    };
    HISTORY.iter().filter_map(read).collect()
});

/// The released schema of that canonical form, and the record's name.
pub(super) fn released_as(canonical: &str) -> Option<(&'static str, &'static Compiled)> {
    RELEASED.values().find(|r| r.canonical == canonical).map(|r| (r.name, &r.compiled))
}

/// The text of a record's current schema.
pub fn schema_of(name: &str) -> Option<&'static str> {
    HISTORY.iter().rfind(|(n, _)| *n == name).map(|(_, text)| *text)
}

/// A datum's bytes. The library takes their plain end for an empty value here and there; to this one it is an error.
pub(super) struct Datum<'a>(pub &'a [u8]);

impl Read for Datum<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() && !buf.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it ends too early"));
        }
        self.0.read(buf)
    }
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

    /// Without a registry, what is shown and what is read is found by its fingerprint.
    #[test]
    fn the_current_schemas_are_found_by_their_fingerprints() {
        for (_, text) in texts() {
            let bytes: [u8; 8] = parse(text).fingerprint::<Rabin>().bytes.try_into().unwrap();
            assert!(RELEASED.contains_key(&u64::from_le_bytes(bytes)), "{text}");
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
}
