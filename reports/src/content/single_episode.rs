//! Single episodes up close: the search of each plan, and the actions.

use jepa_leaderboard::{EpisodeRow, ModelKind};
use toml::Table;

use super::Scope;
use crate::document::{Block, Figure, Section};
use crate::error::Result;
use crate::figure::{ActionKind, ActionSeries, PlanSearch, actions, convergence};
use crate::input::RunFacts;

/// Plans drawn at most.
const MOST_PLANS: usize = 16;
/// Episodes drawn at most where each has a single plan.
const MOST_EPISODES: usize = 8;
/// Runs whose actions are drawn together at most.
const MOST_RUNS: usize = 4;
/// Numbers in the state of a recorded episode (evaluation.md section 1.6): three of bookkeeping, one sum per component of
/// the action, the error per step.
const RECORDED_STATE: usize = 11;
/// Where the sums are.
const SUMS: std::ops::Range<usize> = 3..10;

/// Plans and actions of one task; `None` if no run planned.
pub(super) fn section(scope: &Scope<'_>) -> Result<Option<Section>> {
    let mut section = scope.section("Single episodes");
    section.blocks.extend(searches(scope)?.map(Block::Figure));
    section
        .blocks
        .extend(action_figure(scope)?.map(Block::Figure));
    Ok((!section.blocks.is_empty()).then_some(section))
}

/// The search of the first episode of the best run that planned; of the first episodes where each has a single plan.
fn searches(scope: &Scope<'_>) -> Result<Option<Figure>> {
    let planned = |facts: &&RunFacts| {
        facts
            .run
            .episodes
            .iter()
            .any(|row| !row.cost_best.is_empty())
    };
    let Some(facts) = scope.task.runs.iter().find(planned) else {
        return Ok(None);
    };
    let rows = &facts.run.episodes;
    let replans = rows.first().is_some_and(|row| row.plans > 1);
    let episodes = if replans { 1 } else { MOST_EPISODES };
    let plans: Vec<PlanSearch> = rows
        .iter()
        .take(episodes)
        .flat_map(|row| of_episode(facts, row))
        .take(MOST_PLANS)
        .collect();
    let name = scope.figure_name("convergence");
    let what = if replans {
        "each plan of one episode, titled by the environment step that it begins at"
    } else {
        "the plan of each of the first episodes"
    };
    Ok(Some(Figure {
        svg: convergence(&name, &plans)?,
        alt: format!(
            "Planning cost of {} per iteration, one panel per plan",
            facts.label
        ),
        caption: format!(
            "How {} searched: {what}. Blue: cost of the best candidate of the iteration; orange: mean cost of the elites ± \
             standard deviation; logarithmic.",
            facts.label
        ),
        name,
    }))
}

fn of_episode(facts: &RunFacts, row: &EpisodeRow) -> Vec<PlanSearch> {
    let plans = row.plans as usize;
    let iterations = row.cost_best.len().checked_div(plans).unwrap_or(0);
    let stride = Stride::of(facts);
    let plan = |k: usize| {
        let costs = (k * iterations..(k + 1) * iterations).map(|at| {
            (
                row.cost_best[at],
                row.cost_elite_mean[at],
                row.cost_elite_std[at],
            )
        });
        let step = stride.map(|stride| stride.first + k * stride.steps);
        PlanSearch {
            title: match step {
                Some(step) => format!("seed {}, step {step}", row.seed),
                None => format!("seed {}, plan {}", row.seed, k + 1),
            },
            costs: costs.collect(),
        }
    };
    (0..plans).filter(|_| iterations > 0).map(plan).collect()
}

/// Environment steps before the first plan, and from a plan to the next.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stride {
    first: usize,
    steps: usize,
}

impl Stride {
    /// What the resolved configuration of the run says.
    fn of(facts: &RunFacts) -> Option<Self> {
        let config: Table = facts.run.config_toml.parse().ok()?;
        let number = |table: &str, key: &str| {
            let value = config.get(table)?.get(key)?.as_integer()?;
            usize::try_from(value).ok()
        };
        Some(Self {
            first: number("protocol", "warmup_steps").unwrap_or(0),
            steps: number("protocol", "frameskip")? * number("planner", "replan_every")?,
        })
    }
}

/// Planned against recorded actions where episodes are recorded; else the actions of one episode over its steps.
fn action_figure(scope: &Scope<'_>) -> Result<Option<Figure>> {
    let is_wanted = |facts: &&RunFacts| facts.kind() != ModelKind::Floor;
    let runs: Vec<&RunFacts> = scope
        .task
        .runs
        .iter()
        .filter(is_wanted)
        .take(MOST_RUNS)
        .collect();
    let recorded: Vec<&RunFacts> = runs
        .iter()
        .copied()
        .filter(|facts| is_recorded(facts))
        .collect();
    let name = scope.figure_name("actions");
    if !recorded.is_empty() {
        let series: Vec<ActionSeries> = recorded.into_iter().map(planned_and_recorded).collect();
        return Ok(Some(Figure {
            svg: actions(&name, ActionKind::PlannedOverRecorded, &series)?,
            alt: "Planned against recorded actions, one panel per dimension".into(),
            caption: "Planned against recorded action, summed over the steps of an episode, a dot per episode: three components \
                      of position, three of rotation, the gripper. On the dashed line they are equal."
                .into(),
            name,
        }));
    }
    let series: Vec<ActionSeries> = runs.into_iter().filter_map(over_steps).collect();
    if series.is_empty() {
        return Ok(None);
    }
    Ok(Some(Figure {
        svg: actions(&name, ActionKind::OverSteps, &series)?,
        alt: "Executed actions of one episode, one panel per dimension".into(),
        caption: "Actions as executed in the first episode of each run, in the environment's units; what a plan holds and what is \
                  executed are the same numbers until the next plan."
            .into(),
        name,
    }))
}

fn is_recorded(facts: &RunFacts) -> bool {
    let config: Option<Table> = facts.run.config_toml.parse().ok();
    let name = config
        .as_ref()
        .and_then(|config| config.get("environment")?.get("name")?.as_str());
    let has_sums = |row: &EpisodeRow| {
        row.goal.len() == RECORDED_STATE && row.final_state.len() == RECORDED_STATE
    };
    name == Some("recorded") && facts.run.episodes.iter().all(has_sums)
}

fn planned_and_recorded(facts: &RunFacts) -> ActionSeries {
    let pairs = |k: usize| {
        facts
            .run
            .episodes
            .iter()
            .map(|row| (row.goal[k], row.final_state[k]))
            .collect()
    };
    ActionSeries {
        label: facts.label.clone(),
        dimensions: SUMS.map(pairs).collect(),
    }
}

fn over_steps(facts: &RunFacts) -> Option<ActionSeries> {
    let row = facts.run.episodes.first()?;
    let steps = row
        .distances
        .len()
        .checked_sub(1)
        .filter(|&steps| steps > 0)?;
    let width = row
        .actions
        .len()
        .checked_div(steps)
        .filter(|&width| width > 0)?;
    let of = |k: usize| {
        let values = row.actions.iter().skip(k).step_by(width);
        values
            .enumerate()
            .map(|(step, &value)| (step as f64 + 1.0, value))
            .collect()
    };
    Some(ActionSeries {
        label: facts.label.clone(),
        dimensions: (0..width).map(of).collect(),
    })
}
