//! `jepa-bench slice`.

use std::process::ExitCode;

use super::Context;

/// Write one trajectory slice as NumPy arrays.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("written next")
}
