//! Sources of tables and arrays from end to end: what the reference loaders return, and what damaged
//! files do.

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
