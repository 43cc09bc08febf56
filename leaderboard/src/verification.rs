//! How far a bundle can be believed: the ladder V0 to V4.
//!
//! ```text
//! V0  parsed and signed
//! V1  every number recomputed from the episodes, which are those of the task, each once
//! V2  every episode played again from its recorded actions: each state and outcome reproduced
//! V3  a maintainer ran the weights on the same episodes
//! V4  a maintainer ran the weights on episodes drawn after the weights were fixed
//! ```
//!
//! [`verify`] climbs to V2; it needs no weights and trusts nothing that the bundle says. V2 does not prove that a model
//! that sees only frames chose the actions; V3 and V4 are for that, and are recorded by those who did it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::compare::{Scored, compare};
use crate::error::{Error, Result};
use crate::referee::{Referee, Replay};
use crate::run::{CONFIG_FILE, EPISODES_FILE, RECORD_FILE, Run, TIMINGS_FILE};
use crate::statistics::Difference;
use crate::submission::Bundle;
use crate::table_guard;

/// A rung of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Level {
    /// Parsed and signed.
    V0,
    /// Recomputed.
    V1,
    /// Played again.
    V2,
    /// Run again by a maintainer.
    V3,
    /// Run by a maintainer on fresh episodes.
    V4,
}

impl Level {
    /// Every rung, lowest first.
    pub const ALL: [Self; 5] = [Self::V0, Self::V1, Self::V2, Self::V3, Self::V4];

    /// `V0` to `V4`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0 => "V0",
            Self::V1 => "V1",
            Self::V2 => "V2",
            Self::V3 => "V3",
            Self::V4 => "V4",
        }
    }

    /// What was really checked.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::V0 => "parsed and signed; no number was checked",
            Self::V1 => {
                "every number was recomputed from the episodes, which are those of the task; \
                 the episodes themselves were taken on trust"
            }
            Self::V2 => {
                "every episode was played again from its recorded actions, and each state and outcome came out \
                 the same; that a model which sees only frames chose the actions is not proved"
            }
            Self::V3 => "a maintainer ran the weights on the same episodes",
            Self::V4 => {
                "a maintainer ran the weights on episodes that were drawn after the weights were fixed"
            }
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The rung it belongs to.
    pub level: Level,
    /// What was looked at.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It holds; what there is to say about it.
    Passed(String),
    /// It does not hold, and why.
    Failed(String),
    /// It was not looked at, and why.
    NotRun(String),
}

/// What a bundle proved to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The highest rung on which, and below which, every check passed; `None` when one failed.
    pub level: Option<Level>,
    /// Everything that was looked at, in order.
    pub checks: Vec<Check>,
    /// Success rate above the random policy on the same episodes, recomputed here.
    pub above_random: Option<Difference>,
}

impl Verdict {
    fn new(checks: Vec<Check>, above_random: Option<Difference>) -> Self {
        let level = highest(&checks);
        Self {
            level,
            checks,
            above_random,
        }
    }

    /// The first check that failed: its name and why.
    pub fn failure(&self) -> Option<(&str, &str)> {
        self.checks.iter().find_map(|check| match &check.outcome {
            Outcome::Failed(why) => Some((check.name.as_str(), why.as_str())),
            Outcome::Passed(_) | Outcome::NotRun(_) => None,
        })
    }
}

/// The highest rung up to which every check passed.
fn highest(checks: &[Check]) -> Option<Level> {
    if checks
        .iter()
        .any(|check| matches!(check.outcome, Outcome::Failed(_)))
    {
        return None;
    }
    let stands = |level: Level| {
        let mut on_it = checks
            .iter()
            .filter(|check| check.level == level)
            .peekable();
        on_it.peek().is_some() && on_it.all(|check| matches!(check.outcome, Outcome::Passed(_)))
    };
    Level::ALL
        .into_iter()
        .take_while(|&level| stands(level))
        .last()
}

/// A bundle that was verified, with the run that is in it.
#[derive(Debug)]
pub struct Verified {
    /// What was found.
    pub verdict: Verdict,
    /// The run, where the bundle holds one that loads.
    pub run: Option<Run>,
    /// Content hash of the dataset that its goals come from, as claimed.
    pub data: Option<String>,
    /// Holds the files of the run.
    _folder: tempfile::TempDir,
}

