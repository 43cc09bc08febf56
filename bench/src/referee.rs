//! Plays submitted episodes again: the simulators behind a board ([`jepa_leaderboard::Referee`]).
//!
//! Nothing of a submission decides what is built here. Simulator, budget and rules are those of the task file of this
//! program; the hash of the task says whether they are the submitter's. Of an episode only numbers are taken: its seed, its
//! actions, and what has to come out.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jepa_datasets::Dataset;
use jepa_leaderboard::{
    EpisodeRow, Error as BoardError, Referee, Replay, Rules, RunRecord, TaskRef,
};
use rayon::prelude::*;

use crate::agent::Policy;
use crate::env::{self, Env, Size, Start};
use crate::goals::Goals;
use crate::metric::success;
use crate::protocol::{GoalSource, Resolved, RunConfig, TASKS, Task};
use crate::runner::{Evaluation, run_episode};
use crate::{Error, Result};

/// Largest number that an episode may hold: simulators need not be asked about more.
const LARGEST: f64 = 1e9;
/// Floors that are remembered.
const REMEMBERED: usize = 64;

/// Random floors by task hash.
type Floors = Mutex<BTreeMap<String, Arc<Vec<EpisodeRow>>>>;

/// The simulators of this program, with the datasets that goals of some tasks come from.
#[derive(Debug, Default)]
pub struct Simulators {
    /// Folders by content hash.
    data: BTreeMap<String, PathBuf>,
    floors: Floors,
}

/// A task of this program that a submission is about.
struct Known {
    task: Task,
    config: RunConfig,
    text: &'static str,
    /// Why its episodes cannot be played again here.
    not_here: Option<String>,
    /// What is taken on trust when they are.
    trusted: Option<String>,
}

impl Simulators {
    /// Simulators that know the datasets in these folders.
    ///
    /// # Errors
    /// When a folder is not a dataset.
    pub fn new(data: &[PathBuf]) -> Result<Self> {
        let mut known = BTreeMap::new();
        for path in data {
            let dataset = Dataset::open(path)?;
            known.insert(dataset.content_hash().to_string(), path.clone());
        }
        Ok(Self {
            data: known,
            ..Self::default()
        })
    }

    /// The task, if it is the one of this program.
    fn find(&self, wanted: &TaskRef, data: Option<&str>) -> std::result::Result<Known, String> {
        let id = wanted.id();
        let entry = TASKS.iter().find(|entry| entry.id == id).ok_or_else(|| {
            let known: Vec<&str> = TASKS.iter().map(|entry| entry.id).collect();
            let shown: String = id.chars().take(80).flat_map(char::escape_debug).collect();
            format!(
                "there is no task `{shown}` here; there are {}",
                known.join(", ")
            )
        })?;
        let text = |error: Error| error.to_string();
        let task = Task::parse(entry.id, entry.text).map_err(text)?;
        let mut config =
            RunConfig::new(&task, &task.default_preset, "floor:random").map_err(text)?;
        let needs_data = matches!(
            task.protocol.goal_source,
            GoalSource::Replay | GoalSource::Recorded
        );
        let data = data.filter(|_| needs_data);
        let hash = task.reference(&config, data).hash;
        if hash != wanted.hash {
            return Err(format!(
                "`{id}` is another task here: its hash is {hash}, the submission was made with {}",
                wanted.hash
            ));
        }
        let folder = data.and_then(|hash| self.data.get(hash));
        config.data = folder.map(|path| path.display().to_string());
        let (not_here, trusted) = standing(&task, needs_data, folder.map(PathBuf::as_path));
        Ok(Known {
            task,
            config,
            text: entry.text,
            not_here,
            trusted,
        })
    }
}

/// Why a task cannot be played again, or else what is taken on trust.
fn standing(
    task: &Task,
    needs_data: bool,
    folder: Option<&Path>,
) -> (Option<String>, Option<String>) {
    let name = task.environment.name.as_str();
    let is_recorded = task.protocol.goal_source == GoalSource::Recorded;
    let is_outside = env::entry(name).is_ok_and(|entry| entry.outside);
    if is_outside && !is_recorded {
        let why =
            format!("`{name}` runs in a program of its own, which is not started for submissions");
        return (Some(why), None);
    }
    if !needs_data || folder.is_some() {
        return (None, None);
    }
    let missing = "the dataset that its goals come from is not here (`--data`)";
    if is_recorded {
        (Some(missing.into()), None)
    } else {
        (
            None,
            Some(format!("beginnings and goals as submitted: {missing}")),
        )
    }
}

