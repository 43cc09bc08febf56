//! Loading a run folder, believing nothing in it that can be recomputed.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::episodes::{read_episodes, read_timings};
use crate::error::{Error, Result};
use crate::files::hash_file;
use crate::record::{EpisodeRow, RunRecord, Summary, TimingRow};

/// Name of the record in a run folder.
pub const RECORD_FILE: &str = "record.json";
/// Name of the resolved configuration in a run folder.
pub const CONFIG_FILE: &str = "config.toml";
/// Name of the episode table in a run folder.
pub const EPISODES_FILE: &str = "episodes.parquet";
/// Name of the timing table in a run folder.
pub const TIMINGS_FILE: &str = "timings.parquet";

/// A finished run whose numbers have been recomputed from its episodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The folder.
    pub dir: PathBuf,
    /// The record, checked against the episodes.
    pub record: RunRecord,
    /// One row per episode, in order.
    pub episodes: Vec<EpisodeRow>,
    /// Wall-clock times; empty if the run kept none.
    pub timings: Vec<TimingRow>,
    /// The resolved configuration, as text.
    pub config_toml: String,
}

impl Run {
    /// Loads a run folder and checks it: the hash of every file, the consistency of every episode,
    /// and every number of the summary.
    ///
    /// # Errors
    /// When a file is missing, damaged or changed, an episode contradicts itself, or the record
    /// claims a number that its episodes do not give.
    pub fn load(dir: &Path) -> Result<Self> {
        let record_path = dir.join(RECORD_FILE);
        if dir.is_dir() && !record_path.exists() {
            return Err(Error::NotARun {
                path: dir.to_path_buf(),
            });
        }
        let record = RunRecord::read(&record_path)?;
        check_hashes(dir, &record)?;
        let episodes = read_episodes(&dir.join(EPISODES_FILE))?;
        let timings = load_timings(dir, &record)?;
        let config_path = dir.join(CONFIG_FILE);
        let config_toml = std::fs::read_to_string(&config_path)
            .map_err(|source| Error::io("read", &config_path, source))?;
        let run = Self {
            dir: dir.to_path_buf(),
            record,
            episodes,
            timings,
            config_toml,
        };
        run.check_episodes()?;
        run.check_summary()?;
        Ok(run)
    }

    /// The folder as it is, nothing recomputed: what a forger works with.
    #[cfg(test)]
    pub(crate) fn load_unchecked(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            record: RunRecord::read(&dir.join(RECORD_FILE)).unwrap(),
            episodes: read_episodes(&dir.join(EPISODES_FILE)).unwrap(),
            timings: read_timings(&dir.join(TIMINGS_FILE)).unwrap(),
            config_toml: std::fs::read_to_string(dir.join(CONFIG_FILE)).unwrap(),
        }
    }

    /// The last part of the folder's path: `<utc>_<hash>`.
    pub fn folder_name(&self) -> String {
        self.dir
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// Hash (blake3, hex) of the record file's text; the identity of the run on a board.
    ///
    /// # Errors
    /// When a setting cannot be represented in JSON.
    pub fn id(&self) -> Result<String> {
        Ok(blake3::hash(self.record.to_json()?.as_bytes())
            .to_hex()
            .to_string())
    }

    /// Content hash of the dataset that goals come from, as the manifest of the run says; `None` where they come from a
    /// sampler.
    pub fn goal_data(&self) -> Option<String> {
        let text = std::fs::read(self.dir.join("manifest.json")).ok()?;
        let manifest: serde_json::Value = serde_json::from_slice(&text).ok()?;
        Some(manifest.get("goal_data_hash")?.as_str()?.to_string())
    }

    fn check_summary(&self) -> Result<()> {
        let computed =
            Summary::from_episodes(&self.episodes, &self.timings).ok_or_else(|| Error::Empty {
                path: self.dir.clone(),
            })?;
        match self.record.summary.first_difference(&computed) {
            None => Ok(()),
            Some((field, claimed, computed)) => Err(Error::SummaryDisagrees {
                path: self.dir.clone(),
                field,
                claimed,
                computed,
            }),
        }
    }

    fn check_episodes(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for row in &self.episodes {
            let problem = if seen.insert(row.episode) {
                episode_problem(row, &self.record)
            } else {
                Some("appears twice".to_string())
            };
            if let Some(detail) = problem {
                return Err(Error::Episode {
                    path: self.dir.clone(),
                    episode: row.episode,
                    detail,
                });
            }
        }
        Ok(())
    }
}

