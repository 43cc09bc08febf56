//! `jepa-bench validate`.

use std::process::ExitCode;

use super::Context;

/// Check every hash, count and range of a dataset.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("written next")
}
