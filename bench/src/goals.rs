//! Where episodes begin and what they must reach (evaluation.md section 1.0.1).
//!
//! A task names the source of its goals. `random_state`: the released sampler of the environment draws both states.
//! `replay`: a stretch of a recorded episode of the validation split is chosen, and its actions are replayed in the
//! simulator from the state where it begins; the goal is the state that this reaches, not the recorded one, so that it
//! can be reached by construction. Which stretch is decided by the seed of the episode alone.

use std::path::Path;

use jepa_datasets::{ACTION, Column, Dataset, STATE, Stream};

use crate::env::{Env, Start};
use crate::protocol::{GoalSource, RunConfig, SolvedAtStart};
use crate::{Error, Result};

/// Split whose episodes are replayed.
const SPLIT: &str = "val";
/// Draws after which a rule that no episode satisfies is given up.
const MOST_DRAWS: u32 = 1000;

/// Draws the episodes of a run.
#[derive(Debug)]
pub struct Goals {
    source: Source,
    solved: SolvedAtStart,
    /// Name of the task, for the streams.
    task: String,
}

#[derive(Debug)]
enum Source {
    /// The environment's released sampler.
    Sampler,
    /// Recorded episodes that the environment shows; the content hash of their dataset.
    Shown(String),
    /// Stretches of recorded episodes.
    Replay(Box<Recorded>),
}

/// The stretches of a dataset that can be replayed.
#[derive(Debug)]
struct Recorded {
    dataset: Dataset,
    /// Actions of a stretch.
    steps: usize,
    /// Episodes of the split that are long enough, with the number of stretches in each.
    episodes: Vec<(u64, u64)>,
}

/// An episode, and how often another one was drawn before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Draw {
    /// Where it begins and ends.
    pub start: Start,
    /// Draws that were at their goal from the start and were drawn again.
    pub redrawn: u32,
}

impl Goals {
    /// What a run's episodes are drawn from.
    ///
    /// # Errors
    /// When the task replays recorded episodes and there is no dataset, it is one of another environment, or none of its
    /// validation episodes is long enough; or when there is a dataset that the task has no use for.
    pub fn open(config: &RunConfig) -> Result<Self> {
        let source = match (config.protocol.goal_source, &config.data) {
            (GoalSource::RandomState | GoalSource::Expert, None) => Source::Sampler,
            (GoalSource::RandomState | GoalSource::Expert, Some(_)) => {
                return Err(Error::Config {
                    what: format!("`--data` with task `{}`", config.task),
                    detail: "its goals come from the sampler of the environment".into(),
                    hint: Some("leave out `--data`".into()),
                });
            }
            (GoalSource::Recorded, Some(path)) => {
                Source::Shown(Dataset::open(Path::new(path))?.content_hash().to_string())
            }
            (GoalSource::Recorded, None) => {
                let how = "add `--data DST`, a dataset made by `jepa-bench ingest droid` or `ingest franka`";
                return Err(no_data(config, "its episodes are recorded ones", how));
            }
            (GoalSource::Replay, None) => {
                let how = format!(
                    "add `--data DST`: the released data after `jepa-bench ingest {0}`, or your own from `jepa-bench \
                     collect {0}`",
                    config.environment.name
                );
                return Err(no_data(
                    config,
                    "its goals are replayed from recorded episodes",
                    &how,
                ));
            }
            (GoalSource::Replay, Some(path)) => {
                Source::Replay(Box::new(Recorded::open(Path::new(path), config)?))
            }
        };
        Ok(Self {
            source,
            solved: config.protocol.solved_at_start,
            task: config.task.clone(),
        })
    }

    /// Content hash of the dataset that episodes are drawn from, if there is one.
    pub fn content_hash(&self) -> Option<&str> {
        match &self.source {
            Source::Sampler => None,
            Source::Shown(hash) => Some(hash),
            Source::Replay(recorded) => Some(recorded.dataset.content_hash()),
        }
    }

