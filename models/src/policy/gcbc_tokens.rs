//! `gcbc-tokens`: goal-conditioned behaviour cloning with actions as tokens (VLA-0's recipe without its vision-language
//! model; models.md section 8.6).
//!
//! ```text
//! condition = (encode(o_t), encode(o_goal))        p(token | condition, earlier tokens), H A_e tokens
//! L = mean cross-entropy of the actions that were taken from o_t on, with 40 % of the earlier tokens masked
//! ```
//!
//! Kept of the recipe: an action number is one of 1,000 bins, five steps are decoded one token after the other, earlier
//! tokens are masked in training (a decoder that leans on the tokens just said need not look at the scene), and
//! overlapping answers for the same step are averaged when the policy acts. Not kept: the language model, its weights and
//! its text; the goal is a picture, drawn in hindsight from the later frames of the slice.
//!
//! What to know of it: it has been shown goals at most a slice ahead, from frame to frame, so a goal further away, or less
//! than a frame, is outside what it was trained on; it does not know how much time is left; and it copies the speed and the
//! detours of whoever made the data, where a planner looks for the best way.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use jepa_datasets::Normalizer;
use serde::{Deserialize, Serialize};

use super::action_bins::ActionBins;
use super::decoder::{TokenDecoder, TokenDecoderConfig, indices};
use super::examples::{Example, examples, masks};
use crate::encoder::conv::{ConvEncoder, ConvEncoderConfig};
use crate::layer::init::initialise_with;
use crate::loss::cross_entropy::cross_entropy;
use crate::pldm::DataShape;
use crate::train::{Imitation, LossTerm, Moment, Rollouts, SliceTensors, Trainable};
use crate::{Error, Result};

/// Architecture of `gcbc-tokens`. The defaults are for two processor cores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GcbcTokensConfig {
    /// Native steps between the frames of a slice.
    pub frameskip: usize,
    /// Image encoder, trained with the rest.
    pub encoder: ConvEncoderConfig,
    /// Native actions decoded at once, `H`.
    pub chunk: usize,
    /// Bins of a number of an action, `B`.
    pub bins: usize,
    /// Width of the decoder.
    pub width: usize,
    /// Blocks of the decoder.
    pub depth: usize,
    /// Attention heads of a block.
    pub heads: usize,
    /// Hidden width of a block's perceptron.
    pub hidden: usize,
    /// Share of the earlier tokens that are masked in training.
    pub masked: f64,
}

impl Default for GcbcTokensConfig {
    fn default() -> Self {
        Self {
            frameskip: 5,
            encoder: ConvEncoderConfig {
                latent: 64,
                ..ConvEncoderConfig::default()
            },
            chunk: 5,
            bins: 1000,
            width: 64,
            depth: 4,
            heads: 4,
            hidden: 256,
            masked: 0.4,
        }
    }
}

/// What a run keeps of the policy: with it and the weights it acts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GcbcTokensFile {
    pub config: GcbcTokensConfig,
    /// Bins of native actions.
    pub bins: ActionBins,
}

/// What the loss needs beside the network.
#[derive(Debug, Clone)]
pub(crate) struct Imitating {
    /// Bins of normalised actions.
    bins: ActionBins,
    frameskip: usize,
    chunk: usize,
    masked: f64,
}

