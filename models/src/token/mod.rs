//! Token-grid world models: a frozen image encoder, and a predictor of its tokens under actions.
//!
//! `ours`, `dino-wm`, `vjepa2-ac` and `vjepa2-ac-buggy` are the same machine with another predictor and another
//! objective (models.md sections 2 and 4); [`PRESETS`] says which. [`TokenNet`] is what trains, [`TokenGridModel`]
//! what plans. The encoder is frozen: its tokens are computed while slices are read, and never learn.
//!
//! [`TokenNet`]: net::TokenNet
//! [`TokenGridModel`]: planner::TokenGridModel

pub(crate) mod config;
pub(crate) mod encoder;
pub(crate) mod net;
pub(crate) mod planner;

pub use config::{
    EncoderChoice, ObjectiveChoice, PRESETS, PredictorChoice, PredictorKind, TokenConfig,
};
