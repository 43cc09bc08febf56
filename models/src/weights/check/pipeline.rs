//! From pictures, raw proprio and raw actions to costs: transform, encoder, unroll and objective in one.

use burn::tensor::{Device, Tensor, TensorData};
use jepa_datasets::Normalizer;
use jepa_datasets::transform::{Geometry, PixelNorm, Transform};
use serde::Deserialize;

use super::encoder::frozen;
use super::predictor::{floats, how_to_unroll, model, tensor};
use super::{Case, CheckEntry, Comparison};
use crate::Result;
use crate::encoder::FrameEncoder;
use crate::layer::layer_norm::plain_norm;
use crate::predictor::cost::frame_costs;
use crate::predictor::{TokenModel, TokenState};
use crate::weights::Checkpoint;
use crate::world_model::{CostSpec, Distance, Steps};

pub(super) const ENTRIES: &[CheckEntry] = &[CheckEntry {
    class: "EncPredWM",
    source: "",
    run: pipeline,
}];

/// Epsilon of the norm of representations (models.md section 1.7).
const REPRESENTATION_EPSILON: f64 = 1e-5;

#[derive(Debug, Deserialize)]
struct Config {
    encoder_case: String,
    images: String,
    init_image: String,
    goal_image: String,
    /// Mean and standard deviation of the channels.
    normalize: [[f32; 3]; 2],
    img_size: usize,
    frameskip: usize,
    #[serde(default)]
    normalize_reps: bool,
}

/// What the outputs of a case are compared with.
struct Pipeline {
    /// Embedded proprio of the first frame and of the goal, before it is spread over tokens; `None` without.
    proprio: Option<[Tensor<3>; 2]>,
    goal: TokenState,
    /// The first frame and the predictions of every candidate.
    states: TokenState,
}

fn pipeline(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let pipeline = Pipeline::run(case)?;
    let expected = case.arrays("outputs.safetensors")?;
    let mut compared = Vec::new();
    for name in expected.keys() {
        let unknown = || case.broken(format!("`{name}` is no output of a pipeline"));
        let ours = pipeline.output(name).ok_or_else(unknown)?;
        compared.push(case.compare(&expected, name, &ours)?);
    }
    Ok(compared)
}

impl Pipeline {
    fn run(case: &Case<'_>) -> Result<Self> {
        let config: Config = case.config()?;
        let device = case.device();
        let inputs = case.arrays("inputs.safetensors")?;
        let encoder = frozen(&case.beside(&config.encoder_case)?)?;
        let model = model(case, &device)?.load(case.arrays("model.pth.tar")?)?;
        let see = |picture: &str| config.see(case, encoder.as_ref(), picture, &device);
        let (first, goal) = (see(&config.init_image)?, see(&config.goal_image)?);
        let step = |name: &str| -> Result<Tensor<3>> {
            let values = normalised(case, &inputs, name, "proprio")?;
            let shape = [1, 1, values.len()];
            Ok(Tensor::from_data(TensorData::new(values, shape), &device))
        };
        let proprio = if model.config().proprio_dim == 0 {
            None
        } else {
            Some([step("init_proprio_raw")?, step("goal_proprio_raw")?])
        };
        let state = |visual: Tensor<4>, which: usize| TokenState {
            visual,
            proprio: proprio
                .as_ref()
                .and_then(|both| model.embed_proprio(both[which].clone())),
        };
        let actions = config.actions(case, &inputs, &device)?;
        let candidates = actions.dims()[0];
        let start = state(first.repeat_dim(0, candidates), 0);
        let start = TokenState {
            proprio: start.proprio.map(|p| p.repeat_dim(0, candidates)),
            ..start
        };
        let states = how_to_unroll(case).run(&model, &start, None, actions)?;
        Ok(Self {
            goal: state(goal, 1),
            proprio: proprio.map(|both| both.map(|p| model.embed_proprio_steps(p))),
            states,
        })
    }

    /// The output called `name`; `None` for a name that no pipeline gives.
    fn output(&self, name: &str) -> Option<Vec<f32>> {
        let frames = self.states.frames();
        let first_candidate = |x: Tensor<4>| floats(x.slice_dim(0, 0..1));
        match name {
            "init_visual" => Some(first_candidate(self.states.slice(0, 1).visual)),
            "goal_visual_mean" => Some(floats(self.goal.visual.clone().mean_dim(2))),
            "init_proprio_emb" => Some(floats(self.proprio.clone()?[0].clone())),
            "goal_proprio_emb" => Some(floats(self.proprio.clone()?[1].clone())),
            "last_visual_candidate0" => Some(first_candidate(
                self.states.slice(frames - 1, frames).visual,
            )),
            _ => self.costs(name),
        }
    }