    /// The episode of a seed. `env` is left in some state.
    ///
    /// # Errors
    /// When the sampler refuses the seed, the dataset cannot be read, its states and actions do not fit the simulator, or
    /// episodes that are solved at the start are to be drawn again and nothing else is drawn.
    pub fn draw(&self, env: &mut dyn Env, seed: u64) -> Result<Draw> {
        for redrawn in 0..MOST_DRAWS {
            let start = match &self.source {
                Source::Sampler | Source::Shown(_) => env.sample(seed)?,
                Source::Replay(recorded) => {
                    let attempt = redrawn.to_string();
                    let names = [
                        "goal",
                        &self.task,
                        "episode",
                        &seed.to_string(),
                        "draw",
                        &attempt,
                    ];
                    recorded.draw(env, Stream::new(0, &names))?
                }
            };
            if self.solved == SolvedAtStart::Keep {
                return Ok(Draw { start, redrawn });
            }
            start.enter(env)?;
            if !env.success(&start.goal, env.state()) {
                return Ok(Draw { start, redrawn });
            }
        }
        Err(Error::Invalid {
            what: format!("episode seed {seed}"),
            detail: "every episode drawn for it is at its goal from the start".into(),
        })
    }
}

fn no_data(config: &RunConfig, detail: &str, hint: &str) -> Error {
    Error::Config {
        what: format!("task `{}`", config.task),
        detail: format!("{detail}, and no dataset is named"),
        hint: Some(hint.to_string()),
    }
}

impl Recorded {
    fn open(path: &Path, config: &RunConfig) -> Result<Self> {
        let dataset = Dataset::open(path)?;
        let unfit = |detail: String, hint: &str| Error::Config {
            what: format!("dataset `{}`", path.display()),
            detail,
            hint: Some(hint.to_string()),
        };
        let limits = config.simulator()?.limits();
        for (name, width) in [(STATE, limits.state_width), (ACTION, limits.action_width)] {
            let field = dataset
                .manifest()
                .draft
                .fields
                .iter()
                .find(|field| field.name == name);
            let found = field.map_or(0, jepa_datasets::Field::width);
            if found != width {
                return Err(unfit(
                    format!(
                        "its `{name}` has {found} numbers, `{}` has {width}",
                        config.environment.name
                    ),
                    "pass a dataset of the task's environment",
                ));
            }
        }
        let steps = config
            .protocol
            .goal_steps
            .unwrap_or(config.protocol.max_steps);
        // A stretch has one row more than actions, as the released loader counts.
        let stretches = |index: u64| -> Result<(u64, u64)> {
            let length = dataset.episode(index)?.length;
            Ok((index, length.saturating_sub(steps as u64)))
        };
        let split = dataset.split(SPLIT)?;
        let episodes = split.episodes.iter().map(|&index| stretches(index));
        let mut episodes = episodes.collect::<Result<Vec<_>>>()?;
        episodes.retain(|(_, stretches)| *stretches > 0);
        if episodes.is_empty() {
            return Err(unfit(
                format!("no episode of its `{SPLIT}` split has more than {steps} rows"),
                "record longer episodes, or change `protocol.goal_steps`",
            ));
        }
        Ok(Self {
            dataset,
            steps,
            episodes,
        })
    }

