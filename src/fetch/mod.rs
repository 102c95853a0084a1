//! The fetch stage: a URL in, the server's answer out; or what lies in a folder or a bucket.

pub mod archive;
pub mod body;
mod breakers;
pub mod cache;
pub mod codings;
pub mod http;
pub mod inputs;
mod lease;
pub mod retry_after;
pub mod robots;
pub mod stage;
