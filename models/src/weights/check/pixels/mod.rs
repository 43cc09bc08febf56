//! Models that train from pixels, and their losses.
//!
//! Each check computes everything that its class can give and [`Found`] compares what the case expects:
//! every output, every loss and the gradient of every tensor. An expected number that nothing here computes
//! is an error, so a case cannot pass by being ignored.

mod eb_jepa;
mod lewm;
mod losses;
mod pldm_maze;

use std::collections::BTreeMap;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;

use super::{Case, CheckEntry, Comparison, Tolerance, compare, compare_number, compare_to_largest};
use crate::train::LossTerm;
use crate::weights::{Array, Checkpoint, packed, read_out};
use crate::{Error, Result};

pub(super) const ENTRIES: &[CheckEntry] = &[
    lewm::ENTRY,
    eb_jepa::ENTRY,
    losses::EB_JEPA,
    losses::STABLE_WORLDMODEL,
    pldm_maze::ENTRY,
];

/// What our model gives for a case.
#[derive(Default)]
struct Found {
    /// Outputs by the name of the expected array; those called `grad..` are gradients.
    outputs: BTreeMap<String, Vec<f32>>,
    /// Losses by their place in `expected.json`, such as `/parts/std_loss`.
    losses: BTreeMap<String, f64>,
    /// Norms of gradients, likewise.
    norms: BTreeMap<String, f64>,
    /// Gradients by our keys, query, key and value apart.
    gradients: Checkpoint,
}

impl Found {
    fn output<const D: usize>(&mut self, name: &str, values: Tensor<D>) {
        self.outputs.insert(name.to_string(), floats(values));
    }

    fn loss(&mut self, place: &str, value: f64) {
        self.losses.insert(place.to_string(), value);
    }

    /// The gradients of `module`.
    fn gradients_of<M: Module>(&mut self, module: &M, gradients: &GradientsParams) -> Result<()> {
        self.gradients = packed::unpack(read_out::gradients_of(module, gradients))?;
        Ok(())
    }

    /// Every array of `outputs.safetensors`.
    fn compare_outputs(&self, case: &Case<'_>) -> Result<Vec<Comparison>> {
        let expected = case.arrays("outputs.safetensors")?;
        let compared = expected.keys().map(|name| {
            let ours = self.outputs.get(name).ok_or_else(|| unknown(case, name))?;
            let array = expected.require(name)?;
            Ok(if name.starts_with("grad") {
                compare_gradient(case, name, ours, &array.values, largest(&array.values))
            } else {
                compare(name, ours, &array.values, case.tolerance())
            })
        });
        compared.collect()
    }

    /// Every number of `expected.json`, and its gradients; `key` gives our key for one of the file.
    fn compare_expected(
        &self,
        case: &Case<'_>,
        skip: &[&str],
        key: impl Fn(&str) -> Option<String>,
    ) -> Result<Vec<Comparison>> {
        let expected = case.expected()?;
        let mut compared = Vec::new();
        for (place, value) in numbers(&expected) {
            if skip.contains(&place.as_str()) {
                continue;
            }
            let gradient = gradient_tolerance(case).relative;
            let loss = number(case, "loss_rel").unwrap_or(1e-4);
            compared.push(match (self.losses.get(&place), self.norms.get(&place)) {
                (Some(ours), _) => compare_number(&place, *ours, value, loss),
                (None, Some(ours)) => compare_number(&place, *ours, value, gradient),
                (None, None) => return Err(unknown(case, &place)),
            });
        }
        let tensors = expected.get("tensors").and_then(Value::as_object);
        for (name, samples) in tensors.into_iter().flatten() {
            let ours = key(name).ok_or_else(|| unknown(case, name))?;
            let ours = self.gradients.require(&ours)?;
            compared.extend(compare_samples(case, name, ours, samples)?);
        }
        Ok(compared)
    }
}

