//! `jepa-bench rollout`.

use std::process::ExitCode;

use super::Context;

/// Step a simulator with given actions.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("written next")
}
