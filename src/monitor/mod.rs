//! How things stand: what each stage has waiting, what failed of late, how far the jobs are. For `status`, for `top`, and
//! for whoever else looks; read through the Transport trait alone.
//!
//! | file | idea |
//! |---|---|
//! | [`lag`] | what a group has yet to finish, from what it committed: base and offset map |
//! | [`dead`] | what rests in the dead letters, and since when |
//! | [`snapshot`] | all of it at one time |
//! | [`watch`](mod@watch) | keeps the gauges of what waits in this process's partitions |
//! | [`collector`] | takes snapshots, one after the other, reading only what is new |

pub mod collector;
pub mod dead;
pub mod lag;
pub mod snapshot;
pub mod watch;

pub use collector::Collector;
pub use lag::{PartitionLag, TopicLag};
pub use snapshot::{JobProgress, Rate, Snapshot, Stage};
pub use watch::{Watched, watch};
