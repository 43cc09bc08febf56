//! Environments, planners, objectives, metrics and the evaluation protocol of `jepa-bench`.
//!
//! [`runner`] reads top to bottom as what happens in an evaluation; `ARCHITECTURE.md` has the map.
#![recursion_limit = "256"]

pub mod agent;
pub mod cli;
pub mod collect;
pub mod env;
mod error;
#[cfg(test)]
mod fixtures;
pub mod goals;
mod memory;
pub mod metric;
pub mod objective;
pub mod planner;
pub mod program;
pub mod protocol;
pub mod referee;
pub mod runner;
pub mod seeds;
pub mod weights;

pub use error::{Error, Result};
