//! What happens in an evaluation, top to bottom.
//!
//! [`evaluate`] opens (or finds) the run folder, runs the episodes that are not in it yet, and writes
//! the record. Episodes are independent: workers take the next one from a list, each finished one is
//! on disk before the next begins, and no result depends on how many workers there are, in how many
//! shards the list was cut, or how often the run was interrupted.

mod decoded;
mod films;
mod folder;
mod forecast;
mod imagination;
mod journal;
mod landscape;
mod merge;
mod provenance;
mod results;
mod tape;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jepa_leaderboard::{EpisodeRow, RunRecord, TimingRow};
use jepa_models::Compute;

use crate::agent::{Gather, Policy, Search, Setup, Stop};
use crate::env::{Env, Outcome, Start};
use crate::goals::{Draw, Goals};
use crate::metric::{state_distance, success};
use crate::planner::Planner;
use crate::protocol::{Resolved, RunConfig, SuccessRule, Task};
use crate::{Error, Result};

pub use decoded::{DecodedEpisode, DecodedStep, Heads, decode};
pub use films::{filmstrip, replay};
pub use folder::{Continue, finished_run};
pub use imagination::{ImaginedStep, imagine};
pub use jepa_datasets::Shard;
pub use journal::Line;
pub use landscape::{Grid, landscape};
pub use merge::merge;
pub(crate) use provenance::Utc;
pub use results::RunManifest;

use folder::RunFolder;
use journal::Journal;

/// Everything that is needed to run the episodes of one run.
#[derive(Debug)]
pub struct Evaluation {
    task: Task,
    config: RunConfig,
    policy: Policy,
    planner: Box<dyn Planner>,
    goals: Goals,
    /// The part of the episode list to run; everything when `None`.
    pub shard: Option<Shard>,
    /// Episodes that are planned together, in one batch of the model; one per thread, each by itself, when `None`.
    pub batch: Option<NonZeroUsize>,
    /// Number of episodes to draw as filmstrips.
    pub films: usize,
    /// The command line, for the record.
    pub command: Vec<String>,
    /// Device that runs the model, for the record.
    pub device: String,
}

/// Where a run goes and whether it may continue an unfinished one.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Folder of all runs; the run itself is `RUNS/<task>/<model>/<utc>_<hash>`.
    pub runs: PathBuf,
    /// What to do with an unfinished run of the same configuration.
    pub unfinished: Continue,
}

/// Watches a run and may stop it.
pub trait Observer: Sync {
    /// The run folder is open: `done` of `total` episodes were in it already.
    fn opened(&self, _folder: &std::path::Path, _done: usize, _total: usize) {}
    /// An episode is on disk.
    fn finished(&self, _row: &EpisodeRow) {}
    /// An episode failed, and the run goes on.
    fn failed(&self, _episode: u32, _error: &Error) {}
    /// Whether to stop. Episodes in hand are given up; they are run again when the run continues.
    fn interrupted(&self) -> bool {
        false
    }
}

/// An observer that looks away.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// A finished run.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its folder.
    pub dir: PathBuf,
    /// What it found.
    pub record: RunRecord,
    /// What it was made of.
    pub manifest: RunManifest,
}

/// What one episode will take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Plans.
    pub plans: u64,
    /// Batched one-step predictions of a world model.
    pub world_model_calls: u64,
    /// Candidate model steps.
    pub candidate_steps: u64,
}

