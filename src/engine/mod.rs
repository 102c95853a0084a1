//! The engine: takes records from a transport, gives each to its stage, and writes down what became of it.
//!
//! | file | idea |
//! |---|---|
//! | [`stage`] | what a stage is, and what it may say of a record |
//! | [`window`] | one partition's records in progress (pure) |
//! | [`offset_map`] | that window as a short string, for commit metadata (pure) |
//! | [`route`] | an outcome as records: where it goes next, which headers it gets (pure) |
//! | [`schedule`] | which input is admitted next, and when a waiting record is due (pure) |
//! | [`work`] | what a runner does with a record; a stage's work |
//! | [`attempt`] | one record in its handler: decode, deadline, panic |
//! | [`standing`] | how a runner stands, for whoever measures it |
//! | [`runner`] | the loop: poll, admit, run, collect, commit |

pub mod attempt;
pub mod offset_map;
pub mod route;
pub mod runner;
pub mod schedule;
pub mod stage;
pub mod standing;
mod steps;
pub mod window;
pub mod work;

pub use runner::{Limits, Runner};
pub use stage::{Ctx, Outcome, Stage};
pub use work::{StageWork, Work};
