//! Recording a dataset straight from a simulator.
//!
//! Every episode has a random stream of its own, so the dataset is the same bytes whatever the number
//! of threads and interruptions. Episodes are laid out like the released ones: row `t` holds the state
//! before action `t`, and there is one more frame than rows (the observation after the last action).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use jepa_datasets::{
    ACTION, Camera, Codec, Column, Dataset, DatasetWriter, Dtype, Episode, Field, Frame, FrameSink,
    ManifestDraft, PROPRIO, PixelType, STATE, Source, SplitRule, WriterOptions,
};
use rayon::prelude::*;

use crate::env::{self, Env, EnvEntry};
use crate::seeds::collect_stream;
use crate::{Error, Result};

/// What to record.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// Environment, a name in [`env::ENVIRONMENTS`].
    pub env: String,
    /// Behaviour that chooses the actions.
    pub policy: String,
    /// Number of episodes.
    pub episodes: u64,
    /// Actions per episode.
    pub steps: usize,
    /// Seed of the whole dataset.
    pub seed: u64,
    /// Rows and columns of the frames; the environment's own size when `None`.
    pub size: Option<usize>,
    /// How frames are stored.
    pub codec: Codec,
    /// Which episodes are for training; [`Self::default_split`] by default.
    pub split: SplitRule,
    /// Replace what is at the destination.
    pub overwrite: bool,
}

impl Recording {
    /// The released Wall data in numbers: 1920 episodes of 50 random steps at native resolution.
    pub fn new(env: &str) -> Self {
        Self {
            env: env.to_string(),
            policy: "random".to_string(),
            episodes: 1920,
            steps: 50,
            seed: 0,
            size: None,
            codec: Codec::Lossless,
            split: Self::default_split(env),
            overwrite: false,
        }
    }

    /// The released rule of an environment's data, or the usual shuffle where the release comes in two folders.
    pub fn default_split(env: &str) -> SplitRule {
        let entry = jepa_datasets::catalog::find(env);
        let is_shuffled = entry.is_none_or(|entry| entry.released_split().is_some());
        if is_shuffled {
            SplitRule::Released
        } else {
            SplitRule::JEPA_WMS
        }
    }

    /// Checks names and sizes.
    ///
    /// # Errors
    /// When the environment or the policy is unknown, or there is nothing to record.
    pub fn check(&self) -> Result<()> {
        let entry = env::entry(&self.env)?;
        if entry.behaviours.is_empty() {
            let can = env::ENVIRONMENTS
                .iter()
                .filter(|entry| !entry.behaviours.is_empty());
            let names: Vec<&str> = can.map(|entry| entry.name).collect();
            return Err(Error::Config {
                what: format!("recording from `{}`", self.env),
                detail: "it has no policy that records data".into(),
                hint: Some(format!("environments that have one: {}", names.join(", "))),
            });
        }
        if !entry.behaviours.contains(&self.policy.as_str()) {
            return Err(Error::UnknownName {
                kind: "policy",
                name: self.policy.clone(),
                known: entry.behaviours.iter().map(ToString::to_string).collect(),
            });
        }
        if !self.size.is_none_or(|size| (8..=1024).contains(&size)) {
            return Err(Error::Invalid {
                what: "recording".into(),
                detail: "`--size` must be `native` or 8 to 1024".into(),
            });
        }
        if self.episodes == 0 || self.steps == 0 {
            return Err(Error::Invalid {
                what: "recording".into(),
                detail: "`--episodes` and `--steps` must be at least 1".into(),
            });
        }
        Ok(())
    }

    /// Bytes of all frames before compression.
    ///
    /// # Errors
    /// When the environment is unknown.
    pub fn frame_bytes(&self) -> Result<u64> {
        let side = self.side(env::entry(&self.env)?) as u64;
        Ok(self.episodes * (self.steps as u64 + 1) * side * side * 3)
    }

