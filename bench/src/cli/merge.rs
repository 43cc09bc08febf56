//! `jepa-bench merge`.

use std::process::ExitCode;

use super::Context;

/// Join the shards of an evaluation.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("written next")
}
