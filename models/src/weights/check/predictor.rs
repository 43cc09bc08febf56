//! Predictors and unrolls of token-grid models.

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use serde::Deserialize;
use serde_json::Value;

use super::{Case, CheckEntry, Comparison, Tolerance, compare, compare_number, compare_to_largest};
use crate::layer::rope::Variant;
use crate::predictor::adaln::AdaLnConfig;
use crate::predictor::dino_wm_original::{self, Concat, DinoWmOriginal, DinoWmOriginalConfig};
use crate::predictor::feature::{FeatureConfig, PositionCode};
use crate::predictor::sequence::{ActionInput, SequenceConfig};
use crate::predictor::token_world_model::{
    PredictorConfig, TokenWorldModel, TokenWorldModelConfig,
};
use crate::predictor::unroll::{ProprioStep, Unroll};
use crate::predictor::{Grid, ProprioInput, TokenModel, TokenState};
use crate::weights::read_out::gradients_by;
use crate::weights::{Array, Checkpoint};
use crate::{Result, TokenPlanner};

pub(super) const ENTRIES: &[CheckEntry] = &[
    CheckEntry {
        class: "VisionTransformerAdaLN",
        source: "jepa-wms",
        run: predictor,
    },
    CheckEntry {
        class: "VisionTransformerPredictorAC",
        source: "jepa-wms",
        run: predictor,
    },
    CheckEntry {
        class: "ViTPredictor",
        source: "jepa-wms",
        run: predictor,
    },
    CheckEntry {
        class: "VWorldModel",
        source: "dino_wm",
        run: original,
    },
];

/// The configuration of a JEPA-WMs predictor, in its own words.
#[derive(Debug, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the fields are those of the reference"
)]
struct ReleasedConfig {
    pred_type: String,
    grid: [usize; 2],
    num_frames_pred: usize,
    embed_dim: usize,
    pred_embed_dim: usize,
    pred_depth: usize,
    pred_num_heads: usize,
    #[serde(default)]
    dim_head: Option<usize>,
    #[serde(default)]
    mlp_dim: Option<usize>,
    action_dim: usize,
    #[serde(default)]
    action_emb_dim: usize,
    #[serde(default)]
    action_conditioning: Option<String>,
    #[serde(default)]
    use_proprio: bool,
    #[serde(default)]
    proprio_dim: usize,
    #[serde(default)]
    proprio_emb_dim: usize,
    #[serde(default)]
    proprio_encoding: Option<String>,
    #[serde(default)]
    proprio_encoder_inpred: bool,
    #[serde(default)]
    use_extrinsics: bool,
    #[serde(default)]
    normalize_reps: bool,
}

impl ReleasedConfig {
    fn proprio(&self) -> ProprioInput {
        match (self.use_proprio, self.proprio_encoding.as_deref()) {
            (false, _) => ProprioInput::None,
            (true, Some("token")) if self.proprio_encoder_inpred => ProprioInput::RawToken {
                dim: self.proprio_dim,
            },
            (true, Some("token")) => ProprioInput::Token,
            (true, _) => ProprioInput::Feature {
                width: self.proprio_emb_dim,
            },
        }
    }

    fn action(&self) -> ActionInput {
        match self.action_conditioning.as_deref() {
            Some("feature") => ActionInput::Feature {
                width: self.action_emb_dim,
            },
            _ => ActionInput::Token {
                dim: self.action_dim,
            },
        }
    }

    fn predictor(&self) -> Option<PredictorConfig> {
        let [rows, columns] = self.grid;
        let grid = Grid { rows, columns };
        let (frames, depth, heads) = (self.num_frames_pred, self.pred_depth, self.pred_num_heads);
        let (encoder_width, width, proprio) = (self.embed_dim, self.pred_embed_dim, self.proprio());
        let rope_variant = Variant::VjepaCompat;
        Some(match self.pred_type.as_str() {
            "AdaLN" => PredictorConfig::AdaLn(AdaLnConfig {
                grid,
                frames,
                encoder_width,
                width,
                depth,
                heads,
                action_dim: self.action_dim,
                proprio,
                rope_variant,
                init_scale: 10.0,
            }),
            "vjepa2_ac" => PredictorConfig::Sequence(SequenceConfig {
                grid,
                frames,
                encoder_width,
                width,
                depth,
                heads,
                action: self.action(),
                proprio,
                camera: self.use_extrinsics,
                rope_variant,
            }),
            "dino_wm" => PredictorConfig::Feature(FeatureConfig {
                grid,
                extra_tokens: 0,
                frames,
                encoder_width,
                proprio_width: proprio.feature_width(),
                action_width: self.action_emb_dim,
                depth,
                heads,
                head_width: self.dim_head.unwrap_or(64),
                hidden: self.mlp_dim.unwrap_or(2048),
                position: PositionCode::Learned,
            }),
            _ => return None,
        })
    }
}

