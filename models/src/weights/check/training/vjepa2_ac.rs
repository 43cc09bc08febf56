//! The losses of V-JEPA-2-AC: fixed, with its bug, and as the JEPA-WMs paper retrains it.

use std::collections::BTreeMap;

use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use serde::Deserialize;

use super::expected::{Gradient, compare_gradients, compare_loss, steps, visual};
use crate::Result;
use crate::loss::elementwise::{ElementLoss, StateLossConfig};
use crate::loss::objective::{
    Draws, LossWeighting, ObjectiveConfig, ProprioRollout, RolloutPrefix, TokenBatch,
};
use crate::loss::vjepa2_ac::{RolloutStart, Vjepa2AcLossConfig};
use crate::predictor::token_world_model::{TokenWorldModel, key};
use crate::predictor::{TokenModel, TokenState};
use crate::train::optimizer::global_norm;
use crate::weights::check::predictor;
use crate::weights::check::{Case, Comparison, compare_number};
use crate::weights::read_out::gradients_by;

/// What the manifest says about the loss.
#[derive(Deserialize)]
struct Config {
    loss_exp: f64,
    auto_steps: usize,
}

#[derive(Deserialize)]
struct Expected {
    results: Vec<ExpectedLosses>,
}

#[derive(Deserialize)]
struct ExpectedLosses {
    /// `fixed`, `buggy`, or `jw_retraining` with its settings in words.
    mode: String,
    teacher_forcing: Option<f64>,
    rollout: Option<f64>,
    #[serde(default, alias = "rollout_terms")]
    rollout_parts: Vec<f64>,
    total: f64,
    grad_global_norm: Option<f64>,
    #[serde(default)]
    tensors: BTreeMap<String, Gradient>,
}

/// Losses of either kind.
struct Losses {
    teacher_forcing: Tensor<1>,
    rollout: Option<Tensor<1>>,
    parts: Vec<Tensor<1>>,
    total: Tensor<1>,
}

pub(super) fn check(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let expected = serde_json::from_value::<Expected>(case.expected()?);
    let expected = expected.map_err(|e| case.broken(format!("expected.json: {e}")))?;
    let device = case.device().autodiff();
    let model = predictor::model(case, &device)?.load(case.arrays("model.pth.tar")?)?;
    let inputs = case.arrays("inputs.safetensors")?;
    let state = inputs.get("state").map(|array| steps(array, &device));
    let batch = TokenBatch {
        visual: visual(inputs.require("latent")?, &device),
        proprio: state,
        actions: steps(inputs.require("action")?, &device),
    };
    let mut compared = Vec::new();
    for entry in &expected.results {
        let losses = losses(case, &model, batch.clone(), &entry.mode)?;
        compared.extend(compare_entry(case, &model, &losses, entry)?);
    }
    Ok(compared)
}

fn losses(
    case: &Case<'_>,
    model: &TokenWorldModel,
    batch: TokenBatch,
    mode: &str,
) -> Result<Losses> {
    let config: Config = case.config()?;
    let start = match mode.split_whitespace().next() {
        Some("fixed") => RolloutStart::Fixed,
        Some("buggy") => RolloutStart::Buggy,
        Some("jw_retraining") => return retraining(case, model, batch, mode),
        _ => return Err(case.broken(format!("mode `{mode}`"))),
    };
    let config = Vjepa2AcLossConfig {
        loss_exp: config.loss_exp,
        auto_steps: config.auto_steps,
        start,
    };
    let truth = TokenState {
        visual: batch.visual,
        proprio: batch
            .proprio
            .and_then(|proprio| model.embed_proprio(proprio)),
    };
    let losses = config.losses(model, &truth, &batch.actions)?;
    Ok(Losses {
        teacher_forcing: losses.teacher_forcing,
        rollout: Some(losses.rollout),
        parts: losses.rollout_parts,
        total: losses.total,
    })
}

/// The objective of models.md section 4.5, last point: all frames are fed, the last with an action of zeros.
fn retraining(
    case: &Case<'_>,
    model: &TokenWorldModel,
    batch: TokenBatch,
    mode: &str,
) -> Result<Losses> {
    let number = |before: &str| {
        let rest = mode.split_once(before).map(|(_, rest)| rest);
        let digits = rest.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        let number = digits.and_then(|digits| digits.parse::<usize>().ok());
        number.ok_or_else(|| case.broken(format!("no `{before}` number in mode `{mode}`")))
    };
    let config = ObjectiveConfig {
        steps: number("k=")?,
        prefix: RolloutPrefix::First,
        ctxt_window_train_rollout: number("context ")?,
        rollout_stop_gradient: !mode.contains("no stop gradient"),
        proprio_rollout: ProprioRollout::GroundTruth,
        loss_weighting: LossWeighting::Code,
        state: StateLossConfig {
            element: if mode.contains("L1") {
                ElementLoss::L1
            } else {
                ElementLoss::Mse
            },
            proprio_weight: 0.0,
            ..StateLossConfig::default()
        },
        ..ObjectiveConfig::default()
    };
    let [samples, given, width] = batch.actions.dims();
    let missing = batch.visual.dims()[1] - given;
    let zeros = Tensor::zeros([samples, missing, width], &batch.actions.device());
    let batch = TokenBatch {
        actions: Tensor::cat(vec![batch.actions, zeros], 1),
        ..batch
    };
    let draws = Draws {
        prefixes: vec![0],
        encoded: Vec::new(),
    };
    let losses = config.losses(model, batch, &draws)?;
    Ok(Losses {
        teacher_forcing: losses.teacher_forcing.total,
        rollout: None,
        parts: losses.rollout,
        total: losses.total,
    })
}

fn compare_entry(
    case: &Case<'_>,
    model: &TokenWorldModel,
    losses: &Losses,
    entry: &ExpectedLosses,
) -> Result<Vec<Comparison>> {
    let name = entry.mode.split_whitespace().next().unwrap_or_default();
    let mut pairs = vec![
        (
            "teacher forcing".to_string(),
            Some(&losses.teacher_forcing),
            entry.teacher_forcing,
        ),
        ("rollout".into(), losses.rollout.as_ref(), entry.rollout),
        ("total".into(), Some(&losses.total), Some(entry.total)),
    ];
    for (part, expected) in entry.rollout_parts.iter().enumerate() {
        pairs.push((
            format!("rollout part {part}"),
            losses.parts.get(part),
            Some(*expected),
        ));
    }
    let mut compared: Vec<Comparison> = pairs
        .into_iter()
        .filter_map(|(part, ours, expected)| {
            let name = format!("{name}: {part}");
            match ours {
                Some(ours) => compare_loss(case, &name, ours, expected),
                None => expected.map(|expected| compare_number(&name, f64::NAN, expected, 0.0)),
            }
        })
        .collect();
    let grads = GradientsParams::from_grads(losses.total.clone().backward(), model);
    if let Some(expected) = entry.grad_global_norm {
        let name = format!("{name}: norm of the gradient");
        let norm = global_norm(model, &grads);
        compared.push(compare_number(
            &name,
            norm,
            expected,
            case.tolerance().relative,
        ));
    }
    let ours = gradients_by(model, &grads, key);
    compared.extend(compare_gradients(case, name, &ours, &entry.tensors)?);
    Ok(compared)
}

#[cfg(test)]
mod tests {
    use crate::weights::check::testing::assert_case;

    #[test]
    fn the_losses_of_vjepa2_ac_are_those_of_the_reference() {
        assert_case("loss_vjepa2ac");
    }
}
