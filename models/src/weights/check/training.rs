//! Losses, gradients and optimiser steps of token-grid models, and the schedules of their training.
//!
//! A training case holds the weights before the first step, batches, and what the reference computes from them:
//! losses and gradients under several objectives, then steps of the optimiser with the weights after them.

mod expected;
mod objective;
mod schedules;
mod vjepa2_ac;

use super::CheckEntry;

pub(super) const ENTRIES: &[CheckEntry] = &[
    CheckEntry {
        class: "VideoWM",
        source: "jepa-wms",
        run: objective::check,
    },
    CheckEntry {
        class: "VisionTransformerPredictorAC",
        source: "vjepa_droid",
        run: vjepa2_ac::check,
    },
    CheckEntry {
        class: "WarmupCosineSchedule",
        source: "jepa-wms",
        run: schedules::check,
    },
];
