//! Runs made up from a formula, for tests of this crate and of the crates that read run folders.
//!
//! The numbers look like a Wall evaluation (two coordinates, a distance that falls, a planner whose
//! cost falls) but nothing was simulated. The same arguments give the same run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::episodes::{write_episodes, write_timings};
use crate::error::{Error, Result};
use crate::files::{hash_file, write_atomically};
use crate::record::{
    EpisodeRow, ModelKind, ModelRef, PlannerRef, Provenance, RECORD_VERSION, RunRecord, Summary,
    TaskRef, TimingRow, TrainingRef,
};
use crate::referee::{Referee, Replay, Rules};
use crate::run::{CONFIG_FILE, EPISODES_FILE, RECORD_FILE, TIMINGS_FILE};
use crate::statistics::Draws;

/// Environment steps of a made-up episode.
const STEPS: usize = 30;
/// Planner iterations of a made-up plan.
const ITERATIONS: usize = 30;
/// Distance, in pixels, under which the made-up task counts as solved.
const REACH: f64 = 4.5;

/// A run to be made up.
#[derive(Debug, Clone)]
pub struct SyntheticRun {
    model: String,
    episodes: u32,
    reach_share: f64,
    seed: u64,
}

impl SyntheticRun {
    /// A run of `model` over `episodes` episodes with a success rate that suits its name.
    pub fn new(model: &str, episodes: u32) -> Self {
        let reach_share = match kind_of(model) {
            ModelKind::Oracle => 0.99,
            ModelKind::Trained => 0.86,
            ModelKind::Floor => 0.02,
        };
        Self {
            model: model.into(),
            episodes,
            reach_share,
            seed: 1,
        }
    }

    /// The same run with another expected success rate.
    #[must_use]
    pub fn reaching(self, share: f64) -> Self {
        Self {
            reach_share: share,
            ..self
        }
    }

