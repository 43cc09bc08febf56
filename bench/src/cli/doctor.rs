//! `jepa-bench doctor`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use jepa_datasets::{Codec, Dataset};
use serde::Serialize;

use super::Context;
use crate::env::{self, Size};

/// Show what this build and machine can do, and what is missing.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  jepa-bench doctor --json\n  jepa-bench doctor --simulators")]
pub struct Args {
    /// Start the simulators that run in Python, draw a frame and say how long it takes.
    #[arg(long)]
    simulators: bool,
}

/// What `doctor` found.
#[derive(Debug, Serialize)]
struct Findings {
    version: &'static str,
    system: String,
    threads: usize,
    vector_units: Vec<&'static str>,
    devices: Vec<String>,
    simulators: Vec<&'static str>,
    python: Python,
    /// What starting Metaworld gave; only with `--simulators`.
    #[serde(skip_serializing_if = "Option::is_none")]
    metaworld: Option<Trial>,
    sources: Vec<&'static str>,
    codecs: Vec<&'static str>,
    home: Option<String>,
    datasets: Vec<Found>,
}

/// The Python that simulators outside this program run in.
#[derive(Debug, Serialize)]
struct Python {
    program: String,
    /// Versions of Python and of the packages that simulators need; none for what is not installed.
    versions: BTreeMap<String, Option<String>>,
}

/// One episode's beginning and its frame.
#[derive(Debug, Serialize)]
struct Trial {
    works: bool,
    seconds: f64,
    detail: String,
}

/// A dataset below `JEPA_BENCH_HOME/data`.
#[derive(Debug, Serialize)]
struct Found {
    path: String,
    episodes: u64,
    content_hash: String,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let findings = look(args, ctx);
    if ctx.json {
        ctx.print_json(&findings)?;
    } else {
        show(&findings, ctx)?;
    }
    let works = findings.metaworld.as_ref().is_none_or(|trial| trial.works);
    Ok(ExitCode::from(u8::from(!works)))
}

/// What Metaworld needs: the line to install it.
const INSTALL: &str = "python3 -m pip install metaworld==3.1.1 packaging";

/// Asks the Python that simulators run in for its version and those of its packages.
fn python() -> Python {
    let program = env::python();
    let script = "import importlib.metadata as m, json, platform\n\
                  found = {'python': platform.python_version()}\n\
                  for name in ('metaworld', 'mujoco', 'gymnasium'):\n\
                  \x20   try: found[name] = m.version(name)\n\
                  \x20   except m.PackageNotFoundError: found[name] = None\n\
                  print(json.dumps(found))";
    let output = std::process::Command::new(&program)
        .args(["-c", script])
        .output();
    let versions = output
        .ok()
        .and_then(|output| serde_json::from_slice(&output.stdout).ok());
    Python {
        program: program.to_string_lossy().into_owned(),
        versions: versions.unwrap_or_default(),
    }
}

/// Starts Metaworld and draws the first frame of an episode.
fn try_metaworld() -> Trial {
    let began = Instant::now();
    let trial = || -> crate::Result<()> {
        let mut env = env::build("metaworld")?;
        let start = env.sample(1)?;
        start.enter(env.as_mut())?;
        env.render(Size::Planner).map(drop)
    };
    let outcome = trial();
    Trial {
        works: outcome.is_ok(),
        seconds: began.elapsed().as_secs_f64(),
        detail: outcome.map_or_else(
            |error| error.to_string(),
            |()| "an episode began and its frame was drawn".into(),
        ),
    }
}

fn look(args: &Args, ctx: &Context) -> Findings {
    let home = std::env::var("JEPA_BENCH_HOME")
        .ok()
        .filter(|h| !h.is_empty());
    let datasets = home
        .as_deref()
        .map(|h| datasets_below(&Path::new(h).join("data")))
        .unwrap_or_default();
    Findings {
        version: env!("CARGO_PKG_VERSION"),
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        threads: ctx.threads,
        vector_units: vector_units(),
        devices: jepa_models::Compute::available(),
        simulators: env::ENVIRONMENTS.iter().map(|e| e.name).collect(),
        python: python(),
        metaworld: args.simulators.then(try_metaworld),
        sources: jepa_ingest::SOURCES.iter().map(|s| s.name).collect(),
        codecs: Codec::NAMES.to_vec(),
        home,
        datasets,
    }
}

/// The wide vector units that the matrix kernels choose between at run time.
fn vector_units() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let units = [
            ("avx2", std::arch::is_x86_feature_detected!("avx2")),
            ("fma", std::arch::is_x86_feature_detected!("fma")),
            ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ];
        units
            .iter()
            .filter(|(_, found)| *found)
            .map(|(name, _)| *name)
            .collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        Vec::new()
    }
}

/// Finished datasets one level below a folder.
fn datasets_below(folder: &Path) -> Vec<Found> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<Found> = entries
        .flatten()
        .filter_map(|entry| {
            let dataset = Dataset::open(&entry.path()).ok()?;
            Some(Found {
                path: entry.path().display().to_string(),
                episodes: dataset.manifest().counts.episodes,
                content_hash: dataset.content_hash().to_string(),
            })
        })
        .collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn show(findings: &Findings, ctx: &Context) -> anyhow::Result<()> {
    let list = |names: &[&str]| {
        if names.is_empty() {
            "none".to_string()
        } else {
            names.join(", ")
        }
    };
    let found = findings.python.versions.iter();
    let found = found.filter_map(|(name, version)| Some(format!("{name} {}", version.as_ref()?)));
    let found: Vec<String> = found.collect();
    let python = if found.is_empty() {
        format!("`{}` does not run", findings.python.program)
    } else {
        format!("{} ({})", findings.python.program, found.join(", "))
    };
    let lines = [
        ("jepa-bench", findings.version.to_string()),
        ("system", findings.system.clone()),
        ("threads", findings.threads.to_string()),
        ("vector units", list(&findings.vector_units)),
        ("devices", findings.devices.join(", ")),
        ("simulators", list(&findings.simulators)),
        ("python", python),
        ("ingest sources", list(&findings.sources)),
        ("frame codecs", list(&findings.codecs)),
        (
            "JEPA_BENCH_HOME",
            findings.home.clone().unwrap_or_else(|| "not set".into()),
        ),
    ];
    for (name, value) in lines {
        ctx.print(&format!("{name:<16} {value}"))?;
    }
    for dataset in &findings.datasets {
        let hash = dataset.content_hash.get(..12).unwrap_or_default();
        ctx.print(&format!(
            "{:<16} {} ({} episodes, {hash})",
            "dataset", dataset.path, dataset.episodes
        ))?;
    }
    if let Some(trial) = &findings.metaworld {
        let verdict = if trial.works {
            "works"
        } else {
            "does not work"
        };
        ctx.print(&format!(
            "{:<16} {verdict}: {} ({:.1} s)",
            "metaworld", trial.detail, trial.seconds
        ))?;
    }
    if findings
        .python
        .versions
        .get("metaworld")
        .is_none_or(Option::is_none)
    {
        ctx.say(&format!(
            "hint: Metaworld runs in Python and is not installed there: `{INSTALL}`, and libegl1 or libosmesa6 of the \
             system (MUJOCO_GL=osmesa for the latter); {} names another Python",
            env::PYTHON
        ));
    }
    if findings.home.is_none() {
        ctx.say("hint: set JEPA_BENCH_HOME to have datasets and the leaderboard found by default");
    }
    if !findings.vector_units.contains(&"avx512f") {
        ctx.say("note: without AVX-512 a training step takes about twice as long");
    }
    Ok(())
}