/// The model of a JEPA-WMs case, without weights.
pub(crate) fn model(case: &Case<'_>, device: &Device) -> Result<TokenWorldModel> {
    let config: ReleasedConfig = case.config()?;
    let Some(predictor) = config.predictor() else {
        return Err(case.broken(format!("unknown predictor `{}`", config.pred_type)));
    };
    let config = TokenWorldModelConfig {
        predictor,
        action_dim: config.action_dim,
        proprio_dim: if config.use_proprio {
            config.proprio_dim
        } else {
            0
        },
        normalize_reps: config.normalize_reps,
    };
    config.init(device)
}

/// The array called `name` as a tensor of `D` dimensions.
pub(super) fn tensor<const D: usize>(
    case: &Case<'_>,
    arrays: &Checkpoint,
    name: &str,
    device: &Device,
) -> Result<Tensor<D>> {
    let array = arrays.require(name)?;
    let Ok(shape) = <[usize; D]>::try_from(array.shape.as_slice()) else {
        let detail = format!("`{name}` has shape {:?}, not {D} sides", array.shape);
        return Err(case.broken(detail));
    };
    Ok(Tensor::from_data(
        TensorData::new(array.values.clone(), shape),
        device,
    ))
}

/// Visual tokens `[B, T, N, De]` from `[B, T, .., De]`.
pub(super) fn tokens(
    case: &Case<'_>,
    arrays: &Checkpoint,
    name: &str,
    device: &Device,
) -> Result<Tensor<4>> {
    let array = arrays.require(name)?;
    let [batch, frames, tokens @ .., width] = array.shape.as_slice() else {
        return Err(case.broken(format!("`{name}` has shape {:?}", array.shape)));
    };
    let shape = [*batch, *frames, tokens.iter().product(), *width];
    Ok(Tensor::from_data(
        TensorData::new(array.values.clone(), shape),
        device,
    ))
}

pub(super) fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// What a predictor case feeds.
struct Inputs {
    state: TokenState,
    actions: Tensor<3>,
    /// Proprio before any embedding, `[B, T, P]`.
    proprio: Option<Tensor<3>>,
    /// `[B, H, A]`
    unroll_actions: Tensor<3>,
}

impl Inputs {
    fn read(case: &Case<'_>, model: &TokenWorldModel, device: &Device) -> Result<Self> {
        let arrays = case.arrays("inputs.safetensors")?;
        let optional = |name: &str| {
            let there = arrays.get(name).is_some();
            there
                .then(|| tensor::<3>(case, &arrays, name, device))
                .transpose()
        };
        let proprio = match (optional("proprio")?, optional("extrinsics")?) {
            (Some(pose), Some(camera)) => Some(Tensor::cat(vec![pose, camera], 2)),
            (pose, _) => pose,
        };
        let unroll = tensor::<3>(case, &arrays, "unroll_action", device)?;
        let embedded = proprio
            .clone()
            .and_then(|proprio| model.embed_proprio(proprio));
        Ok(Self {
            state: TokenState {
                visual: tokens(case, &arrays, "visual", device)?,
                proprio: embedded,
            },
            actions: tensor(case, &arrays, "action", device)?,
            proprio,
            unroll_actions: unroll.swap_dims(0, 1),
        })
    }
}

/// Every array that the case expects: predictions from the first `t` frames, embeddings, and an unroll.
fn predictor(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let device = case.device();
    let model = model(case, &device)?.load(case.arrays("model.pth.tar")?)?;
    let inputs = Inputs::read(case, &model, &device)?;
    let outputs = case.arrays("outputs.safetensors")?;
    let unrolled = unroll(case, &model, &inputs)?;
    let mut compared = Vec::new();
    for name in outputs.keys() {
        let values = match name.rsplit_once("_T") {
            Some((part, frames)) => {
                let frames = frames
                    .parse()
                    .map_err(|_| case.broken(format!("`{name}`")))?;
                let actions = inputs.actions.clone().slice_dim(1, 0..frames);
                part_of(model.predict(inputs.state.slice(0, frames), actions), part)
            }
            None => match name.strip_prefix("unroll_") {
                // Cases hold frames first.
                Some(part) => part_of(unrolled.clone(), part).map(|x| x.swap_dims(0, 1)),
                None => embedding(&model, &inputs, name),
            },
        };
        let Some(values) = values else {
            return Err(case.broken(format!("nothing here computes `{name}`")));
        };
        let tolerance = if name.starts_with("unroll_") {
            unroll_tolerance(case)
        } else {
            case.tolerance()
        };
        let expected = outputs.require(name)?;
        compared.push(compare(name, &floats(values), &expected.values, tolerance));
    }
    Ok(compared)
}

