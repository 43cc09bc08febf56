//! `jepa-bench report`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use jepa_datasets::{ACTION, Dataset, Outcome, Statistics};
use jepa_leaderboard::Board;
use jepa_reports::{DatasetCard, FieldRow, Format, Input, TrainingRun, write_report};
use serde_json::json;

use super::Context;
use super::compare::load;

/// Write tables, figures, a PDF and an HTML page.
///
/// Every number is recomputed from the episodes of the runs. The same runs give the same bytes.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  jepa-bench report runs/wall@1/*/* --data datasets/wall --out report"
)]
pub struct Args {
    /// Run folders written by `jepa-bench eval`, of one task or of several.
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Folder to write to.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What to write: pdf, html, md, latex, json.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "pdf,html,md,latex,json"
    )]
    format: Vec<Format>,
    /// Training run to draw the curves of (repeatable); by default those that the runs name.
    #[arg(long, value_name = "DIR")]
    training: Vec<PathBuf>,
    /// Dataset to describe (repeatable).
    #[arg(long, value_name = "DST")]
    data: Vec<PathBuf>,
    /// Leaderboard whose head to print.
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let mut input = Input::new(load(&args.runs)?);
    input.training = training_runs(&args.training, &input, ctx)?;
    input.datasets = args
        .data
        .iter()
        .map(|path| card(path))
        .collect::<anyhow::Result<_>>()?;
    if let Some(db) = &args.db {
        input.board_head = Some(Board::open_existing(db)?.head()?);
    }
    let files = write(&input, &args.out, &args.format)?;
    if ctx.json {
        ctx.print_json(&json!({ "files": files }))?;
    } else {
        for file in &files {
            ctx.print(&file.display().to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a report, each format once.
pub(crate) fn write(input: &Input, out: &Path, formats: &[Format]) -> anyhow::Result<Vec<PathBuf>> {
    let mut formats = formats.to_vec();
    formats.sort_unstable();
    formats.dedup();
    Ok(write_report(input, out, &formats)?)
}

/// The training runs asked for; without any, those that the records name and that are still there.
fn training_runs(
    given: &[PathBuf],
    input: &Input,
    ctx: &Context,
) -> anyhow::Result<Vec<TrainingRun>> {
    let named = input.training_folders();
    let (found, gone): (Vec<&PathBuf>, Vec<&PathBuf>) = named
        .iter()
        .partition(|folder| folder.join("metrics.jsonl").exists());
    if !given.is_empty() {
        return given
            .iter()
            .map(|folder| Ok(TrainingRun::load(folder)?))
            .collect();
    }
    for folder in gone {
        ctx.say(&format!(
            "note: training run `{}` is not here; pass its folder with `--training`",
            folder.display()
        ));
    }
    found
        .into_iter()
        .map(|folder| Ok(TrainingRun::load(folder)?))
        .collect()
}

/// The card of a dataset, from its manifest, statistics, splits and ledger.
pub(crate) fn card(path: &Path) -> anyhow::Result<DatasetCard> {
    let dataset = Dataset::open(path)
        .with_context(|| format!("cannot describe dataset `{}`", path.display()))?;
    let name = path.file_name().map_or_else(
        || "dataset".into(),
        |name| name.to_string_lossy().into_owned(),
    );
    Ok(DatasetCard {
        name,
        facts: facts(&dataset),
        fields: fields(&dataset),
        rejects: rejects(&dataset)?,
    })
}

fn facts(dataset: &Dataset) -> Vec<(String, String)> {
    let manifest = dataset.manifest();
    let (draft, counts) = (&manifest.draft, &manifest.counts);
    let cameras = draft
        .cameras
        .iter()
        .map(|camera| format!("{} ({} x {})", camera.name, camera.height, camera.width));
    let rate = draft
        .control_hz
        .map_or_else(|| "no physical time".into(), |hz| format!("{hz} Hz"));
    let mut facts = vec![
        ("source", draft.source.name.clone()),
        (
            "revision",
            draft.source.revision.clone().unwrap_or_default(),
        ),
        ("episodes", counts.episodes.to_string()),
        ("rows", counts.rows.to_string()),
        ("frames", counts.frames.to_string()),
        (
            "rejected, skipped",
            format!("{}, {}", counts.rejected, counts.skipped),
        ),
        ("cameras", cameras.collect::<Vec<_>>().join(", ")),
        ("control rate", rate),
        ("codec", manifest.codec.to_string()),
        (
            "licence",
            draft.licence.clone().unwrap_or_else(|| "not stated".into()),
        ),
        ("citation", draft.citation.clone().unwrap_or_default()),
        ("notes", draft.notes.join(" ")),
        ("content hash", dataset.content_hash().into()),
    ];
    facts.retain(|(_, value)| !value.is_empty());
    let splits = dataset.splits().iter().map(|split| {
        let text = format!(
            "{} episodes by rule {}, hash {}",
            split.episodes.len(),
            split.rule,
            split.hash
        );
        (format!("split {}", split.name), text)
    });
    facts
        .into_iter()
        .map(|(name, value)| (name.to_string(), value))
        .chain(splits)
        .collect()
}

/// Fields with the statistics of the training split, actions first.
fn fields(dataset: &Dataset) -> Vec<FieldRow> {
    let mut fields = dataset.manifest().draft.fields.clone();
    fields.sort_by_key(|field| field.name != ACTION);
    let rows = fields.into_iter().filter_map(|field| {
        let stats = dataset.stats().fields.get(&field.name)?;
        let Statistics {
            mean,
            std,
            min,
            max,
            ..
        } = stats.train.as_ref().or(stats.all.as_ref())?.clone();
        Some(FieldRow {
            name: field.name,
            shape: format!("{:?}", field.shape),
            meaning: format!("{} [{}]", field.meaning, field.units),
            mean,
            std: std.unwrap_or_default(),
            min,
            max,
        })
    });
    rows.collect()
}

/// Reasons for which source episodes were left out, with their counts.
fn rejects(dataset: &Dataset) -> anyhow::Result<Vec<(String, u64)>> {
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for row in dataset
        .ledger()?
        .into_iter()
        .filter(|row| row.outcome != Outcome::Accepted)
    {
        *reasons.entry(row.code).or_default() += 1;
    }
    Ok(reasons.into_iter().collect())
}
