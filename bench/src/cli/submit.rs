//! `jepa-bench submit`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use jepa_leaderboard::{
    Bundle, Claims, Identity, Level, Limits, METHOD_FILE, Outcome, Run, RunRecord, Verdict, Video,
    verify,
};
use jepa_reports::text_table;
use serde_json::{Value, json};

use super::Context;
use crate::referee::Simulators;
use crate::runner::Utc;

/// Licence where none is named, after SPDX.
const NO_LICENCE: &str = "NOASSERTION";
/// Contact where none is named.
const NO_CONTACT: &str = "not given";
/// Where bundles go on a board.
const SUBMISSIONS: &str = "/api/v1/submissions";
/// How long a board may take to answer: it plays every episode again.
const PATIENCE: Duration = Duration::from_mins(10);
/// Bytes of an answer that are read.
const LONGEST_ANSWER: u64 = 1 << 20;

/// Sign a run and bundle it, for a file or a board.
///
/// The bundle holds the run folder as it is, your words (`METHOD.md`), and the hash of all of it under your signature.
/// Nothing in it is executed by those who get it: a board recomputes every number and plays every episode again.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  jepa-bench submit runs/wall@1/pldm/* --check\n  jepa-bench submit runs/wall@1/pldm/* --method METHOD.md --licence MIT --contact lab@example.org --to pldm.jbs\n  jepa-bench submit runs/wall@1/pldm/* --to https://board.example.org"
)]
pub struct Args {
    /// Run folder written by `jepa-bench eval`.
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// File to write, or address of a board; by default a file named after the run folder.
    #[arg(long, value_name = "FILE|URL")]
    to: Option<String>,
    /// Say what level the run reaches and what is missing, and stop.
    #[arg(long, conflicts_with = "to")]
    check: bool,
    /// What was done, in words; by default METHOD.md in the run folder, or else what the record says.
    #[arg(long, value_name = "FILE")]
    method: Option<PathBuf>,
    /// Licence of weights and method, an SPDX expression.
    #[arg(long, default_value = NO_LICENCE)]
    licence: String,
    /// Where to ask: a mail address or a page.
    #[arg(long, default_value = NO_CONTACT)]
    contact: String,
    /// Address of the code.
    #[arg(long, value_name = "URL")]
    code_url: Option<String>,
    /// Address of the weights.
    #[arg(long, value_name = "URL")]
    weights_url: Option<String>,
    /// Video or film strip to take along: gif, png or mp4 (repeatable).
    #[arg(long, value_name = "FILE")]
    video: Vec<PathBuf>,
    /// File of the key; by default as for `jepa-bench key`.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Dataset that goals of the task come from, to check them too (repeatable).
    #[arg(long, value_name = "DST")]
    data: Vec<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let run = Run::load(&args.run)?;
    let claims = claims(args, &run)?;
    if args.check {
        return check(args, &run, &claims, ctx);
    }
    let identity = Identity::read(&super::key::file(args.key.as_deref())?).map_err(|error| {
        anyhow::Error::new(error)
            .context("a submission needs a key: make one with `jepa-bench key new`")
    })?;
    for line in missing(args, &claims, &run) {
        ctx.say(&format!("note: {line}"));
    }
    let bundle = Bundle::new(&run, &claims, &identity)?;
    let bytes = bundle.to_bytes()?;
    let to = args
        .to
        .clone()
        .unwrap_or_else(|| format!("{}.jbs", run.folder_name()));
    if to.starts_with("http://") || to.starts_with("https://") {
        return send(&to, &bundle, bytes, ctx);
    }
    write(Path::new(&to), &bytes)?;
    if ctx.json {
        ctx.print_json(&json!({ "id": bundle.id, "file": to, "bytes": bytes.len() }))?;
    } else {
        ctx.print(&format!(
            "{to}: {} bytes, submission {}",
            bytes.len(),
            bundle.id
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn claims(args: &Args, run: &Run) -> anyhow::Result<Claims> {
    let beside = args.run.join(METHOD_FILE);
    let method = match &args.method {
        Some(path) => read_text(path)?,
        None if beside.exists() => read_text(&beside)?,
        None => description(&run.record),
    };
    let videos = args
        .video
        .iter()
        .map(|path| {
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            let bytes = std::fs::read(path).map_err(|source| io("read", path, source))?;
            Ok(Video {
                name: name.unwrap_or_default(),
                bytes,
            })
        })
        .collect::<Result<_, crate::Error>>()?;
    Ok(Claims {
        licence: args.licence.clone(),
        contact: args.contact.clone(),
        method,
        code_url: args.code_url.clone(),
        weights_url: args.weights_url.clone(),
        created_utc: Utc::now().rfc3339(),
        videos,
    })
}

/// What a record says of the method: nothing that is not in it.
fn description(record: &RunRecord) -> String {
    let model = &record.model;
    let trained = model
        .training
        .as_ref()
        .map_or_else(String::new, |training| {
            format!(
                "\nTrained for {} steps with seed {} on dataset {} (track `{}`).\n",
                training.steps, training.seed, training.dataset_hash, training.track
            )
        });
    let settings = serde_json::to_string(&record.planner.settings).unwrap_or_default();
    format!(
        "# {}\n\nModel `{}`, evaluated on `{}` with planner `{}` (`{}`).\n{trained}\nPlanner settings: `{settings}`\n\n\
         These lines were written by the program from the record of the run; the submitter added no words.\n",
        model.label,
        model.name,
        record.task.id(),
        record.planner.name,
        record.planner.preset
    )
}

/// What a reader of the board would like to have and does not get.
fn missing(args: &Args, claims: &Claims, run: &Run) -> Vec<String> {
    let mut lines = Vec::new();
    if claims.licence == NO_LICENCE {
        lines.push("no licence is named (`--licence MIT`)".to_string());
    }
    if claims.contact == NO_CONTACT {
        lines.push("nobody can be asked (`--contact ADDRESS`)".to_string());
    }
    if args.method.is_none() && !args.run.join(METHOD_FILE).exists() {
        lines.push("the method is described by the record only (`--method METHOD.md`)".to_string());
    }
    if run.record.model.weights_hash.is_some() && claims.weights_url.is_none() {
        lines.push(
            "without `--weights-url` nobody can run the weights, which V3 and V4 take".to_string(),
        );
    }
    if run.record.provenance.commit.contains('-') || run.record.provenance.commit == "unknown" {
        lines.push(format!(
            "the code that evaluated is not a commit others have (`{}`)",
            run.record.provenance.commit
        ));
    }
    lines
}

fn check(args: &Args, run: &Run, claims: &Claims, ctx: &Context) -> anyhow::Result<ExitCode> {
    // Whether it is signed is not in question here: any key does.
    let path = super::key::file(args.key.as_deref())?;
    let has_key = path.exists();
    let identity = if has_key {
        Identity::read(&path)?
    } else {
        Identity::generate("nobody")?
    };
    let bytes = Bundle::new(run, claims, &identity)?.to_bytes()?;
    let bundle = Bundle::read(bytes.as_slice(), &Limits::default())?;
    let verdict = verify(&bundle, &Simulators::new(&args.data)?)?.verdict;
    let mut lines = missing(args, claims, run);
    if !has_key {
        lines.push("there is no key to sign with: `jepa-bench key new --name NAME`".into());
    }
    if ctx.json {
        ctx.print_json(&json!({
            "level": verdict.level,
            "checks": verdict.checks,
            "missing": lines,
            "bytes": bytes.len(),
        }))?;
    } else {
        print_verdict(&verdict, ctx)?;
        for line in &lines {
            ctx.print(&format!("missing: {line}"))?;
        }
    }
    Ok(exit_code(&verdict))
}

/// Prints every check and the level that was reached.
pub(super) fn print_verdict(verdict: &Verdict, ctx: &Context) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = verdict
        .checks
        .iter()
        .map(|check| {
            let (word, detail) = match &check.outcome {
                Outcome::Passed(said) => ("passed", said),
                Outcome::Failed(why) => ("FAILED", why),
                Outcome::NotRun(why) => ("not run", why),
            };
            vec![
                check.level.as_str().into(),
                word.into(),
                check.name.clone(),
                detail.clone(),
            ]
        })
        .collect();
    ctx.print(&text_table(&["level", "outcome", "check", "detail"], &rows))?;
    ctx.print(&match verdict.level {
        Some(level) => format!("level {}: {}", level.as_str(), level.meaning()),
        None => "refused: a check failed".into(),
    })
}

/// 1 when a check failed, or nothing but the signature holds.
pub(super) fn exit_code(verdict: &Verdict) -> ExitCode {
    if verdict.level >= Some(Level::V1) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}

/// Posts a bundle to a board and prints what it answers.
fn send(url: &str, bundle: &Bundle, bytes: Vec<u8>, ctx: &Context) -> anyhow::Result<ExitCode> {
    let address = if url.contains("/api/") {
        url.to_string()
    } else {
        format!("{}{SUBMISSIONS}", url.trim_end_matches('/'))
    };
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .build()
        .into();
    let unreachable = |error: ureq::Error| crate::Error::Config {
        what: format!("board `{url}`"),
        detail: error.to_string(),
        hint: Some("check the address; `--to FILE` writes the bundle instead".into()),
    };
    let mut answer = agent
        .post(&address)
        .header("content-type", "application/octet-stream")
        .send(bytes)
        .map_err(unreachable)?;
    let status = answer.status().as_u16();
    let text = answer
        .body_mut()
        .with_config()
        .limit(LONGEST_ANSWER)
        .read_to_string()
        .map_err(unreachable)?;
    let document: Value =
        serde_json::from_str(&text).unwrap_or_else(|_| json!({ "said": shown(&text) }));
    if ctx.json {
        ctx.print_json(&json!({ "status": status, "id": bundle.id, "answer": document }))?;
    } else {
        print_answer(status, &bundle.id, &document, ctx)?;
    }
    Ok(if matches!(status, 200 | 201) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn print_answer(status: u16, id: &str, answer: &Value, ctx: &Context) -> anyhow::Result<()> {
    let text = |name: &str| {
        let value = answer.get(name).and_then(Value::as_str);
        value.map(shown)
    };
    let verb = match status {
        200 => "there already",
        201 => "taken",
        _ => "refused",
    };
    ctx.print(&format!("{verb} ({status}): submission {id}"))?;
    for name in ["level", "url", "error", "detail", "hint", "said"] {
        if let Some(value) = text(name) {
            ctx.print(&format!("{name}: {value}"))?;
        }
    }
    Ok(())
}

/// What of a stranger's answer goes to the terminal: no control characters.
fn shown(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(2_000)
        .collect()
}

/// Writes a file whole or not at all.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), crate::Error> {
    use std::io::Write as _;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let save = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    save().map_err(|source| io("write", path, source))
}

fn read_text(path: &Path) -> Result<String, crate::Error> {
    std::fs::read_to_string(path).map_err(|source| io("read", path, source))
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> crate::Error {
    crate::Error::Io {
        action,
        path: path.to_path_buf(),
        source,
    }
}
