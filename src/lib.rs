//! URLs in, searchable documents out.
//!
//! ```text
//!  producers / files / submit
//!        │  urls                 (key = host: one member owns a host)
//!        ▼
//!      fetch ──► pages ──► extract ──► documents ──► enrich ──► enriched ──► index ──► SQLite FTS5 | JSON lines
//!        │
//!        ├─ every stage ──► <stage>.retry.1 … .4     (same group and runner; a partition sleeps until its head is due)
//!        ├─ every stage ──► <stage>.dlq              (browse, replay)
//!        └─ every stage ──► status                   (one small event a step: progress, explain)
//! ```
//!
//! `topology` is that picture as data, `engine` runs a stage over a `transport`, the stages are rooms of their own, and
//! `pipeline` is the one place that puts them together. `docs/architecture.md` walks through it.

pub mod dlq;
pub mod engine;
pub mod jobs;
pub mod record;
pub mod telemetry;
pub mod topology;
pub mod transport;