    /// `cost_L2_all_steps_alpha0.1`: costs of the candidates; the start counts among all steps.
    fn costs(&self, name: &str) -> Option<Vec<f32>> {
        let (what, weight) = name.strip_prefix("cost_")?.rsplit_once("_alpha")?;
        let (distance, steps) = match what.split_once('_') {
            Some((distance, steps)) => (distance, steps),
            None => (what, "last"),
        };
        let spec = CostSpec {
            distance: match distance {
                "L2" => Distance::L2,
                "L1" => Distance::L1,
                "cos" => Distance::Cosine,
                _ => return None,
            },
            steps: Steps::All,
            proprio_weight: weight.parse().ok()?,
        };
        let costs = frame_costs(&self.states, &self.goal, spec);
        let frames = costs.dims()[1];
        Some(floats(match steps {
            "last" => costs.slice_dim(1, frames - 1..frames),
            "all_steps" => costs.sum_dim(1),
            "per_step" => costs.transpose(),
            _ => return None,
        }))
    }
}

impl Config {
    /// Tokens of a picture, `[1, 1, N, De]`.
    fn see(
        &self,
        case: &Case<'_>,
        encoder: &dyn FrameEncoder,
        picture: &str,
        device: &Device,
    ) -> Result<Tensor<4>> {
        let pictures = case.arrays(&self.images)?;
        let picture = pictures.require(picture)?;
        let &[height, width, 3] = picture.shape.as_slice() else {
            return Err(case.broken(format!("a picture of shape {:?}", picture.shape)));
        };
        let transform = Transform {
            size: self.img_size,
            norm: PixelNorm {
                mean: self.normalize[0],
                std: self.normalize[1],
            },
            aspect: [1.0, 1.0],
            ..Transform::released(Geometry::JepaWms)
        };
        let values = transform.apply(&picture.values, height, width);
        let shape = [1, 3, self.img_size, self.img_size];
        let tokens = encoder.encode(Tensor::from_data(TensorData::new(values, shape), device))?;
        let tokens = if self.normalize_reps {
            plain_norm(tokens, REPRESENTATION_EPSILON)
        } else {
            tokens
        };
        Ok(tokens.unsqueeze_dim(1))
    }

    /// Raw actions `[S, H f, a]` as normalised blocks `[S, H, f a]`.
    fn actions(&self, case: &Case<'_>, inputs: &Checkpoint, device: &Device) -> Result<Tensor<3>> {
        let raw: Tensor<3> = tensor(case, inputs, "action_env", device)?;
        let [samples, steps, width] = raw.dims();
        if self.frameskip == 0 || !steps.is_multiple_of(self.frameskip) {
            return Err(case.broken(format!("{steps} actions in blocks of {}", self.frameskip)));
        }
        let values = normalised(case, inputs, "action_env", "action")?;
        let shape = [samples, steps / self.frameskip, self.frameskip * width];
        Ok(Tensor::from_data(TensorData::new(values, shape), device))
    }
}

/// The array called `name`, normalised by the statistics of `kind`, dimension by dimension.
fn normalised(case: &Case<'_>, inputs: &Checkpoint, name: &str, kind: &str) -> Result<Vec<f32>> {
    let statistic = |which: &str| -> Result<Vec<f64>> {
        let array = inputs.require(&format!("{kind}_{which}"))?;
        Ok(array.values.iter().map(|v| f64::from(*v)).collect())
    };
    let (mean, std) = (statistic("mean")?, statistic("std")?);
    let mut values = inputs.require(name)?.values.clone();
    if mean.len() != std.len() || mean.is_empty() || !values.len().is_multiple_of(mean.len()) {
        return Err(case.broken(format!("statistics of `{kind}` do not fit `{name}`")));
    }
    Normalizer { mean, std }.normalize(&mut values);
    Ok(values)
}

#[cfg(test)]
mod tests {
    use crate::weights::check::testing::assert_case;

    #[test]
    fn the_whole_way_from_pictures_to_costs_equals_the_reference() {
        assert_case("pipeline_end_to_end");
    }
}