impl Known {
    /// Where the episodes come from; `None` when they are taken on trust.
    fn goals(&self) -> Result<Option<Goals>> {
        match self.trusted {
            Some(_) => Ok(None),
            None => Goals::open(&self.config).map(Some),
        }
    }

    /// Environment steps of an episode.
    fn steps(&self) -> usize {
        self.config.protocol.max_steps - self.config.protocol.warmup_steps
    }

    /// What comes out otherwise than the episode says; `None` when nothing does.
    fn difference(
        &self,
        goals: Option<&Goals>,
        row: &EpisodeRow,
        plan_steps: usize,
    ) -> Result<Option<String>> {
        if largest(row) > LARGEST {
            return Ok(Some(format!("has a number beyond {LARGEST:e}")));
        }
        let played = catch_unwind(AssertUnwindSafe(|| self.play(goals, row, plan_steps)));
        match played {
            Ok(played) => played,
            Err(_) => Ok(Some("makes the simulator fail".into())),
        }
    }

    fn play(
        &self,
        goals: Option<&Goals>,
        row: &EpisodeRow,
        plan_steps: usize,
    ) -> Result<Option<String>> {
        let differs = |what: String| Ok(Some(what));
        let mut env = self.config.simulator()?;
        let start = match goals {
            Some(goals) => goals.draw(env.as_mut(), row.seed)?.start,
            None => claimed(row),
        };
        if !(same(&start.init, &row.init) && same(&start.goal, &row.goal)) {
            return differs("begins or ends elsewhere than the task's episode of its seed".into());
        }
        let limits = env.limits();
        let steps = self.steps();
        let recorded = (row.distances.len(), row.states.len(), row.actions.len());
        let expected = (
            steps + 1,
            (steps + 1) * limits.state_width,
            steps * limits.action_width,
        );
        if recorded != expected {
            return differs(format!("has not the {steps} steps of the task"));
        }
        // From here on an error of the simulator is about numbers of the submission.
        if let Err(error) = start.enter(env.as_mut()) {
            return differs(format!("cannot begin: {error}"));
        }
        let mut at_goal = Vec::with_capacity(steps + 1);
        let mut actions = row.actions.chunks_exact(limits.action_width);
        for (step, state) in row.states.chunks_exact(limits.state_width).enumerate() {
            if step > 0 {
                let action = actions.next().unwrap_or_default();
                if let Err(error) = env.step(action) {
                    return differs(format!("cannot make step {step}: {error}"));
                }
            }
            if !same(state, env.state()) {
                return differs(format!(
                    "has another state after step {step} than its actions lead to"
                ));
            }
            let distance = env.state_distance(&row.goal, env.state());
            if distance.to_bits() != row.distances[step].to_bits() {
                return differs(format!(
                    "has distance {} after step {step} where {distance} comes out",
                    row.distances[step]
                ));
            }
            at_goal.push(env.success(&row.goal, env.state()));
        }
        let rule = self.config.protocol.success;
        let reached = |rule| success::succeeded(rule, &at_goal, plan_steps).unwrap_or(false);
        let outcomes = [
            ("success", row.success, reached(rule)),
            (
                "success_any",
                row.success_any,
                reached(crate::protocol::SuccessRule::Any),
            ),
        ];
        Ok(outcomes.into_iter().find_map(|(name, said, found)| {
            (said != found).then(|| format!("says `{name}` is {said} where {found} comes out"))
        }))
    }
}

/// The beginning and the goal that a row states.
fn claimed(row: &EpisodeRow) -> Start {
    Start {
        init: row.init.clone(),
        goal: row.goal.clone(),
        way: Vec::new(),
    }
}

