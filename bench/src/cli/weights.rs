//! `jepa-bench weights`.

mod world_model;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jepa_models::Compute;
use jepa_models::encoder::EncoderConfig;
use jepa_models::weights::check::{Case, Comparison};
use jepa_models::weights::import::{self, CONFIG, IMPORTS, MODELS, WEIGHTS, WeightsConfig};
use jepa_reports::text_table;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Context;
use crate::weights;
use world_model::ImportModel;

/// Read weight files of other programs; check models against reference cases.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  jepa-bench weights check cases/predictor_adaln_proprio
  jepa-bench weights list
  jepa-bench weights import dinov2_vits_224_INet.pth.tar --model dinov2_vits_224_INet --out weights/decoder")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Run reference cases and compare every output.
    ///
    /// A case is a folder with `manifest.json`, weights, inputs and the outputs of the reference code. Exit code 0:
    /// all within tolerance; 1: not all; 2: a case could not be run. Among several, folders that only hold inputs of
    /// others are skipped. Transforms of pictures and schedules are computed on the processor, whatever the device.
    #[command(after_help = "Examples:
  jepa-bench weights check cases/encoder_dinov2 --json | jq '.cases[].outputs[].max_absolute'
  jepa-bench weights check cases/* --device cuda")]
    Check {
        /// Case folders.
        #[arg(value_name = "CASE_DIR", required = true)]
        cases: Vec<PathBuf>,
        /// Where to compute: `cpu`, `auto`, or `cuda:N` in builds with that feature. The tolerances are those of the
        /// processor.
        #[arg(long, default_value = "cpu")]
        device: String,
    },
    /// Turn a released file into safetensors of ours, with `config.json` beside them.
    ///
    /// The file may be a torch file (`.pth`, `.pth.tar`, `.pt`) or safetensors. Nothing in it is executed. A file that
    /// lacks a key, or has one that the model has no place for, is refused with the list of them.
    ///
    /// A world model comes without its image encoder and without the statistics of its data: `--encoder` is a folder that
    /// this command made of the encoder's file, and the statistics are those published with the dataset, or `--stats`. What
    /// is written is taken by `eval --model` and `plan --model` like a training run.
    #[command(after_help = "Examples:
  jepa-bench weights import vgg.pth --model lpips_vgg --out weights/lpips
  jepa-bench weights import dinov2_vits14_pretrain.pth --model dinov2-small --out weights/dinov2-small
  jepa-bench weights import jepa_wm_wall.pth.tar --model jepa_wm_wall --encoder weights/dinov2-small --out models/jepa_wm_wall
  jepa-bench eval --model models/jepa_wm_wall --task wall@1")]
    Import {
        /// The released file.
        file: PathBuf,
        /// What it is: a name of `jepa-bench weights list`.
        #[arg(long, value_name = "NAME")]
        model: String,
        /// Folder to write.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// JSON file with the sizes of an encoder or world model that is not of the released size: what `list encoders
        /// --json` or `weights list --json` shows of one, with other numbers. NAME then says which file it is like.
        #[arg(long, value_name = "FILE")]
        sizes: Option<PathBuf>,
        /// Image encoder of a world model: a folder that this command wrote.
        #[arg(long, value_name = "DIR")]
        encoder: Option<PathBuf>,
        /// Statistics of the data of a world model in place of the published ones: what `stats DATASET --split train
        /// --json` prints, or the `stats.json` of a dataset.
        #[arg(long, value_name = "FILE")]
        stats: Option<PathBuf>,
        /// Replace weights of another file at DIR.
        #[arg(long)]
        overwrite: bool,
        /// Check the file, say what would be written and stop.
        #[arg(long)]
        dry_run: bool,
    },
    /// List the files that `import` knows, and where they are.
    #[command(after_help = "Example:\n  jepa-bench weights list --json")]
    List,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    match &args.action {
        Action::Check { cases, device } => check(cases, Compute::parse(device)?, ctx),
        Action::Import {
            file,
            model,
            out,
            sizes,
            encoder,
            stats,
            overwrite,
            dry_run,
        } => {
            let job = Import {
                sizes: sizes.as_deref(),
                file,
                model,
                out,
                overwrite: *overwrite,
                dry_run: *dry_run,
            };
            let (encoder, stats) = (encoder.as_deref(), stats.as_deref());
            if let Some(entry) = import::find_model(model) {
                let job = ImportModel {
                    job,
                    entry,
                    encoder,
                    stats,
                };
                return job.run(ctx);
            }
            refuse_options_of_models(model, encoder, stats)?;
            job.run(ctx)
        }
        Action::List => list(ctx),
    }
}

/// What became of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Passed,
    Failed,
    Skipped,
    Error,
}

/// One case in the document of `--json`.
#[derive(Debug, Serialize)]
struct CaseReport {
    folder: PathBuf,
    case: String,
    class: String,
    source: String,
    status: Status,
    outputs: Vec<Comparison>,
    /// Why it was skipped or could not be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct Document {
    passed: bool,
    device: String,
    cases: Vec<CaseReport>,
}

fn check(folders: &[PathBuf], compute: Compute, ctx: &Context) -> anyhow::Result<ExitCode> {
    let mut cases = Vec::with_capacity(folders.len());
    for folder in folders {
        match check_one(folder, compute) {
            Err(error) if folders.len() == 1 => return Err(error),
            Err(error) => cases.push(broken(folder, &error)),
            Ok(report) if folders.len() == 1 && report.status == Status::Skipped => {
                return Err(nothing_to_compare(folder).into());
            }
            Ok(report) => cases.push(report),
        }
        if let (false, Some(report)) = (ctx.json, cases.last()) {
            print_case(report, ctx)?;
        }
    }
    let code = exit_code(&cases);
    let document = Document {
        passed: code == 0,
        device: compute.to_string(),
        cases,
    };
    if ctx.json {
        ctx.print_json(&document)?;
    } else if folders.len() > 1 {
        print_summary(&document.cases, ctx)?;
    }
    Ok(ExitCode::from(code))
}

/// 2 when a case could not be run, else 1 when one failed.
fn exit_code(cases: &[CaseReport]) -> u8 {
    let any = |status| cases.iter().any(|case| case.status == status);
    match (any(Status::Error), any(Status::Failed)) {
        (true, _) => 2,
        (false, true) => 1,
        (false, false) => 0,
    }
}

fn check_one(folder: &Path, compute: Compute) -> anyhow::Result<CaseReport> {
    let case = Case::open(folder, &weights::read)?.on(compute);
    let report = |status, outputs, reason| CaseReport {
        folder: folder.to_path_buf(),
        case: case.name().to_string(),
        class: case.class().to_string(),
        source: case.source().to_string(),
        status,
        outputs,
        reason,
    };
    if case.class().is_empty() {
        let reason = "it names no class: it holds inputs of other cases".to_string();
        return Ok(report(Status::Skipped, Vec::new(), Some(reason)));
    }
    let outputs = weights::check(&case)?;
    let passed = outputs.iter().all(|output| output.passed);
    let status = if passed {
        Status::Passed
    } else {
        Status::Failed
    };
    Ok(report(status, outputs, None))
}

/// A folder that stands alone and has nothing to compare.
fn nothing_to_compare(folder: &Path) -> crate::Error {
    crate::Error::Invalid {
        what: format!("case `{}`", folder.display()),
        detail: "it names no class: it holds inputs of other cases and nothing to compare".into(),
    }
}

fn broken(folder: &Path, error: &anyhow::Error) -> CaseReport {
    let name = folder.file_name().unwrap_or(folder.as_os_str());
    CaseReport {
        folder: folder.to_path_buf(),
        case: name.to_string_lossy().into_owned(),
        class: String::new(),
        source: String::new(),
        status: Status::Error,
        outputs: Vec::new(),
        reason: Some(format!("{error:#}")),
    }
}

fn print_case(report: &CaseReport, ctx: &Context) -> anyhow::Result<()> {
    let CaseReport {
        case,
        class,
        source,
        status,
        outputs,
        reason,
        ..
    } = report;
    let reason = reason.as_deref().unwrap_or_default();
    match status {
        Status::Skipped => return ctx.print(&format!("{case}: skipped: {reason}\n")),
        Status::Error => return ctx.print(&format!("{case}: could not be run: {reason}\n")),
        Status::Passed | Status::Failed => ctx.print(&format!("{case}: {class}, {source}"))?,
    }
    let headings = ["output", "#values", "#max abs", "#max rel", "allowed", "ok"];
    let rows: Vec<Vec<String>> = outputs.iter().map(cells).collect();
    ctx.print(&text_table(&headings, &rows))?;
    ctx.print("")
}

fn cells(output: &Comparison) -> Vec<String> {
    vec![
        output.name.clone(),
        output.values.to_string(),
        format!("{:.2e}", output.max_absolute),
        format!("{:.2e}", output.max_relative),
        output.allowed.clone(),
        if output.passed { "yes" } else { "NO" }.into(),
    ]
}

fn print_summary(cases: &[CaseReport], ctx: &Context) -> anyhow::Result<()> {
    let count = |status| cases.iter().filter(|case| case.status == status).count();
    ctx.print(&format!(
        "{} passed, {} failed, {} skipped, {} could not be run",
        count(Status::Passed),
        count(Status::Failed),
        count(Status::Skipped),
        count(Status::Error)
    ))
}

/// One `weights import`.
struct Import<'a> {
    file: &'a Path,
    model: &'a str,
    out: &'a Path,
    sizes: Option<&'a Path>,
    overwrite: bool,
    dry_run: bool,
}

impl Import<'_> {
    fn run(&self, ctx: &Context) -> anyhow::Result<ExitCode> {
        let entry = import::find(self.model)?;
        let source = weights::identify(self.file, entry.origin)?;
        self.refuse_others(&source.blake3)?;
        let file = weights::read_where(self.file, &|key| entry.reads(key))?;
        let converted = match self.sizes {
            None => (entry.convert)(file)?,
            Some(path) => {
                let sizes: EncoderConfig = read_sizes(path, OF_ENCODERS)?;
                import::convert_sizes(file, entry.name, sizes)?
            }
        };
        let mut config = WeightsConfig::new(entry, &converted, source);
        if !self.dry_run {
            config = import::write(self.out, &converted.arrays, config)?;
        }
        self.report(&config, WEIGHTS, ctx)
    }

    /// Says what was left out and what was written, in a file of the folder.
    fn report(
        &self,
        config: &WeightsConfig,
        file: &str,
        ctx: &Context,
    ) -> anyhow::Result<ExitCode> {
        if !config.left_out.is_empty() {
            ctx.say(&format!("note: left out: {}", config.left_out.join(", ")));
        }
        if ctx.json {
            ctx.print_json(config)?;
        } else {
            self.print(config, file, ctx)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Weights that are there already are replaced only if they are from the same file.
    fn refuse_others(&self, blake3: &str) -> anyhow::Result<()> {
        let path = self.out.join(CONFIG);
        if self.overwrite || !path.exists() {
            return Ok(());
        }
        let known = std::fs::read(&path)
            .ok()
            .and_then(|text| serde_json::from_slice::<WeightsConfig>(&text).ok());
        if known.is_some_and(|known| known.model == self.model && known.source.blake3 == blake3) {
            return Ok(());
        }
        Err(crate::Error::Run {
            path: self.out.to_path_buf(),
            detail: "holds weights of another file".into(),
            hint: "give another `--out`, or `--overwrite` to replace them".into(),
        }
        .into())
    }

    fn print(&self, config: &WeightsConfig, file: &str, ctx: &Context) -> anyhow::Result<()> {
        let verb = if self.dry_run { "would write" } else { "wrote" };
        let megabytes = config.parameters as f64 * 4e-6;
        ctx.print(&format!(
            "{verb} {}: {}, {} numbers in {} arrays, {megabytes:.1} MB",
            self.out.join(file).display(),
            config.model,
            config.parameters,
            config.arrays
        ))?;
        ctx.print(&format!("source sha256 {}", config.source.sha256))
    }
}

/// Where the sizes of released encoders are.
const OF_ENCODERS: &str =
    "`jepa-bench list encoders --json` shows the `sizes` of the released ones";

/// World models have options of their own.
fn refuse_options_of_models(
    model: &str,
    encoder: Option<&Path>,
    stats: Option<&Path>,
) -> crate::Result<()> {
    if encoder.is_none() && stats.is_none() {
        return Ok(());
    }
    import::find(model)?;
    Err(crate::Error::Config {
        what: format!("`--model {model}`"),
        detail: "it is no world model, and takes neither `--encoder` nor `--stats`".into(),
        hint: Some("leave them out".into()),
    })
}

fn read_file(path: &Path) -> crate::Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| crate::Error::Io {
        action: "read",
        path: path.to_path_buf(),
        source,
    })
}

/// Sizes from a JSON file.
fn read_sizes<T: DeserializeOwned>(path: &Path, hint: &str) -> anyhow::Result<T> {
    let text = read_file(path)?;
    let parsed = serde_json::from_slice(&text);
    Ok(
        parsed.map_err(|error: serde_json::Error| crate::Error::Config {
            what: format!("`{}`", path.display()),
            detail: error.to_string(),
            hint: Some(hint.to_string()),
        })?,
    )
}

fn list(ctx: &Context) -> anyhow::Result<ExitCode> {
    let weights = || IMPORTS.iter().copied().flatten();
    if ctx.json {
        let items = weights().map(|entry| {
            json!({
                "name": entry.name,
                "summary": entry.summary,
                "kind": entry.kind,
                "origin": entry.origin,
            })
        });
        let models = MODELS.iter().map(world_model::listed);
        ctx.print_json(&items.chain(models).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let models = MODELS.iter().map(|e| (e.name, e.summary, e.origin));
    let all: Vec<_> = weights()
        .map(|e| (e.name, e.summary, e.origin))
        .chain(models)
        .collect();
    let width = all.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    for (name, summary, origin) in all {
        ctx.print(&format!("{name:width$}  {summary}"))?;
        ctx.print(&format!("{:width$}    {origin}", ""))?;
    }
    Ok(ExitCode::SUCCESS)
}
