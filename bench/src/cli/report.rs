//! `jepa-bench report`.

use std::process::ExitCode;

use super::Context;

/// Write tables, figures, a PDF and an HTML page.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("written next")
}
