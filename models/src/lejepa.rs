//! `lejepa`: an image encoder that learns from frames alone, without actions, to be frozen under a token-grid model
//! (`LeJEPA`, arXiv 2511.08544; models.md sections 7.1 and 8.4).
//!
//! The views of a sample are pulled together, and SIGReg keeps the embeddings of all samples apart by making them look
//! standard normal:
//!
//! ```text
//! L = (1 - lambda) mean (z_view - mean_views z)^2 + lambda SIGReg(z)        no teacher, no stop-gradient
//! ```
//!
//! Differences from the published recipe: views are neighbours in time in place of crops and colours, which would hide
//! the agent of a small scene; the encoder is the convolutional one of `pldm`. What a world model sees are the places
//! of its last feature map, each with a layer norm without parameters; its last linear layer and the projector only
//! train. So the projector has no hidden layers by default: behind their batch norm it hardly matters to the loss how
//! little the feature map varies, and the tokens stay close to constant.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation};
use serde::{Deserialize, Deserializer, Serialize};

use crate::encoder::conv::{ConvEncoder, ConvEncoderConfig};
use crate::layer::batch_norm::BatchNorm;
use crate::loss::prediction::mean_squared;
use crate::loss::sigreg::{Knots, directions, sigreg};
use crate::pldm::DataShape;
use crate::token::encoder::place_tokens;
use crate::train::{
    LossTerm, Moment, Rollouts, SliceTensors, Trainable, TrainingConfig, Views, over_defaults,
};
use crate::{Error, Result};

/// Its name in configurations and run folders; it is no model of the zoo, because it cannot plan.
pub(crate) const NAME: &str = "lejepa";
/// Added to the variance of the projector's batch norms (`PyTorch`'s default).
const BATCH_NORM_EPSILON: f64 = 1e-5;

/// Weights and sizes of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LejepaLoss {
    /// Weight of SIGReg, `[0, 1]`; the views get the rest. 0 lets embeddings collapse.
    pub lambda: f64,
    /// Knots of SIGReg, at least 2.
    pub knots: usize,
    /// Random projections of a step.
    pub directions: usize,
}

impl Default for LejepaLoss {
    /// The paper's choice of `lambda`, and the knots and projections of its minimal example.
    fn default() -> Self {
        Self {
            lambda: 0.05,
            knots: 17,
            directions: 256,
        }
    }
}

/// Network, views and loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LejepaConfig {
    /// Views `V` of a sample.
    pub views: usize,
    /// Consecutive frames of one trajectory that views are drawn from.
    pub window: usize,
    /// Image encoder; `latent` is the width of its embedding, which the projector reads.
    pub encoder: ConvEncoderConfig,
    /// Widths of the projector's hidden layers, with batch norm and ReLU; none is a linear projector.
    pub projector: Vec<usize>,
    /// Width `K` of what the loss compares.
    pub embedding: usize,
    /// Loss.
    pub loss: LejepaLoss,
}

impl Default for LejepaConfig {
    /// Four views as in the minimal example, within what is one model step on Wall; sizes for two processor cores.
    /// Hidden layers of 256 and 256 numbers were tried on Wall: the variance of the tokens over frames, which is 0.5 of
    /// at most 1 without them after 400 steps, stayed at 0.008 after 1,000.
    fn default() -> Self {
        Self {
            views: 4,
            window: 6,
            encoder: ConvEncoderConfig {
                latent: 128,
                ..ConvEncoderConfig::default()
            },
            projector: Vec::new(),
            embedding: 16,
            loss: LejepaLoss::default(),
        }
    }
}

/// Settings of a training of `lejepa`, with those of [`LejepaConfig::training`] for what is not said.
pub(crate) fn training_over_defaults<'de, D: Deserializer<'de>>(
    given: D,
) -> std::result::Result<TrainingConfig, D::Error> {
    over_defaults(given, &LejepaConfig::training())
}

