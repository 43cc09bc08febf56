//! eb_jepa: outputs, losses, gradients, learning rates and one optimiser step.

use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use serde::Deserialize;
use serde_json::Value;

use super::{Found, number, scalar, tensor, torch_weights, total};
use crate::Result;
use crate::eb_jepa::{EbJepaConfig, EbJepaLoss, EbJepaNet, learning_rate, optimizer, our_key};
use crate::encoder::impala::ImpalaConfig;
use crate::train::LossTerm;
use crate::weights::check::{Case, CheckEntry, Comparison, Tolerance, compare, compare_number};
use crate::weights::{Checkpoint, read_out};

pub(super) const ENTRY: CheckEntry = CheckEntry {
    class: "ImpalaEncoder",
    source: "eb_jepa",
    run: check,
};

/// The step of the cases (models.md section 7.4).
const LEARNING_RATE: f64 = 1e-3;
const WEIGHT_DECAY: f64 = 1e-5;
const CLIP: f64 = 2.0;

#[derive(Deserialize)]
struct Config {
    stack_sizes: Vec<usize>,
    num_blocks: usize,
    latent_dim: usize,
    input_channels: usize,
    image: usize,
    nsteps: usize,
    action_dim: usize,
    idm_hidden: usize,
    cov_coeff: f64,
    std_coeff: f64,
    sim_coeff_t: f64,
    idm_coeff: f64,
    first_t_only: bool,
    layer_norm_eps: f64,
}

impl Config {
    fn model(&self) -> EbJepaConfig {
        EbJepaConfig {
            encoder: ImpalaConfig {
                channels: self.input_channels,
                stacks: self.stack_sizes.clone(),
                blocks: self.num_blocks,
                latent: self.latent_dim,
                norm_epsilon: self.layer_norm_eps,
            },
            inverse_width: self.idm_hidden,
            loss: EbJepaLoss {
                steps: self.nsteps,
                std: self.std_coeff,
                covariance: self.cov_coeff,
                similarity: self.sim_coeff_t,
                inverse: self.idm_coeff,
                first_frame_only: self.first_t_only,
            },
            ..EbJepaConfig::default()
        }
    }
}

fn check(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let config: Config = case.config()?;
    let model = config.model();
    let device = case.device().autodiff();
    let net = model.init(config.image, config.image, config.action_dim, &device);
    let net = net.load(case.name(), torch_weights(case)?)?;
    let inputs = case.arrays("inputs.safetensors")?;
    let mut found = Found::default();
    let terms = forward(case, &net, &inputs, &model.loss, &mut found)?;
    losses(&terms, &mut found);
    let mut gradients = GradientsParams::from_grads(total(&terms).backward(), &net);
    found.gradients_of(&net, &gradients)?;
    let [encoder, predictor] = net.clip(&mut gradients, CLIP);
    found
        .norms
        .insert("/grad_norm_encoder_before_clip".into(), encoder);
    found
        .norms
        .insert("/grad_norm_predictor_before_clip".into(), predictor);
    let stepped = optimizer(WEIGHT_DECAY).step(LEARNING_RATE, net, gradients);
    let mut compared = found.compare_outputs(case)?;
    compared.extend(found.compare_expected(case, &[], our_key)?);
    compared.extend(learning_rates(&case.expected()?));
    compared.extend(weights(case, &stepped)?);
    Ok(compared)
}

fn forward(
    case: &Case<'_>,
    net: &EbJepaNet,
    inputs: &Checkpoint,
    loss: &EbJepaLoss,
    found: &mut Found,
) -> Result<Vec<LossTerm>> {
    let device = case.device().autodiff();
    // Time comes after the channels in these files.
    let observations = tensor::<5>(case, inputs, "obs", &device)?.swap_dims(1, 2);
    let [batch, frames, channels, height, width] = observations.dims();
    let latents = net.encode(observations.reshape([batch * frames, channels, height, width]));
    let latent = latents.dims()[1];
    let latents = latents.reshape([batch, frames, latent]);
    let start = latents.clone().slice_dim(1, 0..1).squeeze_dim::<2>(1);
    let actions = tensor::<3>(case, inputs, "action", &device)?.swap_dims(1, 2);
    let plan = tensor::<3>(case, inputs, "plan_action", &device)?.swap_dims(1, 2);
    let unrolled = net.unroll(start.clone(), &actions.clone().slice_dim(1, 0..loss.steps));
    found.output("encoding", latents.clone());
    found.output("train_unroll", Tensor::stack::<3>(unrolled.clone(), 1));
    found.output(
        "plan_unroll",
        Tensor::stack::<3>(net.unroll(start, &plan), 1),
    );
    Ok(net.losses(&latents, &actions, &unrolled, loss))
}

/// The losses under the names of the reference, which adds up all but the prediction apart.
fn losses(terms: &[LossTerm], found: &mut Found) {
    let place = |name| match name {
        "prediction" => "/prediction",
        "std" => "/parts/std_loss",
        "covariance" => "/parts/cov_loss",
        "similarity" => "/parts/sim_loss_t",
        _ => "/parts/idm_loss",
    };
    for term in terms {
        found.loss(place(term.name), scalar(term.value.clone()));
    }
    let regularizer = || terms.iter().filter(|term| term.name != "prediction");
    let weighted = regularizer().map(|term| scalar(term.value.clone()) * term.weight);
    let plain = regularizer().map(|term| scalar(term.value.clone()));
    found.loss("/regularizer", weighted.sum());
    found.loss("/unweighted", plain.sum());
    found.loss("/total", scalar(total(terms)));
}

/// Every schedule of the case, called `lr_schedule_{steps}_steps_base_{rate}`, `1e_3` for 1e-3.
fn learning_rates(expected: &Value) -> Vec<Comparison> {
    let fields = expected.as_object().into_iter().flatten();
    let schedules = fields.filter_map(|(name, rates)| {
        let (steps, base) = name
            .strip_prefix("lr_schedule_")?
            .split_once("_steps_base_")?;
        let (steps, base) = (steps.parse().ok()?, base.replace('_', "-").parse().ok()?);
        Some((name, steps, base, rates.as_array()?))
    });
    let compared = schedules.flat_map(|(name, steps, base, rates)| {
        rates.iter().enumerate().map(move |(step, rate)| {
            let rate = rate.as_f64().unwrap_or(f64::NAN);
            compare_number(
                &format!("{name} {step}"),
                learning_rate(base, step, steps),
                rate,
                1e-9,
            )
        })
    });
    compared.collect()
}

/// The weights after the step, where the case has them.
fn weights(case: &Case<'_>, stepped: &EbJepaNet) -> Result<Vec<Comparison>> {
    const FILE: &str = "weights_step1.safetensors";
    if !case.folder().join(FILE).exists() {
        return Ok(Vec::new());
    }
    let expected = case.arrays(FILE)?;
    let ours = read_out::weights_of(stepped);
    let tolerance = Tolerance {
        absolute: number(case, "weights_atol").unwrap_or(3e-5),
        relative: 0.0,
    };
    let compared = expected
        .keys()
        .filter_map(|name| Some((name, our_key(name)?)));
    let compared = compared.map(|(name, key)| {
        let (ours, expected) = (ours.require(&key)?, expected.require(name)?);
        Ok(compare(
            &format!("{name} after a step"),
            &ours.values,
            &expected.values,
            tolerance,
        ))
    });
    compared.collect()
}
