//! `jepa-bench collect`.

use std::process::ExitCode;

use super::Context;

/// Record a dataset straight from a simulator.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("written next")
}