impl LejepaConfig {
    /// How it is trained where nothing else is said: 3 to 4 processor minutes on Wall. The rate is the
    /// upper end of the paper's, because the network is small.
    pub fn training() -> TrainingConfig {
        TrainingConfig {
            steps: 1000,
            batch: 128,
            horizon: Self::default().views - 1,
            learning_rate: 2e-3,
            weight_decay: 0.05,
            clip_norm: 1.0,
            validate_every: 500,
            validation_slices: 512,
            ..TrainingConfig::default()
        }
    }

    /// Which frames are views of each other.
    pub(crate) fn frames(&self) -> Views {
        Views {
            count: self.views,
            window: self.window,
        }
    }

    /// Checks the values that no type bounds, for a training with samples of `horizon + 1` frames.
    pub(crate) fn check(&self, horizon: usize) -> Result<()> {
        let wrong = |key, detail: String| Err(Error::Config { key, detail });
        if self.views < 2 {
            let detail = "must be at least 2: one view has none to agree with".into();
            return wrong("token.encoder.lejepa.views", detail);
        }
        if self.window < self.views {
            let detail = format!(
                "must be at least the {} views, is {}",
                self.views, self.window
            );
            return wrong("token.encoder.lejepa.window", detail);
        }
        if horizon != self.views - 1 {
            let detail = format!(
                "must be token.encoder.lejepa.views - 1 = {}, is {horizon}",
                self.views - 1
            );
            return wrong("token.encoder.training.horizon", detail);
        }
        let counts = [
            ("token.encoder.lejepa.encoder.latent", self.encoder.latent),
            ("token.encoder.lejepa.embedding", self.embedding),
            ("token.encoder.lejepa.loss.directions", self.loss.directions),
        ];
        let widths = self.projector.iter();
        let widths = widths.map(|width| ("token.encoder.lejepa.projector", *width));
        if let Some((key, _)) = counts.into_iter().chain(widths).find(|(_, n)| *n == 0) {
            return wrong(key, "must be at least 1".into());
        }
        if self.loss.knots < 2 {
            let detail = "must be at least 2".into();
            return wrong("token.encoder.lejepa.loss.knots", detail);
        }
        if !(0.0..=1.0).contains(&self.loss.lambda) {
            let detail = format!("must be in [0, 1], is {}", self.loss.lambda);
            return wrong("token.encoder.lejepa.loss.lambda", detail);
        }
        Ok(())
    }

    /// An untrained network for frames of this shape.
    pub(crate) fn init(&self, shape: &DataShape, device: &Device) -> Result<LejepaNet> {
        let mut width = self.encoder.latent;
        let mut hidden = Vec::new();
        for outputs in &self.projector {
            hidden.push(ProjectorLayer {
                linear: LinearConfig::new(width, *outputs).init(device),
                norm: BatchNorm::new(*outputs, BATCH_NORM_EPSILON, device),
            });
            width = *outputs;
        }
        Ok(LejepaNet {
            encoder: self.encoder.init(shape.height, shape.width, device)?,
            hidden,
            out: LinearConfig::new(width, self.embedding).init(device),
        })
    }
}

/// The encoder, and the projector that only training uses.
#[derive(Module, Debug)]
pub(crate) struct LejepaNet {
    encoder: ConvEncoder,
    hidden: Vec<ProjectorLayer>,
    out: Linear,
}

/// Linear, batch norm, ReLU.
#[derive(Module, Debug)]
struct ProjectorLayer {
    linear: Linear,
    norm: BatchNorm,
}

impl LejepaNet {
    /// The image encoder, to be frozen under another model.
    pub(crate) fn into_encoder(self) -> ConvEncoder {
        self.encoder
    }

    /// Numbers that the tokens take.
    pub(crate) fn token_parameters(&self) -> usize {
        self.encoder.feature_parameters()
    }