    /// The same run with other outcomes on the same episodes.
    #[must_use]
    pub fn seeded(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The episodes.
    pub fn episodes(&self) -> Vec<EpisodeRow> {
        let mut key = blake3::hash(self.model.as_bytes()).as_bytes()[..8].to_vec();
        key.rotate_left((self.seed % 8) as usize);
        let mut draws = Draws::new(
            key.iter()
                .fold(self.seed, |sum, &b| sum * 257 % (1 << 50) + u64::from(b)),
        );
        (0..self.episodes)
            .map(|k| self.episode(k, &mut draws))
            .collect()
    }

    fn episode(&self, k: u32, draws: &mut Draws) -> EpisodeRow {
        let (init, goal) = start_and_goal(k);
        let success = uniform(draws) < self.reach_share;
        let drift = if success {
            0.2 + 3.8 * uniform(draws)
        } else {
            6.0 + 30.0 * uniform(draws)
        };
        let angle = [2.0 * uniform(draws) - 1.0, 2.0 * uniform(draws) - 1.0];
        let length = (angle[0] * angle[0] + angle[1] * angle[1]).sqrt().max(1e-3);
        let end = [
            goal[0] + drift * angle[0] / length,
            goal[1] + drift * angle[1] / length,
        ];
        let states = path(init, end, draws);
        let plans = u32::from(kind_of(&self.model) != ModelKind::Floor);
        finish(
            k,
            success,
            init,
            goal,
            &states,
            costs(plans, success, draws),
        )
    }

    /// The timings.
    pub fn timings(&self) -> Vec<TimingRow> {
        let mut draws = Draws::new(77);
        let base = if kind_of(&self.model) == ModelKind::Floor {
            0.0
        } else {
            1.9
        };
        (0..self.episodes)
            .map(|episode| TimingRow {
                episode,
                plan_seconds: base * (1.0 + 0.3 * uniform(&mut draws)),
                env_seconds: 0.01 + 0.002 * uniform(&mut draws),
            })
            .collect()
    }

    /// The record, without file hashes.
    ///
    /// # Panics
    /// When the run has no episodes.
    pub fn record(&self) -> RunRecord {
        let summary = Summary::from_episodes(&self.episodes(), &self.timings());
        RunRecord {
            record_version: RECORD_VERSION,
            task: TaskRef {
                name: "wall".into(),
                version: 1,
                hash: hex("task wall@1"),
            },
            model: self.model_ref(),
            planner: planner_ref(kind_of(&self.model)),
            objective: BTreeMap::from([
                ("distance".into(), "l2".into()),
                ("steps".into(), "last".into()),
                ("proprio_weight".into(), 0.0.into()),
            ]),
            first_seed: 2,
            seed_stride: 1,
            summary: summary.unwrap_or_else(|| panic!("a run needs an episode")),
            provenance: self.provenance(),
            files: BTreeMap::new(),
        }
    }

    fn model_ref(&self) -> ModelRef {
        let kind = kind_of(&self.model);
        let trained = kind == ModelKind::Trained;
        ModelRef {
            name: self.model.clone(),
            kind,
            label: label_of(&self.model),
            weights_hash: trained.then(|| hex(&format!("weights {} {}", self.model, self.seed))),
            parameters: trained.then_some(1_284_930),
            training: trained.then(|| TrainingRef {
                run: format!("runs/train/{}", self.model),
                seed: self.seed,
                steps: 9_000,
                seconds: 1_260.0,
                config_hash: Some(hex(&format!("configuration {}", self.model))),
                dataset_hash: hex("dataset"),
                train_split_hash: hex("split"),
                track: "reduced".into(),
            }),
        }
    }

    fn provenance(&self) -> Provenance {
        let command = [
            "jepa-bench",
            "eval",
            "--model",
            &self.model,
            "--task",
            "wall@1",
        ];
        Provenance {
            commit: "0123456789abcdef0123456789abcdef01234567".into(),
            version: "0.1.0".into(),
            os: "linux x86_64".into(),
            cpu: "a made-up processor".into(),
            threads: 2,
            device: "cpu".into(),
            started_utc: "2026-01-01T00:00:00Z".into(),
            wall_seconds: 214.0,
            command: command.map(String::from).to_vec(),
            dependencies: BTreeMap::from([("burn".into(), "0.22.1".into())]),
        }
    }

    /// Writes the run folder `<runs>/<task>/<model>/<utc>_<hash>/` and returns its path.
    ///
    /// # Errors
    /// When a file cannot be written.
    ///
    /// # Panics
    /// When the run has no episodes.
    pub fn write(&self, runs: &Path) -> Result<PathBuf> {
        let mut record = self.record();
        let name = format!("20260101T000000Z_{}", &hex(&format!("{self:?}"))[..8]);
        let dir = runs
            .join("wall")
            .join(self.model.replace(':', "-"))
            .join(name);
        std::fs::create_dir_all(&dir).map_err(|source| Error::io("create", &dir, source))?;
        write_episodes(&dir.join(EPISODES_FILE), &self.episodes())?;
        write_timings(&dir.join(TIMINGS_FILE), &self.timings())?;
        let config = format!("task = \"wall@1\"\nmodel = \"{}\"\n", self.model);
        write_atomically(&dir.join(CONFIG_FILE), config.as_bytes())?;
        for file in [EPISODES_FILE, TIMINGS_FILE, CONFIG_FILE] {
            record
                .files
                .insert(file.into(), hash_file(&dir.join(file))?);
        }
        record.write(&dir.join(RECORD_FILE))?;
        Ok(dir)
    }
}

/// A referee of the made-up task: episodes must follow from their actions, and reach the goal where they say so.
#[derive(Debug, Clone, Copy)]
pub struct SyntheticReferee {
    /// Number of episodes of the task.
    pub episodes: u32,
}

impl Referee for SyntheticReferee {
    fn rules(&self, task: &TaskRef, _data: Option<&str>) -> std::result::Result<Rules, String> {
        if task.id() != "wall@1" {
            return Err(format!(
                "there is no task `{}`",
                crate::key::shown(&task.id())
            ));
        }
        if task.hash != hex("task wall@1") {
            return Err("`wall@1` is another task here".into());
        }
        Ok(Rules {
            summary: "walk through a made-up wall".into(),
            text: "name = \"wall\"\nversion = 1\n".into(),
            first_seed: 2,
            seed_stride: 1,
            episodes: u64::from(self.episodes),
            distance_unit: "pixels".into(),
            may_repeat: false,
            not_replayed: None,
        })
    }

