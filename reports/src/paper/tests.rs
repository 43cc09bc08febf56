//! Layouts over made-up runs.
