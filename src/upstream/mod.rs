//! Services that Tidemill calls: how to reach them, whether to call them now, and what came of it.

pub mod aws;
pub mod breaker;
pub mod calls;
pub mod pool;
pub mod s3;
