//! `jepa-bench list`.

use std::process::ExitCode;

use super::Context;

/// List models, tasks, planners, datasets and metrics.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("written next")
}
