//! Actions of `jepa-bench leaderboard` besides showing it: imports, exports, copies, keys and errata.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jepa_leaderboard::{
    Board, BoardRun, Bundle, Erratum, ExportFormat, ExportOptions, ExportRun, ImportedRow,
    PublicKey, Verified, export, read_clear_lewm, read_stable_worldmodel, verify,
};
use serde::Deserialize;
use serde_json::json;

use super::Context;
use super::submit::write;
use super::verify::open;
use crate::referee::Simulators;
use crate::{Error, Result};

/// First bytes of an SQLite file.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// Arguments of `leaderboard import`.
#[derive(clap::Args, Debug)]
pub(super) struct ImportArgs {
    /// Board files, bundles, results files of stable-worldmodel, or submission folders of CLEAR-LeWM.
    #[arg(value_name = "BOARD|FILE|DIR", required = true)]
    sources: Vec<PathBuf>,
    /// Dataset that goals of the tasks come from, to check bundles (repeatable).
    #[arg(long, value_name = "DST")]
    data: Vec<PathBuf>,
}

/// Arguments of `leaderboard results`.
#[derive(clap::Args, Debug)]
pub(super) struct ResultsArgs {
    /// Layout: `csv`, `parquet`, `hf-eval-results` or `every-eval-ever`.
    #[arg(long, value_name = "FORMAT")]
    format: ExportFormat,
    /// Folder to write to.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Only this task: `wall` or `wall@1`.
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    /// Dataset on the Hugging Face Hub that is registered as the benchmark, `owner/name`.
    #[arg(long, value_name = "NAME")]
    hub_dataset: Option<String>,
    /// Address of the board.
    #[arg(long, value_name = "URL")]
    source_url: Option<String>,
    /// Who evaluated.
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
}

/// Arguments of `leaderboard revoke`.
#[derive(clap::Args, Debug)]
pub(super) struct RevokeArgs {
    /// The owner's statement, made by `jepa-bench key revoke`; or the key itself, 64 digits, with `--reason`.
    #[arg(value_name = "FILE|KEY")]
    what: String,
    /// Why a maintainer does it.
    #[arg(long)]
    reason: Option<String>,
}

/// Arguments of `leaderboard erratum`.
#[derive(clap::Args, Debug)]
pub(super) struct ErratumArgs {
    /// What was wrong and what to do.
    #[arg(long)]
    text: String,
    /// Task that it touches, `name@version` (repeatable); every task without one.
    #[arg(long, value_name = "TASK")]
    task: Vec<String>,
    /// Commit of the code that it touches, or its first digits (repeatable).
    #[arg(long, value_name = "COMMIT")]
    commit: Vec<String>,
    /// Version of the program that it touches (repeatable).
    #[arg(long, value_name = "VERSION")]
    build: Vec<String>,
    /// Single run that it touches, by its whole identity (repeatable).
    #[arg(long, value_name = "RUN")]
    run: Vec<String>,
}

/// Reads and verifies bundles.
pub(super) fn checked(
    bundles: &[PathBuf],
    data: &[PathBuf],
) -> anyhow::Result<Vec<(Bundle, Verified)>> {
    let simulators = Simulators::new(data)?;
    bundles
        .iter()
        .map(|path| {
            let bundle = open(path)?;
            let verified = verify(&bundle, &simulators)?;
            Ok((bundle, verified))
        })
        .collect()
}

