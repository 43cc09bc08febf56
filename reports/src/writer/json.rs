//! `results.json`: every number of the report, in full, for programs.

use jepa_leaderboard::TASK_GROUPS;
use serde_json::{Value, json};

use crate::content::board::{BoardInput, BoardTaskFacts};
use crate::error::{Error, Result};
use crate::input::{Input, RunFacts, TaskFacts};
use crate::paper::{Layouts, PaperInput};

/// Version of the layout of `results.json`.
const VERSION: u32 = 1;

/// The document as indented JSON.
pub(super) fn render(input: &Input, tasks: &[TaskFacts]) -> Result<String> {
    let document = json!({
        "results_version": VERSION,
        "tasks": tasks.iter().map(task).collect::<Vec<_>>(),
        "training": input.training,
        "datasets": input.datasets,
        "proxies": input.proxies.iter().map(|(task, proxy)| json!({"task": task, "proxy": proxy})).collect::<Vec<_>>(),
        "board_head": input.board_head,
    });
    let mut text = serde_json::to_string_pretty(&document).map_err(Error::Results)?;
    text.push('\n');
    Ok(text)
}

/// The paper's layouts as indented JSON.
pub(super) fn render_paper(input: &PaperInput, layouts: &Layouts) -> Result<String> {
    let document = json!({
        "results_version": VERSION,
        "groups": TASK_GROUPS,
        "table_s5_1": layouts.rows,
        "figures": layouts.charts,
        "runs": input.runs,
    });
    let mut text = serde_json::to_string_pretty(&document).map_err(Error::Results)?;
    text.push('\n');
    Ok(text)
}

/// The ranking of every task of a board as indented JSON.
pub(super) fn render_board(input: &BoardInput, tasks: &[BoardTaskFacts]) -> Result<String> {
    let document = json!({
        "results_version": VERSION,
        "board_head": input.head,
        "tasks": tasks,
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
        "recipes_over_epochs": facts.recipes_over_epochs.iter().map(|recipe| json!({
            "label": recipe.label,
            "planner": recipe.record.planner,
            "average": recipe.average,
            "steps_success_smoothed": recipe.curves,
        })).collect::<Vec<_>>(),
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
