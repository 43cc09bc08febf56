//! What `expected.json` holds of losses and gradients, and how ours are compared with it.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use serde::Deserialize;

use crate::Result;
use crate::weights::check::{
    Case, Comparison, Tolerance, compare, compare_number, compare_to_largest,
};
use crate::weights::{Array, Checkpoint};

/// Some values of the gradient of one parameter, and its norm.
#[derive(Debug, Deserialize)]
pub(super) struct Gradient {
    norm: f64,
    /// Places in the flat array, in `PyTorch`'s layout.
    #[serde(default)]
    index: Vec<usize>,
    #[serde(default)]
    value: Vec<f64>,
}

/// How far losses may be off, relative to themselves.
pub(super) fn loss_tolerance(case: &Case<'_>) -> f64 {
    stated(case, "loss_rel").unwrap_or(1e-4)
}

/// A number of the case's `tolerance`.
pub(super) fn stated(case: &Case<'_>, key: &str) -> Option<f64> {
    case.manifest().get("tolerance")?.get(key)?.as_f64()
}

/// A loss, where the case has it.
pub(super) fn compare_loss(
    case: &Case<'_>,
    name: &str,
    ours: &Tensor<1>,
    expected: Option<f64>,
) -> Option<Comparison> {
    let ours = f64::from(ours.clone().into_scalar::<f32>());
    expected.map(|expected| compare_number(name, ours, expected, loss_tolerance(case)))
}

/// The norm and the given values of every gradient.
///
/// Values may be off in proportion to the largest of their tensor. The case has that only in part, so it is taken
/// from ours, but no larger than the expected norm, which bounds it.
pub(super) fn compare_gradients(
    case: &Case<'_>,
    name: &str,
    ours: &Checkpoint,
    expected: &BTreeMap<String, Gradient>,
) -> Result<Vec<Comparison>> {
    let tolerance = case.tolerance();
    let mut compared = Vec::new();
    for (key, expected) in expected {
        let gradient = match ours.get(key) {
            Some(gradient) => gradient,
            None => ours.require(&format!("predictor.{key}"))?,
        };
        let name = format!("{name}: gradient of {key}");
        compared.push(compare_norm(&name, gradient, expected.norm, tolerance));
        if expected.index.is_empty() {
            continue;
        }
        let values: Option<Vec<f32>> = expected
            .index
            .iter()
            .map(|at| gradient.values.get(*at).copied())
            .collect();
        let values = values.ok_or_else(|| case.broken(format!("{key}: an index is too large")))?;
        let given: Vec<f32> = expected.value.iter().map(|v| *v as f32).collect();
        let largest = gradient
            .values
            .iter()
            .fold(0.0, |most, v| f64::from(v.abs()).max(most));
        let largest = largest.min(expected.norm);
        compared.push(compare_to_largest(
            &name, &values, &given, tolerance, largest,
        ));
    }
    Ok(compared)
}

fn compare_norm(name: &str, ours: &Array, expected: f64, tolerance: Tolerance) -> Comparison {
    let squares = ours.values.iter().map(|v| f64::from(*v).powi(2));
    let norm = squares.sum::<f64>().sqrt() as f32;
    compare(
        &format!("{name}, norm"),
        &[norm],
        &[expected as f32],
        tolerance,
    )
}

/// An array as a tensor of `shape`, which may group its sides otherwise.
pub(super) fn tensor<const D: usize>(
    array: &Array,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    let flat = Tensor::<1>::from_data(
        TensorData::new(array.values.clone(), [array.values.len()]),
        device,
    );
    flat.reshape(shape)
}

/// Visual tokens `[B, T, N, De]` from `[B, T, N, De]` or `[B, T, views, h, w, De]`.
pub(super) fn visual(array: &Array, device: &Device) -> Tensor<4> {
    let shape = &array.shape;
    let last = shape.len() - 1;
    let tokens = shape[2..last].iter().product();
    tensor(array, [shape[0], shape[1], tokens, shape[last]], device)
}

/// Actions or proprio `[B, T, C]`.
pub(super) fn steps(array: &Array, device: &Device) -> Tensor<3> {
    let [batch, frames] = [array.shape[0], array.shape[1]];
    let width = array.shape[2..].iter().product();
    tensor(array, [batch, frames, width], device)
}
