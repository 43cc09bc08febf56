//! `jepa-bench slices`.

use std::process::ExitCode;

use super::Context;

/// Count trajectory slices.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("written next")
}