    /// Tokens of a frame, `[De, rows, columns]`.
    pub(crate) fn tokens(&self, shape: &DataShape) -> [usize; 3] {
        self.encoder.grid(shape.height, shape.width)
    }

    /// What the loss compares.
    ///
    /// # Shapes
    /// - `images`: `[n, 3, h, w]`, output `[n, K]`
    fn embed(&self, images: Tensor<4>) -> Tensor<2> {
        let embedded = self.encoder.forward(images);
        let hidden = self.hidden.iter().fold(embedded, |x, layer| {
            activation::relu(layer.norm.forward(layer.linear.forward(x)))
        });
        self.out.forward(hidden)
    }

    /// Terms of the loss of embeddings `[B, V, K]`, for projections `[K, M]` of this step.
    fn terms(embedded: &Tensor<3>, directions: Tensor<2>, loss: &LejepaLoss) -> Vec<LossTerm> {
        let centre = embedded.clone().mean_dim(1).expand(embedded.dims());
        let by_view = embedded.clone().swap_dims(0, 1);
        vec![
            LossTerm {
                name: "invariance",
                weight: 1.0 - loss.lambda,
                value: mean_squared(embedded.clone(), centre),
            },
            LossTerm {
                name: "sigreg",
                weight: loss.lambda,
                value: sigreg(by_view, directions, &Knots::half_line(loss.knots)),
            },
        ]
    }
}

/// Views of a batch.
fn views(slices: &SliceTensors) -> usize {
    slices.actions.dims()[1] + 1
}

impl Trainable for LejepaNet {
    type Weights = LejepaLoss;

    fn losses(
        &self,
        slices: &SliceTensors,
        weights: &LejepaLoss,
        moment: &Moment,
    ) -> Result<Vec<LossTerm>> {
        let embedded = self.embed(slices.images.clone());
        let [count, width] = embedded.dims();
        let embedded = embedded.reshape([count / views(slices), views(slices), width]);
        let directions = directions(
            moment.seed,
            moment.step,
            width,
            weights.directions,
            &embedded.device(),
        );
        Ok(Self::terms(&embedded, directions, weights))
    }

    fn rollouts(&self, slices: &SliceTensors, _weights: &LejepaLoss) -> Result<Rollouts> {
        let tokens = place_tokens(self.encoder.features(slices.images.clone()));
        let [count, rows, columns, width] = tokens.dims();
        let tokens = tokens.reshape([count, rows * columns, width]);
        Ok(Rollouts::of_encodings(tokens, views(slices)))
    }
}

#[cfg(test)]
mod tests {
    use burn::optim::GradientsParams;
    use burn::tensor::TensorData;
    use jepa_datasets::Stream;

    use super::*;
    use crate::encoder::conv::StageConfig;
    use crate::layer::init::initialise;
    use crate::train::optimizer::AdamW;

    const SHAPE: DataShape = DataShape {
        height: 8,
        width: 8,
        action_dim: 2,
        proprio_dim: 2,
    };
    const SAMPLES: usize = 32;
    const VIEWS: usize = 2;

    fn small() -> LejepaConfig {
        let stage = |filters| StageConfig {
            filters,
            kernel: 4,
            stride: 2,
            padding: 1,
        };
        LejepaConfig {
            views: VIEWS,
            encoder: ConvEncoderConfig {
                stages: vec![stage(4), stage(8)],
                latent: 12,
            },
            projector: vec![16],
            embedding: 4,
            loss: LejepaLoss {
                directions: 16,
                ..LejepaLoss::default()
            },
            ..LejepaConfig::default()
        }
    }