/// The norm of a gradient, and the values that the case samples from it.
fn compare_samples(
    case: &Case<'_>,
    name: &str,
    ours: &Array,
    samples: &Value,
) -> Result<Vec<Comparison>> {
    let broken = || case.broken(format!("expected.json: gradient of `{name}`"));
    let list = |key: &str| {
        samples
            .get(key)
            .and_then(Value::as_array)
            .ok_or_else(broken)
    };
    let norm = samples
        .get("norm")
        .and_then(Value::as_f64)
        .ok_or_else(broken)?;
    let indices = list("index")?
        .iter()
        .map(|i| i.as_u64().map(|i| i as usize));
    let picked = indices
        .map(|i| ours.values.get(i?).copied())
        .collect::<Option<Vec<f32>>>();
    let values = list("value")?.iter().map(|v| v.as_f64().map(|v| v as f32));
    let (picked, values) = (
        picked.ok_or_else(broken)?,
        values.collect::<Option<Vec<f32>>>().ok_or_else(broken)?,
    );
    let our_norm = ours
        .values
        .iter()
        .map(|v| f64::from(*v).powi(2))
        .sum::<f64>()
        .sqrt();
    Ok(vec![
        compare_gradient(
            case,
            &format!("{name} norm"),
            &[our_norm as f32],
            &[norm as f32],
            norm,
        ),
        compare_gradient(case, name, &picked, &values, largest(&ours.values)),
    ])
}

/// Within the case's tolerance of gradients: relative to the largest number of the tensor.
fn compare_gradient(
    case: &Case<'_>,
    name: &str,
    ours: &[f32],
    expected: &[f32],
    largest: f64,
) -> Comparison {
    compare_to_largest(name, ours, expected, gradient_tolerance(case), largest)
}

fn gradient_tolerance(case: &Case<'_>) -> Tolerance {
    Tolerance {
        absolute: number(case, "atol").unwrap_or(1e-6),
        relative: number(case, "rtol").unwrap_or(1e-3),
    }
}

/// A number of the manifest's `tolerance`.
fn number(case: &Case<'_>, key: &str) -> Option<f64> {
    case.manifest().get("tolerance")?.get(key)?.as_f64()
}

fn unknown(case: &Case<'_>, name: &str) -> Error {
    case.broken(format!("expects `{name}`, which nothing here computes"))
}

/// Every number of a document but those in lists and below `tensors`, by its place.
fn numbers(document: &Value) -> Vec<(String, f64)> {
    fn walk(value: &Value, place: &str, found: &mut Vec<(String, f64)>) {
        match value {
            Value::Number(number) => found.extend(number.as_f64().map(|n| (place.to_string(), n))),
            Value::Object(fields) => {
                for (key, value) in fields.iter().filter(|(key, _)| *key != "tensors") {
                    walk(value, &format!("{place}/{key}"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(document, "", &mut found);
    found
}

fn largest(values: &[f32]) -> f64 {
    values
        .iter()
        .fold(0.0, |most: f64, v| most.max(f64::from(v.abs())))
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

fn scalar(value: Tensor<1>) -> f64 {
    f64::from(value.into_scalar::<f32>())
}

/// The weighted sum of loss terms.
fn total(terms: &[LossTerm]) -> Tensor<1> {
    let weighted = terms.iter().map(|t| t.value.clone() * t.weight);
    weighted.fold(Tensor::zeros([1], &terms[0].value.device()), |sum, term| {
        sum + term
    })
}

/// The array called `name` as a tensor.
fn tensor<const D: usize>(
    case: &Case<'_>,
    file: &Checkpoint,
    name: &str,
    device: &Device,
) -> Result<Tensor<D>> {
    let array = file.require(name)?;
    let shape: [usize; D] = array.shape.clone().try_into().map_err(|shape| {
        case.broken(format!("`{name}` has shape {shape:?}, not {D} dimensions"))
    })?;
    Ok(Tensor::from_data(
        TensorData::new(array.values.clone(), shape),
        device,
    ))
}

/// The torch file of the case.
fn torch_weights(case: &Case<'_>) -> Result<Checkpoint> {
    let files = case.manifest().get("files").and_then(Value::as_object);
    let torch = |name: &&String| {
        [".pt", ".pth", ".pth.tar"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let name = files
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .find(torch);
    case.arrays(name.ok_or_else(|| case.broken("has no torch file".into()))?)
}