    fn side(&self, entry: &EnvEntry) -> usize {
        self.size.unwrap_or(entry.limits.native_size)
    }

    /// What the dataset says about itself. Everything that decides its bytes is in the revision.
    fn manifest(&self, entry: &EnvEntry) -> ManifestDraft {
        let (limits, fields, side) = (entry.limits, entry.fields, self.side(entry));
        let revision = format!(
            "jepa-bench {} collect, policy {}, seed {}, {} episodes of {} steps",
            env!("CARGO_PKG_VERSION"),
            self.policy,
            self.seed,
            self.episodes,
            self.steps
        );
        ManifestDraft {
            source: Source {
                name: self.env.clone(),
                url: None,
                revision: Some(revision),
                inputs: BTreeMap::new(),
            },
            fields: vec![
                Field::action(limits.action_width, fields.action[0], fields.action[1]),
                Field::proprio(limits.proprio_width, fields.proprio[0], fields.proprio[1]),
                Field::state(
                    Dtype::F64,
                    limits.state_width,
                    fields.state[0],
                    fields.state[1],
                ),
            ],
            cameras: vec![Camera::new(fields.camera, side, side, PixelType::U8)],
            fps: 1.0,
            control_hz: None,
            extra_last_obs: true,
            licence: None,
            citation: None,
            notes: vec![
                "simulated; time has no physical unit, so timestamps count steps".to_string(),
            ],
        }
    }
}

/// Records a dataset, or what is left of an interrupted one. `progress` is called with the number of
/// finished episodes and of all; `interrupted` is asked between episodes.
///
/// # Errors
/// When the destination holds something else or cannot be written, a simulation fails, or the user
/// interrupts; finished episodes are kept and the same call continues.
pub fn collect(
    recording: &Recording,
    destination: &Path,
    progress: &(dyn Fn(u64, u64) + Sync),
    interrupted: &(dyn Fn() -> bool + Sync),
) -> Result<Dataset> {
    recording.check()?;
    let entry = env::entry(&recording.env)?;
    let options = WriterOptions {
        manifest: recording.manifest(entry),
        codec: recording.codec,
        overwrite: recording.overwrite,
        total_episodes: recording.episodes,
        selection: None,
    };
    // The same command again: everything is there.
    let before = DatasetWriter::finished_before(destination, &options, &recording.split)?;
    if let Some(dataset) = before {
        progress(recording.episodes, recording.episodes);
        return Ok(dataset);
    }
    let writer = DatasetWriter::open(destination, options)?;
    let pending = writer.pending();
    let done = AtomicU64::new(recording.episodes - pending.len() as u64);
    progress(done.load(Ordering::Relaxed), recording.episodes);
    pending.par_iter().try_for_each(|&index| -> Result<()> {
        if !interrupted() {
            let mut frames = writer.begin(index)?;
            let episode = record(recording, entry, index, &mut frames)?;
            frames.accept(episode)?;
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, recording.episodes);
        }
        Ok(())
    })?;
    let (done, total) = (done.into_inner() as usize, recording.episodes as usize);
    if done < total {
        return Err(Error::Interrupted {
            done,
            total,
            what: "episodes",
        });
    }
    Ok(writer.finish(&recording.split)?)
}

/// Simulates one episode; frames go to `frames` as they are drawn, everything else is returned.
///
/// # Errors
/// When the environment or its behaviour refuses the settings, or a frame cannot be stored.
pub fn record(
    recording: &Recording,
    entry: &EnvEntry,
    index: u64,
    frames: &mut dyn FrameSink,
) -> Result<Episode> {
    let stream = collect_stream(recording.seed, entry.name, &recording.policy, index);
    let mut env = (entry.build)(&toml::Table::new())?;
    let mut behaviour = env.behaviour(&recording.policy, stream)?;
    env.reset_to(&behaviour.start())?;
    let mut tape = Tape::new(recording.side(entry), entry.fields.camera, frames);
    for _ in 0..recording.steps {
        tape.observe(env.as_ref())?;
        // Stored as f32, so that is what the simulator is given: the data replays to the same states.
        let action: Vec<f32> = behaviour
            .action(env.state())
            .iter()
            .map(|&a| a as f32)
            .collect();
        let native: Vec<f64> = action.iter().map(|&a| f64::from(a)).collect();
        tape.action.extend(action);
        tape.nan_guard_steps += u32::from(env.step(&native)?.nan_guard);
    }
    tape.film(env.as_ref())?;
    Ok(tape.into_episode(recording, entry, index))
}

