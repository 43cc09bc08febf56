//! `jepa-bench demo`.

use std::process::ExitCode;

use super::Context;

/// The whole loop on Wall: collect, train, evaluate, report.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("written next")
}