/// Timings are optional, but a record that names them must have them.
fn load_timings(dir: &Path, record: &RunRecord) -> Result<Vec<TimingRow>> {
    let path = dir.join(TIMINGS_FILE);
    if record.files.contains_key(TIMINGS_FILE) || path.exists() {
        read_timings(&path)
    } else {
        Ok(Vec::new())
    }
}

/// Every file that the record names must be there, unchanged; the two files that carry the result
/// must be named.
fn check_hashes(dir: &Path, record: &RunRecord) -> Result<()> {
    for required in [EPISODES_FILE, CONFIG_FILE] {
        if !record.files.contains_key(required) {
            return Err(Error::Unhashed {
                path: dir.to_path_buf(),
                file: required.into(),
            });
        }
    }
    for (file, expected) in &record.files {
        let found = if stays_inside(file) {
            hash_file(&dir.join(file))?
        } else {
            "outside the folder".into()
        };
        if found != *expected {
            let (path, file, expected) = (dir.to_path_buf(), file.clone(), expected.clone());
            return Err(Error::HashMismatch {
                path,
                file,
                found,
                expected,
            });
        }
    }
    Ok(())
}

/// Whether a relative path has no way out of its folder.
fn stays_inside(file: &str) -> bool {
    Path::new(file)
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
}

/// What is wrong with an episode, if anything is.
fn episode_problem(row: &EpisodeRow, record: &RunRecord) -> Option<String> {
    let steps = u64::from(row.episode).wrapping_mul(record.seed_stride);
    let expected_seed = record.first_seed.wrapping_add(steps);
    if row.seed != expected_seed {
        return Some(format!(
            "has seed {}, its position asks for {expected_seed}",
            row.seed
        ));
    }
    if let Some(name) = not_finite(row) {
        return Some(format!("has a value in `{name}` that is not finite"));
    }
    let last = row.distances.last().copied().unwrap_or(f64::NAN);
    if !(last - row.final_distance).abs().le(&1e-9) {
        return Some(format!(
            "ends at distance {last}, but `final_distance` is {}",
            row.final_distance
        ));
    }
    if row.success && !row.success_any {
        return Some("succeeds at the end but at no step".into());
    }
    shape_problem(row)
}

/// The first column with a value that is not finite.
fn not_finite(row: &EpisodeRow) -> Option<&'static str> {
    let columns: [(&'static str, &[f64]); 9] = [
        ("init", &row.init),
        ("goal", &row.goal),
        ("final_state", &row.final_state),
        ("distances", &row.distances),
        ("states", &row.states),
        ("actions", &row.actions),
        ("cost_best", &row.cost_best),
        ("cost_elite_mean", &row.cost_elite_mean),
        ("cost_elite_std", &row.cost_elite_std),
    ];
    columns
        .iter()
        .find(|(_, values)| !values.iter().all(|v| v.is_finite()))
        .map(|(name, _)| *name)
}

