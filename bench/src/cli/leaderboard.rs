//! `jepa-bench leaderboard`.

use std::process::ExitCode;

use super::Context;

/// Keep and show the local leaderboard.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("written next")
}
