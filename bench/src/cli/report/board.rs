//! A report of all that a leaderboard holds.

use std::path::{Path, PathBuf};

use jepa_leaderboard::Board;
use jepa_reports::{BoardInput, BoardTaskInput, Format, write_board};

/// Writes a report of every task of the board in the file `db`.
pub(super) fn write(db: &Path, out: &Path, formats: &[Format]) -> anyhow::Result<Vec<PathBuf>> {
    let board = Board::open_existing(db)?;
    let tasks = board.tasks()?;
    let tasks = tasks.into_iter().map(|task| {
        Ok(BoardTaskInput {
            runs: board.runs(&task.task)?,
            task: task.task,
        })
    });
    let input = BoardInput {
        head: board.head()?,
        tasks: tasks.collect::<anyhow::Result<_>>()?,
    };
    Ok(write_board(&input, out, formats)?)
}
