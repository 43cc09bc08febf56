//! `jepa-bench inspect`.

use std::process::ExitCode;

use super::Context;

/// Show what is in a dataset.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("written next")
}