impl Evaluation {
    /// Checks that task, configuration and policy fit together.
    ///
    /// # Errors
    /// When they do not.
    pub fn new(resolved: Resolved, policy: Policy) -> Result<Self> {
        let Resolved { task, config } = resolved;
        config.check()?;
        let goals = Goals::open(&config)?;
        policy.check(&config, config.simulator()?.limits())?;
        policy.check_choices(&task, &config)?;
        let planner = config.planner.build()?;
        policy.check_planner(planner.as_ref())?;
        Ok(Self {
            task,
            config,
            policy,
            planner,
            goals,
            shard: None,
            batch: None,
            films: 0,
            command: Vec::new(),
            device: Compute::Cpu.to_string(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// What chooses the actions.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The planner.
    pub fn planner(&self) -> &dyn Planner {
        self.planner.as_ref()
    }

    /// Hash (blake3, hex) of everything that decides the episodes of this run.
    pub fn run_hash(&self) -> String {
        let (name, weights) = (self.policy.name(), self.policy.weights_hash());
        self.config.hash(name, weights, self.goals.content_hash())
    }

    /// Episodes of this run or shard, in order.
    pub fn episodes(&self) -> Vec<u32> {
        let all = 0..self.config.episodes.count;
        all.filter(|&episode| {
            self.shard
                .is_none_or(|shard| shard.holds(u64::from(episode)))
        })
        .collect()
    }

    /// What one episode will take; nothing without a planner.
    pub fn estimate(&self) -> Estimate {
        let RunConfig {
            protocol, planner, ..
        } = &self.config;
        let mut estimate = Estimate {
            plans: 0,
            world_model_calls: 0,
            candidate_steps: 0,
        };
        let mut elapsed = protocol.warmup_steps;
        while self.policy.plans() && elapsed < protocol.max_steps {
            let horizon = self.config.plan_length(self.planner.as_ref(), elapsed);
            elapsed += planner.replan_every.min(horizon) * protocol.frameskip;
            estimate.plans += 1;
            estimate.candidate_steps += self.planner.evaluations() * horizon as u64;
            if matches!(self.policy, Policy::Model(_)) {
                estimate.world_model_calls += self.planner.iterations() * horizon as u64;
            }
        }
        estimate
    }

    /// Where searches meet, if episodes are planned together and there is a model to ask.
    fn gather(&self) -> Option<Gather<'_>> {
        match (&self.policy, self.batch) {
            (Policy::Model(model), Some(_)) if !self.planner.needs_gradients() => {
                Some(Gather::new(model.as_ref()))
            }
            _ => None,
        }
    }

    fn seed(&self, episode: u32) -> u64 {
        let episodes = &self.config.episodes;
        episodes.first_seed + u64::from(episode) * episodes.seed_stride
    }
}

/// Runs an evaluation, or what is left of it, and writes its record.
///
/// # Errors
/// When the folder is in use, an episode fails, or the observer interrupts; finished episodes are
/// kept, and the same evaluation continues after them.
pub fn evaluate(
    evaluation: &Evaluation,
    destination: &Destination,
    observer: &dyn Observer,
) -> Result<Finished> {
    let folder = RunFolder::open(evaluation, destination)?;
    let journal = Journal::open(&folder.path)?;
    let done: BTreeSet<u32> = journal.episodes();
    let episodes = evaluation.episodes();
    observer.opened(&folder.path, done.len(), episodes.len());
    let pending: Vec<u32> = episodes
        .into_iter()
        .filter(|episode| !done.contains(episode))
        .collect();
    run_pending(evaluation, &pending, &journal, observer)?;
    let lines = journal.into_lines();
    films::write(evaluation, &folder.path, &lines)?;
    let (record, manifest) = results::write(evaluation, &folder, &lines)?;
    let dir = folder.close()?;
    Ok(Finished {
        dir,
        record,
        manifest,
    })
}

/// Runs `pending` on as many workers as the thread pool has threads.
///
/// Workers are threads of their own: a model that computes on the pool then never picks up another
/// episode while it waits, which would spoil the timings.
fn run_pending(
    evaluation: &Evaluation,
    pending: &[u32],
    journal: &Journal,
    observer: &dyn Observer,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    // Episodes whose simulator failed, by what it said.
    let lost: Mutex<BTreeMap<String, Vec<u32>>> = Mutex::default();
    let gather = evaluation.gather();
    let work = || -> Result<()> {
        // Others wait for the searches of this worker from its first episode to its last.
        let _seat = gather.as_ref().map(Gather::seat);
        while !failed.load(Ordering::Relaxed) && !observer.interrupted() {
            let Some(&episode) = pending.get(next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            let line = run_gathered(
                evaluation,
                episode,
                &|| observer.interrupted(),
                gather.as_ref(),
            );
            match line.and_then(|line| journal.append(line)) {
                Ok(row) => observer.finished(&row),
                // What is left is counted below.
                Err(Error::Interrupted { .. }) => break,
                Err(error @ Error::Bridge { .. }) => {
                    observer.failed(episode, &error);
                    let mut lost = lost.lock().unwrap_or_else(PoisonError::into_inner);
                    lost.entry(error.to_string()).or_default().push(episode);
                }
                Err(error) => {
                    failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(())
    };
    let workers = evaluation
        .batch
        .map_or_else(rayon::current_num_threads, NonZeroUsize::get);
    let workers = workers.min(pending.len());
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let joined = handles.into_iter().map(|handle| match handle.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        // Every worker is waited for, then the first error counts.
        joined
            .collect::<Vec<_>>()
            .into_iter()
            .collect::<Result<()>>()
    })?;
    let (done, total) = (journal.episodes().len(), evaluation.episodes().len());
    let lost = lost.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !lost.is_empty() && !observer.interrupted() {
        return Err(Error::Episodes {
            failed: total - done,
            total,
            detail: tell(lost),
        });
    }
    if done < total {
        return Err(Error::Interrupted {
            done,
            total,
            what: "episodes",
        });
    }
    Ok(())
}

/// What failed, each reason once.
fn tell(lost: BTreeMap<String, Vec<u32>>) -> String {
    let reasons = lost.into_iter().map(|(reason, mut episodes)| {
        episodes.sort_unstable();
        let list: Vec<String> = episodes.iter().map(ToString::to_string).collect();
        format!("episode {}: {reason}", list.join(", "))
    });
    reasons.collect::<Vec<_>>().join("\n")
}

/// Runs one episode from reset to the end of its budget.
///
/// # Errors
/// When the simulator, the model or the planner fails, or a number is not finite; [`Error::Interrupted`] when `stop`
/// says so during a search.
pub fn run_episode(evaluation: &Evaluation, episode: u32, stop: Stop<'_>) -> Result<Line> {
    run_gathered(evaluation, episode, stop, None)
}

/// [`run_episode`], its candidates scored together with those of others.
fn run_gathered(
    evaluation: &Evaluation,
    episode: u32,
    stop: Stop<'_>,
    gather: Option<&Gather<'_>>,
) -> Result<Line> {
    let seed = evaluation.seed(episode);
    act_out(evaluation, episode, seed, stop, gather).map_err(|error| match error {
        Error::Invalid { what, detail } => Error::Invalid {
            what: format!("episode {episode} (seed {seed}): {what}"),
            detail,
        },
        other => other,
    })
}

fn act_out(
    evaluation: &Evaluation,
    episode: u32,
    seed: u64,
    stop: Stop<'_>,
    gather: Option<&Gather<'_>>,
) -> Result<Line> {
    let Evaluation {
        config,
        policy,
        planner,
        goals,
        ..
    } = evaluation;
    let mut env = config.simulator()?;
    let Draw { start, redrawn } = goals.draw(env.as_mut(), seed)?;
    let setup = Setup {
        config,
        planner: planner.as_ref(),
        stop,
        gather,
    };
    let began = Instant::now();
    let mut agent = policy.begin(setup, env.as_mut(), &start, seed)?;
    let mut log = EpisodeLog::new(episode, seed, &start, env.as_ref());
    log.plan_time += began.elapsed();
    log.redrawn = redrawn;
    let warmup = config.protocol.warmup_steps;
    let budget = config.protocol.max_steps - warmup;
    while log.steps() < budget {
        let began = Instant::now();
        let decision = agent.act(env.as_ref(), warmup + log.steps())?;
        log.planned(decision.search, began.elapsed());
        let left = budget - log.steps();
        let width = env.limits().action_width;
        assert!(!decision.actions.is_empty(), "an agent chose no action");
        for action in decision.actions.chunks_exact(width).take(left) {
            let began = Instant::now();
            let outcome = env.step(action)?;
            log.stepped(action, env.as_ref(), outcome, began.elapsed());
        }
    }
    let plan_steps = config.planner.replan_every * config.protocol.frameskip;
    log.finish(config.protocol.success, plan_steps)
}

/// Collects what an episode's row holds.
struct EpisodeLog {
    row: EpisodeRow,
    at_goal: Vec<bool>,
    nan_guard_steps: u64,
    redrawn: u32,
    plan_time: Duration,
    env_time: Duration,
}

impl EpisodeLog {
    fn new(episode: u32, seed: u64, start: &Start, env: &dyn Env) -> Self {
        let row = EpisodeRow {
            episode,
            seed,
            init: start.init.clone(),
            goal: start.goal.clone(),
            final_state: Vec::new(),
            success: false,
            success_any: false,
            final_distance: f64::NAN,
            distances: Vec::new(),
            states: Vec::new(),
            actions: Vec::new(),
            plans: 0,
            world_model_calls: 0,
            candidate_steps: 0,
            cost_best: Vec::new(),
            cost_elite_mean: Vec::new(),
            cost_elite_std: Vec::new(),
        };
        let (plan_time, env_time) = (Duration::ZERO, Duration::ZERO);
        let mut log = Self {
            row,
            at_goal: Vec::new(),
            nan_guard_steps: 0,
            redrawn: 0,
            plan_time,
            env_time,
        };
        log.visit(env);
        log
    }

    /// Environment steps made so far.
    fn steps(&self) -> usize {
        self.row.distances.len() - 1
    }

    fn visit(&mut self, env: &dyn Env) {
        let state = env.state();
        self.row.states.extend_from_slice(state);
        self.row
            .distances
            .push(env.state_distance(&self.row.goal, state));
        self.at_goal.push(env.success(&self.row.goal, state));
    }

    fn planned(&mut self, search: Option<Search>, time: Duration) {
        self.plan_time += time;
        let Some(search) = search else { return };
        self.row.plans += 1;
        self.row.world_model_calls += search.world_model_calls;
        self.row.candidate_steps += search.candidate_steps;
        self.row.cost_best.extend(search.trace.best);
        self.row.cost_elite_mean.extend(search.trace.elite_mean);
        self.row.cost_elite_std.extend(search.trace.elite_std);
    }

    fn stepped(&mut self, action: &[f64], env: &dyn Env, outcome: Outcome, time: Duration) {
        self.env_time += time;
        self.nan_guard_steps += u64::from(outcome.nan_guard);
        self.row.actions.extend_from_slice(action);
        self.visit(env);
    }

    fn finish(mut self, rule: SuccessRule, plan_steps: usize) -> Result<Line> {
        let episode = self.row.episode;
        let not_finite = |what: &str| Error::NotFinite {
            what: what.to_string(),
            episode,
        };
        let width = self.row.init.len();
        self.row.final_state = self.row.states[self.row.states.len() - width..].to_vec();
        self.row.final_distance = state_distance::final_distance(&self.row.distances)
            .ok_or_else(|| not_finite("distance to the goal"))?;
        let succeeded = |rule| success::succeeded(rule, &self.at_goal, plan_steps).unwrap_or(false);
        self.row.success = succeeded(rule);
        self.row.success_any = succeeded(SuccessRule::Any);
        let timing = TimingRow {
            episode,
            plan_seconds: self.plan_time.as_secs_f64(),
            env_seconds: self.env_time.as_secs_f64(),
        };
        Ok(Line {
            row: self.row,
            timing,
            nan_guard_steps: self.nan_guard_steps,
            solved_at_start: self.at_goal[0],
            redrawn: self.redrawn,
            elapsed_s: 0.0,
        })
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the numbers must agree to the last bit")]
mod tests;
