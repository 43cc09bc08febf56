//! The numbers that a run is judged by. Each is defined once, here, as a pure function of plain data.

use std::collections::BTreeMap;

use jepa_leaderboard::EpisodeRow;

use crate::env::recorded;

pub mod action_score;
pub mod state_distance;
pub mod success;

/// Every metric, in the order in which `list` prints them.
pub const METRICS: &[MetricEntry] = &[success::ENTRY, state_distance::ENTRY, action_score::ENTRY];

/// One line of the table of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricEntry {
    /// Name in records and tables.
    pub name: &'static str,
    /// What it measures, in one sentence.
    pub summary: &'static str,
    /// Unit or range.
    pub unit: &'static str,
    /// Whether larger values are better.
    pub higher_is_better: bool,
}

/// Numbers that only the episodes of some environments have, by name.
pub fn of_environment(environment: &str, rows: &[EpisodeRow]) -> BTreeMap<String, f64> {
    if environment == recorded::ENTRY.name {
        action_score::all(rows)
    } else {
        BTreeMap::new()
    }
}