    fn replay(
        &self,
        _record: &RunRecord,
        _data: Option<&str>,
        episodes: &[EpisodeRow],
    ) -> Result<Replay> {
        let wrong = |row: &EpisodeRow| {
            let (init, goal) = start_and_goal(row.episode);
            let follows = |(states, action): (&[f64], &[f64])| {
                (0..2).all(|i| (states[i] + 2.0 * action[i] - states[i + 2]).abs() < 1e-9)
            };
            let steps = row
                .states
                .windows(4)
                .step_by(2)
                .zip(row.actions.chunks_exact(2));
            let starts = row.init == init && row.goal == goal && row.states.starts_with(&init);
            let reached = row.final_distance < REACH;
            if !starts {
                Some("begins or ends elsewhere")
            } else if !steps.into_iter().all(follows) {
                Some("has states that its actions do not lead to")
            } else if reached != row.success {
                Some("has another outcome")
            } else {
                None
            }
        };
        let first = episodes
            .iter()
            .find_map(|row| Some((row.episode, wrong(row)?)));
        Ok(match first {
            Some((episode, why)) => Replay::Differs(episode, why.into()),
            None => Replay::Reproduced(None),
        })
    }

    fn random_floor(
        &self,
        _task: &TaskRef,
        _data: Option<&str>,
        seeds: &[u64],
    ) -> Result<Option<Vec<EpisodeRow>>> {
        Ok(Some(
            SyntheticRun::new("floor:random", seeds.len() as u32).episodes(),
        ))
    }