/// Takes over boards and bundles, and notes rows of other benchmarks.
pub(super) fn import(
    args: &ImportArgs,
    board: &mut Board,
    ctx: &Context,
) -> anyhow::Result<ExitCode> {
    let mut brought = Vec::new();
    for source in &args.sources {
        let said = import_one(source, args, board)?;
        brought.push(json!({ "source": source, "brought": said }));
        ctx.say(&format!("{}: {said}", source.display()));
    }
    let head = board.head()?;
    if ctx.json {
        ctx.print_json(&json!({ "imported": brought, "head": head }))?;
    } else {
        ctx.print(&format!("head {head}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn import_one(source: &Path, args: &ImportArgs, board: &mut Board) -> anyhow::Result<String> {
    if is_board(source)? {
        let other = Board::open_existing(source)?;
        recheck(&other, &args.data)?;
        let merged = board.merge(&other)?;
        return Ok(format!(
            "{} runs, {} submissions and {} other entries are new",
            merged.runs, merged.submissions, merged.notes
        ));
    }
    if source
        .extension()
        .is_some_and(|extension| extension == "jbs")
    {
        let mut new = 0;
        for (bundle, verified) in checked(&[source.to_path_buf()], &args.data)? {
            new += u64::from(board.submit(&bundle, &verified)?.is_new);
        }
        return Ok(format!("{new} submissions are new"));
    }
    let rows = foreign_rows(source)?;
    let before = board.imported()?.len();
    for row in &rows {
        board.add_imported(row)?;
    }
    let new = board.imported()?.len() - before;
    Ok(format!("{new} of {} unverified rows are new", rows.len()))
}

/// Every bundle of another board is verified here: its own word does not count.
fn recheck(other: &Board, data: &[PathBuf]) -> anyhow::Result<()> {
    let simulators = Simulators::new(data)?;
    for task in other.tasks()? {
        for run in other.runs(&task.task)? {
            let Some(submission) = run.submission else {
                continue;
            };
            let lost = |detail: String| Error::Invalid {
                what: format!(
                    "submission {} of `{}`",
                    submission.id,
                    other.path().display()
                ),
                detail,
            };
            let path = other
                .blob(&submission.bundle)
                .ok_or_else(|| lost("its bundle is missing".into()))?;
            let bundle = open(&path)?;
            let verified = verify(&bundle, &simulators)?;
            if bundle.id != submission.id
                || verified.run.map(|run| run.id()).transpose()? != Some(run.id)
            {
                return Err(lost("its bundle holds another run".into()).into());
            }
            if let Some((name, why)) = verified.verdict.failure() {
                return Err(lost(format!("a check failed, {name}: {why}")).into());
            }
        }
    }
    Ok(())
}

fn is_board(path: &Path) -> Result<bool> {
    if path.is_dir() {
        return Ok(false);
    }
    let mut first = Vec::new();
    File::open(path)
        .and_then(|file| file.take(SQLITE.len() as u64).read_to_end(&mut first))
        .map_err(|source| io(path, source))?;
    Ok(first == SQLITE)
}

/// Rows of a benchmark whose results this program reads.
fn foreign_rows(source: &Path) -> anyhow::Result<Vec<ImportedRow>> {
    let read = |path: &Path| std::fs::read(path).map_err(|source| io(path, source));
    if !source.is_dir() {
        return Ok(read_stable_worldmodel(&read(source)?)?);
    }
    let submission = read(&source.join("submission.json"))?;
    let mut results = BTreeMap::new();
    collect_files(source, source, &mut results)?;
    Ok(read_clear_lewm(&submission, &results)?)
}

/// The JSON files of a folder and the folders in it, by relative path.
fn collect_files(
    root: &Path,
    folder: &Path,
    found: &mut BTreeMap<String, Vec<u8>>,
) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).map_err(|source| io(folder, source))?;
    for entry in entries {
        let path = entry.map_err(|source| io(folder, source))?.path();
        let is_link = path.symlink_metadata().is_ok_and(|data| data.is_symlink());
        if path.is_dir() && !is_link {
            collect_files(root, &path, found)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let name = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            let bytes = std::fs::read(&path).map_err(|source| io(&path, source))?;
            found.insert(name, bytes);
        }
    }
    Ok(())
}

/// Writes the results for other programs.
pub(super) fn results(args: &ResultsArgs, board: &Board, ctx: &Context) -> anyhow::Result<()> {
    let mut runs: Vec<BoardRun> = Vec::new();
    for task in super::leaderboard::chosen(board.tasks()?, args.task.as_deref())? {
        runs.extend(board.runs(&task.task)?);
    }
    let exported: Vec<ExportRun> = runs.iter().map(ExportRun::of_board).collect();
    let options = ExportOptions {
        hub_dataset: args.hub_dataset.clone(),
        source_url: args.source_url.clone(),
        organization: args.organization.clone(),
        ..ExportOptions::default()
    };
    let files = export(args.format, &exported, &options)?;
    std::fs::create_dir_all(&args.out).map_err(|source| io(&args.out, source))?;
    let mut written = Vec::new();
    for file in files {
        let path = args.out.join(&file.name);
        write(&path, &file.bytes)?;
        written.push(path);
    }
    if ctx.json {
        return ctx.print_json(&json!({ "files": written }));
    }
    for path in written {
        ctx.print(&path.display().to_string())?;
    }
    Ok(())
}

/// Looks at everything, files included.
pub(super) fn check(board: &Board, ctx: &Context) -> anyhow::Result<ExitCode> {
    let checked = board.check()?;
    if ctx.json {
        ctx.print_json(&checked)?;
    } else {
        ctx.print(&format!(
            "{} events hold, {} files are whole",
            checked.events, checked.blobs
        ))?;
        for hash in &checked.damaged {
            ctx.print(&format!("missing or damaged: {hash}"))?;
        }
        for name in &checked.unnamed {
            ctx.print(&format!("named by nothing, may be deleted: {name}"))?;
        }
        ctx.print(&format!("head {}", board.head()?))?;
    }
    Ok(ExitCode::from(u8::from(!checked.damaged.is_empty())))
}

/// Copies the board.
pub(super) fn backup(board: &Board, to: &Path, ctx: &Context) -> anyhow::Result<()> {
    board.backup(to)?;
    if ctx.json {
        return ctx.print_json(&json!({ "file": to, "head": Board::open_existing(to)?.head()? }));
    }
    ctx.print(&to.display().to_string())
}

/// What `key revoke` writes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    key: PublicKey,
    reason: String,
    signature: String,
}

