//! `jepa-bench compare`.

use std::process::ExitCode;

use super::Context;

/// Compare runs on the same episodes.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("written next")
}
