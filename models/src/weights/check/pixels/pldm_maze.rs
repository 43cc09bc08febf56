//! PLDM's maze model: encodings, predictions, losses and gradients.

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use serde_json::Value;

use super::{Found, scalar, tensor, torch_weights, total};
use crate::Result;
use crate::pldm_maze::{ConvSizes, MazeShape, PldmMazeConfig, PldmMazeLoss};
use crate::train::LossTerm;
use crate::weights::Checkpoint;
use crate::weights::check::{Case, CheckEntry, Comparison};

pub(super) const ENTRY: CheckEntry = CheckEntry {
    class: "PLDM JEPA",
    source: "PLDM",
    run: check,
};

#[derive(Deserialize)]
struct Config {
    encoder_convs_out_k_s_p: Vec<ConvSizes>,
    predictor_convs: Vec<ConvSizes>,
    residual: bool,
    coefficients: Coefficients,
}

#[derive(Deserialize)]
struct Coefficients {
    sim: f64,
    std: f64,
    cov: f64,
    std_t: f64,
    sim_t: f64,
    idm: f64,
    propio: f64,
}

impl Config {
    /// `file` gives the channels of the inverse model, which the configuration does not name.
    fn model(&self, file: &Checkpoint) -> Result<PldmMazeConfig> {
        let weights = &self.coefficients;
        Ok(PldmMazeConfig {
            encoder: self.encoder_convs_out_k_s_p.clone(),
            predictor: self.predictor_convs.clone(),
            residual: self.residual,
            inverse_channels: file.require("idm.0.bias")?.values.len(),
            loss: PldmMazeLoss {
                prediction: weights.sim,
                std: weights.std,
                covariance: weights.cov,
                std_time: weights.std_t,
                similarity: weights.sim_t,
                inverse: weights.idm,
                proprio: weights.propio,
            },
            ..PldmMazeConfig::default()
        })
    }
}

/// Sequences of a case, sample by sample; its files have time first.
struct Inputs {
    /// `[B, T, 3, H, W]`
    images: Tensor<5>,
    /// `[B, T, P]`
    velocities: Tensor<3>,
    /// `[B, T - 1, A]`
    actions: Tensor<3>,
}

impl Inputs {
    fn read(case: &Case<'_>, device: &Device) -> Result<Self> {
        let file = case.arrays("inputs.safetensors")?;
        Ok(Self {
            images: tensor::<5>(case, &file, "image", device)?.swap_dims(0, 1),
            velocities: tensor::<3>(case, &file, "velocity", device)?.swap_dims(0, 1),
            actions: tensor::<3>(case, &file, "action", device)?.swap_dims(0, 1),
        })
    }

    fn shape(&self) -> MazeShape {
        let [.., channels, height, width] = self.images.dims();
        MazeShape {
            channels,
            height,
            width,
            velocity: self.velocities.dims()[2],
            block: self.actions.dims()[2],
        }
    }
}

fn check(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let config: Config = case.config()?;
    let file = torch_weights(case)?;
    let device = case.device().autodiff();
    let inputs = Inputs::read(case, &device)?;
    let model = config.model(&file)?;
    let net = model
        .init(&inputs.shape(), &device)?
        .load(case.name(), file)?;
    let [batch, frames, ..] = inputs.images.dims();
    let velocities = inputs.velocities.clone().flatten::<2>(0, 1);
    let encoded = net.encode(inputs.images.clone().flatten::<4>(0, 1), velocities);
    let [_, planes, height, width] = encoded.dims();
    let encoded = encoded.reshape([batch, frames, planes, height, width]);
    let start = encoded.clone().slice_dim(1, 0..1).squeeze_dim::<4>(1);
    let predicted = net.unroll(start, &inputs.actions);
    let mut found = Found::default();
    found.output("encoding", encoded.clone().swap_dims(0, 1));
    found.output("prediction", predicted.clone().swap_dims(0, 1));
    let terms = net.losses(&encoded, &predicted, &inputs.actions, &model.loss);
    losses(&terms, &mut found);
    let gradients = GradientsParams::from_grads(total(&terms).backward(), &net);
    found.gradients_of(&net, &gradients)?;
    let keys = net.keys();
    let mut compared = found.compare_outputs(case)?;
    // The reference reports 0 for a covariance over time that it was not asked for.
    let covariance_time = "/losses/vicreg_obs/cov_loss_t";
    let expected = case.expected()?;
    let absent = expected.pointer(covariance_time).and_then(Value::as_f64) == Some(0.0);
    let skip: &[&str] = if absent { &[covariance_time] } else { &[] };
    compared.extend(found.compare_expected(case, skip, |key| Some(keys.ours(key)))?);
    Ok(compared)
}

/// The losses under the names of the reference, in its three groups.
fn losses(terms: &[LossTerm], found: &mut Found) {
    let place = |name| match name {
        "prediction" => ("vicreg_obs", "sim_loss"),
        "std" => ("vicreg_obs", "std_loss"),
        "covariance" => ("vicreg_obs", "cov_loss"),
        "std_time" => ("vicreg_obs", "std_loss_t"),
        "similarity" => ("vicreg_obs", "sim_loss_t"),
        "inverse" => ("idm", "action_loss"),
        _ => ("prediction_propio", "pred_loss"),
    };
    for term in terms {
        let (group, name) = place(term.name);
        let value = scalar(term.value.clone());
        found.loss(&format!("/losses/{group}/{name}"), value);
        let sum = format!("/losses/{group}/total_loss");
        *found.losses.entry(sum).or_default() += value * term.weight;
    }
    found.loss("/total", scalar(total(terms)));
}
