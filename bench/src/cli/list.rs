//! `jepa-bench list`.

use std::process::ExitCode;

use jepa_leaderboard::{PAPER, PublishedRow, published_tables};
use jepa_reports::text_table;
use serde::Serialize;
use serde_json::{Value, json};

use super::Context;
use crate::agent::BASELINES;
use crate::env::ENVIRONMENTS;
use crate::metric::METRICS;
use crate::planner::PLANNERS;
use crate::protocol::{TASKS, Task};

/// List models, encoders, tasks, planners, datasets, sources, metrics, environments and published results.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  jepa-bench list planners --json\n  jepa-bench list published")]
pub struct Args {
    /// What to list.
    what: What,
}

#[derive(clap::ValueEnum, Debug, Clone, Copy)]
enum What {
    Models,
    Encoders,
    Tasks,
    Planners,
    Datasets,
    Sources,
    Metrics,
    Environments,
    /// The paper's tables, as reported by its authors.
    Published,
}

/// One line of a list.
#[derive(Debug, Serialize)]
struct Item {
    name: String,
    summary: String,
    /// What is worth knowing besides, under its name.
    #[serde(flatten)]
    details: serde_json::Map<String, Value>,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let items = match args.what {
        What::Published => {
            print_published(ctx)?;
            return Ok(ExitCode::SUCCESS);
        }
        What::Models => models(),
        What::Encoders => encoders(),
        What::Tasks => tasks()?,
        What::Planners => planners()?,
        What::Datasets => datasets(),
        What::Sources => sources(),
        What::Metrics => metrics(),
        What::Environments => environments(),
    };
    if ctx.json {
        ctx.print_json(&items)?;
    } else {
        print(&items, ctx)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(items: &[Item], ctx: &Context) -> anyhow::Result<()> {
    let width = items.iter().map(|item| item.name.len()).max().unwrap_or(0);
    for item in items {
        ctx.print(&format!("{:width$}  {}", item.name, item.summary))?;
        // Nested documents are for `--json`.
        for (key, value) in item.details.iter().filter(|(_, value)| !value.is_object()) {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), String::from);
            ctx.print(&format!("{:width$}    {key}: {value}", ""))?;
        }
    }
    Ok(())
}

/// The published tables, whole.
fn print_published(ctx: &Context) -> anyhow::Result<()> {
    if ctx.json {
        return ctx.print_json(&published_tables());
    }
    ctx.print(&format!("{PAPER}, as reported; nothing was verified here"))?;
    for table in published_tables() {
        ctx.print(&format!("\nTable {}", table.name))?;
        for note in &table.notes {
            ctx.print(note)?;
        }
        let labels = table.labels.iter().map(|label| (*label).to_string());
        let columns = table.columns.iter().map(|column| format!("#{column}"));
        let headings: Vec<String> = labels.chain(columns).collect();
        let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
        let cells = |row: &PublishedRow| -> Vec<String> {
            let numbers = row
                .cells
                .iter()
                .map(|cell| cell.map_or("", |cell| cell.text));
            let words = row.labels.iter().copied().chain(numbers);
            words.map(String::from).collect()
        };
        let rows: Vec<Vec<String>> = table.rows.iter().map(cells).collect();
        ctx.print(&text_table(&headings, &rows))?;
    }
    Ok(())
}

fn item(name: &str, summary: &str, details: Value) -> Item {
    let details = match details {
        Value::Object(map) => map,
        _ => serde_json::Map::new(),
    };
    Item {
        name: name.to_string(),
        summary: summary.to_string(),
        details,
    }
}

fn models() -> Vec<Item> {
    let zoo = jepa_models::MODELS
        .iter()
        .map(|entry| item(entry.name, entry.summary, json!({ "source": entry.source })));
    let baselines = BASELINES
        .iter()
        .map(|(name, summary)| item(name, summary, json!({ "source": "built in, no training" })));
    zoo.chain(baselines).collect()
}

/// Frozen image encoders with released weights.
fn encoders() -> Vec<Item> {
    let describe = |entry: &jepa_models::encoder::EncoderEntry| {
        let details = json!({
            "files": entry.files,
            "parameters": entry.config.parameters(),
            "sizes": entry.config,
        });
        item(entry.name, entry.summary, details)
    };
    jepa_models::encoder::ENCODERS
        .iter()
        .map(describe)
        .collect()
}

/// Formats that `ingest` reads.
fn sources() -> Vec<Item> {
    let sources = jepa_ingest::SOURCES.iter();
    sources
        .map(|entry| item(entry.name, entry.summary, json!({})))
        .collect()
}

fn tasks() -> anyhow::Result<Vec<Item>> {
    let describe = |task: Task| {
        let presets: Vec<&String> = task.presets.keys().collect();
        let details = json!({
            "environment": task.environment.name,
            "episodes": task.episodes.count,
            "max_steps": task.protocol.max_steps,
            "presets": presets,
            "default_preset": task.default_preset,
        });
        item(&task.id(), &task.summary, details)
    };
    TASKS
        .iter()
        .map(|entry| Ok(describe(Task::find(entry.id)?)))
        .collect()
}

fn planners() -> anyhow::Result<Vec<Item>> {
    let describe = |entry: &crate::planner::PlannerEntry| {
        let settings = serde_json::to_value((entry.defaults)())?;
        Ok(item(
            entry.name,
            entry.summary,
            json!({ "paper": entry.paper, "settings": settings }),
        ))
    };
    PLANNERS.iter().map(describe).collect()
}

fn datasets() -> Vec<Item> {
    let describe = |entry: &jepa_datasets::CatalogEntry| {
        let details = json!({
            "url": entry.url,
            "citation": entry.citation,
            "frameskip": entry.frameskip,
        });
        item(entry.name, entry.summary, details)
    };
    jepa_datasets::DATASETS.iter().map(describe).collect()
}

fn metrics() -> Vec<Item> {
    let describe = |entry: &crate::metric::MetricEntry| {
        let better = if entry.higher_is_better {
            "higher"
        } else {
            "lower"
        };
        item(
            entry.name,
            entry.summary,
            json!({ "unit": entry.unit, "better": better }),
        )
    };
    METRICS.iter().map(describe).collect()
}

fn environments() -> Vec<Item> {
    let describe = |entry: &crate::env::EnvEntry| {
        let details = json!({
            "state_width": entry.limits.state_width,
            "action_width": entry.limits.action_width,
            "frame": format!("{0}x{0}", entry.limits.native_size),
            "policies": entry.behaviours,
        });
        item(entry.name, entry.summary, details)
    };
    ENVIRONMENTS.iter().map(describe).collect()
}
