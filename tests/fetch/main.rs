//! The real binary against servers of raw bytes: those that misbehave, each on a socket of its own, and those whose answers
//! may be kept.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "servers have threads of their own")]

mod cache;
mod hostile;
mod reach;
mod servers;
#[path = "../services/mod.rs"]
mod services;
mod tls;
mod warc;
#[path = "../whole/mod.rs"]
mod whole;
