//! The program: parses the command line, runs one command, prints errors with a hint.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::{Cli, Context};

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let cli = Cli::read();
    start_log(cli.global.verbose);
    let context = Context::new(&cli.global, interrupt_flag());
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(context.threads)
        .build_global();
    if let Err(error) = pool {
        tracing::warn!("the thread pool keeps its default size: {error}");
    }
    match cli.command.run(&context) {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::from(2)
        }
    }
}

/// A flag that Ctrl-C and SIGTERM set. A second Ctrl-C ends the program at once.
fn interrupt_flag() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let handle = Arc::clone(&flag);
    let outcome = ctrlc::set_handler(move || {
        if handle.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        let note = "\nstopping after the work in hand; press Ctrl-C again to stop at once";
        let _ = writeln!(std::io::stderr(), "{note}");
    });
    if let Err(error) = outcome {
        tracing::warn!("Ctrl-C ends the program without finishing the work in hand: {error}");
    }
    flag
}

/// Log lines go to stderr; `RUST_LOG` overrides `-v`.
fn start_log(verbose: u8) {
    let level = ["warn", "info", "debug"][usize::from(verbose.min(2))];
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .without_time()
        .init();
}

/// `error: what, where`, its causes, and `hint: what to try`.
fn report(error: &anyhow::Error) {
    let mut stderr = std::io::stderr();
    let _ = writeln!(stderr, "error: {error}");
    for cause in error.chain().skip(1) {
        let _ = writeln!(stderr, "  because: {cause}");
    }
    if let Some(hint) = error.chain().find_map(hint) {
        let _ = writeln!(stderr, "hint: {hint}");
    }
}

/// The hint of an error that is one of ours.
fn hint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    macro_rules! first {
        ($($kind:ty),*) => {
            None$(.or_else(|| error.downcast_ref::<$kind>().and_then(<$kind>::hint)))*
        };
    }
    first!(
        crate::Error,
        jepa_datasets::Error,
        jepa_ingest::Error,
        jepa_models::Error,
        jepa_leaderboard::Error,
        jepa_reports::Error
    )
}