/// Columns of one episode whose lengths do not fit together.
fn shape_problem(row: &EpisodeRow) -> Option<String> {
    let states = row.final_state.len() * row.distances.len();
    if row.states.len() != states {
        return Some(format!(
            "has {} numbers in `states`, expected {states}",
            row.states.len()
        ));
    }
    if !row.states.ends_with(&row.final_state) {
        return Some("has a `final_state` that is not the last of its `states`".into());
    }
    let steps = row.distances.len() - 1;
    if steps == 0 || !row.actions.len().is_multiple_of(steps) {
        return Some(format!(
            "has {} numbers in `actions` for {steps} steps",
            row.actions.len()
        ));
    }
    let costs = row.cost_best.len();
    let same = row.cost_elite_mean.len() == costs && row.cost_elite_std.len() == costs;
    let whole = costs == 0 || (row.plans > 0 && costs.is_multiple_of(row.plans as usize));
    (!(same && whole)).then(|| format!("has {costs} costs for {} plans", row.plans))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::episodes::write_episodes;
    use crate::testing::SyntheticRun;

    fn written() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let dir = SyntheticRun::new("pldm", 12).write(folder.path()).unwrap();
        (folder, dir)
    }

    /// Rewrites the episodes and brings the hash in the record up to date, as a forger would.
    fn forge(dir: &Path, change: impl Fn(&mut Vec<EpisodeRow>)) {
        let mut rows = read_episodes(&dir.join(EPISODES_FILE)).unwrap();
        change(&mut rows);
        write_episodes(&dir.join(EPISODES_FILE), &rows).unwrap();
        let mut record = RunRecord::read(&dir.join(RECORD_FILE)).unwrap();
        record.files.insert(
            EPISODES_FILE.into(),
            hash_file(&dir.join(EPISODES_FILE)).unwrap(),
        );
        record.write(&dir.join(RECORD_FILE)).unwrap();
    }

    #[test]
    fn a_written_run_loads() {
        let (_folder, dir) = written();
        let run = Run::load(&dir).unwrap();
        assert_eq!(run.episodes.len(), 12);
        assert_eq!(run.timings.len(), 12);
        assert_eq!(run.id().unwrap().len(), 64);
    }

    #[test]
    fn a_folder_without_a_record_is_not_a_run() {
        let folder = tempfile::tempdir().unwrap();
        let error = Run::load(folder.path()).unwrap_err();
        assert!(matches!(error, Error::NotARun { .. }));
        std::fs::write(folder.path().join("episodes.jsonl"), "").unwrap();
        assert!(
            Run::load(folder.path())
                .unwrap_err()
                .hint()
                .unwrap()
                .contains("--resume")
        );
    }

    #[test]
    fn a_changed_file_is_named() {
        let (_folder, dir) = written();
        std::fs::write(dir.join(CONFIG_FILE), "task = \"other\"\n").unwrap();
        let error = Run::load(&dir).unwrap_err();
        assert!(
            matches!(&error, Error::HashMismatch { file, .. } if file == CONFIG_FILE),
            "{error}"
        );
    }

    #[test]
    fn a_record_that_disagrees_with_its_episodes_is_refused() {
        let (_folder, dir) = written();
        let mut record = RunRecord::read(&dir.join(RECORD_FILE)).unwrap();
        record.summary.successes += 1;
        record.write(&dir.join(RECORD_FILE)).unwrap();
        let error = Run::load(&dir).unwrap_err();
        assert!(
            matches!(
                error,
                Error::SummaryDisagrees {
                    field: "successes",
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn forged_episodes_are_refused() {
        type Forgery = fn(&mut Vec<EpisodeRow>);
        let cases: [(Forgery, &str); 6] = [
            (|rows| rows[2].seed += 1, "its position asks for"),
            (|rows| rows[2].final_distance = 0.0, "ends at distance"),
            (|rows| rows[2].distances[1] = f64::NAN, "`distances`"),
            (|rows| rows[2].episode = 1, "episode 1"),
            (
                |rows| {
                    rows[2].states.pop();
                },
                "`states`",
            ),
            (
                |rows| {
                    rows[2].cost_best.pop();
                },
                "costs",
            ),
        ];
        for (change, words) in cases {
            let (_folder, dir) = written();
            forge(&dir, change);
            let error = Run::load(&dir).unwrap_err();
            assert!(
                matches!(error, Error::Episode { .. }) && error.to_string().contains(words),
                "{error}"
            );
        }
    }

    #[test]
    fn an_empty_run_is_refused() {
        let (_folder, dir) = written();
        forge(&dir, Vec::clear);
        assert!(matches!(Run::load(&dir), Err(Error::Empty { .. })));
    }

    #[test]
    fn a_record_cannot_point_outside_its_folder() {
        let (_folder, dir) = written();
        let mut record = RunRecord::read(&dir.join(RECORD_FILE)).unwrap();
        record.files.insert("../secret".into(), "0".repeat(64));
        record.write(&dir.join(RECORD_FILE)).unwrap();
        assert!(
            Run::load(&dir)
                .unwrap_err()
                .to_string()
                .contains("outside the folder")
        );
    }
}
