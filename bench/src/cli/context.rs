//! What every command is given: how to print, show progress and notice Ctrl-C.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::GlobalArgs;

/// Output, progress and interruption for one run of the program.
#[derive(Debug, Clone)]
pub struct Context {
    /// One JSON document on stdout instead of text.
    pub json: bool,
    /// No progress bars and no messages but errors.
    pub quiet: bool,
    /// Worker threads, at least 1.
    pub threads: usize,
    interrupted: Arc<AtomicBool>,
}

impl Context {
    /// Context for the global options; `interrupted` is set by the signal handler.
    pub fn new(global: &GlobalArgs, interrupted: Arc<AtomicBool>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = if global.threads == 0 {
            cores
        } else {
            global.threads
        };
        Self {
            json: global.json,
            quiet: global.quiet,
            threads,
            interrupted,
        }
    }

    /// Whether the user asked to stop; long loops poll this between units of work.
    pub fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// The flag itself, for library code that polls it.
    pub fn interrupt_flag(&self) -> &AtomicBool {
        &self.interrupted
    }

    /// A progress bar on stderr with rate and ETA; hidden when stderr is not a terminal, with
    /// `--quiet`, or when `NO_PROGRESS` is set.
    pub fn progress(&self, len: u64, label: &str) -> ProgressBar {
        let target = if self.wants_progress() && std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr_with_hz(8)
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template(
            "{prefix:>16} [{bar:32}] {pos}/{len}  {per_sec}  {elapsed} < {eta}  {msg}",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
        ProgressBar::with_draw_target(Some(len), target)
            .with_style(style)
            .with_prefix(label.to_string())
    }

    /// Whether to tell how far the work is, in whatever way: not with `--quiet` or `NO_PROGRESS`.
    pub fn wants_progress(&self) -> bool {
        !self.quiet && std::env::var_os("NO_PROGRESS").is_none_or(|v| v.is_empty())
    }

    /// A line for people, on stderr.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            // A closed stderr must not end the work.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// A line of output, on stdout. A closed pipe is not an error.
    pub fn print(&self, line: &str) -> anyhow::Result<()> {
        match writeln!(std::io::stdout(), "{line}") {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The one JSON document of `--json`.
    pub fn print_json(&self, document: &impl Serialize) -> anyhow::Result<()> {
        self.print(&serde_json::to_string_pretty(document)?)
    }
}
