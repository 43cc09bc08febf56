//! LeWM: inference with running statistics, training with those of the batch.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use serde::Deserialize;
use serde_json::Value;

use super::{Found, scalar, tensor, torch_weights, total};
use crate::Result;
use crate::encoder::vit_tiny::VitTinyConfig;
use crate::lewm::{LewmConfig, LewmEncoder, LewmLoss, LewmNet, our_key};
use crate::pldm::DataShape;
use crate::predictor::adaln_time::AdaLnTimeConfig;
use crate::weights::check::{Case, CheckEntry, Comparison};
use crate::weights::{Checkpoint, read_out};

pub(super) const ENTRY: CheckEntry = CheckEntry {
    class: "LeWM",
    source: "stable-worldmodel",
    run: check,
};

#[derive(Deserialize)]
struct Config {
    width: usize,
    layers: usize,
    heads: usize,
    image: usize,
    patch: usize,
    vit_layer_norm_eps: f64,
    action_dim: usize,
    smoothed_dim: usize,
    pred_depth: usize,
    pred_heads: usize,
    pred_dim_head: usize,
    pred_mlp: usize,
    projector_hidden: usize,
    history: usize,
    num_preds: usize,
    knots: usize,
    num_proj: usize,
    bn_eps: f64,
}

impl Config {
    /// The action blocks of a case are given whole.
    fn shape(&self) -> DataShape {
        DataShape {
            height: self.image,
            width: self.image,
            action_dim: self.action_dim,
            proprio_dim: 0,
        }
    }

    fn model(&self, sigreg: f64) -> LewmConfig {
        LewmConfig {
            frameskip: 1,
            encoder: LewmEncoder::VitTiny(VitTinyConfig {
                width: self.width,
                layers: self.layers,
                heads: self.heads,
                image: self.image,
                patch: self.patch,
                norm_epsilon: self.vit_layer_norm_eps,
                ..VitTinyConfig::default()
            }),
            latent: self.width,
            predictor: AdaLnTimeConfig {
                depth: self.pred_depth,
                heads: self.pred_heads,
                head_width: self.pred_dim_head,
                hidden: self.pred_mlp,
                history: self.history,
            },
            projector_hidden: self.projector_hidden,
            batch_norm_epsilon: self.bn_eps,
            smoothed: self.smoothed_dim,
            loss: LewmLoss {
                ahead: self.num_preds,
                sigreg,
                knots: self.knots,
                directions: self.num_proj,
            },
            ..LewmConfig::default()
        }
    }
}

fn check(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let config: Config = case.config()?;
    let weight = case
        .expected()?
        .get("sigreg_weight")
        .and_then(Value::as_f64);
    let model = config.model(weight.unwrap_or(LewmLoss::default().sigreg));
    let device = case.device().autodiff();
    let net = model
        .init(&config.shape(), &device)?
        .load(case.name(), torch_weights(case)?)?;
    let inputs = case.arrays("inputs.safetensors")?;
    let mut found = Found::default();
    infer(case, &net.valid(), &inputs, &mut found)?;
    train(case, &net, &inputs, &model.loss, &mut found)?;
    let mut compared = found.compare_outputs(case)?;
    compared.extend(found.compare_expected(case, &["/sigreg_weight"], our_key)?);
    Ok(compared)
}

/// Latents `[B, T, D]` of pictures `[B, T, 3, h, w]`.
fn encode(net: &LewmNet, pixels: Tensor<5>) -> Tensor<3> {
    let [batch, frames, channels, height, width] = pixels.dims();
    let latents = net.encode(pixels.reshape([batch * frames, channels, height, width]));
    let latent = latents.dims()[1];
    latents.reshape([batch, frames, latent])
}

fn infer(case: &Case<'_>, net: &LewmNet, inputs: &Checkpoint, found: &mut Found) -> Result<()> {
    let device = case.device();
    let actions = tensor::<3>(case, inputs, "action", &device)?;
    let latents = encode(net, tensor(case, inputs, "pixels", &device)?);
    found.output("emb_eval", latents.clone());
    found.output("act_emb", net.embed_actions(actions.clone()));
    found.output("pred_eval", net.predict_slice(&latents, &actions));
    let plans = tensor::<3>(case, inputs, "rollout_action", &device)?;
    // All plans start from the first frame of the first slice.
    let start = latents.slice([0..1, 0..1]).repeat_dim(0, plans.dims()[0]);
    found.output("rollout_eval", net.rollout(start, plans));
    Ok(())
}

fn train(
    case: &Case<'_>,
    net: &LewmNet,
    inputs: &Checkpoint,
    loss: &LewmLoss,
    found: &mut Found,
) -> Result<()> {
    let device = case.device().autodiff();
    let actions = tensor::<3>(case, inputs, "action", &device)?;
    let directions = tensor::<2>(case, inputs, "directions", &device)?;
    let latents = encode(net, tensor(case, inputs, "pixels", &device)?);
    let predicted = net.predict_slice(&latents, &actions);
    found.output("emb_train", latents.clone());
    found.output("pred_train", predicted.clone());
    let statistics = read_out::weights_of(&net.valid());
    for (key, ours) in [("projector", "projector"), ("pred_proj", "out")] {
        for statistic in ["running_mean", "running_var"] {
            let values = statistics.require(&format!("{ours}.norm.{statistic}"))?;
            let name = format!("bn.{key}.net.1.{statistic}");
            found.outputs.insert(name, values.values.clone());
        }
    }
    let terms = LewmNet::losses(&latents, predicted, directions.clone(), loss);
    for (place, term) in ["/prediction_loss", "/sigreg"].into_iter().zip(&terms) {
        found.loss(place, scalar(term.value.clone()));
    }
    let total_loss = total(&terms);
    found.loss("/total", scalar(total_loss.clone()));
    let gradients = GradientsParams::from_grads(total_loss.backward(), net);
    found.gradients_of(net, &gradients)?;
    // Once more from the latents, for the gradient with respect to them.
    let latents = latents.detach().require_grad();
    let predicted = net.predict_slice(&latents, &actions);
    let again = total(&LewmNet::losses(&latents, predicted, directions, loss));
    if let Some(gradient) = latents.grad(&again.backward()) {
        found.output("grad_emb_train", gradient);
    }
    Ok(())
}