/// Climbs the ladder as far as it goes without weights.
///
/// # Errors
/// When the files of the bundle cannot be laid out for reading, or a simulator fails. What does not hold is no error: it is
/// in the verdict.
pub fn verify(bundle: &Bundle, referee: &dyn Referee) -> Result<Verified> {
    let folder =
        tempfile::tempdir().map_err(|source| Error::io("create", &std::env::temp_dir(), source))?;
    let mut ladder = Ladder::default();
    ladder.passed(
        Level::V0,
        "parsed and signed",
        format!(
            "by `{}` with key {}",
            bundle.submission.submitter,
            bundle.submission.key.short()
        ),
    );
    let run = ladder.load(bundle, folder.path())?;
    let data = run.as_ref().and_then(Run::goal_data);
    let mut above_random = None;
    if let Some(run) = &run {
        above_random = ladder.recompute(bundle, run, data.as_deref(), referee)?;
        ladder.replay(run, data.as_deref(), referee)?;
    }
    Ok(Verified {
        verdict: Verdict::new(ladder.checks, above_random),
        run,
        data,
        _folder: folder,
    })
}

/// The checks made so far.
#[derive(Default)]
struct Ladder {
    checks: Vec<Check>,
}

impl Ladder {
    fn push(&mut self, level: Level, name: &str, outcome: Outcome) {
        self.checks.push(Check {
            level,
            name: name.into(),
            outcome,
        });
    }

    fn passed(&mut self, level: Level, name: &str, say: String) {
        self.push(level, name, Outcome::Passed(say));
    }

    /// Notes what a test gave: what there is to say, or why it failed.
    fn note(
        &mut self,
        level: Level,
        name: &str,
        found: std::result::Result<String, String>,
    ) -> bool {
        let holds = found.is_ok();
        let outcome = found.map_or_else(Outcome::Failed, Outcome::Passed);
        self.push(level, name, outcome);
        holds
    }

    /// Lays the run out in a folder of our own, under names of our own, and loads it: hashes, episodes, every number.
    fn load(&mut self, bundle: &Bundle, folder: &std::path::Path) -> Result<Option<Run>> {
        for name in [EPISODES_FILE, TIMINGS_FILE] {
            let Some(bytes) = bundle.file(name) else {
                continue;
            };
            if let Err(why) = table_guard::check(bytes) {
                self.push(
                    Level::V1,
                    "tables can be read",
                    Outcome::Failed(format!("`{name}` {why}")),
                );
                return Ok(None);
            }
        }
        let known = [
            RECORD_FILE,
            CONFIG_FILE,
            EPISODES_FILE,
            TIMINGS_FILE,
            "manifest.json",
        ];
        for name in known {
            if let Some(bytes) = bundle.file(name) {
                let path = folder.join(name);
                std::fs::write(&path, bytes).map_err(|source| Error::io("write", &path, source))?;
            }
        }
        match Run::load(folder) {
            Ok(run) => {
                let n = run.episodes.len();
                self.passed(
                    Level::V1,
                    "every number recomputed",
                    format!("{n} episodes agree with the record and with themselves"),
                );
                Ok(Some(run))
            }
            Err(error) => {
                let why = in_bundle(&error, folder);
                self.push(Level::V1, "every number recomputed", Outcome::Failed(why));
                Ok(None)
            }
        }
    }

    fn recompute(
        &mut self,
        bundle: &Bundle,
        run: &Run,
        data: Option<&str>,
        referee: &dyn Referee,
    ) -> Result<Option<Difference>> {
        let claims = match bundle.submission.departs_from(&run.record) {
            None => Ok("the claims are those of the record".to_string()),
            Some(field) => Err(format!("`{field}` is claimed otherwise than recorded")),
        };
        self.note(Level::V1, "claims", claims);
        let rules = match referee.rules(&run.record.task, data) {
            Ok(rules) => rules,
            Err(why) => {
                self.push(Level::V1, "task", Outcome::Failed(why));
                return Ok(None);
            }
        };
        let id = run.record.task.id();
        self.passed(
            Level::V1,
            "task",
            format!("{id} with the hash that is known here"),
        );
        let distinct = match distinct(run) {
            Err(why) if rules.may_repeat => Ok(format!(
                "{why}, as episodes drawn from a dataset may; whether they were is seen when they are played again"
            )),
            found => found,
        };
        self.note(Level::V1, "each episode once", distinct);
        let seeds: Vec<u64> = (0..rules.episodes)
            .map(|k| {
                rules
                    .first_seed
                    .wrapping_add(k.wrapping_mul(rules.seed_stride))
            })
            .collect();
        let complete = episode_set(run, &seeds);
        if !self.note(Level::V1, "episodes of the task", complete) {
            return Ok(None);
        }
        let Some(floor) = referee.random_floor(&run.record.task, data, &seeds)? else {
            self.push(
                Level::V1,
                "paired random floor",
                Outcome::Passed("it cannot be run here, so no difference to it is shown".into()),
            );
            return Ok(None);
        };
        Ok(self.floor(run, &floor))
    }