impl GcbcTokensConfig {
    /// Checks the values that no type bounds, for slices of `horizon` model steps.
    pub(crate) fn check(&self, horizon: usize) -> Result<()> {
        let counts = [
            ("gcbc_tokens.frameskip", self.frameskip),
            ("gcbc_tokens.encoder.latent", self.encoder.latent),
            ("gcbc_tokens.chunk", self.chunk),
            ("gcbc_tokens.bins", self.bins),
            ("gcbc_tokens.width", self.width),
            ("gcbc_tokens.depth", self.depth),
            ("gcbc_tokens.heads", self.heads),
            ("gcbc_tokens.hidden", self.hidden),
        ];
        let wrong = |key, detail: String| Err(Error::Config { key, detail });
        if let Some((key, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return wrong(key, "must be at least 1".into());
        }
        if !self.width.is_multiple_of(self.heads) {
            let detail = format!("({}) must divide the width {}", self.heads, self.width);
            return wrong("gcbc_tokens.heads", detail);
        }
        if !(0.0..1.0).contains(&self.masked) {
            let detail = format!("must be in [0, 1), is {}", self.masked);
            return wrong("gcbc_tokens.masked", detail);
        }
        if self.chunk > horizon * self.frameskip {
            let detail = format!(
                "is {} native actions; a slice of training.horizon {horizon} with gcbc_tokens.frameskip {} has {}",
                self.chunk,
                self.frameskip,
                horizon * self.frameskip
            );
            return wrong("gcbc_tokens.chunk", detail);
        }
        Ok(())
    }

    /// A network with the back end's own random weights.
    pub(crate) fn init(&self, shape: &DataShape, device: &Device) -> Result<GcbcTokensNet> {
        let decoder = TokenDecoderConfig {
            condition: 2 * self.encoder.latent,
            bins: self.bins,
            length: self.chunk * shape.action_dim,
            width: self.width,
            depth: self.depth,
            heads: self.heads,
            hidden: self.hidden,
        };
        Ok(GcbcTokensNet {
            encoder: self.encoder.init(shape.height, shape.width, device)?,
            decoder: decoder.init(device),
        })
    }

    /// A network to train, its weights drawn from the stream `init`.
    pub(crate) fn init_seeded(
        &self,
        shape: &DataShape,
        seed: u64,
        device: &Device,
    ) -> Result<GcbcTokensNet> {
        let net = self.init(shape, device)?;
        Ok(initialise_with(net, seed, TokenDecoder::draw))
    }

    /// What training needs to know, for native actions in `bins`.
    pub(crate) fn imitating(&self, bins: &ActionBins, actions: &Normalizer) -> Imitating {
        Imitating {
            bins: bins.normalised(actions),
            frameskip: self.frameskip,
            chunk: self.chunk,
            masked: self.masked,
        }
    }
}

/// Encoder and decoder. All of it is used in training and in acting.
#[derive(Module, Debug)]
pub(crate) struct GcbcTokensNet {
    encoder: ConvEncoder,
    decoder: TokenDecoder,
}

impl GcbcTokensNet {
    /// Latents `[n, D]` of network input `[n, 3, h, w]`.
    pub(crate) fn encode(&self, images: Tensor<4>) -> Tensor<2> {
        self.encoder.forward(images)
    }

    /// Tokens of the next actions, `[n, H A_e]`, row-major.
    ///
    /// # Shapes
    /// - `now`, `goal`: `[n, D]`
    pub(crate) fn act(&self, now: Tensor<2>, goal: Tensor<2>) -> Vec<usize> {
        self.decoder.greedy(&Tensor::cat(vec![now, goal], 1))
    }

    /// Mean cross-entropy of the actions of some examples, with some of the earlier tokens masked; none without `hidden`.
    fn surprise(
        &self,
        slices: &SliceTensors,
        examples: &[Example],
        imitating: &Imitating,
        hidden: Option<&[bool]>,
    ) -> Tensor<1> {
        let frames = slices.actions.dims()[1] + 1;
        let encoded = self.encode(slices.images.clone());
        let device = encoded.device();
        let pick = |frame: fn(&Example) -> usize| {
            let rows: Vec<usize> = examples
                .iter()
                .map(|example| example.slice * frames + frame(example))
                .collect();
            encoded.clone().select(0, indices(&rows, &device))
        };
        let condition = Tensor::cat(vec![pick(|e| e.start), pick(|e| e.goal)], 1);
        let targets = imitating.targets(slices, examples);
        let length = self.decoder.length();
        let mut earlier: Vec<usize> = targets
            .chunks_exact(length)
            .flat_map(|sentence| &sentence[..length - 1])
            .copied()
            .collect();
        for (token, _) in earlier
            .iter_mut()
            .zip(hidden.unwrap_or_default())
            .filter(|(_, hidden)| **hidden)
        {
            *token = self.decoder.masked();
        }
        let odds = self.decoder.forward(condition, &earlier);
        let rows = odds.reshape([targets.len(), self.decoder.masked()]);
        cross_entropy(rows, indices(&targets, &device))
    }
}

impl Imitating {
    /// Frames of a slice that have all actions of a chunk after them.
    fn starts(&self, horizon: usize) -> usize {
        horizon + 1 - self.chunk.div_ceil(self.frameskip)
    }

