//! Reports: what runs showed, as PDF, page, Markdown, LaTeX tables and JSON.
//!
//! [`write_report`] computes the facts with the leaderboard crate, builds one document of claims,
//! tables and figures, and renders it in the formats asked for. Nothing is measured here: this crate
//! draws what records hold and what [`jepa_leaderboard`] computes from them.

#![cfg_attr(
    test,
    allow(clippy::float_cmp, reason = "tests compare numbers that must be exact")
)]

mod content;
mod dataset;
mod document;
mod error;
mod figure;
mod film;
mod input;
mod paper;
mod text;
mod training;
mod writer;

pub use content::board::{BoardInput, BoardTaskInput};
pub use dataset::{DatasetCard, FieldRow};
pub use error::{Error, Result};
pub use figure::{Landscape, ProxySeries, landscape_figure, proxy_figure};
pub use film::{Film, load_films};
pub use input::Input;
pub use paper::{Design, PaperFacts, PaperInput, PaperRun};
pub use training::{Series, TrainingRun, Validation};
pub use writer::{Format, text_table, write_board, write_paper, write_report};

#[cfg(test)]
mod tests;
