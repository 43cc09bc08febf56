//! The command line: parsing records what was typed, each command's file turns it into library calls.
//!
//! stdout is data, stderr is for people. Exit code 0 is done, 1 is done and the answer is no, 2 is could not do it.

pub mod collect;
pub mod compare;
pub mod demo;
pub mod doctor;
pub mod embed;
pub mod eval;
pub mod export;
pub mod ingest;
pub mod inspect;
pub mod key;
pub mod leaderboard;
pub mod list;
pub mod merge;
pub mod plan;
pub mod preview;
pub mod proxy;
pub mod report;
pub mod rollout;
pub mod serve;
pub mod slice;
pub mod slices;
pub mod stats;
pub mod submit;
pub mod train;
pub mod validate;
pub mod verify;
pub mod weights;

mod average;
mod board;
mod checkpoints;
mod context;
mod meter;
mod sweep;
mod watcher;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use context::Context;

/// From raw robot data to a world-model score that another lab can check.
#[derive(Parser, Debug)]
#[command(
    name = "jepa-bench",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    /// Options that every command understands.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command understands.
#[derive(clap::Args, Debug, Clone)]
pub struct GlobalArgs {
    /// Print exactly one JSON document on stdout.
    #[arg(long, global = true, help_heading = GENERAL)]
    pub json: bool,
    /// No progress bars and no messages but errors.
    #[arg(short, long, global = true, help_heading = GENERAL)]
    pub quiet: bool,
    /// Say more on stderr; twice for debugging.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = GENERAL)]
    pub verbose: u8,
    /// Worker threads; 0 means one per core. Results do not depend on it.
    #[arg(long, global = true, default_value_t = 0, value_name = "N", help_heading = GENERAL)]
    pub threads: usize,
}

/// Heading of the options that every command has.
const GENERAL: &str = "General options";

impl Cli {
    /// Reads the arguments of the process; prints help or what is wrong with them, and ends it.
    pub fn read() -> Self {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        let command = ingest::about_source(Self::command(), &arguments);
        let matches = command.get_matches_from(arguments);
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Turn a raw release into a dataset of trajectory slices.
    Ingest(ingest::Args),
    /// Record a dataset straight from a simulator.
    Collect(collect::Args),
    /// Show what is in a dataset.
    Inspect(inspect::Args),
    /// Check every hash, count and range of a dataset.
    Validate(validate::Args),
    /// Statistics of every field of a dataset.
    Stats(stats::Args),
    /// Count trajectory slices.
    Slices(slices::Args),
    /// Write one trajectory slice as NumPy arrays.
    Slice(slice::Args),
    /// Draw an episode: a contact sheet or a clip, with its actions.
    Preview(preview::Args),
    /// Write a dataset in the layout of another library.
    Export(export::Args),
    /// List models, tasks, planners, datasets and metrics.
    List(list::Args),
    /// Encode every frame of a dataset with a frozen encoder and keep the tokens.
    Embed(embed::Args),
    /// Train a world model.
    Train(train::Args),
    /// Read weight files of other programs; check models against reference cases.
    Weights(weights::Args),
    /// Step a simulator with given actions.
    Rollout(rollout::Args),
    /// Plan with a world model in a simulator and score it.
    Eval(eval::Args),
    /// Join the shards of an evaluation.
    Merge(merge::Args),
    /// Plan one episode and show what the planner did.
    Plan(plan::Args),
    /// Compare runs on the same episodes.
    Compare(compare::Args),
    /// Which validation errors go with success over the epochs of training.
    Proxy(proxy::Args),
    /// Write tables, figures, a PDF and an HTML page.
    Report(report::Args),
    /// Make or show the key that submissions are signed with.
    Key(key::Args),
    /// Sign a run and bundle it, for a file or a board.
    Submit(submit::Args),
    /// Check a bundle: signature, numbers, and every episode played again.
    Verify(verify::Args),
    /// Keep, show and serve a leaderboard.
    Leaderboard(leaderboard::Args),
    /// The whole loop on Wall: collect, train, evaluate, report.
    Demo(demo::Args),
    /// Show what this build and machine can do.
    Doctor(doctor::Args),
}

impl Command {
    /// Runs the command.
    pub fn run(&self, ctx: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Command::Ingest(args) => ingest::run(args, ctx),
            Command::Collect(args) => collect::run(args, ctx),
            Command::Inspect(args) => inspect::run(args, ctx),
            Command::Validate(args) => validate::run(args, ctx),
            Command::Stats(args) => stats::run(args, ctx),
            Command::Slices(args) => slices::run(args, ctx),
            Command::Slice(args) => slice::run(args, ctx),
            Command::Preview(args) => preview::run(args, ctx),
            Command::Export(args) => export::run(args, ctx),
            Command::List(args) => list::run(args, ctx),
            Command::Embed(args) => embed::run(args, ctx),
            Command::Train(args) => train::run(args, ctx),
            Command::Weights(args) => weights::run(args, ctx),
            Command::Rollout(args) => rollout::run(args, ctx),
            Command::Eval(args) => eval::run(args, ctx),
            Command::Merge(args) => merge::run(args, ctx),
            Command::Plan(args) => plan::run(args, ctx),
            Command::Compare(args) => compare::run(args, ctx),
            Command::Proxy(args) => proxy::run(args, ctx),
            Command::Report(args) => report::run(args, ctx),
            Command::Key(args) => key::run(args, ctx),
            Command::Submit(args) => submit::run(args, ctx),
            Command::Verify(args) => verify::run(args, ctx),
            Command::Leaderboard(args) => leaderboard::run(args, ctx),
            Command::Demo(args) => demo::run(args, ctx),
            Command::Doctor(args) => doctor::run(args, ctx),
        }
    }
}
