//! `jepa-bench eval`.

use std::process::ExitCode;

use super::Context;

/// Plan with a world model in a simulator and score it.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("written next")
}
