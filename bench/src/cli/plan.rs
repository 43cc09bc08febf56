//! `jepa-bench plan`.

use std::process::ExitCode;

use super::Context;

/// Plan one episode and show what the planner did.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("written next")
}
