//! `jepa-bench doctor`.

use std::process::ExitCode;

use super::Context;

/// Show what this build and machine can do.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("written next")
}
