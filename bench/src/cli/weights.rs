//! `jepa-bench weights`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jepa_models::encoder::EncoderConfig;
use jepa_models::weights::check::{Case, Comparison};
use jepa_models::weights::import::{self, CONFIG, IMPORTS, WEIGHTS, WeightsConfig};
use jepa_reports::text_table;
use serde::Serialize;
use serde_json::json;

use super::Context;
use crate::weights;

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
    /// others are skipped.
    #[command(after_help = "Examples:
  jepa-bench weights check cases/encoder_dinov2 --json | jq '.cases[].outputs[].max_absolute'
  jepa-bench weights check cases/*")]
    Check {
        /// Case folders.
        #[arg(value_name = "CASE_DIR", required = true)]
        cases: Vec<PathBuf>,
    },
    /// Turn a released file into safetensors of ours, with `config.json` beside them.
    ///
    /// The file may be a torch file (`.pth`, `.pth.tar`, `.pt`) or safetensors. Nothing in it is executed. A file that
    /// lacks a key, or has one that the model has no place for, is refused with the list of them.
    #[command(after_help = "Example:
  jepa-bench weights import vgg.pth --model lpips_vgg --out weights/lpips")]
    Import {
        /// The released file.
        file: PathBuf,
        /// What it is: a name of `jepa-bench weights list`.
        #[arg(long, value_name = "NAME")]
        model: String,
        /// Folder to write.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// JSON file with the sizes of an encoder that is not of the released size: what `list encoders --json` shows
        /// of one, with other numbers. NAME then says which file it is like.
        #[arg(long, value_name = "FILE")]
        sizes: Option<PathBuf>,
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
        Action::Check { cases } => check(cases, ctx),
        Action::Import {
            file,
            model,
            out,
            sizes,
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
    cases: Vec<CaseReport>,
}

fn check(folders: &[PathBuf], ctx: &Context) -> anyhow::Result<ExitCode> {
    let mut cases = Vec::with_capacity(folders.len());
    for folder in folders {
        match check_one(folder) {
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

fn check_one(folder: &Path) -> anyhow::Result<CaseReport> {
    let case = Case::open(folder, &weights::read)?;
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
        let source = weights::identify(self.file, entry)?;
        self.refuse_others(&source.blake3)?;
        let file = weights::read_where(self.file, &|key| entry.reads(key))?;
        let converted = match self.sizes {
            None => (entry.convert)(file)?,
            Some(path) => import::convert_sizes(file, entry.name, read_sizes(path)?)?,
        };
        let mut config = WeightsConfig::new(entry, &converted, source);
        if !self.dry_run {
            config = import::write(self.out, &converted.arrays, config)?;
        }
        if !config.left_out.is_empty() {
            ctx.say(&format!("note: left out: {}", config.left_out.join(", ")));
        }
        if ctx.json {
            ctx.print_json(&config)?;
        } else {
            self.print(&config, ctx)?;
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

    fn print(&self, config: &WeightsConfig, ctx: &Context) -> anyhow::Result<()> {
        let verb = if self.dry_run { "would write" } else { "wrote" };
        let megabytes = config.parameters as f64 * 4e-6;
        ctx.print(&format!(
            "{verb} {}: {}, {} numbers in {} arrays, {megabytes:.1} MB",
            self.out.join(WEIGHTS).display(),
            config.model,
            config.parameters,
            config.arrays
        ))?;
        ctx.print(&format!("source sha256 {}", config.source.sha256))
    }
}

/// Sizes of an encoder, from a JSON file.
fn read_sizes(path: &Path) -> anyhow::Result<EncoderConfig> {
    let text = std::fs::read(path).map_err(|source| crate::Error::Io {
        action: "read",
        path: path.to_path_buf(),
        source,
    })?;
    let parsed = serde_json::from_slice(&text);
    Ok(
        parsed.map_err(|error: serde_json::Error| crate::Error::Config {
            what: format!("`{}`", path.display()),
            detail: error.to_string(),
            hint: Some(
                "`jepa-bench list encoders --json` shows the `sizes` of the released ones".into(),
            ),
        })?,
    )
}

fn list(ctx: &Context) -> anyhow::Result<ExitCode> {
    let entries = || IMPORTS.iter().copied().flatten();
    if ctx.json {
        let items: Vec<_> = entries()
            .map(|entry| {
                json!({
                    "name": entry.name,
                    "summary": entry.summary,
                    "kind": entry.kind,
                    "origin": entry.origin,
                })
            })
            .collect();
        ctx.print_json(&items)?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = entries().map(|entry| entry.name.len()).max().unwrap_or(0);
    for entry in entries() {
        ctx.print(&format!("{:width$}  {}", entry.name, entry.summary))?;
        ctx.print(&format!("{:width$}    {}", "", entry.origin))?;
    }
    Ok(ExitCode::SUCCESS)
}