/// Rows of one episode, and where its frames go.
struct Tape<'a> {
    side: usize,
    camera: &'static str,
    frames: &'a mut dyn FrameSink,
    action: Vec<f32>,
    proprio: Vec<f32>,
    state: Vec<f64>,
    nan_guard_steps: u32,
}

impl<'a> Tape<'a> {
    fn new(side: usize, camera: &'static str, frames: &'a mut dyn FrameSink) -> Self {
        Self {
            side,
            camera,
            frames,
            action: Vec::new(),
            proprio: Vec::new(),
            state: Vec::new(),
            nan_guard_steps: 0,
        }
    }

    /// Adds the present row, except its action.
    fn observe(&mut self, env: &dyn Env) -> Result<()> {
        self.proprio.extend(env.proprio());
        self.state.extend_from_slice(env.state());
        self.film(env)
    }

    /// Adds the present frame.
    fn film(&mut self, env: &dyn Env) -> Result<()> {
        let image = env::draw(env, self.side)?;
        let size = [image.height, image.width];
        let pushed = self.frames.push(self.camera, size, Frame::U8(&image.rgb));
        Ok(pushed?)
    }

    fn into_episode(self, recording: &Recording, entry: &EnvEntry, index: u64) -> Episode {
        let limits = entry.limits;
        let columns = [
            (
                ACTION,
                Column::F32 {
                    width: limits.action_width,
                    values: self.action,
                },
            ),
            (
                PROPRIO,
                Column::F32 {
                    width: limits.proprio_width,
                    values: self.proprio,
                },
            ),
            (
                STATE,
                Column::F64 {
                    width: limits.state_width,
                    values: self.state,
                },
            ),
        ];
        Episode {
            source_index: index,
            source_path: format!("{}/{}", entry.name, recording.policy),
            source_hash: String::new(),
            task: entry.summary.to_string(),
            seed: Some(recording.seed),
            length: recording.steps,
            columns: columns
                .into_iter()
                .map(|(name, column)| (name.to_string(), column))
                .collect(),
            cameras: Vec::new(),
            extras: BTreeMap::from([("nan_guard_steps".into(), f64::from(self.nan_guard_steps))]),
        }
    }
}

#[cfg(test)]
mod tests {
    use jepa_datasets::CameraFrames;

    use super::*;
    use crate::env::Size;

    fn small() -> Recording {
        Recording {
            episodes: 6,
            steps: 8,
            seed: 3,
            ..Recording::new("wall")
        }
    }