fn part_of(state: TokenState, part: &str) -> Option<Tensor<4>> {
    match part {
        "visual" => Some(state.visual),
        "proprio" => state.proprio,
        _ => None,
    }
}

fn embedding(model: &TokenWorldModel, inputs: &Inputs, name: &str) -> Option<Tensor<4>> {
    match name {
        "action_emb" => Some(model.embed_actions(inputs.actions.clone()).unsqueeze_dim(2)),
        "proprio_emb" => {
            let proprio = inputs.proprio.clone()?;
            Some(model.embed_proprio_steps(proprio).unsqueeze_dim(2))
        }
        _ => None,
    }
}

/// How a case unrolls.
pub(super) fn how_to_unroll(case: &Case<'_>) -> Unroll {
    let config = case.manifest().get("config").unwrap_or(&Value::Null);
    let window = config.get("ctxt_window").and_then(Value::as_u64);
    let integrated = config.get("proprio_mode").and_then(Value::as_str) == Some("compute_new_pose");
    Unroll {
        window: window.map_or(Unroll::default().window, |window| window as usize),
        proprio: if integrated {
            ProprioStep::Integrated
        } else {
            ProprioStep::Predicted
        },
    }
}

/// The model that a case describes, to plan with: the cases of planners are checked where planners are.
///
/// # Errors
/// [`Error::Keys`](crate::Error::Keys) when `weights` are not those of such a model, and errors of the case.
pub fn planner(case: &Case<'_>, weights: Checkpoint) -> Result<TokenPlanner> {
    let device = case.device();
    let model = model(case, &device)?.load(weights)?;
    TokenPlanner::new(model, how_to_unroll(case), &device)
}

/// The first frame of the first sample, unrolled under every sequence of actions.
fn unroll(case: &Case<'_>, model: &TokenWorldModel, inputs: &Inputs) -> Result<TokenState> {
    let candidates = inputs.unroll_actions.dims()[0];
    let first = |x: Tensor<4>| x.slice_dim(0, 0..1).repeat_dim(0, candidates);
    let start = inputs.state.slice(0, 1);
    let context = TokenState {
        visual: first(start.visual),
        proprio: start.proprio.map(first),
    };
    how_to_unroll(case).run(model, &context, None, inputs.unroll_actions.clone())
}

fn unroll_tolerance(case: &Case<'_>) -> Tolerance {
    let stated = case
        .manifest()
        .get("tolerance")
        .and_then(|t| t.get("unroll_atol"));
    match stated.and_then(Value::as_f64) {
        Some(absolute) => Tolerance {
            absolute,
            ..case.tolerance()
        },
        None => case.tolerance(),
    }
}

/// The configuration of an original DINO-WM case, in its own words.
#[derive(Debug, Deserialize)]
struct OriginalConfig {
    concat_dim: usize,
    num_hist: usize,
    num_pred: usize,
    tokens: usize,
    embed_dim: usize,
    proprio_emb: usize,
    action_emb: usize,
    #[serde(default = "once")]
    num_proprio_repeat: usize,
    #[serde(default = "once")]
    num_action_repeat: usize,
    depth: usize,
    heads: usize,
    dim_head: usize,
    mlp_dim: usize,
}

fn once() -> usize {
    1
}

/// The model of an original DINO-WM case with its weights; the widths of proprio and action are those of the
/// inputs.
fn original_model(case: &Case<'_>, inputs: &Checkpoint, device: &Device) -> Result<DinoWmOriginal> {
    let config: OriginalConfig = case.config()?;
    let width = |name: &str| -> Result<usize> {
        Ok(inputs.require(name)?.shape.last().copied().unwrap_or(0))
    };
    let config = DinoWmOriginalConfig {
        concat: match config.concat_dim {
            0 => Concat::Tokens,
            _ => Concat::Channels,
        },
        history: config.num_hist,
        ahead: config.num_pred,
        tokens: config.tokens,
        encoder_width: config.embed_dim,
        proprio_dim: width("proprio")?,
        action_dim: width("action")?,
        proprio_width: config.proprio_emb,
        proprio_repeat: config.num_proprio_repeat,
        action_width: config.action_emb,
        action_repeat: config.num_action_repeat,
        depth: config.depth,
        heads: config.heads,
        head_width: config.dim_head,
        hidden: config.mlp_dim,
    };
    config.init(device)?.load(case.arrays("model.pth")?)
}

