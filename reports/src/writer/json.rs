//! `results.json`: every number of the report, in full, for programs.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::input::{Input, RunFacts, TaskFacts};

/// Version of the layout of `results.json`.
const VERSION: u32 = 1;

/// The document as indented JSON.
pub(super) fn render(input: &Input, tasks: &[TaskFacts]) -> Result<String> {
    let document = json!({
        "results_version": VERSION,
        "tasks": tasks.iter().map(task).collect::<Vec<_>>(),
        "training": input.training,
        "datasets": input.datasets,
        "board_head": input.board_head,
    });
    let mut text = serde_json::to_string_pretty(&document).map_err(Error::Results)?;
    text.push('\n');
    Ok(text)
}

fn task(facts: &TaskFacts) -> Value {
    let published = facts.published.iter().map(|(row, score)| {
        json!({
            "model": row.model,
            "planner": row.planner,
            "distance": row.distance,
            "mean_percent": score.mean,
            "std_percent": score.std,
            "source": row.source(),
            "status": "reported by the authors, not verified here",
        })
    });
    json!({
        "task": facts.task,
        "runs": facts.runs.iter().map(run).collect::<Vec<_>>(),
        "ranking": facts.ranking,
        "seed_means": facts.seed_means,
        "comparisons": facts.comparisons,
        "published": published.collect::<Vec<_>>(),
    })
}

fn run(facts: &RunFacts) -> Value {
    json!({
        "label": facts.label,
        "record": facts.run.record,
        "aggregate": facts.aggregate,
        "distance_to_goal": facts.distances,
        "planning_cost": facts.costs,
        "episodes": facts.run.episodes.iter().map(|row| json!({
            "episode": row.episode,
            "seed": row.seed,
            "success": row.success,
            "success_any": row.success_any,
            "final_distance": row.final_distance,
        })).collect::<Vec<_>>(),
    })
}
