//! URLs in, searchable documents out.
//!
//! ```text
//!  producers / files / submit
//!        │  urls                 (key = host: one member owns a host)
//!        ▼
//!      fetch ──► pages ──► extract ──► documents ──► enrich ──► enriched ──► index ──► SQLite | OpenSearch | JSON lines
//!        │
//!        ├─ every stage ──► <stage>.retry.1 … .4     (same group and runner; a partition sleeps until its head is due)
//!        ├─ every stage ──► <stage>.dlq              (browse, replay)
//!        └─ every stage ──► status                   (one small event a step: progress, explain)
//! ```
//!
//! `topology` is that picture as data, `engine` runs a stage over a `transport`, the stages are rooms of their own, and
//! `pipeline` is the one place that puts them together. `docs/architecture.md` walks through it.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod batch;
pub mod blob;
pub mod cli;
pub mod config;
pub mod demo;
pub mod dlq;
pub mod engine;
pub mod enrich;
pub mod extract;
pub mod failpoints;
pub mod fetch;
pub mod file_lock;
pub mod index;
pub mod jobs;
pub mod monitor;
pub mod pipeline;
pub mod record;
pub mod registry;
pub mod relay;
pub mod server;
pub mod sink;
pub mod sqlite;
pub mod store;
pub mod telemetry;
pub mod topics;
pub mod topology;
pub mod transport;
pub mod upstream;
pub mod warc;
pub mod web;