/// Predictions, rollouts from every number of given frames, losses and their gradients.
fn original(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let device = case.device().autodiff();
    let inputs = case.arrays("inputs.safetensors")?;
    let model = original_model(case, &inputs, &device)?;
    let visual = tokens(case, &inputs, "visual", &device)?;
    let proprio = tensor::<3>(case, &inputs, "proprio", &device)?;
    let actions = tensor::<3>(case, &inputs, "action", &device)?;
    let (predicted, loss) = model.loss(visual.clone(), proprio.clone(), actions);

    let outputs = case.arrays("outputs.safetensors")?;
    let mut compared = vec![case.compare(&outputs, "z_pred", &floats(predicted))?];
    let rollout_actions = tensor::<3>(case, &inputs, "rollout_action", &device)?;
    for name in outputs.keys().filter(|name| name.ends_with("_visual")) {
        let given = name
            .strip_prefix("rollout")
            .and_then(|rest| rest.strip_suffix("_visual"));
        let Some(given) = given.and_then(|given| given.parse::<usize>().ok()) else {
            return Err(case.broken(format!("nothing here computes `{name}`")));
        };
        let start = visual.clone().slice_dim(1, 0..given);
        let pose = proprio.clone().slice_dim(1, 0..given);
        let (visual, proprio) = model.rollout(start, pose, &rollout_actions);
        compared.push(case.compare(&outputs, name, &floats(visual))?);
        let name = format!("rollout{given}_proprio");
        compared.push(case.compare(&outputs, &name, &floats(proprio))?);
    }

    let expected = case.expected()?;
    let relative = case.manifest()["tolerance"]["loss_rel"]
        .as_f64()
        .unwrap_or(1e-4);
    let terms = [
        ("z_loss", &loss.total),
        ("z_visual_loss", &loss.visual),
        ("z_proprio_loss", &loss.proprio),
        ("loss", &loss.total),
    ];
    for (name, term) in terms {
        let Some(expected) = expected["losses"][name].as_f64() else {
            return Err(case.broken(format!("expected.json has no loss `{name}`")));
        };
        let value = f64::from(floats(term.clone())[0]);
        compared.push(compare_number(name, value, expected, relative));
    }
    let grads = GradientsParams::from_grads(loss.total.backward(), &model);
    let ours = gradients_by(&model, &grads, dino_wm_original::key);
    let Some(tensors) = expected["tensors"].as_object() else {
        return Err(case.broken("expected.json has no gradients".into()));
    };
    for (name, expected) in tensors {
        compared.extend(gradient(case, name, expected, ours.get(name))?);
    }
    Ok(compared)
}

