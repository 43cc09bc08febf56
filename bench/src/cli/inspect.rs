//! `jepa-bench inspect`.

use std::path::PathBuf;
use std::process::ExitCode;

use jepa_datasets::{
    BlankFrames, Camera, Dataset, Field, LedgerRow, Likeness, Manifest, Outcome, Split,
    blank_frames, duplicates, families,
};
use serde::Serialize;

use super::Context;

/// Show what is in a dataset: counts, fields, cameras, splits, codec, provenance and rejected episodes.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  jepa-bench inspect data/wall --json | jq .counts\n  jepa-bench inspect data/pusht --duplicates --alike 0.5"
)]
pub struct Args {
    /// Dataset folder.
    dataset: PathBuf,
    /// List groups of episodes with the same states and actions in every row.
    #[arg(long)]
    duplicates: bool,
    /// List groups of episodes of one task whose first states differ by no more than this in any number, in the
    /// units of the state: replays of one demonstration, which a random split would tear apart.
    #[arg(long, value_name = "TOLERANCE")]
    alike: Option<f64>,
    /// Read every frame and list the episodes with frames that show nothing: black, white or of one colour.
    #[arg(long)]
    frames: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    manifest: &'a Manifest,
    bytes: u64,
    splits: Vec<SplitSummary<'a>>,
    left_out: Vec<LedgerRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicates: Option<Vec<Vec<u64>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alike: Option<Vec<Vec<u64>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blank: Option<Vec<BlankFrames>>,
}

#[derive(Serialize)]
struct SplitSummary<'a> {
    name: &'a str,
    rule: &'a str,
    seed: u64,
    episodes: usize,
    hash: &'a str,
}

impl<'a> SplitSummary<'a> {
    fn new(split: &'a Split) -> Self {
        let Split {
            name,
            rule,
            seed,
            episodes,
            hash,
        } = split;
        Self {
            name,
            rule,
            seed: *seed,
            episodes: episodes.len(),
            hash,
        }
    }
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let dataset = Dataset::open(&args.dataset)?;
    let manifest = dataset.manifest();
    let left_out = dataset
        .ledger()?
        .into_iter()
        .filter(|row| row.outcome != Outcome::Accepted);
    let document = Document {
        manifest,
        bytes: manifest.files.values().map(|file| file.bytes).sum(),
        splits: dataset.splits().iter().map(SplitSummary::new).collect(),
        left_out: left_out.collect(),
        duplicates: args.duplicates.then(|| duplicates(&dataset)).transpose()?,
        alike: args
            .alike
            .map(|tolerance| families(&dataset, Likeness { rows: 1, tolerance }))
            .transpose()?,
        blank: args.frames.then(|| blank_frames(&dataset)).transpose()?,
    };
    if ctx.json {
        ctx.print_json(&document)?;
    } else {
        print(ctx, &document)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(ctx: &Context, document: &Document<'_>) -> anyhow::Result<()> {
    let manifest = document.manifest;
    let draft = &manifest.draft;
    let rate = draft
        .control_hz
        .map_or_else(|| "no physical time".into(), |hz| format!("{hz} Hz"));
    let counts = manifest.counts;
    let mut lines = vec![
        format!("source    {}", draft.source.name),
        format!("hash      {}", manifest.content_hash),
        format!(
            "episodes  {} of {} in the source",
            counts.episodes, manifest.source_episodes
        ),
        format!("rows      {}, {rate}", counts.rows),
        format!("frames    {}, codec {}", counts.frames, manifest.codec),
        format!(
            "on disk   {:.1} MB in {} files",
            document.bytes as f64 / 1e6,
            manifest.files.len() + 1
        ),
    ];
    lines.extend(draft.fields.iter().map(describe_field));
    lines.extend(
        draft
            .cameras
            .iter()
            .map(|camera| describe_camera(camera, draft.extra_last_obs)),
    );
    lines.extend(
        manifest
            .loss
            .iter()
            .map(|(camera, loss)| format!("loss      {camera} by {}: {loss}", manifest.codec)),
    );
    lines.extend(document.splits.iter().map(|split| {
        let SplitSummary {
            name,
            rule,
            episodes,
            hash,
            ..
        } = split;
        format!(
            "split     {name}: {episodes} episodes, {rule}, {}",
            &hash[..hash.len().min(16)]
        )
    }));
    lines.extend(
        draft
            .source
            .revision
            .iter()
            .map(|revision| format!("release   {revision}")),
    );
    lines.extend(
        draft
            .source
            .url
            .iter()
            .map(|url| format!("from      {url}")),
    );
    lines.extend(
        draft
            .citation
            .iter()
            .map(|citation| format!("cite      {citation}")),
    );
    lines.extend(draft.notes.iter().map(|note| format!("note      {note}")));
    lines.extend(describe_left_out(&document.left_out));
    for (what, groups) in [("same", &document.duplicates), ("alike", &document.alike)] {
        lines.extend(
            groups
                .as_ref()
                .into_iter()
                .flat_map(|groups| describe_groups(what, groups)),
        );
    }
    lines.extend(
        document
            .blank
            .iter()
            .flat_map(|blank| describe_blank(blank)),
    );
    lines.iter().try_for_each(|line| ctx.print(line))
}

/// Frames that show nothing, one line for each camera of an episode; a line that says so where there are none.
fn describe_blank(found: &[BlankFrames]) -> Vec<String> {
    if found.is_empty() {
        return vec!["blank     no frames".into()];
    }
    let line = |one: &BlankFrames| {
        let BlankFrames {
            episode,
            camera,
            blank,
            frames,
            first,
        } = one;
        format!(
            "blank     episode {episode}, camera {camera}: {blank} of {frames} frames, the first is {first}"
        )
    };
    found.iter().map(line).collect()
}

/// Groups of episodes, one a line; a line that says so where there are none.
fn describe_groups(what: &str, groups: &[Vec<u64>]) -> Vec<String> {
    if groups.is_empty() {
        return vec![format!("{what:<10}no episodes")];
    }
    let line = |group: &Vec<u64>| {
        let numbers: Vec<String> = group.iter().map(u64::to_string).collect();
        format!("{what:<10}episodes {}", numbers.join(", "))
    };
    groups.iter().map(line).collect()
}

fn describe_field(field: &Field) -> String {
    format!(
        "field     {} {} [{}], {}: {}",
        field.name,
        field.dtype,
        field.width(),
        field.units,
        field.meaning
    )
}

fn describe_camera(camera: &Camera, extra_last_obs: bool) -> String {
    let extra = if extra_last_obs {
        ", one frame more than rows in an episode"
    } else {
        ""
    };
    format!(
        "camera    {} {}x{} {}{extra}",
        camera.name, camera.height, camera.width, camera.dtype
    )
}

/// Episodes left out for a reason one by one, the ones that were not selected as a number.
fn describe_left_out(rows: &[LedgerRow]) -> Vec<String> {
    let (unselected, others): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.path.is_empty());
    let mut lines: Vec<String> = others
        .iter()
        .map(|row| {
            let LedgerRow {
                source_index,
                path,
                outcome,
                code,
                detail,
                ..
            } = row;
            format!(
                "{:<9} episode {source_index}, `{path}`: {code}: {detail}",
                outcome.as_str()
            )
        })
        .collect();
    if !unselected.is_empty() {
        lines.push(format!(
            "skipped   {} episodes that were not selected",
            unselected.len()
        ));
    }
    lines
}