    /// Frames of samples: the views of each are one random picture with a little noise.
    fn batch(step: u64, device: &Device) -> SliceTensors {
        let mut stream = Stream::new(1, &["test", &step.to_string()]);
        let mut values = Vec::new();
        for _ in 0..SAMPLES {
            let picture: Vec<f64> = (0..3 * 8 * 8).map(|_| stream.uniform()).collect();
            for _ in 0..VIEWS {
                values.extend(picture.iter().map(|v| (v + 0.05 * stream.normal()) as f32));
            }
        }
        let frames = SAMPLES * VIEWS;
        SliceTensors {
            images: Tensor::from_data(TensorData::new(values, [frames, 3, 8, 8]), device),
            actions: Tensor::zeros([SAMPLES, VIEWS - 1, 2], device),
            proprio: Tensor::zeros([frames, 2], device),
            rows_proprio: Tensor::zeros([SAMPLES, 6, 2], device),
        }
    }

    /// Trains for some steps; the standard deviation of the embeddings of a batch, mean over their dimensions.
    fn std_after(steps: u64, lambda: f64) -> f64 {
        let device = Device::flex().autodiff();
        let config = small();
        let loss = LejepaLoss {
            lambda,
            ..config.loss
        };
        let mut net = initialise(config.init(&SHAPE, &device).unwrap(), 3);
        let mut optimizer = AdamW::of(&net, &LejepaConfig::training());
        for step in 1..=steps {
            let moment = Moment {
                first_slice: 0,
                seed: 5,
                step,
                progress: 0.0,
            };
            let terms = net.losses(&batch(step, &device), &loss, &moment).unwrap();
            let total = terms.into_iter().map(|term| term.value * term.weight);
            let total = total.reduce(|a, b| a + b).unwrap();
            let gradients = GradientsParams::from_grads(total.backward(), &net);
            net = optimizer.step(5e-3, 0.0, net, gradients);
        }
        let embedded = net.embed(batch(0, &device).images);
        let mean = embedded.clone().mean_dim(0);
        let variance = (embedded - mean).square().mean_dim(0);
        f64::from(variance.sqrt().mean().into_scalar::<f32>())
    }

    #[test]
    fn sigreg_keeps_embeddings_apart_and_without_it_they_collapse() {
        let (kept, collapsed) = (std_after(120, 0.05), std_after(120, 0.0));
        assert!(kept > 0.5, "{kept}");
        assert!(collapsed < 0.05, "{collapsed}");
    }

    #[test]
    fn the_loss_is_the_plain_sum_over_views_and_projections() {
        let device = Device::flex();
        // Two samples of two views of two numbers, and one projection onto their first.
        let z = [[[1.0, 0.0], [3.0, 1.0]], [[-1.0, 2.0], [-1.0, 0.0]]];
        let embedded = Tensor::<3>::from_floats(z.map(|s| s.map(|v| v.map(|x| x as f32))), &device);
        let directions = Tensor::<2>::from_floats([[2.0], [0.0]], &device);
        let loss = LejepaLoss::default();
        let terms = LejepaNet::terms(&embedded, directions, &loss);
        let value = |i: usize| f64::from(terms[i].value.clone().into_scalar::<f32>());

        // Differences from the means (2, 0.5) and (-1, 1): 1, 0.5 and 0, 1, each twice.
        let invariance = (2.0 * 1.0 + 2.0 * 0.25 + 2.0 * 1.0) / 8.0;
        assert!((value(0) - invariance).abs() < 1e-6, "{}", value(0));

        let mut statistic = 0.0;
        for (first, second) in z[0].iter().zip(&z[1]) {
            for k in 0..17 {
                let t = 3.0 * f64::from(k) / 16.0;
                let phi = (-t * t / 2.0).exp();
                let ends = if k == 0 || k == 16 { 0.5 } else { 1.0 };
                let weight = ends * 2.0 * 3.0 / 16.0 * phi;
                let mean = |f: fn(f64) -> f64| f64::midpoint(f(t * first[0]), f(t * second[0]));
                let distance = (mean(f64::cos) - phi).powi(2) + mean(f64::sin).powi(2);
                // Two samples per view, the mean over two views.
                statistic += 2.0 * weight * distance / 2.0;
            }
        }
        assert!(
            (value(1) - statistic).abs() < 1e-6,
            "{} {statistic}",
            value(1)
        );
        let weights = [terms[0].weight, terms[1].weight];
        assert!((weights[0] - 0.95).abs() < 1e-12 && (weights[1] - 0.05).abs() < 1e-12);
    }

