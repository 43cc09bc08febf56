//! `jepa-bench doctor`.

use std::path::Path;
use std::process::ExitCode;

use jepa_datasets::{Codec, Dataset};
use serde::Serialize;

use super::Context;

/// Show what this build and machine can do, and what is missing.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  jepa-bench doctor --json")]
pub struct Args {}

/// What `doctor` found.
#[derive(Debug, Serialize)]
struct Findings {
    version: &'static str,
    system: String,
    threads: usize,
    vector_units: Vec<&'static str>,
    devices: Vec<String>,
    simulators: Vec<&'static str>,
    sources: Vec<&'static str>,
    codecs: Vec<&'static str>,
    home: Option<String>,
    datasets: Vec<Found>,
}

/// A dataset below `JEPA_BENCH_HOME/data`.
#[derive(Debug, Serialize)]
struct Found {
    path: String,
    episodes: u64,
    content_hash: String,
}

/// Runs the command.
pub fn run(_args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let findings = look(ctx);
    if ctx.json {
        ctx.print_json(&findings)?;
    } else {
        show(&findings, ctx)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn look(ctx: &Context) -> Findings {
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
        simulators: crate::env::ENVIRONMENTS.iter().map(|e| e.name).collect(),
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
    let lines = [
        ("jepa-bench", findings.version.to_string()),
        ("system", findings.system.clone()),
        ("threads", findings.threads.to_string()),
        ("vector units", list(&findings.vector_units)),
        ("devices", findings.devices.join(", ")),
        ("simulators", list(&findings.simulators)),
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
    if findings.home.is_none() {
        ctx.say("hint: set JEPA_BENCH_HOME to have datasets and the leaderboard found by default");
    }
    if !findings.vector_units.contains(&"avx512f") {
        ctx.say("note: without AVX-512 a training step takes about twice as long");
    }
    Ok(())
}