    /// The difference to the random policy, on the same beginnings and goals.
    fn floor(&mut self, run: &Run, floor: &[crate::record::EpisodeRow]) -> Option<Difference> {
        let scored = Scored::new(run, "run".into());
        let random = Scored {
            label: "random".into(),
            task: run.record.task.clone(),
            scores: floor
                .iter()
                .map(|row| (row.seed, crate::compare::Score::new(row)))
                .collect(),
        };
        match compare(&scored, &random) {
            Ok(pair) => {
                let Difference { mean, interval } = pair.success;
                let points = |share: f64| 100.0 * share;
                self.passed(
                    Level::V1,
                    "paired random floor",
                    format!(
                        "{:+.1} points above it, 95% interval {:+.1} to {:+.1}",
                        points(mean),
                        points(interval.low),
                        points(interval.high)
                    ),
                );
                Some(pair.success)
            }
            Err(Error::EpisodesDiffer { seed, .. }) => {
                let why = format!(
                    "the episode of seed {seed} begins or ends elsewhere than that of the task"
                );
                self.push(Level::V1, "paired random floor", Outcome::Failed(why));
                None
            }
            Err(error) => {
                self.push(
                    Level::V1,
                    "paired random floor",
                    Outcome::Failed(error.to_string()),
                );
                None
            }
        }
    }

    fn replay(&mut self, run: &Run, data: Option<&str>, referee: &dyn Referee) -> Result<()> {
        const NAME: &str = "episodes played again";
        if self
            .checks
            .iter()
            .any(|check| matches!(check.outcome, Outcome::Failed(_)))
        {
            let why = "a check before it failed".into();
            self.push(Level::V2, NAME, Outcome::NotRun(why));
            return Ok(());
        }
        let outcome = match referee.replay(&run.record, data, &run.episodes)? {
            Replay::Reproduced(trusted) => {
                let n = run.episodes.len();
                let said = format!("{n} of {n} gave every state and outcome");
                Outcome::Passed(match trusted {
                    None => said,
                    Some(what) => format!("{said}; {what}"),
                })
            }
            Replay::Differs(episode, why) => Outcome::Failed(format!("episode {episode} {why}")),
            Replay::NotHere(why) => Outcome::NotRun(why),
        };
        self.push(Level::V2, NAME, outcome);
        Ok(())
    }
}

/// No two episodes begin alike, and none is another one's copy.
fn distinct(run: &Run) -> std::result::Result<String, String> {
    let (mut begun, mut visited) = (BTreeMap::new(), BTreeMap::new());
    for row in &run.episodes {
        let start = crate::compare::Score::new(row).start_hash;
        for (seen, digest, what) in [
            (&mut begun, start, "begins and ends like"),
            (
                &mut visited,
                row.state_digest(),
                "goes through the states of",
            ),
        ] {
            if let Some(other) = seen.insert(digest, row.episode) {
                return Err(format!("episode {} {what} episode {other}", row.episode));
            }
        }
    }
    Ok(format!("{} different episodes", run.episodes.len()))
}

/// The episodes are those of the task: all of them, in order, and no others.
fn episode_set(run: &Run, seeds: &[u64]) -> std::result::Result<String, String> {
    let found: Vec<u64> = run.episodes.iter().map(|row| row.seed).collect();
    if found == seeds {
        return Ok(format!("all {} of them", seeds.len()));
    }
    let missing: Vec<u64> = seeds
        .iter()
        .copied()
        .filter(|seed| !found.contains(seed))
        .collect();
    Err(match missing.first() {
        Some(seed) => format!(
            "{} of {} are missing, the first with seed {seed}",
            missing.len(),
            seeds.len()
        ),
        None => format!(
            "there are {} episodes instead of {}, or in another order",
            found.len(),
            seeds.len()
        ),
    })
}

/// What an error says, without the path of our temporary folder.
fn in_bundle(error: &Error, folder: &std::path::Path) -> String {
    use std::error::Error as _;
    let said = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let inside = format!("{}/", folder.display());
    said.replace(&inside, "")
        .replace(&folder.display().to_string(), "the bundle")
}

#[cfg(test)]
mod tests;