fn same(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn largest(row: &EpisodeRow) -> f64 {
    [&row.init, &row.goal, &row.states, &row.actions]
        .into_iter()
        .flatten()
        .fold(0.0, |largest, value| f64::max(largest, value.abs()))
}

/// Environment steps per plan: what a record says, or else what the task does.
fn plan_steps(known: &Known, record: &RunRecord) -> usize {
    let said = record.planner.settings.get("replan_every");
    let plans = said
        .and_then(serde_json::Value::as_u64)
        .and_then(|plans| usize::try_from(plans).ok())
        .unwrap_or(known.config.planner.replan_every);
    plans.saturating_mul(known.config.protocol.frameskip)
}

impl Referee for Simulators {
    fn rules(&self, task: &TaskRef, data: Option<&str>) -> std::result::Result<Rules, String> {
        let known = self.find(task, data)?;
        let episodes = known.config.episodes;
        let unit = env::entry(&known.config.environment.name)
            .map_or("", |entry| entry.limits.distance_unit);
        Ok(Rules {
            summary: known.task.summary.clone(),
            text: known.text.to_string(),
            first_seed: episodes.first_seed,
            seed_stride: episodes.seed_stride,
            episodes: u64::from(episodes.count),
            distance_unit: unit.to_string(),
            may_repeat: known.config.data.is_some(),
            not_replayed: known.not_here,
        })
    }

    fn replay(
        &self,
        record: &RunRecord,
        data: Option<&str>,
        episodes: &[EpisodeRow],
    ) -> jepa_leaderboard::Result<Replay> {
        let known = match self.find(&record.task, data) {
            Ok(known) => known,
            Err(why) => return Ok(Replay::NotHere(why)),
        };
        if let Some(why) = known.not_here {
            return Ok(Replay::NotHere(why));
        }
        let failed = |error: Error| board_error(&record.task, &error);
        let goals = known.goals().map_err(failed)?;
        let steps = plan_steps(&known, record);
        let found: Vec<Option<String>> = episodes
            .par_iter()
            .map(|row| known.difference(goals.as_ref(), row, steps))
            .collect::<Result<_>>()
            .map_err(failed)?;
        let first = episodes
            .iter()
            .zip(found)
            .find_map(|(row, why)| Some((row.episode, why?)));
        Ok(match first {
            Some((episode, why)) => Replay::Differs(episode, why),
            None => Replay::Reproduced(known.trusted),
        })
    }

    fn random_floor(
        &self,
        task: &TaskRef,
        data: Option<&str>,
        seeds: &[u64],
    ) -> jepa_leaderboard::Result<Option<Vec<EpisodeRow>>> {
        let Ok(known) = self.find(task, data) else {
            return Ok(None);
        };
        if known.not_here.is_some() || known.trusted.is_some() {
            return Ok(None);
        }
        let remembered = |floors: &Floors| {
            let floors = floors.lock().unwrap_or_else(PoisonError::into_inner);
            floors.get(&task.hash).cloned()
        };
        let rows = if let Some(rows) = remembered(&self.floors) {
            rows
        } else {
            let rows = run_random(known).map_err(|error| board_error(task, &error))?;
            let rows = Arc::new(rows);
            let mut floors = self.floors.lock().unwrap_or_else(PoisonError::into_inner);
            if floors.len() < REMEMBERED {
                floors.insert(task.hash.clone(), Arc::clone(&rows));
            }
            rows
        };
        let wanted = |row: &&EpisodeRow| seeds.contains(&row.seed);
        Ok(Some(rows.iter().filter(wanted).cloned().collect()))
    }

    fn film(
        &self,
        task: &TaskRef,
        data: Option<&str>,
        row: &EpisodeRow,
        frames: usize,
    ) -> jepa_leaderboard::Result<Option<Vec<Vec<u8>>>> {
        let Ok(known) = self.find(task, data) else {
            return Ok(None);
        };
        if known.not_here.is_some() || largest(row) > LARGEST {
            return Ok(None);
        }
        let drawn = catch_unwind(AssertUnwindSafe(|| draw(&known, row, frames)));
        match drawn {
            Ok(Ok(pictures)) => Ok(Some(pictures)),
            Ok(Err(error)) => Err(board_error(task, &error)),
            Err(_) => Ok(None),
        }
    }
}

/// Runs the random policy on every episode of a task.
fn run_random(known: Known) -> Result<Vec<EpisodeRow>> {
    let resolved = Resolved {
        task: known.task,
        config: known.config,
    };
    let evaluation = Evaluation::new(resolved, Policy::Random)?;
    evaluation
        .episodes()
        .into_par_iter()
        .map(|episode| Ok(run_episode(&evaluation, episode, &|| false)?.row))
        .collect()
}

/// The goal, then evenly spaced states, as PNG files.
fn draw(known: &Known, row: &EpisodeRow, frames: usize) -> Result<Vec<Vec<u8>>> {
    let mut env = known.config.simulator()?;
    let start = match known.goals()? {
        Some(goals) => goals.draw(env.as_mut(), row.seed)?.start,
        None => claimed(row),
    };
    let picture = |env: &dyn Env| env.render(Size::Planner)?.to_png();
    start.enter_goal(env.as_mut())?;
    let mut pictures = vec![picture(env.as_ref())?];
    start.enter(env.as_mut())?;
    let width = env.limits().action_width;
    let steps = row.actions.len() / width;
    let count = frames.clamp(1, steps + 1);
    let shown: Vec<usize> = (0..count)
        .map(|k| {
            if count == 1 {
                steps
            } else {
                k * steps / (count - 1)
            }
        })
        .collect();
    for step in 0..=steps {
        if step > 0 {
            env.step(&row.actions[(step - 1) * width..step * width])?;
        }
        if shown.contains(&step) {
            pictures.push(picture(env.as_ref())?);
        }
    }
    Ok(pictures)
}

fn board_error(task: &TaskRef, error: &Error) -> BoardError {
    BoardError::Simulator {
        task: task.id(),
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::{Recording, collect};
    use crate::protocol::{Choices, resolve};

    /// A finished run of a policy, in memory.
    fn run(
        model: &str,
        task: &str,
        data: Option<&str>,
        changes: &[&str],
    ) -> (RunRecord, Vec<EpisodeRow>) {
        let settings: Vec<String> = changes.iter().map(ToString::to_string).collect();
        let resolved = resolve(&Choices {
            model: Some(model),
            task: Some(task),
            data,
            settings: &settings,
            ..Choices::default()
        })
        .unwrap();
        let policy = Policy::find(model, jepa_models::Compute::parse("cpu").unwrap()).unwrap();
        let evaluation = Evaluation::new(resolved, policy).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let destination = crate::runner::Destination {
            runs: folder.path().to_path_buf(),
            unfinished: crate::runner::Continue::Never,
        };
        let finished =
            crate::runner::evaluate(&evaluation, &destination, &crate::runner::Unobserved).unwrap();
        let run = jepa_leaderboard::Run::load(&finished.dir).unwrap();
        (run.record, run.episodes)
    }

    const CHEAP: [&str; 3] = [
        "planner.candidates=8",
        "planner.elites=4",
        "planner.iterations=1",
    ];

    #[test]
    fn honest_episodes_of_every_native_simulator_come_out_the_same() {
        for task in [
            "wall@1",
            "pointmaze@1",
            "wall-dinowm@1",
            "pointmaze-dinowm@1",
        ] {
            for (model, changes) in [("floor:random", &[][..]), ("oracle", &CHEAP[..])] {
                let (record, rows) = run(model, task, None, changes);
                let replay = Simulators::default().replay(&record, None, &rows).unwrap();
                assert_eq!(replay, Replay::Reproduced(None), "{task} {model}");
            }
        }
    }

    #[test]
    fn what_was_touched_is_named() {
        let (record, rows) = run("oracle", "wall@1", None, &CHEAP);
        let simulators = Simulators::default();
        let differs = |change: &dyn Fn(&mut EpisodeRow)| {
            let mut rows = rows[..6].to_vec();
            change(&mut rows[4]);
            match simulators.replay(&record, None, &rows).unwrap() {
                Replay::Differs(4, why) => why,
                other => panic!("{other:?}"),
            }
        };
        assert!(differs(&|row| row.actions[5] += 1e-9).contains("another state after step 3"));
        assert!(differs(&|row| row.states[9] += 1e-12).contains("another state after step 4"));
        assert!(differs(&|row| row.distances[7] += 1e-12).contains("after step 7"));
        assert!(differs(&|row| row.success = !row.success).contains("`success` is"));
        assert!(differs(&|row| row.success_any = !row.success_any).contains("`success_any` is"));
        assert!(differs(&|row| row.goal[0] += 1.0).contains("begins or ends elsewhere"));
        assert!(differs(&|row| row.seed += 1).contains("begins or ends elsewhere"));
        assert!(differs(&|row| row.actions.truncate(2)).contains("not the 30 steps"));
        assert!(differs(&|row| row.actions[5] = 1e300).contains("beyond"));
        assert!(differs(&|row| row.actions[5] = 1e8).contains("step 3"));
    }

    #[test]
    fn tasks_are_known_by_their_hash() {
        let (record, rows) = run("floor:noop", "wall@1", None, &[]);
        let simulators = Simulators::default();
        let rules = simulators.rules(&record.task, None).unwrap();
        assert_eq!(
            (rules.first_seed, rules.episodes, rules.not_replayed),
            (record.first_seed, 96, None)
        );
        let mut task = record.task.clone();
        task.hash = "0".repeat(64);
        assert!(
            simulators
                .rules(&task, None)
                .unwrap_err()
                .contains("another task here")
        );
        task.name = "../wall".into();
        assert!(
            simulators
                .rules(&task, None)
                .unwrap_err()
                .contains("there are wall@1")
        );
        let (shorter, _) = run("floor:noop", "wall@1", None, &["protocol.max_steps=20"]);
        assert!(simulators.rules(&shorter.task, None).is_err());
        assert!(matches!(
            simulators.replay(&shorter, None, &rows).unwrap(),
            Replay::NotHere(_)
        ));
    }

    #[test]
    fn the_random_floor_is_the_one_that_eval_runs() {
        let (record, rows) = run("floor:random", "pointmaze@1", None, &[]);
        let seeds: Vec<u64> = rows.iter().map(|row| row.seed).collect();
        let simulators = Simulators::default();
        for _ in 0..2 {
            let floor = simulators.random_floor(&record.task, None, &seeds).unwrap();
            assert_eq!(floor.unwrap(), rows);
        }
    }

    #[test]
    fn replayed_goals_are_checked_where_their_data_is_and_trusted_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let recording = Recording {
            policy: "push".into(),
            episodes: 10,
            steps: 40,
            split: "jepa-wms:0.8:234".parse().unwrap(),
            size: Some(8),
            ..Recording::new("pusht")
        };
        let path = folder.path().join("data");
        collect(&recording, &path, &|_, _| (), &|| false).unwrap();
        let (record, mut rows) = run("floor:random", "pusht@1", path.to_str(), &[]);
        let hash = Dataset::open(&path).unwrap().content_hash().to_string();
        let (here, elsewhere) = (
            Simulators::new(std::slice::from_ref(&path)).unwrap(),
            Simulators::default(),
        );
        let replay = |simulators: &Simulators, rows: &[EpisodeRow]| {
            simulators.replay(&record, Some(&hash), rows).unwrap()
        };
        assert_eq!(replay(&here, &rows), Replay::Reproduced(None));
        match replay(&elsewhere, &rows) {
            Replay::Reproduced(Some(trusted)) => assert!(trusted.contains("as submitted")),
            other => panic!("{other:?}"),
        }
        let repeats = |simulators: &Simulators| {
            let rules = simulators.rules(&record.task, Some(&hash)).unwrap();
            rules.may_repeat
        };
        assert_eq!((repeats(&here), repeats(&elsewhere)), (true, false));
        assert!(
            here.rules(&record.task, None).is_err(),
            "the data is part of the task"
        );
        let seeds: Vec<u64> = rows.iter().map(|row| row.seed).collect();
        let floor = |simulators: &Simulators| {
            simulators
                .random_floor(&record.task, Some(&hash), &seeds)
                .unwrap()
        };
        assert_eq!(
            (floor(&here), floor(&elsewhere)),
            (Some(rows.clone()), None)
        );
        // An easier goal passes only where nobody knows better.
        let end = rows[0].final_state.clone();
        rows[0].goal = end;
        assert!(matches!(replay(&here, &rows), Replay::Differs(0, _)));
    }

    #[test]
    fn a_film_shows_the_goal_and_the_way() {
        let (record, rows) = run("floor:random", "wall@1", None, &[]);
        let simulators = Simulators::default();
        let film = simulators
            .film(&record.task, None, &rows[0], 5)
            .unwrap()
            .unwrap();
        assert_eq!(film.len(), 6);
        assert!(film.iter().all(|picture| picture.starts_with(b"\x89PNG")));
        assert_ne!(film[1], film[5]);
    }

    #[test]
    fn simulators_outside_this_program_are_not_started() {
        let task = Task::find("mw-reach@1").unwrap();
        let config = RunConfig::new(&task, &task.default_preset, "floor:noop").unwrap();
        let rules = Simulators::default()
            .rules(&task.reference(&config, None), None)
            .unwrap();
        assert!(rules.not_replayed.unwrap().contains("program of its own"));
    }
}
