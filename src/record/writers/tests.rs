use std::collections::BTreeMap;

use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use serde::Serialize;

use super::*;
use crate::record::codec::{CodecError, Ids, decode, encode, is_avro, unknown_id};
use crate::record::schemas::{Schema, schema_of};
use crate::record::*;

/// The table belongs to the process: each test has ids of its own.
fn framed(id: u32, datum: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], datum].concat()
}

fn datum(schema: &str, value: impl Serialize) -> Vec<u8> {
    let schema = Avro::parse_str(schema).unwrap();
    GenericDatumWriter::builder(&schema).build().unwrap().write_ser_to_vec(&value).unwrap()
}

/// Our schema of that name with one more field in front, so that it is a foreign one.
fn newer(name: &str) -> String {
    let text = schema_of(name).unwrap();
    let newer = text.replacen("\"fields\": [", "\"fields\": [{\"name\": \"since\", \"type\": \"long\"},", 1);
    assert_ne!(newer, text);
    newer
}

/// What a newer Tidemill would write: the record and the new field.
fn newer_datum<T: Schema>(record: &T) -> Vec<u8> {
    let plain = encode(record, &Ids::default()).unwrap();
    [&[0x54], &plain[10..]].concat()
}

fn comes_back<T: Schema + PartialEq + std::fmt::Debug>(id: u32, record: &T) {
    learn(id, &newer(T::NAME)).unwrap();
    assert_eq!(&decode::<T>(&framed(id, &newer_datum(record))).unwrap(), record);
    learn(id + 1, T::AVSC).unwrap();
    let ids = Ids::from_iter([(T::NAME, id + 1)]);
    let written = encode(record, &ids).unwrap();
    assert_eq!(written[..5], framed(id + 1, b"")[..]);
    assert_eq!(&decode::<T>(&written).unwrap(), record);
}

#[test]
fn every_record_comes_back_from_our_schema_and_from_one_with_more_fields() {
    let attrs = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    let hops = vec![Hop { url: "http://x/".into(), status: 301 }];
    comes_back(
        100,
        &UrlTask {
            expires: Some(7),
            maxdepth: 3,
            attrs: attrs.clone(),
            hops: hops.clone(),
            ..UrlTask::new("http://x/")
        },
    );
    comes_back(
        110,
        &Page {
            id: "0af".into(),
            url: "http://x/".into(),
            final_url: "http://x/y".into(),
            fetched_at: 1_700_000_000_000,
            status: 200,
            headers: vec![HttpHeader { name: "etag".into(), value: "\"1\"".into() }],
            content_type: "text/html".into(),
            body: Body { inline: Some(vec![0, 255, 128]), blob: None, length: 3 },
            hops,
            attrs: attrs.clone(),
        },
    );
    let document = document();
    comes_back(120, &document);
    let Document { links, tables, confidence, .. } = document;
    let vector = Some(vec![0.5, -1.25]);
    comes_back(
        130,
        &Enriched {
            language_confidence: 0.5,
            links,
            tables,
            confidence,
            vector,
            words: -1,
            attrs,
            ..Enriched::default()
        },
    );
    comes_back(
        140,
        &StatusEvent {
            task: "t".into(),
            job: None,
            url: "http://x/".into(),
            stage: "fetch".into(),
            outcome: OutcomeKind::Retried,
            class: Some("dns".into()),
            message: None,
            attempt: 1,
            at: 2,
            took_ms: 0.25,
            waited_ms: 1e9,
            emitted: 0,
            until: Some(3),
            trace: String::new(),
        },
    );
}

fn document() -> Document {
    let nofollow = Link { url: "http://y/".into(), text: "y".into(), nofollow: true, ..Link::default() };
    let of = |name: &str| name.to_owned();
    Document {
        title: Some("t".into()),
        links: vec![Link { rel: vec![of("ugc")], hreflang: Some(of("pt-BR")), ..nofollow.clone() }, nofollow],
        authors: vec![of("A B"), of("C")],
        modified: Some(of("2020-01-02")),
        tags: vec![of("x")],
        sources: [(of("title"), of("json-ld"))].into(),
        confidence: [(of("title"), Confidence { score: 0.5, parts: [(of("agree"), 2.0)].into() })].into(),
        robots: vec![of("noindex")],
        alternates: vec![Alternate { url: of("http://y/de"), hreflang: Some(of("de")), media_type: None }],
        structured: Some(of("{}")),
        tables: vec![document::Table {
            header_rows: 1,
            rows: vec![vec![of("a"), of("b")]],
            ..document::Table::default()
        }],
        vector: Some(vec![0.5, -1.25]),
        ..Document::default()
    }
}

