//! What a board has to ask of simulators. This crate has none: `bench` answers.

use crate::error::Result;
use crate::record::{EpisodeRow, RunRecord, TaskRef};

/// Knows tasks and can play their episodes again.
pub trait Referee: Send + Sync {
    /// The rules of a task. `data` is the content hash of the dataset that its goals come from, as claimed.
    ///
    /// # Errors
    /// In words, when there is no such task here, or the one of that name and version is another.
    fn rules(&self, task: &TaskRef, data: Option<&str>) -> std::result::Result<Rules, String>;

    /// Plays every episode again from its recorded actions and compares states, distances and outcomes, bit for bit.
    ///
    /// # Errors
    /// When a simulator fails; what differs is no error.
    fn replay(
        &self,
        record: &RunRecord,
        data: Option<&str>,
        episodes: &[EpisodeRow],
    ) -> Result<Replay>;

    /// The random policy on the episodes of these seeds: the floor that a result is paired with. `None` where it cannot be
    /// run here.
    ///
    /// # Errors
    /// When a simulator fails.
    fn random_floor(
        &self,
        task: &TaskRef,
        data: Option<&str>,
        seeds: &[u64],
    ) -> Result<Option<Vec<EpisodeRow>>>;

    /// Pictures of an episode as PNG files: the goal first, then `frames` states from the first to the last. `None` where
    /// there is no simulator to draw them.
    ///
    /// # Errors
    /// When the episode is not one of the task, or a simulator fails.
    fn film(
        &self,
        task: &TaskRef,
        data: Option<&str>,
        row: &EpisodeRow,
        frames: usize,
    ) -> Result<Option<Vec<Vec<u8>>>>;
}

/// What holds for every run of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// What has to be done, in a sentence.
    pub summary: String,
    /// The task file.
    pub text: String,
    /// Seed of the first episode.
    pub first_seed: u64,
    /// From one seed to the next.
    pub seed_stride: u64,
    /// Number of episodes.
    pub episodes: u64,
    /// Unit of distances.
    pub distance_unit: String,
    /// Episodes are drawn from a dataset that is here, so that two may begin alike.
    pub may_repeat: bool,
    /// Why episodes cannot be played again here; `None` where they can.
    pub not_replayed: Option<String>,
}

/// What came of playing episodes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// Every state, distance and outcome came out as recorded; what was taken on trust, if anything.
    Reproduced(Option<String>),
    /// The first episode that did not, and what was different.
    Differs(u32, String),
    /// It cannot be done here, and why.
    NotHere(String),
}
