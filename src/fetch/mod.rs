//! The fetch stage: a URL in, the server's answer out.

pub mod body;
mod breakers;
pub mod codings;
pub mod http;
mod lease;
pub mod retry_after;
pub mod robots;
pub mod stage;