/// What Java code generation and other people's hands make of the schema: another namespace, `avro.java.string`, logical
/// types, an int where we have an optional long, fields of their own in between.
#[test]
fn a_foreign_producers_schema_resolves() {
    let schema = r#"{"type":"record","name":"UrlTask","namespace":"com.acme.crawl","fields":[
        {"name":"team","type":["null",{"type":"enum","name":"Team","symbols":["A","B"]}],"default":null},
        {"name":"url","type":{"type":"string","avro.java.string":"String"}},
        {"name":"expires","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"maxdepth","type":"int"},
        {"name":"id","type":{"type":"fixed","name":"Md5","size":4}},
        {"name":"again","type":["null","Md5"]},
        {"name":"attrs","type":{"type":"map","values":{"type":"string","avro.java.string":"String"},"avro.java.string":"String"}}]}"#;
    learn(200, schema).unwrap();
    let value = Value::Record(vec![
        ("team".into(), Value::Union(1, Box::new(Value::Enum(1, "B".into())))),
        ("url".into(), Value::String("http://x/ü".into())),
        ("expires".into(), Value::TimestampMillis(1_700_000_000_000)),
        ("maxdepth".into(), Value::Int(2)),
        ("id".into(), Value::Fixed(4, vec![1, 2, 3, 4])),
        ("again".into(), Value::Union(0, Box::new(Value::Null))),
        ("attrs".into(), Value::Map([("k".to_owned(), Value::String("v".into()))].into())),
    ]);
    let parsed = Avro::parse_str(schema).unwrap();
    let datum = GenericDatumWriter::builder(&parsed).build().unwrap().write_value_to_vec(value).unwrap();
    let mut expected = UrlTask::new("http://x/ü");
    expected.expires = Some(1_700_000_000_000);
    expected.maxdepth = 2;
    expected.attrs.insert("k".into(), "v".into());
    assert_eq!(UrlTask::decode(&framed(200, &datum)).unwrap(), expected);

    // Cut anywhere, or with something behind: an error, never a record with less in it.
    for cut in 0..datum.len() {
        assert!(UrlTask::decode(&framed(200, &datum[..cut])).is_err(), "cut at {cut}");
    }
    let longer = [&datum[..], b"x"].concat();
    assert!(UrlTask::decode(&framed(200, &longer)).unwrap_err().to_string().contains("1 bytes are left over"));
}

