//! The planners: their budgets, what they cost, and how their search went.

use jepa_leaderboard::ModelKind;

use super::Scope;
use super::results::planner;
use crate::document::{Block, Cell, Figure, Section, Table, Tone, cell, number};
use crate::error::Result;
use crate::figure::{Search, planning_cost};
use crate::input::RunFacts;
use crate::text::{NONE, count, seconds};

/// Panels drawn at most.
const MOST: usize = 9;

/// Planning on one task; `None` if no run has a planner.
pub(super) fn section(scope: &Scope<'_>) -> Result<Option<Section>> {
    let planned: Vec<&RunFacts> = scope
        .task
        .runs
        .iter()
        .filter(|facts| has_planner(facts))
        .collect();
    if planned.is_empty() {
        return Ok(None);
    }
    let mut section = scope.section("Planning");
    section.blocks.push(Block::Table(budgets(&planned)));
    let searches = searches(&planned);
    if !searches.is_empty() {
        section
            .blocks
            .push(Block::Figure(figure(scope, &searches)?));
    }
    Ok(Some(section))
}

/// Floors have settings, too (the seed of their noise), but they search nothing.
fn has_planner(facts: &RunFacts) -> bool {
    facts.kind() != ModelKind::Floor && facts.run.record.planner.name != "none"
}

fn budgets(runs: &[&RunFacts]) -> Table {
    let headings = [
        "model",
        "planner",
        "#candidates",
        "#elites",
        "#iterations",
        "#horizon",
        "#plans",
        "#model calls",
        "#imagined steps",
        "#median time",
        "device",
    ];
    let mut table = Table::new("Planner budgets, per episode", &headings);
    for facts in runs {
        table.push(Tone::Plain, budget(facts));
    }
    table.with_note(
        "model calls: batched evaluations of the world model; imagined steps: candidate model steps summed over them; \
         median time: seconds of planning on the machine named under Reproduction",
    )
}

fn budget(facts: &RunFacts) -> Vec<Cell> {
    let setting = |name: &str| cell(facts.setting(name).unwrap_or_else(|| NONE.into()));
    let aggregate = &facts.aggregate;
    let plans = facts
        .run
        .episodes
        .iter()
        .map(|row| row.plans)
        .max()
        .unwrap_or(0);
    let time = aggregate.plan_seconds.map_or_else(
        || cell(NONE),
        |band| number(seconds(band.median), band.median),
    );
    vec![
        cell(facts.label.clone()),
        cell(planner(facts)),
        setting("candidates"),
        setting("elites"),
        setting("iterations"),
        setting("horizon"),
        number(plans.to_string(), f64::from(plans)),
        number(
            count(aggregate.world_model_calls.round() as u64),
            aggregate.world_model_calls,
        ),
        number(
            count(aggregate.candidate_steps.round() as u64),
            aggregate.candidate_steps,
        ),
        time,
        cell(facts.run.record.provenance.device.clone()),
    ]
}

/// One panel per plan, first plans of every run first.
fn searches(runs: &[&RunFacts]) -> Vec<Search> {
    let most_plans = runs
        .iter()
        .map(|facts| facts.costs.len())
        .max()
        .unwrap_or(0);
    let plans =
        (0..most_plans).flat_map(|plan| runs.iter().filter_map(move |facts| search(facts, plan)));
    plans.take(MOST).collect()
}

fn search(facts: &RunFacts, plan: usize) -> Option<Search> {
    let curve = facts.costs.get(plan)?.clone();
    let is_single = facts.costs.len() == 1;
    let title = if is_single {
        facts.label.clone()
    } else {
        format!("{}, plan {}", facts.label, plan + 1)
    };
    Some(Search { title, curve })
}

fn figure(scope: &Scope<'_>, searches: &[Search]) -> Result<Figure> {
    let name = scope.figure_name("planning");
    Ok(Figure {
        svg: planning_cost(&name, searches)?,
        alt: "Planning cost per iteration, one panel per plan".into(),
        caption: "Cost during the search, on a logarithmic scale. Blue: lowest cost of the iteration, median and quartiles over episodes. \
                  Orange: mean cost of the elites ± their standard deviation, medians over episodes. Costs of \
                  different models have different units."
            .into(),
        name,
    })
}