    /// Tokens of the actions of some examples, `[n, H A_e]`, row-major.
    fn targets(&self, slices: &SliceTensors, examples: &[Example]) -> Vec<usize> {
        let [_, horizon, block] = slices.actions.dims();
        let width = self.bins.width();
        let actions = numbers(&slices.actions);
        let of_example = |example: &Example| {
            let first = (example.slice * horizon + example.start) * block;
            self.bins
                .tokens(&actions[first..first + self.chunk * width])
        };
        examples.iter().flat_map(of_example).collect()
    }
}

/// Normalised actions of slices, one after the other.
fn numbers(actions: &Tensor<3>) -> Vec<f32> {
    actions.clone().into_data().iter::<f32>().collect()
}

impl Trainable for GcbcTokensNet {
    type Weights = Imitating;

    fn losses(
        &self,
        slices: &SliceTensors,
        imitating: &Imitating,
        moment: &Moment,
    ) -> Result<Vec<LossTerm>> {
        let [batch, horizon, _] = slices.actions.dims();
        let starts = imitating.starts(horizon);
        let examples = examples(moment, batch, starts, horizon);
        let per_slice = starts * (self.decoder.length() - 1);
        let hidden = masks(moment, batch, per_slice, imitating.masked);
        Ok(vec![LossTerm {
            name: "cross_entropy",
            weight: 1.0,
            value: self.surprise(slices, &examples, imitating, Some(&hidden)),
        }])
    }

    /// Encodings alone: a policy predicts no latents.
    fn rollouts(&self, slices: &SliceTensors, _imitating: &Imitating) -> Result<Rollouts> {
        Ok(Rollouts {
            encoded: self.encode(slices.images.clone()),
            predicted: Vec::new(),
            tokens: 1,
        })
    }

    fn imitation(
        &self,
        slices: &SliceTensors,
        imitating: &Imitating,
        first_slice: usize,
    ) -> Result<Option<Imitation>> {
        let [batch, horizon, _] = slices.actions.dims();
        // The same goals in every validation, whatever the seed of the run.
        let moment = Moment {
            seed: 0,
            step: 0,
            progress: 0.0,
            first_slice,
        };
        let examples = examples(&moment, batch, imitating.starts(horizon), horizon);
        let surprise = self.surprise(slices, &examples, imitating, None);
        let actions = numbers(&slices.actions);
        let outside = actions.iter().enumerate().filter(|(at, value)| {
            let dimension = at % imitating.bins.width();
            !imitating.bins.holds(dimension, f64::from(**value))
        });
        Ok(Some(Imitation {
            cross_entropy: f64::from(surprise.into_scalar::<f32>()),
            clipped: outside.count() as f64 / actions.len() as f64,
        }))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, TensorData};

    use super::*;
    use crate::encoder::conv::StageConfig;

    const SHAPE: DataShape = DataShape {
        height: 8,
        width: 8,
        action_dim: 2,
        proprio_dim: 2,
    };

    fn small() -> GcbcTokensConfig {
        GcbcTokensConfig {
            frameskip: 2,
            encoder: ConvEncoderConfig {
                stages: vec![StageConfig {
                    filters: 4,
                    kernel: 4,
                    stride: 4,
                    padding: 0,
                }],
                latent: 3,
            },
            chunk: 3,
            bins: 5,
            width: 8,
            depth: 1,
            heads: 2,
            hidden: 12,
            masked: 0.4,
        }
    }