/// Calls a key invalid.
pub(super) fn revoke(args: &RevokeArgs, board: &mut Board, ctx: &Context) -> anyhow::Result<()> {
    let key = if let Some(reason) = &args.reason {
        let key = PublicKey::parse(&args.what)?;
        board.revoke(&key, reason, None)?;
        key
    } else {
        let path = Path::new(&args.what);
        let text = std::fs::read(path).map_err(|source| io(path, source))?;
        let statement: Statement =
            serde_json::from_slice(&text).map_err(|error| Error::Config {
                what: format!("`{}`", path.display()),
                detail: error.to_string(),
                hint: Some(
                    "pass what `jepa-bench key revoke` wrote, or a key with `--reason`".into(),
                ),
            })?;
        board.revoke(
            &statement.key,
            &statement.reason,
            Some(&statement.signature),
        )?;
        statement.key
    };
    if ctx.json {
        return ctx.print_json(&json!({ "key": key, "head": board.head()? }));
    }
    ctx.print(&format!("revoked {key}\nhead {}", board.head()?))
}

/// Marks runs as wrong.
pub(super) fn erratum(args: &ErratumArgs, board: &mut Board, ctx: &Context) -> anyhow::Result<()> {
    let erratum = Erratum {
        text: args.text.clone(),
        tasks: args.task.clone(),
        commits: args.commit.clone(),
        versions: args.build.clone(),
        runs: args.run.clone(),
    };
    board.add_erratum(&erratum)?;
    let mut touched = 0_u64;
    for task in board.tasks()? {
        let runs = board.runs(&task.task)?;
        touched += runs
            .iter()
            .filter(|run| run.errata.contains(&erratum))
            .count() as u64;
    }
    if ctx.json {
        return ctx.print_json(&json!({ "touched": touched, "head": board.head()? }));
    }
    ctx.print(&format!(
        "{touched} runs are marked\nhead {}",
        board.head()?
    ))
}

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        action: "read",
        path: path.to_path_buf(),
        source,
    }
}
