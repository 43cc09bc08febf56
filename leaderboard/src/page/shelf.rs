//! What is behind the pages and too large for a snapshot: files of the board, and simulators.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::episode::FILM_FRAMES;
use super::snapshot::{Details, Row, Snapshot};
use crate::record::{EpisodeRow, TaskRef};
use crate::referee::{Referee, Rules};
use crate::store::Board;
use crate::submission::{Bundle, Limits, VIDEO_FOLDER};

/// Runs whose episodes are kept in memory.
const KEPT_RUNS: usize = 8;

/// Episodes by run.
type Kept = VecDeque<(String, Arc<[EpisodeRow]>)>;

/// A board with the simulators of its tasks.
pub(crate) struct Shelf {
    board: Mutex<Board>,
    referee: Arc<dyn Referee>,
    kept: Mutex<Kept>,
}

impl Shelf {
    /// A shelf of that board.
    pub(crate) fn new(board: Board, referee: Arc<dyn Referee>) -> Self {
        Self {
            board: Mutex::new(board),
            referee,
            kept: Mutex::default(),
        }
    }

    /// The board.
    pub(crate) fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The simulators.
    pub(crate) fn referee(&self) -> &dyn Referee {
        self.referee.as_ref()
    }

    /// Frames of an episode as PNG, the goal first.
    pub(crate) fn film(
        &self,
        snapshot: &Snapshot,
        run: &str,
        episode: u32,
    ) -> Option<Vec<Vec<u8>>> {
        let (task, _) = snapshot.run(run)?;
        let kept = self.episodes(run)?;
        let row = kept.iter().find(|row| row.episode == episode)?;
        self.referee
            .film(&task.task, task.data.as_deref(), row, FILM_FRAMES as usize)
            .ok()?
    }

    /// A video of the bundle of a run.
    pub(crate) fn video(&self, snapshot: &Snapshot, run: &str, name: &str) -> Option<Vec<u8>> {
        let (_, row) = snapshot.run(run)?;
        // Only what was signed is looked for.
        row.videos().find(|known| *known == name)?;
        let bundle = self.bundle(row)?;
        bundle
            .file(&format!("{VIDEO_FOLDER}{name}"))
            .map(<[u8]>::to_vec)
    }

    /// Where the bundle of a run is.
    pub(crate) fn bundle_path(&self, snapshot: &Snapshot, run: &str) -> Option<PathBuf> {
        let (_, row) = snapshot.run(run)?;
        self.board().blob(&row.run.submission.as_ref()?.bundle)
    }

    fn bundle(&self, row: &Row) -> Option<Bundle> {
        let path = self.board().blob(&row.run.submission.as_ref()?.bundle)?;
        let file = std::fs::File::open(path).ok()?;
        Bundle::read(std::io::BufReader::new(file), &Limits::default()).ok()
    }
}

impl Details for Shelf {
    fn rules(&self, task: &TaskRef, data: Option<&str>) -> Option<Rules> {
        self.referee.rules(task, data).ok()
    }

    fn episodes(&self, run: &str) -> Option<Arc<[EpisodeRow]>> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, rows)) = kept().iter().find(|(known, _)| known == run) {
            return Some(Arc::clone(rows));
        }
        let rows: Arc<[EpisodeRow]> = self.board().episodes_of(run).ok()??.into();
        let mut kept = kept();
        kept.push_front((run.to_string(), Arc::clone(&rows)));
        kept.truncate(KEPT_RUNS);
        Some(rows)
    }

    fn method(&self, row: &Row) -> Option<String> {
        let submission = row.run.submission.as_ref()?;
        if row.has_method {
            return Some(submission.method.clone());
        }
        Some(self.bundle(row)?.method().to_string())
    }
}