    const MOMENT: Moment = Moment {
        seed: 1,
        step: 3,
        progress: 0.0,
        first_slice: 0,
    };

    fn bins() -> ActionBins {
        ActionBins {
            count: 5,
            low: vec![-1.0, -2.0],
            high: vec![1.0, 2.0],
        }
    }

    fn slices(batch: usize, horizon: usize, device: &Device) -> SliceTensors {
        device.seed(9);
        let uniform = Distribution::Uniform(0.0, 1.0);
        let spread = Distribution::Uniform(-1.2, 1.2);
        SliceTensors {
            images: Tensor::random([batch * (horizon + 1), 3, 8, 8], uniform, device),
            actions: Tensor::random([batch, horizon, 4], spread, device),
            proprio: Tensor::zeros([batch * (horizon + 1), 2], device),
            rows_proprio: Tensor::zeros([batch, 2 * horizon + 1, 2], device),
        }
    }

    fn ready(device: &Device) -> (GcbcTokensNet, Imitating) {
        let config = small();
        let net = config.init_seeded(&SHAPE, 4, device).unwrap();
        (net, config.imitating(&bins(), &Normalizer::identity(2)))
    }

    #[test]
    fn parameters_are_those_of_the_formula() {
        let config = GcbcTokensConfig::default();
        let shape = DataShape {
            height: 65,
            width: 65,
            ..SHAPE
        };
        let net = config.init(&shape, &Device::flex()).unwrap();
        let (d, hidden, bins, length) = (64, 256, 1000, 5 * 2);
        let linear = |inputs: usize, outputs: usize| inputs * outputs + outputs;
        // Convolutions with a norm's scale and shift; 65, 16, 8, 4 pixels.
        let stage = |inputs, outputs, kernel: usize| {
            linear(inputs * kernel * kernel, outputs) + 2 * outputs
        };
        let encoder =
            stage(3, 16, 8) + stage(16, 32, 4) + stage(32, 64, 4) + linear(64 * 4 * 4, 64);
        let block =
            2 * 2 * d + linear(d, 3 * d) + linear(d, d) + linear(d, hidden) + linear(hidden, d);
        let decoder =
            linear(2 * 64, d) + (bins + 1) * d + length * d + 4 * block + 2 * d + linear(d, bins);
        assert_eq!(net.encoder.num_params(), encoder);
        assert_eq!(net.num_params(), encoder + decoder);
    }

    #[test]
    fn the_loss_is_the_mean_surprise_of_the_actions_put_together_by_hand() {
        let device = Device::flex();
        let (net, imitating) = ready(&device);
        let slices = slices(2, 4, &device);
        let terms = net.losses(&slices, &imitating, &MOMENT).unwrap();
        assert_eq!(terms.len(), 1);
        let found = f64::from(terms[0].value.clone().into_scalar::<f32>());

        // Frames 0 to 2 have three actions after them: frame 3 has two.
        let drawn = examples(&MOMENT, 2, 3, 4);
        let hidden = masks(&MOMENT, 2, 3 * 5, 0.4);
        assert!(hidden.contains(&true) && hidden.contains(&false));
        let actions = numbers(&slices.actions);
        let mut total = 0.0;
        for (row, example) in drawn.iter().enumerate() {
            let image = |frame: usize| {
                let at = example.slice * 5 + frame;
                net.encode(slices.images.clone().slice_dim(0, at..at + 1))
            };
            let condition = Tensor::cat(vec![image(example.start), image(example.goal)], 1);
            let token = |number: usize| {
                // Two native steps of two numbers per frame.
                let value = actions[example.slice * 16 + example.start * 4 + number];
                let low = [-1.0, -2.0][number % 2];
                let place = (f64::from(value) - low) / (-2.0 * low) * 5.0;
                place.clamp(0.0, 4.999) as usize
            };
            let said: Vec<usize> = (0..5)
                .map(|t| if hidden[row * 5 + t] { 5 } else { token(t) })
                .collect();
            let odds: Vec<f32> = net
                .decoder
                .forward(condition, &said)
                .into_data()
                .iter::<f32>()
                .collect();
            for (t, odds) in odds.chunks_exact(5).enumerate() {
                let sum: f64 = odds.iter().map(|x| f64::from(*x).exp()).sum();
                total += sum.ln() - f64::from(odds[token(t)]);
            }
        }
        let expected = total / (6.0 * 6.0);
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }

