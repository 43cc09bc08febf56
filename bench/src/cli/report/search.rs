//! Finds run folders, and training runs, below the folders of the command line.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jepa_leaderboard::RECORD_FILE;

use super::METRICS;

/// What there is below some folders.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    /// Run folders; those given as such first come as given.
    pub(super) runs: Vec<PathBuf>,
    /// Folders of training runs.
    pub(super) trainings: Vec<PathBuf>,
}

/// Searches each path: a run folder is itself, what is below any other is taken in the order of names, so that neither the
/// order of a file system nor the working directory matters. Links to folders are not followed below a path.
///
/// # Errors
/// When a folder cannot be read.
pub(super) fn search(paths: &[PathBuf]) -> anyhow::Result<Found> {
    let mut found = Found::default();
    for path in paths {
        let (runs, trainings) = (found.runs.len(), found.trainings.len());
        if path.is_dir() {
            below(path, &mut found)?;
        }
        if (runs, trainings) == (found.runs.len(), found.trainings.len()) {
            // Loading it says what is wrong with it.
            found.runs.push(path.clone());
        }
    }
    for list in [&mut found.runs, &mut found.trainings] {
        let mut known: Vec<PathBuf> = Vec::new();
        list.retain(|path| {
            let is_new = !known.contains(path);
            known.push(path.clone());
            is_new
        });
    }
    Ok(found)
}

fn below(folder: &Path, found: &mut Found) -> anyhow::Result<()> {
    if folder.join(RECORD_FILE).is_file() {
        found.runs.push(folder.to_path_buf());
        return Ok(());
    }
    if folder.join(METRICS).is_file() {
        found.trainings.push(folder.to_path_buf());
    }
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut entries = entries.with_context(|| format!("cannot search `{}`", folder.display()))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below(&entry.path(), found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_trainings_are_found_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in [
            "b/run/record.json",
            "a/x/record.json",
            "a/train/metrics.jsonl",
            "a/train/evals/r/record.json",
        ] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = search(&[root.to_path_buf(), root.join("a/x")]).unwrap();
        let expected = ["a/train/evals/r", "a/x", "b/run"].map(|name| root.join(name));
        assert_eq!(found.runs, expected);
        assert_eq!(found.trainings, [root.join("a/train")]);
    }

    #[test]
    fn a_path_with_nothing_below_is_left_to_the_loader() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        let found = search(&[folder.path().to_path_buf(), gone.clone()]).unwrap();
        assert_eq!(found.runs, [folder.path().to_path_buf(), gone]);
    }
}
