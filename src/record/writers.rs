//! Writers' schemas by their id in the schema registry: what [`super::codec`] needs to read Confluent framing.
//!
//! ```text
//! registry (GET /schemas/ids/7) or a file of an earlier run ─► learn(7, text) ─► the table ─► decode of 00 00000007 …
//! ```
//!
//! The table belongs to the process. It holds facts only: an id means one schema, for ever, and a process talks to one
//! registry; a second meaning for an id is refused. So two pipelines in one process share it without harm. What may differ
//! between them, which framing is *written*, is passed ([`super::codec::Ids`]).
//!
//! A schema that Tidemill released itself is read as fast as our own framing. Any other is resolved against ours (Avro
//! specification 1.12, "Schema Resolution"): fields we added take their defaults, fields we do not know are passed over.
//! Such a schema was written by somebody else, so it is bounded before it is used.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::{Schema as Avro, from_value};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::schemas::{Compiled, Datum, released_as};

/// Foreign schemas remembered; of more, the oldest is forgotten and fetched again when it is met.
const FOREIGN: usize = 1_000;
/// Values a schema may describe without an array or map in it.
const NODES: u64 = 10_000;
/// Values inside values.
const DEPTH: u64 = 64;
/// Values that an item of an array or map may cost for each of its bytes.
const NODES_PER_BYTE: u64 = 8;
/// Longest `fixed`.
const FIXED: usize = 1 << 20;
/// Longest text of a schema.
pub const TEXT: usize = 1 << 20;

/// Why a schema cannot be used under an id, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LearnError {
    /// Not a schema, or one whose values could be absurdly large or deep.
    #[error("schema id {0} cannot be read with: {1}")]
    Unusable(u32, String),
    /// The id has another meaning already.
    #[error("schema id {0} means something else here already: the ids of two schema registries are mixed")]
    Conflict(u32),
}

/// A writer's schema.
#[derive(Clone)]
pub(super) enum Writer {
    /// One that Tidemill released: the record's name and its reader.
    Released(&'static str, &'static Compiled),
    /// Any other.
    Foreign(Arc<Foreign>),
}

/// A schema that somebody else wrote.
pub(super) struct Foreign {
    schema: Avro,
    canonical: String,
}

/// Schemas by id.
#[derive(Default)]
pub(super) struct Table {
    by_id: HashMap<u32, Writer>,
    /// Foreign ones, oldest first.
    order: VecDeque<u32>,
}

static TABLE: LazyLock<RwLock<Table>> = LazyLock::new(RwLock::default);

/// Notes what an id means. Knowing it already is no error.
pub fn learn(id: u32, text: &str) -> Result<(), LearnError> {
    let writer = Writer::parse(text).map_err(|why| LearnError::Unusable(id, why))?;
    TABLE.write().unwrap_or_else(PoisonError::into_inner).insert(id, writer)
}

/// Whether an id's schema is known.
pub fn knows(id: u32) -> bool {
    get(id).is_some()
}

pub(super) fn get(id: u32) -> Option<Writer> {
    TABLE.read().unwrap_or_else(PoisonError::into_inner).by_id.get(&id).cloned()
}

impl Table {
    fn insert(&mut self, id: u32, writer: Writer) -> Result<(), LearnError> {
        if let Some(known) = self.by_id.get(&id) {
            return if known.is(&writer) { Ok(()) } else { Err(LearnError::Conflict(id)) };
        }
        if matches!(writer, Writer::Foreign(_)) {
            self.order.push_back(id);
            if self.order.len() > FOREIGN
                && let Some(oldest) = self.order.pop_front()
            {
                self.by_id.remove(&oldest);
            }
        }
        self.by_id.insert(id, writer);
        Ok(())
    }
}

impl Writer {
    fn parse(text: &str) -> Result<Writer, String> {
        if text.len() > TEXT {
            return Err(format!("it is longer than {TEXT} bytes"));
        }
        let mut json: Json = serde_json::from_str(text).map_err(|e| format!("it is not JSON: {e}"))?;
        strip_logical_types(&mut json);
        let schema = Avro::parse(&json).map_err(|e| short(&e.to_string()))?;
        let weight = Weigher::default().weigh(&schema, None)?;
        if weight.nodes > NODES {
            return Err(format!("it describes more than {NODES} values at once"));
        }
        let canonical = schema.canonical_form();
        Ok(match released_as(&canonical) {
            Some((name, compiled)) => Writer::Released(name, compiled),
            None => Writer::Foreign(Arc::new(Foreign { schema, canonical })),
        })
    }

    /// Whether both read the same bytes as the same.
    fn is(&self, other: &Writer) -> bool {
        match (self, other) {
            (Writer::Released(a, x), Writer::Released(b, y)) => a == b && std::ptr::eq(*x, *y),
            (Writer::Foreign(a), Writer::Foreign(b)) => a.canonical == b.canonical,
            _ => false,
        }
    }
}