    #[test]
    fn a_batch_in_parts_has_the_examples_of_the_whole() {
        let device = Device::flex();
        let (net, imitating) = ready(&device);
        let whole = slices(4, 3, &device);
        let value = |slices: &SliceTensors, first_slice| {
            let moment = Moment {
                first_slice,
                ..MOMENT
            };
            let terms = net.losses(slices, &imitating, &moment).unwrap();
            f64::from(terms[0].value.clone().into_scalar::<f32>())
        };
        let part = |index: usize| SliceTensors {
            images: whole.images.clone().slice_dim(0, 8 * index..8 * index + 8),
            actions: whole.actions.clone().slice_dim(0, 2 * index..2 * index + 2),
            proprio: whole.proprio.clone().slice_dim(0, 8 * index..8 * index + 8),
            rows_proprio: whole
                .rows_proprio
                .clone()
                .slice_dim(0, 2 * index..2 * index + 2),
        };
        let mean = 0.5 * (value(&part(0), 0) + value(&part(1), 2));
        assert!((value(&whole, 0) - mean).abs() < 1e-5, "{mean}");
        // With the draws of the first part the second is another loss.
        assert!((value(&part(1), 0) - value(&part(1), 2)).abs() > 1e-4);
    }

    #[test]
    fn a_validation_masks_nothing_and_counts_what_lies_outside_the_bins() {
        let device = Device::flex();
        let (net, mut imitating) = ready(&device);
        let mut slices = slices(1, 3, &device);
        let mut values = vec![0.1f32; 12];
        (values[0], values[3]) = (1.5, -2.5);
        slices.actions = Tensor::from_data(TensorData::new(values, [1, 3, 4]), &device);
        let found = net.imitation(&slices, &imitating, 0).unwrap().unwrap();
        assert!((found.clipped - 2.0 / 12.0).abs() < 1e-12);
        imitating.masked = 0.9;
        assert_eq!(net.imitation(&slices, &imitating, 0).unwrap(), Some(found));
    }

    #[test]
    fn training_reaches_every_parameter() {
        let device = Device::flex().autodiff();
        let (net, imitating) = ready(&device);
        let terms = net
            .losses(&slices(4, 4, &device), &imitating, &MOMENT)
            .unwrap();
        let grads = terms[0].value.clone().backward();
        let grads = burn::optim::GradientsParams::from_grads(grads, &net);
        let count = burn::module::list_param_ids(&net).len();
        assert_eq!(grads.len(), count);
    }

    #[test]
    fn wrong_sizes_are_named() {
        let refused = |change: fn(&mut GcbcTokensConfig)| {
            let mut config = small();
            change(&mut config);
            config.check(4).unwrap_err().to_string()
        };
        assert!(small().check(4).is_ok());
        for (text, key) in [
            (refused(|c| c.bins = 0), "gcbc_tokens.bins"),
            (refused(|c| c.chunk = 0), "gcbc_tokens.chunk"),
            (refused(|c| c.chunk = 9), "gcbc_tokens.chunk"),
            (refused(|c| c.heads = 3), "gcbc_tokens.heads"),
            (refused(|c| c.masked = 1.0), "gcbc_tokens.masked"),
            (refused(|c| c.masked = f64::NAN), "gcbc_tokens.masked"),
        ] {
            assert!(text.contains(&format!("`{key}`")), "{text}");
        }
        let mut longest = small();
        longest.chunk = 8;
        assert!(longest.check(4).is_ok());
    }
}