    /// A uniform episode among those that are long enough, and a uniform stretch of it.
    fn draw(&self, env: &mut dyn Env, mut stream: Stream) -> Result<Start> {
        let (episode, stretches) = self.episodes[stream.below(self.episodes.len() as u64) as usize];
        let first = stream.below(stretches) as usize;
        let rows = self.dataset.read_rows(episode, first..first + self.steps)?;
        let values = |name: &str| rows.get(name).map(Column::to_f64).unwrap_or_default();
        let mut start = Start {
            init: values(STATE)[..env.limits().state_width].to_vec(),
            goal: Vec::new(),
            way: values(ACTION),
        };
        start.enter_goal(env)?;
        start.goal = env.state().to_vec();
        Ok(start)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::collect::{Recording, collect};
    use crate::protocol::{Choices, resolve};

    /// Ten episodes of a pusher, two of them for validation.
    fn recorded(folder: &Path, steps: usize) -> String {
        let recording = Recording {
            policy: "push".into(),
            episodes: 10,
            steps,
            split: "jepa-wms:0.8:234".parse().unwrap(),
            size: Some(8),
            ..Recording::new("pusht")
        };
        let path = folder.join("data");
        collect(&recording, &path, &|_, _| (), &|| false).unwrap();
        path.to_str().unwrap().to_string()
    }

    fn config(data: Option<&str>, settings: &[&str]) -> Result<RunConfig> {
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        let resolved = resolve(&Choices {
            model: Some("floor:noop"),
            task: Some("pusht@1"),
            data,
            settings: &settings,
            ..Choices::default()
        });
        resolved.map(|resolved| resolved.config)
    }

    #[test]
    fn goals_are_what_recorded_actions_of_validation_episodes_reach() {
        let folder = tempfile::tempdir().unwrap();
        let data = recorded(folder.path(), 40);
        let config = config(Some(&data), &[]).unwrap();
        let goals = Goals::open(&config).unwrap();
        let dataset = Dataset::open(Path::new(&data)).unwrap();
        assert_eq!(goals.content_hash(), Some(dataset.content_hash()));
        let held_out = &dataset.split("val").unwrap().episodes;
        let mut env = config.simulator().unwrap();
        let mut seen = BTreeSet::new();
        for seed in 1..60 {
            let Draw { start, redrawn } = goals.draw(env.as_mut(), seed).unwrap();
            assert_eq!((redrawn, start.way.len()), (0, 60));
            assert_eq!(goals.draw(env.as_mut(), seed).unwrap().start, start);
            // The stretch is one of a validation episode, row for row.
            let found = held_out.iter().find_map(|&episode| {
                let rows = dataset.read_rows(episode, 0..40).unwrap();
                let (states, actions) = (rows[STATE].to_f64(), rows[ACTION].to_f64());
                let first = states.chunks(7).position(|state| state == start.init)?;
                (actions[2 * first..].get(..60) == Some(&start.way)).then_some((episode, first))
            });
            let (episode, first) = found.expect("no recorded stretch is like it");
            assert!(first < 10);
            seen.insert((episode, first));
            // The goal is reached by the actions, from the reset.
            start.enter(env.as_mut()).unwrap();
            for action in start.way.chunks(2) {
                env.step(action).unwrap();
            }
            assert_eq!(env.state(), start.goal);
        }
        // Two episodes of ten stretches each: nearly all of them come up, in both.
        assert!(seen.len() > 15, "{seen:?}");
        assert_eq!(
            seen.iter()
                .map(|(episode, _)| episode)
                .collect::<BTreeSet<_>>()
                .len(),
            2
        );
    }

    #[test]
    fn episodes_that_are_solved_at_the_start_can_be_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let data = recorded(folder.path(), 40);
        let few = ["protocol.goal_steps=2"];
        let keep = config(Some(&data), &few).unwrap();
        let redraw = config(
            Some(&data),
            &["protocol.goal_steps=2", "protocol.solved_at_start=redraw"],
        )
        .unwrap();
        let mut env = keep.simulator().unwrap();
        let mut count = |config: &RunConfig| {
            let goals = Goals::open(config).unwrap();
            let (mut solved, mut redrawn) = (0, 0);
            for seed in 1..40 {
                let draw = goals.draw(env.as_mut(), seed).unwrap();
                draw.start.enter(env.as_mut()).unwrap();
                solved += u32::from(env.success(&draw.start.goal, env.state()));
                redrawn += draw.redrawn;
            }
            (solved, redrawn)
        };
        let kept = count(&keep);
        assert!(kept.0 > 5 && kept.1 == 0, "{kept:?}");
        let passed = count(&redraw);
        assert!(passed.0 == 0 && passed.1 >= kept.0, "{passed:?}");
    }

    #[test]
    fn data_that_is_missing_short_or_of_another_environment_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |data: Option<&str>, settings: &[&str]| {
            let error = Goals::open(&config(data, settings).unwrap()).unwrap_err();
            format!("{error}; {}", error.hint().unwrap_or_default())
        };
        assert!(refused(None, &[]).contains("`jepa-bench collect pusht`"));
        let data = recorded(folder.path(), 30);
        assert!(refused(Some(&data), &[]).contains("more than 30 rows"));
        assert!(refused(Some("nowhere"), &[]).contains("nowhere"));
        let wall = folder.path().join("wall");
        let recording = Recording {
            episodes: 10,
            steps: 40,
            ..Recording::new("wall")
        };
        collect(&recording, &wall, &|_, _| (), &|| false).unwrap();
        let said = refused(wall.to_str(), &[]);
        assert!(said.contains("has 2 numbers, `pusht` has 7"), "{said}");
        let on_wall = resolve(&Choices {
            model: Some("floor:noop"),
            task: Some("wall@1"),
            data: wall.to_str(),
            ..Choices::default()
        });
        let error = Goals::open(&on_wall.unwrap().config).unwrap_err();
        assert_eq!(error.hint().unwrap(), "leave out `--data`");
    }
}