/// The norm of a gradient, and the samples of it that the case holds.
fn gradient(
    case: &Case<'_>,
    name: &str,
    expected: &Value,
    ours: Option<&Array>,
) -> Result<[Comparison; 2]> {
    let Some(ours) = ours else {
        return Err(case.broken(format!("`{name}` has no gradient here")));
    };
    let numbers = |key: &str| -> Vec<f64> {
        let list = expected[key].as_array().map_or(&[][..], Vec::as_slice);
        list.iter().filter_map(Value::as_f64).collect()
    };
    let stated = |key: &str, default: f64| {
        case.manifest()["tolerance"][key]
            .as_f64()
            .unwrap_or(default)
    };
    let tolerance = Tolerance {
        absolute: stated("atol", 1e-6),
        relative: stated("rtol", 1e-3),
    };
    let samples: Vec<f32> = numbers("index")
        .into_iter()
        .map(|index| ours.values.get(index as usize).copied().unwrap_or(f32::NAN))
        .collect();
    let values: Vec<f32> = numbers("value")
        .into_iter()
        .map(|value| value as f32)
        .collect();
    let largest = ours
        .values
        .iter()
        .fold(0.0_f64, |m, v| m.max(f64::from(v.abs())));
    let norm = ours
        .values
        .iter()
        .map(|v| f64::from(*v).powi(2))
        .sum::<f64>()
        .sqrt();
    let expected_norm = expected["norm"].as_f64().unwrap_or(f64::NAN);
    Ok([
        compare_number(
            &format!("norm of {name}"),
            norm,
            expected_norm,
            tolerance.relative,
        ),
        compare_to_largest(name, &samples, &values, tolerance, largest),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::check::testing::{assert_case, folder, torch};
    use crate::{ActionBatch, CostSpec, Distance, Latent, Steps};

    /// The costs of the first candidates of the CEM case: the noise itself, but zeros for candidate 0.
    #[test]
    fn costs_of_candidates_equal_the_reference() {
        let case = Case::open(&folder("planner_cem"), &torch).unwrap();
        let planner = planner(&case, case.arrays("model.pth.tar").unwrap()).unwrap();
        let inputs = case.arrays("inputs.safetensors").unwrap();
        let outputs = case.arrays("outputs.safetensors").unwrap();
        let values = |name: &str| inputs.require(name).unwrap().values.clone();
        let latent = |when: &str| -> Latent {
            let proprio = values(&format!("{when}_proprio"));
            planner
                .latent(values(&format!("{when}_visual")), &proprio)
                .unwrap()
        };
        let (start, goal) = (latent("init"), latent("goal"));
        // [J, H, S, A]: frames before candidates.
        let noise = inputs.require("cem_noise").unwrap();
        let [_, horizon, samples, width] = noise.shape[..] else {
            panic!("{:?}", noise.shape);
        };
        let mut candidates = vec![0.0; samples * horizon * width];
        for (i, value) in noise.values[..candidates.len()].iter().enumerate() {
            let (step, sample, at) = (i / (samples * width), i / width % samples, i % width);
            if sample > 0 {
                candidates[(sample * horizon + step) * width + at] = *value;
            }
        }
        let batch = ActionBatch {
            values: &candidates,
            samples,
            horizon,
            width,
        };
        for (name, distance) in [("L2", Distance::L2), ("L1", Distance::L1)] {
            let run = |start: &Latent, steps, batch| {
                let spec = CostSpec {
                    distance,
                    steps,
                    proprio_weight: 0.1,
                };
                planner.costs(start, &goal, &spec, batch).unwrap()
            };
            let expected = &outputs.require(&format!("{name}_costs")).unwrap().values[..samples];
            let last: Vec<f32> = run(&start, Steps::Last, batch)
                .iter()
                .map(|c| *c as f32)
                .collect();
            let compared = compare(name, &last, expected, case.tolerance());
            assert!(compared.passed, "{compared:?}");

            // The reference counts the start too, which is the same for all.
            let summed = outputs
                .require(&format!("{name}_costs_sum_all_iter0"))
                .unwrap();
            let all = run(&start, Steps::All, batch);
            let start = f64::from(summed.values[0]) - all[0];
            let all: Vec<f32> = all.iter().map(|cost| (cost + start) as f32).collect();
            let compared = compare(name, &all, &summed.values, case.tolerance());
            assert!(compared.passed && start > 0.0, "{compared:?}");
        }
    }

    #[test]
    fn the_adaln_predictor_equals_the_reference_on_its_full_grid() {
        assert_case("predictor_adaln_grid16");
    }

    #[test]
    fn the_adaln_predictor_without_proprio_equals_the_reference() {
        assert_case("predictor_adaln_noproprio");
    }

    #[test]
    fn the_adaln_predictor_with_proprio_equals_the_reference() {
        assert_case("predictor_adaln_proprio");
    }

    #[test]
    fn the_dino_wm_predictor_equals_the_reference() {
        assert_case("predictor_dinowm_proprio");
    }

    #[test]
    fn the_rope_predictor_with_feature_conditioning_equals_the_reference() {
        assert_case("predictor_rope_feature_noproprio");
        assert_case("predictor_rope_feature_proprio");
    }

    #[test]
    fn the_v_jepa_2_ac_predictor_with_an_action_token_equals_the_reference() {
        assert_case("predictor_vj2ac_k1");
    }

    #[test]
    fn the_v_jepa_2_ac_predictor_with_a_pose_token_equals_the_reference() {
        assert_case("predictor_vj2ac_k2");
    }

    #[test]
    fn the_original_dino_wm_with_more_tokens_equals_the_reference() {
        assert_case("dino_wm_original_concat0");
    }

    #[test]
    fn the_original_dino_wm_with_more_channels_equals_the_reference() {
        assert_case("dino_wm_original_concat1");
    }
}
