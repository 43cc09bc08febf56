//! End-to-end tests: the program is run as a user runs it, on small inputs.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, like tests"
)]

mod bad_input;
mod board;
#[cfg(unix)]
mod bridge;
#[cfg(feature = "browser")]
mod browser;
mod determinism;
mod epochs;
mod exports;
mod features;
mod full_disk;
#[cfg(unix)]
mod hostile;
mod imported_models;
mod ingest;
mod jpeg_frames;
mod kill;
mod policy;
mod previews;
mod reports;
mod simulators;
mod submissions;
mod support;

mod weights;
mod whole_loop;
mod zoo;