impl Foreign {
    /// Reads a datum into what `reader` describes.
    pub(super) fn read<T: DeserializeOwned>(&self, reader: &Avro, datum: &[u8]) -> Result<T, String> {
        let (written, expected) = (self.schema.name(), reader.name());
        // By the specification records match by their names without namespace.
        if !matches!(self.schema, Avro::Record(_)) || written.map(|n| n.name()) != expected.map(|n| n.name()) {
            let written = written.map_or_else(|| "no record".to_owned(), |n| format!("a {}", n.name()));
            return Err(format!("it describes {written}"));
        }
        let resolving = GenericDatumReader::builder(&self.schema).reader_schema(reader).build();
        let mut rest = Datum(datum);
        let value = resolving.and_then(|r| r.read_value(&mut rest)).map_err(|e| short(&e.to_string()))?;
        if !rest.0.is_empty() {
            return Err(format!("{} bytes are left over", rest.0.len()));
        }
        from_value(&value).map_err(|e| short(&e.to_string()))
    }
}

/// A logical type is read as the type beneath it: ours are plain, and what a producer calls a timestamp is a long.
fn strip_logical_types(json: &mut Json) {
    match json {
        Json::Object(map) => {
            map.remove("logicalType");
            map.values_mut().for_each(strip_logical_types);
        }
        Json::Array(items) => items.iter_mut().for_each(strip_logical_types),
        _ => {}
    }
}

/// Error texts of the library may hold whole values.
fn short(text: &str) -> String {
    const LONGEST: usize = 300;
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

/// What a schema's values cost: values in it (arrays and maps count as empty), their depth, their least bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Weight {
    nodes: u64,
    depth: u64,
    bytes: u64,
}

/// Refuses what a few bytes could turn into a stack overflow or into gigabytes: types that hold themselves, nesting
/// through names, arrays of nothing.
#[derive(Default)]
struct Weigher {
    /// By full name; None while it is being weighed.
    named: HashMap<String, Option<Weight>>,
}

impl Weigher {
    fn weigh(&mut self, schema: &Avro, namespace: Option<&str>) -> Result<Weight, String> {
        let leaf = |bytes| Weight { nodes: 1, depth: 1, bytes };
        let weight = match schema {
            Avro::Null => leaf(0),
            Avro::Boolean | Avro::Int | Avro::Long | Avro::Bytes | Avro::String => leaf(1),
            Avro::Float => leaf(4),
            Avro::Double => leaf(8),
            Avro::Enum(e) => self.name(e.name.fullname(namespace), leaf(1)),
            Avro::Fixed(f) if f.size > FIXED => return Err(format!("it has a fixed of {} bytes", f.size)),
            Avro::Fixed(f) => self.name(f.name.fullname(namespace), leaf(f.size as u64)),
            Avro::Array(a) => self.items(&a.items, namespace, 0)?,
            Avro::Map(m) => self.items(&m.types, namespace, 1)?,
            Avro::Union(u) => {
                let mut all = Weight { nodes: 0, depth: 0, bytes: u64::MAX };
                for variant in u.variants() {
                    let v = self.weigh(variant, namespace)?;
                    all = Weight {
                        nodes: all.nodes.max(v.nodes),
                        depth: all.depth.max(v.depth),
                        bytes: all.bytes.min(v.bytes),
                    };
                }
                all.inside(1)
            }
            Avro::Record(r) => {
                let name = r.name.fullname(namespace);
                let namespace = r.name.namespace().or(namespace);
                self.named.insert(name.clone(), None);
                let mut all = Weight { nodes: 0, depth: 0, bytes: 0 };
                for field in &r.fields {
                    let f = self.weigh(&field.schema, namespace)?;
                    all = Weight {
                        nodes: all.nodes.saturating_add(f.nodes),
                        depth: all.depth.max(f.depth),
                        bytes: all.bytes.saturating_add(f.bytes),
                    };
                }
                self.name(name, all.inside(0))
            }
            Avro::Ref { name } => match self.named.get(&name.fullname(namespace)) {
                Some(Some(weight)) => *weight,
                Some(None) => return Err(format!("{} holds itself, which is not supported", name.name())),
                None => return Err(format!("{} is not defined in it (references are not supported)", name.name())),
            },
            _ => return Err("it uses a type that is not supported".into()),
        };
        if weight.depth > DEPTH {
            return Err(format!("its values nest deeper than {DEPTH}"));
        }
        Ok(weight)
    }

    fn name(&mut self, name: String, weight: Weight) -> Weight {
        self.named.insert(name, Some(weight));
        weight
    }

    /// An array or map: its items must take bytes in proportion to what they become.
    fn items(&mut self, schema: &Avro, namespace: Option<&str>, key: u64) -> Result<Weight, String> {
        let item = self.weigh(schema, namespace)?;
        if item.nodes + key > (item.bytes + key).saturating_mul(NODES_PER_BYTE) {
            return Err("it has an array or map whose items take next to no bytes".into());
        }
        Ok(Weight { nodes: 1, depth: item.depth + 1, bytes: 1 })
    }
}

impl Weight {
    /// One value around it, with so many bytes of its own.
    fn inside(self, bytes: u64) -> Weight {
        Weight {
            nodes: self.nodes.saturating_add(1),
            depth: self.depth.saturating_add(1),
            bytes: self.bytes.saturating_add(bytes),
        }
    }
}

#[cfg(test)]
mod tests;