    fn wall() -> &'static EnvEntry {
        env::entry("wall").unwrap()
    }

    #[test]
    fn recorded_actions_replay_to_the_recorded_states_and_frames() {
        let mut cameras: Vec<CameraFrames> = Vec::new();
        let episode = record(&small(), wall(), 2, &mut cameras).unwrap();
        episode.check().unwrap();
        let values = |name: &str| episode.columns[name].to_f64();
        let (actions, states) = (values(ACTION), values(STATE));
        let frames = cameras[0].pixels.clone().into_u8();
        let frame = |at: usize| &frames[at * 65 * 65 * 3..][..65 * 65 * 3];
        let mut env = env::build("wall").unwrap();
        env.reset_to(&states[..2]).unwrap();
        for step in 0..8 {
            assert_eq!(env.state(), &states[2 * step..2 * step + 2]);
            assert_eq!(env.render(Size::Native).unwrap().rgb, frame(step));
            env.step(&actions[2 * step..2 * step + 2]).unwrap();
        }
        assert_eq!(env.render(Size::Native).unwrap().rgb, frame(8));
        assert_eq!(frames.len(), 9 * 65 * 65 * 3);
    }

    #[test]
    fn every_environment_records_with_the_default_split() {
        let folder = tempfile::tempdir().unwrap();
        for entry in env::ENVIRONMENTS.iter().filter(|entry| !entry.outside) {
            let recording = Recording {
                episodes: 10,
                steps: 2,
                ..Recording::new(entry.name)
            };
            let path = folder.path().join(entry.name);
            let dataset = collect(&recording, &path, &|_, _| (), &|| false).unwrap();
            let sizes = ["train", "val"].map(|name| dataset.split(name).unwrap().episodes.len());
            assert_eq!(sizes, [9, 1], "{}", entry.name);
        }
    }

    #[test]
    fn episodes_depend_on_seed_and_index_only() {
        let record = |recording: &Recording, index| {
            let mut cameras: Vec<CameraFrames> = Vec::new();
            (
                record(recording, wall(), index, &mut cameras).unwrap(),
                cameras,
            )
        };
        let (first, frames) = record(&small(), 2);
        assert_eq!((first.clone(), frames), record(&small(), 2));
        assert_ne!(first.columns, record(&small(), 3).0.columns);
        let other = Recording { seed: 4, ..small() };
        assert_ne!(first.columns, record(&other, 2).0.columns);
    }

    #[test]
    fn unknown_policies_and_empty_recordings_are_refused() {
        let error = Recording::new("metaworld").check().unwrap_err();
        assert_eq!(
            error.hint().unwrap(),
            "environments that have one: wall, pointmaze, pusht"
        );
        let error = Recording {
            policy: "randon".into(),
            ..small()
        }
        .check()
        .unwrap_err();
        assert!(error.hint().unwrap().starts_with("did you mean `random`?"));
        assert!(
            Recording {
                episodes: 0,
                ..small()
            }
            .check()
            .is_err()
        );
        assert!(
            Recording {
                steps: 0,
                ..small()
            }
            .check()
            .is_err()
        );
        assert!(
            Recording {
                env: "pong".into(),
                ..small()
            }
            .check()
            .is_err()
        );
    }

    #[test]
    fn sizes_are_known_before_recording() {
        assert_eq!(small().frame_bytes().unwrap(), 6 * 9 * 65 * 65 * 3);
        let tiny = Recording {
            size: Some(7),
            ..small()
        };
        assert!(tiny.check().is_err());
        let large = Recording {
            size: Some(224),
            ..small()
        };
        assert_eq!(large.frame_bytes().unwrap(), 6 * 9 * 224 * 224 * 3);
    }

    /// Records into a folder, stopping after some episodes.
    fn run(recording: &Recording, folder: &Path, stop_after: u64) -> Result<Dataset> {
        let seen = AtomicU64::new(0);
        let progress = |_, _| {
            seen.fetch_add(1, Ordering::Relaxed);
        };
        // The first call reports where the recording begins.
        collect(recording, folder, &progress, &|| {
            seen.load(Ordering::Relaxed) > stop_after
        })
    }

    #[test]
    fn an_interrupted_recording_continues_to_the_same_dataset() {
        let folder = tempfile::tempdir().unwrap();
        let whole = run(&small(), &folder.path().join("whole"), u64::MAX).unwrap();
        let parts = folder.path().join("parts");
        let stopped = run(&small(), &parts, 2).unwrap_err();
        assert!(
            matches!(stopped, Error::Interrupted { total: 6, .. }),
            "{stopped}"
        );
        let resumed = run(&small(), &parts, u64::MAX).unwrap();
        assert_eq!(resumed.content_hash(), whole.content_hash());
        assert_eq!(resumed.episodes().len(), 6);
    }
}
