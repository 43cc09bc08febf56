//! The dataset card: facts about a dataset in plain form.
//!
//! This crate cannot open datasets; whoever can fills in a [`DatasetCard`].

use serde::Serialize;

/// What a report says about a dataset.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct DatasetCard {
    /// Name.
    pub name: String,
    /// Facts in the order to be shown: source, licence, counts, hashes, ...
    pub facts: Vec<(String, String)>,
    /// Fields with their shape and meaning.
    pub fields: Vec<FieldRow>,
    /// Source episodes that were left out: reason and count. Empty when none were.
    pub rejects: Vec<(String, u64)>,
}

/// A field of a dataset and its statistics over the training split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldRow {
    /// Column name.
    pub name: String,
    /// Shape of one row, e.g. `[2]`.
    pub shape: String,
    /// Unit or meaning.
    pub meaning: String,
    /// Mean per dimension.
    pub mean: Vec<f64>,
    /// Standard deviation per dimension.
    pub std: Vec<f64>,
    /// Least value per dimension.
    pub min: Vec<f64>,
    /// Greatest value per dimension.
    pub max: Vec<f64>,
}