    fn film(
        &self,
        _task: &TaskRef,
        _data: Option<&str>,
        _row: &EpisodeRow,
        _frames: usize,
    ) -> Result<Option<Vec<Vec<u8>>>> {
        Ok(None)
    }
}

/// One episode with the given outcome; its distance falls in a straight line.
///
/// # Panics
/// Never for finite distances.
pub fn episode(k: u32, success: bool, final_distance: f64) -> EpisodeRow {
    let (init, goal) = start_and_goal(k);
    let end = [goal[0] + final_distance, goal[1]];
    let mut row = finish(
        k,
        success,
        init,
        goal,
        &path(init, end, &mut Draws::new(0)),
        Costs::default(),
    );
    row.final_distance = final_distance;
    if let Some(last) = row.distances.last_mut() {
        *last = final_distance;
    }
    row
}

#[derive(Default)]
struct Costs {
    plans: u32,
    best: Vec<f64>,
    elite_mean: Vec<f64>,
    elite_std: Vec<f64>,
}

fn finish(
    k: u32,
    success: bool,
    init: [f64; 2],
    goal: [f64; 2],
    states: &[[f64; 2]],
    costs: Costs,
) -> EpisodeRow {
    let distance = |p: &[f64; 2]| ((p[0] - goal[0]).powi(2) + (p[1] - goal[1]).powi(2)).sqrt();
    let distances: Vec<f64> = states.iter().map(distance).collect();
    let end = states[states.len() - 1];
    let actions = states
        .windows(2)
        .flat_map(|w| [(w[1][0] - w[0][0]) / 2.0, (w[1][1] - w[0][1]) / 2.0]);
    EpisodeRow {
        episode: k,
        seed: 2 + u64::from(k),
        init: init.to_vec(),
        goal: goal.to_vec(),
        final_state: end.to_vec(),
        success,
        success_any: success || distances.iter().any(|&d| d < REACH),
        final_distance: distances[distances.len() - 1],
        actions: actions.collect(),
        states: states.iter().flatten().copied().collect(),
        distances,
        plans: costs.plans,
        world_model_calls: costs.best.len() as u64,
        candidate_steps: costs.best.len() as u64 * 300 * 6,
        cost_best: costs.best,
        cost_elite_mean: costs.elite_mean,
        cost_elite_std: costs.elite_std,
    }
}

/// Start and goal in opposite rooms, a function of the episode alone.
fn start_and_goal(k: u32) -> ([f64; 2], [f64; 2]) {
    let mut draws = Draws::new(1_000 + u64::from(k));
    let mut within = |low: f64, high: f64| low + (high - low) * uniform(&mut draws);
    let (start, target) = (within(7.4, 25.6), within(38.4, 56.6));
    let (start_y, target_y) = (within(7.4, 56.6), within(7.4, 56.6));
    if within(0.0, 1.0) < 0.5 {
        ([target, start_y], [start, target_y])
    } else {
        ([start, start_y], [target, target_y])
    }
}

/// A walk from `start` to `end` that slows down and trembles on the way.
fn path(start: [f64; 2], end: [f64; 2], draws: &mut Draws) -> Vec<[f64; 2]> {
    (0..=STEPS)
        .map(|step| {
            let t = step as f64 / STEPS as f64;
            let share = 1.0 - (1.0 - t) * (1.0 - t) * (1.0 - 0.5 * t);
            let noise = if step == 0 || step == STEPS {
                0.0
            } else {
                1.2 * (1.0 - t)
            };
            [0, 1].map(|i| start[i] + (end[i] - start[i]) * share + noise * (uniform(draws) - 0.5))
        })
        .collect()
}

fn costs(plans: u32, success: bool, draws: &mut Draws) -> Costs {
    let mut costs = Costs {
        plans,
        ..Costs::default()
    };
    for _ in 0..plans {
        let (high, low) = (
            0.6 + 0.5 * uniform(draws),
            if success { 0.02 } else { 0.11 },
        );
        let rate = 0.3 + 0.3 * uniform(draws);
        for iteration in 0..ITERATIONS {
            let share = 1.0 / (1.0 + rate * iteration as f64).powi(2);
            let best = low + (high - low) * share;
            costs.best.push(best);
            costs.elite_mean.push(best * 1.3 + 0.05 * share);
            costs
                .elite_std
                .push(0.18 * share * (0.8 + 0.4 * uniform(draws)));
        }
    }
    costs
}

fn planner_ref(kind: ModelKind) -> PlannerRef {
    if kind == ModelKind::Floor {
        return PlannerRef {
            name: "none".into(),
            preset: "none".into(),
            settings: BTreeMap::new(),
        };
    }
    let settings = [
        ("candidates", 300),
        ("elites", 10),
        ("iterations", 20),
        ("horizon", 5),
        ("replan_every", 5),
    ];
    PlannerRef {
        name: "cem".into(),
        preset: "paper".into(),
        settings: settings
            .map(|(name, value)| (name.to_string(), value.into()))
            .into(),
    }
}

fn kind_of(model: &str) -> ModelKind {
    match model {
        "oracle" => ModelKind::Oracle,
        name if name.starts_with("floor:") => ModelKind::Floor,
        _ => ModelKind::Trained,
    }
}

fn label_of(model: &str) -> String {
    match model {
        "pldm" => "PLDM",
        "oracle" => "Oracle (simulator)",
        "floor:random" => "Random actions",
        "floor:noop" => "No action",
        other => other,
    }
    .to_string()
}

fn uniform(draws: &mut Draws) -> f64 {
    f64::from(draws.next_u32()) / 4_294_967_296.0
}

fn hex(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}
