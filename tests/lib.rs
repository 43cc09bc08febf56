//! End-to-end tests of the `jepa-bench` program live in `main.rs`.