/// The library takes a missing optional field or text at the end for null.
#[test]
fn a_missing_end_is_no_null() {
    for (id, ty) in [(205, r#"["null","string"]"#), (206, r#""string""#), (207, r#""boolean""#)] {
        let schema = format!(
            r#"{{"type":"record","name":"UrlTask","fields":[{{"name":"url","type":"string"}},{{"name":"last","type":{ty}}}]}}"#
        );
        learn(id, &schema).unwrap();
        let whole: &[u8] = if id == 206 { b"\x02x\x02y" } else { b"\x02x\x00" };
        assert_eq!(UrlTask::decode(&framed(id, whole)).unwrap(), UrlTask::new("x"));
        let e = UrlTask::decode(&framed(id, &whole[..whole.len() - 1])).unwrap_err().to_string();
        assert!(e.contains("ends too early"), "{e}");
    }
}

#[test]
fn a_writer_with_less_gets_our_defaults_and_one_that_lacks_the_url_is_told_so() {
    #[derive(Serialize)]
    struct Less {
        url: &'static str,
    }
    let less = r#"{"type":"record","name":"UrlTask","fields":[{"name":"url","type":"string"}]}"#;
    learn(210, less).unwrap();
    assert_eq!(
        UrlTask::decode(&framed(210, &datum(less, Less { url: "http://x/" }))).unwrap(),
        UrlTask::new("http://x/")
    );

    let other = r#"{"type":"record","name":"UrlTask","fields":[{"name":"link","type":"string"}]}"#;
    learn(211, other).unwrap();
    let e = UrlTask::decode(&framed(211, &[2, b'x'])).unwrap_err();
    assert!(matches!(e, CodecError::Foreign { id: 211, name: "url_task", .. }));
    assert!(e.to_string().contains("url") && e.to_string().contains("schemas/url_task.avsc"), "{e}");
}

#[test]
fn another_record_is_not_taken_for_ours() {
    for (id, schema) in [
        (220, schema_of("page").unwrap().to_owned()),
        (221, newer("page")),
        (222, "\"string\"".to_owned()),
        (223, r#"["null","string"]"#.to_owned()),
    ] {
        learn(id, &schema).unwrap();
        let e = UrlTask::decode(&framed(id, &[2, b'x'])).unwrap_err().to_string();
        assert!(e.contains("it describes"), "{e}");
    }
}

#[test]
fn an_id_not_learned_is_named_and_has_one_meaning_for_ever() {
    let value = framed(230, b"\x02x");
    assert!(is_avro(&value));
    assert_eq!(unknown_id(&value), Some(230));
    assert!(matches!(UrlTask::decode(&value), Err(CodecError::UnknownId { id: 230, name: "url_task" })));
    learn(230, UrlTask::AVSC).unwrap();
    assert_eq!(unknown_id(&value), None);
    // Registries write a schema their own way: the same in other words is the same.
    let compact: Json = serde_json::from_str(UrlTask::AVSC).unwrap();
    learn(230, &compact.to_string()).unwrap();
    learn(230, Page::AVSC).unwrap_err();
    assert_eq!(learn(230, &newer("url_task")), Err(LearnError::Conflict(230)));
    learn(231, &newer("page")).unwrap();
    assert_eq!(learn(231, &newer("url_task")), Err(LearnError::Conflict(231)));
}

#[test]
fn a_schema_of_one_field_more_than_a_type_can_hold_is_no_schema() {
    let record = |fields: &str| format!(r#"{{"type":"record","name":"UrlTask","fields":[{fields}]}}"#);
    let field = |ty: &str| record(&format!(r#"{{"name":"f","type":{ty}}}"#));
    let twice = (0..40).fold(r#"{"type":"record","name":"R0","fields":[]}"#.to_owned(), |inner, n| {
        let (name, before) = (n + 1, n);
        format!(
            r#"{{"type":"record","name":"R{name}","fields":[{{"name":"a","type":{inner}}},{{"name":"b","type":"R{before}"}}]}}"#
        )
    });
    let chain = (0..100).fold(String::from(r#"{"name":"f","type":"int"}"#), |fields, n| {
        let of = if n == 0 { "\"int\"".to_owned() } else { format!("\"C{}\"", n - 1) };
        let c = format!(r#"{{"type":"record","name":"C{n}","fields":[{{"name":"c","type":{of}}}]}}"#);
        format!(r#"{fields},{{"name":"f{n}","type":{c}}}"#)
    });
    for (text, says) in [
        (String::new(), "not JSON"),
        ("[[[[".to_owned(), "not JSON"),
        ("[".repeat(100_000), "not JSON"),
        (r#"{"type":"record"}"#.to_owned(), "name"),
        (field(r#"["null","UrlTask"]"#), "holds itself"),
        (field(r#"{"type":"array","items":"UrlTask"}"#), "holds itself"),
        (field("\"com.acme.Elsewhere\""), "Elsewhere"),
        (field(r#"{"type":"array","items":"null"}"#), "next to no bytes"),
        (field(r#"{"type":"array","items":{"type":"record","name":"E","fields":[]}}"#), "next to no bytes"),
        (field(r#"{"type":"fixed","name":"F","size":1000000000000}"#), "fixed of"),
        (field(&twice), "more than 10000 values"),
        (record(&chain), "nest deeper"),
        (format!("\"{}\"", "x".repeat(TEXT)), "longer than"),
    ] {
        let e = learn(299, &text).unwrap_err().to_string();
        assert!(e.contains(says), "{says}: {e}");
        assert!(e.len() < 600, "{e}");
    }
    assert!(!knows(299));
}

/// A few bytes that announce millions of items.
#[test]
fn absurd_lengths_and_counts_end_with_the_bytes() {
    let huge = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20];
    let million = [0x80, 0x89, 0x7a];
    for (id, ty) in [
        (240, r#""string""#),
        (241, r#"{"type":"array","items":"boolean"}"#),
        (242, r#"{"type":"array","items":["null","int"]}"#),
        (243, r#"{"type":"array","items":"string"}"#),
        (244, r#"{"type":"map","values":["null","int"]}"#),
    ] {
        let schema = format!(
            r#"{{"type":"record","name":"UrlTask","fields":[{{"name":"f","type":{ty}}},{{"name":"url","type":"string"}}]}}"#
        );
        learn(id, &schema).unwrap();
        for count in [&huge[..], &million] {
            assert!(UrlTask::decode(&framed(id, count)).is_err());
        }
    }
    learn(249, UrlTask::AVSC).unwrap();
    assert!(UrlTask::decode(&framed(249, &huge)).is_err());
}

#[test]
fn the_oldest_foreign_schema_makes_room_and_ours_stay() {
    let mut table = super::Table::default();
    table.insert(0, Writer::parse(UrlTask::AVSC).unwrap()).unwrap();
    let foreign = Writer::parse(&newer("url_task")).unwrap();
    for id in 1..=FOREIGN as u32 + 1 {
        table.insert(id, foreign.clone()).unwrap();
    }
    assert_eq!((table.by_id.len(), table.order.len()), (FOREIGN + 1, FOREIGN));
    assert!(table.by_id.contains_key(&0) && !table.by_id.contains_key(&1) && table.by_id.contains_key(&2));
}