    #[test]
    fn the_full_encoder_gives_a_grid_of_tokens_and_has_its_documented_parameters() {
        let device = Device::flex();
        let shape = DataShape {
            height: 65,
            width: 65,
            ..SHAPE
        };
        let net = LejepaConfig::default().init(&shape, &device).unwrap();
        assert_eq!(net.tokens(&shape), [64, 4, 4]);
        // 77,168 of the encoder of `pldm` without its projection of 1,024 to 32 numbers.
        assert_eq!(net.token_parameters(), 77_168 - 1025 * 32);
        let zeros = |dims| Tensor::zeros(dims, &device);
        let slices = SliceTensors {
            images: zeros([8, 3, 65, 65]),
            actions: Tensor::zeros([2, 3, 2], &device),
            proprio: Tensor::zeros([8, 2], &device),
            rows_proprio: Tensor::zeros([2, 6, 2], &device),
        };
        let rollouts = net.rollouts(&slices, &LejepaLoss::default()).unwrap();
        assert_eq!(rollouts.encoded.dims(), [8, 1024]);
        assert_eq!(rollouts.predicted.len(), 3);
        assert_eq!(rollouts.predicted[0].dims(), [1, 2, 1024]);
        assert_eq!(rollouts.tokens, 16);
    }

    #[test]
    fn a_validation_compares_every_later_view_with_itself() {
        let device = Device::flex();
        let net = initialise(small().init(&SHAPE, &device).unwrap(), 3);
        let slices = batch(0, &device);
        let rollouts = net.rollouts(&slices, &LejepaLoss::default()).unwrap();
        let width = rollouts.encoded.dims()[1];
        let later = rollouts.encoded.reshape([SAMPLES, VIEWS, width]);
        let later = later.slice_dim(1, 1..2).reshape([1, SAMPLES, width]);
        assert_eq!(later.into_data(), rollouts.predicted[0].to_data());
    }

    #[test]
    fn wrong_settings_are_named() {
        small().check(1).unwrap();
        let named = |change: fn(&mut LejepaConfig), key: &str| {
            let mut config = small();
            change(&mut config);
            let error = config.check(config.views.saturating_sub(1)).unwrap_err();
            let expected = format!("`token.encoder.lejepa.{key}`");
            assert!(error.to_string().contains(&expected), "{error}");
        };
        named(|c| c.views = 1, "views");
        named(|c| c.window = 1, "window");
        named(|c| c.encoder.latent = 0, "encoder.latent");
        named(|c| c.projector = vec![8, 0], "projector");
        named(|c| c.embedding = 0, "embedding");
        named(|c| c.loss.directions = 0, "loss.directions");
        named(|c| c.loss.knots = 1, "loss.knots");
        named(|c| c.loss.lambda = f64::NAN, "loss.lambda");
        named(|c| c.loss.lambda = 1.5, "loss.lambda");
        let error = small().check(3).unwrap_err().to_string();
        assert!(
            error.contains("`token.encoder.training.horizon`") && error.contains("= 1, is 3"),
            "{error}"
        );
    }

    #[test]
    fn settings_of_its_training_are_laid_over_its_own_defaults() {
        let read = |text: &str| {
            let mut json = serde_json::Deserializer::from_str(text);
            training_over_defaults(&mut json)
        };
        let training = read(r#"{"steps": 7}"#).unwrap();
        let expected = TrainingConfig {
            steps: 7,
            ..LejepaConfig::training()
        };
        assert_eq!(training, expected);
        let error = read(r#"{"step": 7}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `step`"), "{error}");
    }
}
