//! The `jepa-bench` program; see [`jepa_bench::program`].
#![recursion_limit = "256"]

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    jepa_bench::program::main()
}
