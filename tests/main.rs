//! End-to-end tests: the program is run as a user runs it, on small inputs.

mod bad_input;
mod determinism;
mod full_disk;
mod kill;
mod support;
mod whole_loop;
