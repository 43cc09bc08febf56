//! Sources of tables and arrays from end to end: what the reference loaders return, and what damaged
//! files do.
#![expect(clippy::float_cmp, reason = "values are read and stored, not computed")]

#[path = "tables/lerobot.rs"]
mod lerobot;
#[path = "tables/metaworld.rs"]
mod metaworld;
#[path = "tables/npz.rs"]
mod npz;
#[path = "tables/support.rs"]
mod support;
#[path = "tables/tdmpc2.rs"]
mod tdmpc2;
