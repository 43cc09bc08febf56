//! `world-models`: a latent that can be drawn again, and a recurrent model of it (models.md section 8.1; Ha and
//! Schmidhuber, arXiv 1803.10122).
//!
//! ```text
//! V   a variational autoencoder of single frames:       squared error of the pixels + KL
//! M   an LSTM with a mixture of normal distributions:   -log p(z' | z, a, hidden state)
//! ```
//!
//! V and M share no gradient: M sees latents that are cut off from the graph, so training both at once is training one
//! after the other on the way. The published controller is left out; planning searches in M's mean prediction, with the
//! distance to the goal's latent as its cost, as for every other model here. What is compared is a latent that
//! reconstructs with one that predicts. Not kept from the publication: the loss of the KL below a floor, rewards and ends
//! of episodes, sampling with a temperature.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData, activation};
use jepa_datasets::Stream;
use jepa_datasets::transform::{Geometry, PixelNorm, Transform};
use serde::{Deserialize, Serialize};

use crate::layer::lstm::{LstmCell, LstmState};
use crate::pldm::DataShape;
use crate::train::{FrameInput, LossTerm, Moment, Rollouts, SliceTensors, Trainable, Transformed};
use crate::vector_model::VectorDynamics;
use crate::{Error, Result};

/// Side of the images; the kernels below make 2x2 places of it, and it of one place.
const IMAGE: usize = 64;
/// Kernels of the encoder, stride 2, and of the decoder, stride 2.
const ENCODER_KERNEL: usize = 4;
const DECODER_KERNELS: [usize; 4] = [5, 5, 6, 6];
/// Smallest and largest logarithm of a standard deviation in the mixture.
const LOG_STD: [f64; 2] = [-7.0, 4.0];

/// Pixels from 0 to 1.
const UNIT: PixelNorm = PixelNorm {
    mean: [0.0; 3],
    std: [1.0; 3],
};

/// Weights of the loss terms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorldModelsLoss {
    /// Squared error of the pixels, summed over an image.
    pub reconstruction: f64,
    /// Divergence of the latent from a standard normal one, summed over it.
    pub divergence: f64,
    /// Negative log likelihood of the next latent, summed over it.
    pub prediction: f64,
}

impl Default for WorldModelsLoss {
    fn default() -> Self {
        Self {
            reconstruction: 1.0,
            divergence: 1.0,
            prediction: 1.0,
        }
    }
}

/// Architecture and loss of `world-models`. The defaults are narrower than published, for two processor cores: channels
/// of 32 to 256, a latent of 32.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorldModelsConfig {
    /// Native steps per model step.
    pub frameskip: usize,
    /// Channels of the four convolutions; the decoder has them the other way round.
    pub channels: [usize; 4],
    /// Width `D` of the latent.
    pub latent: usize,
    /// Width of the recurrent state.
    pub hidden: usize,
    /// Normal distributions in the mixture of every number of the latent.
    pub mixture: usize,
    /// Loss.
    pub loss: WorldModelsLoss,
}

impl Default for WorldModelsConfig {
    fn default() -> Self {
        Self {
            frameskip: 5,
            channels: [16, 32, 64, 128],
            latent: 16,
            hidden: 256,
            mixture: 5,
            loss: WorldModelsLoss::default(),
        }
    }
}

impl WorldModelsConfig {
    /// Checks the values that no type bounds.
    pub(crate) fn check(&self) -> Result<()> {
        let counts = [
            ("world_models.frameskip", self.frameskip),
            (
                "world_models.channels",
                self.channels.into_iter().min().unwrap_or(0),
            ),
            ("world_models.latent", self.latent),
            ("world_models.hidden", self.hidden),
            ("world_models.mixture", self.mixture),
        ];
        match counts.iter().find(|(_, count)| *count == 0) {
            None => Ok(()),
            Some((key, _)) => Err(Error::Config {
                key,
                detail: "must be at least 1".into(),
            }),
        }
    }

    /// Frames as the encoder takes them: 64 pixels, from 0 to 1.
    pub(crate) fn input(shape: &DataShape) -> Arc<dyn FrameInput> {
        Arc::new(Transformed {
            transform: Transform {
                size: IMAGE,
                norm: UNIT,
                ..Transform::released(Geometry::DinoWm)
            },
            height: shape.height,
            width: shape.width,
        })
    }

    /// An untrained network for data of this shape.
    pub(crate) fn init(&self, shape: &DataShape, device: &Device) -> Result<WorldModelsNet> {
        self.check()?;
        let block = self.frameskip * shape.action_dim;
        let convolution = |inputs: usize, outputs: usize| {
            Conv2dConfig::new([inputs, outputs], [ENCODER_KERNEL; 2])
                .with_stride([2, 2])
                .init(device)
        };
        let [first, second, third, fourth] = self.channels;
        // 64, 31, 14, 6, 2 pixels.
        let flat = 4 * fourth;
        let planes = [flat, third, second, first, 3];
        let deconvolution = |layer: usize| {
            ConvTranspose2dConfig::new(
                [planes[layer], planes[layer + 1]],
                [DECODER_KERNELS[layer]; 2],
            )
            .with_stride([2, 2])
            .init(device)
        };
        let layer = |inputs, outputs| LinearConfig::new(inputs, outputs).init(device);
        Ok(WorldModelsNet {
            vision: Vision {
                encoder: vec![
                    convolution(3, first),
                    convolution(first, second),
                    convolution(second, third),
                    convolution(third, fourth),
                ],
                mean: layer(flat, self.latent),
                log_variance: layer(flat, self.latent),
                spread: layer(self.latent, flat),
                decoder: (0..DECODER_KERNELS.len()).map(deconvolution).collect(),
            },
            memory: Memory {
                cell: LstmCell::new(self.latent + block, self.hidden, device),
                mixture: layer(self.hidden, 3 * self.mixture * self.latent),
                latent: self.latent,
            },
        })
    }
}

/// Autoencoder and recurrent model; the decoder is for training and for pictures.
#[derive(Module, Debug)]
pub(crate) struct WorldModelsNet {
    vision: Vision,
    memory: Memory,
}

impl WorldModelsNet {
    /// Numbers that planning uses.
    pub(crate) fn planning_parameters(&self) -> usize {
        let encoder = self.vision.encoder.num_params() + self.vision.mean.num_params();
        encoder + self.memory.num_params()
    }
}

#[derive(Module, Debug)]
struct Vision {
    encoder: Vec<Conv2d>,
    mean: Linear,
    log_variance: Linear,
    spread: Linear,
    decoder: Vec<ConvTranspose2d>,
}

impl Vision {
    /// Mean and logarithm of the variance of latents, `[n, D]` each, of images `[n, 3, 64, 64]`.
    fn encode(&self, images: Tensor<4>) -> [Tensor<2>; 2] {
        let planes = self
            .encoder
            .iter()
            .fold(images, |x, layer| activation::relu(layer.forward(x)));
        let flat = planes.flatten::<2>(1, 3);
        [
            self.mean.forward(flat.clone()),
            self.log_variance.forward(flat),
        ]
    }

    /// Images of latents.
    fn decode(&self, latents: Tensor<2>) -> Tensor<4> {
        let flat = self.spread.forward(latents);
        let [count, width] = flat.dims();
        let mut planes = flat.reshape([count, width, 1, 1]);
        let last = self.decoder.len() - 1;
        for (index, layer) in self.decoder.iter().enumerate() {
            planes = layer.forward(planes);
            planes = if index < last {
                activation::relu(planes)
            } else {
                activation::sigmoid(planes)
            };
        }
        planes
    }
}

/// The mixture of a step: logarithms of the weights, means and logarithms of the deviations, `[B, D, K]` each.
struct Mixture {
    log_weights: Tensor<3>,
    means: Tensor<3>,
    log_std: Tensor<3>,
}

impl Mixture {
    /// Its mean, `[B, D]`.
    fn mean(&self) -> Tensor<2> {
        (self.log_weights.clone().exp() * self.means.clone())
            .sum_dim(2)
            .squeeze_dim::<2>(2)
    }

    /// Negative log likelihood of `value`, summed over the latent, mean over the batch, `[1]`.
    fn surprise(&self, value: Tensor<2>) -> Tensor<1> {
        let batch = value.dims()[0] as f64;
        let distance = value.unsqueeze_dim::<3>(2) - self.means.clone();
        let scaled = distance * self.log_std.clone().neg().exp();
        let half_log_two_pi = 0.5 * (2.0 * std::f64::consts::PI).ln();
        let logs = self.log_weights.clone()
            - scaled.square() * 0.5
            - self.log_std.clone()
            - half_log_two_pi;
        // The largest of the logarithms is taken out: the sum of the others cannot vanish.
        let largest = logs.clone().detach().max_dim(2);
        let sum = (logs - largest.clone()).exp().sum_dim(2).log() + largest;
        sum.sum().neg() / batch
    }
}

#[derive(Module, Debug)]
struct Memory {
    cell: LstmCell,
    mixture: Linear,
    latent: usize,
}

impl Memory {
    /// What comes after a latent and an action.
    fn step(&self, latent: Tensor<2>, action: Tensor<2>, state: LstmState) -> (Mixture, LstmState) {
        let state = self
            .cell
            .forward(Tensor::cat(vec![latent, action], 1), state);
        let numbers = self.mixture.forward(state.hidden.clone());
        let [batch, width] = numbers.dims();
        let count = width / 3 / self.latent;
        let part = |index: usize| {
            let columns = index * self.latent * count..(index + 1) * self.latent * count;
            numbers
                .clone()
                .slice_dim(1, columns)
                .reshape([batch, self.latent, count])
        };
        let mixture = Mixture {
            log_weights: activation::log_softmax(part(0), 2),
            means: part(1),
            log_std: part(2).clamp(LOG_STD[0], LOG_STD[1]),
        };
        (mixture, state)
    }
}

/// The action block of step `t`, `[B, A]`.
fn action(actions: &Tensor<3>, t: usize) -> Tensor<2> {
    actions.clone().slice_dim(1, t..t + 1).squeeze_dim::<2>(1)
}

impl Trainable for WorldModelsNet {
    type Weights = WorldModelsLoss;

    fn losses(
        &self,
        slices: &SliceTensors,
        weights: &WorldModelsLoss,
        moment: &Moment,
    ) -> Result<Vec<LossTerm>> {
        let horizon = slices.actions.dims()[1];
        let [means, log_variances] = self.vision.encode(slices.images.clone());
        let [count, width] = means.dims();
        let device = means.device();
        let mut stream = Stream::new(moment.seed, &["latents", &moment.step.to_string()]);
        let noise: Vec<f32> = (0..count * width).map(|_| stream.normal() as f32).collect();
        let noise = Tensor::<2>::from_data(TensorData::new(noise, [count, width]), &device);
        let latents = means.clone() + (log_variances.clone() * 0.5).exp() * noise;
        let images = count as f64;
        let difference = self.vision.decode(latents.clone()) - slices.images.clone();
        let reconstruction = difference.square().sum() / images;
        let divergence = (log_variances.clone().exp() + means.square() - log_variances - 1.0).sum();

        let batch = count / (horizon + 1);
        let sequence = latents.detach().reshape([batch, horizon + 1, width]);
        let latent = |t: usize| sequence.clone().slice_dim(1, t..t + 1).squeeze_dim::<2>(1);
        let mut state = self.memory.cell.start(batch, &device);
        let mut surprise = Tensor::zeros([1], &device);
        for t in 0..horizon {
            let (mixture, next) = self
                .memory
                .step(latent(t), action(&slices.actions, t), state);
            surprise = surprise + mixture.surprise(latent(t + 1));
            state = next;
        }
        let term = |name, weight, value| LossTerm {
            name,
            weight,
            value,
        };
        Ok(vec![
            term("reconstruction", weights.reconstruction, reconstruction),
            term(
                "divergence",
                weights.divergence,
                divergence * (0.5 / images),
            ),
            term("prediction", weights.prediction, surprise / horizon as f64),
        ])
    }

    fn rollouts(&self, slices: &SliceTensors, _weights: &WorldModelsLoss) -> Result<Rollouts> {
        let frames = slices.actions.dims()[1] + 1;
        let encoded = VectorDynamics::encode(self, slices.images.clone());
        let [count, width] = encoded.dims();
        let latents = encoded.clone().reshape([count / frames, frames, width]);
        let start = latents.slice_dim(1, 0..1).swap_dims(0, 1);
        Ok(Rollouts {
            predicted: VectorDynamics::unroll(self, &start, &slices.actions),
            encoded,
            tokens: 1,
        })
    }
}

impl VectorDynamics for WorldModelsNet {
    /// The means of the latents.
    fn encode(&self, images: Tensor<4>) -> Tensor<2> {
        let [means, _] = self.vision.encode(images);
        means
    }

    /// Mean predictions, each from the one before.
    fn unroll(&self, start: &Tensor<3>, actions: &Tensor<3>) -> Vec<Tensor<3>> {
        let mut latent = start.clone().squeeze_dim::<2>(0);
        let mut state = self.memory.cell.start(latent.dims()[0], &latent.device());
        let mut latents = Vec::with_capacity(actions.dims()[1]);
        for t in 0..actions.dims()[1] {
            let (mixture, next) = self.memory.step(latent, action(actions, t), state);
            (latent, state) = (mixture.mean(), next);
            latents.push(latent.clone().unsqueeze_dim::<3>(0));
        }
        latents
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;
    use crate::layer::init::initialise;

    const SHAPE: DataShape = DataShape {
        height: 65,
        width: 65,
        action_dim: 2,
        proprio_dim: 2,
    };

    #[test]
    fn at_the_published_sizes_it_has_the_published_parameters() {
        // arXiv 1803.10122, appendix: 4,348,547 of V (with a latent of 32) and 422,368 of M (with actions of 3).
        let config = WorldModelsConfig {
            frameskip: 1,
            channels: [32, 64, 128, 256],
            latent: 32,
            ..WorldModelsConfig::default()
        };
        let shape = DataShape {
            action_dim: 3,
            ..SHAPE
        };
        let net = config.init(&shape, &Device::flex()).unwrap();
        assert_eq!(net.vision.num_params(), 4_348_547);
        // The published cell has one bias where `PyTorch`'s has two.
        assert_eq!(net.memory.num_params(), 422_368 + 4 * 256);
    }

    #[test]
    fn the_likelihood_is_that_of_a_mixture_worked_out_by_hand() {
        let device = Device::flex();
        let tensor = |values: [f32; 2]| Tensor::<3>::from_floats([[values]], &device);
        let (weights, means, deviations) = ([0.25, 0.75], [1.0, -2.0], [0.5, 2.0]);
        let mixture = Mixture {
            log_weights: tensor(weights.map(f32::ln)),
            means: tensor(means),
            log_std: tensor(deviations.map(f32::ln)),
        };
        let density: f64 = (0..2)
            .map(|k| {
                let (mean, std) = (f64::from(means[k]), f64::from(deviations[k]));
                let scaled = (0.3 - mean) / std;
                let normal =
                    (-0.5 * scaled * scaled).exp() / (std * (2.0 * std::f64::consts::PI).sqrt());
                f64::from(weights[k]) * normal
            })
            .sum();
        let value = Tensor::<2>::from_floats([[0.3]], &device);
        let found = f64::from(mixture.surprise(value).into_scalar::<f32>());
        assert!(
            (found + density.ln()).abs() < 1e-6,
            "{found} {}",
            -density.ln()
        );
        let mean = mixture.mean().into_scalar::<f32>();
        assert!((mean + 1.25).abs() < 1e-6, "{mean}");
    }

    #[test]
    fn the_recurrent_model_sends_no_gradient_into_the_autoencoder() {
        let device = Device::flex().autodiff();
        device.seed(3);
        let config = WorldModelsConfig {
            channels: [4, 4, 4, 4],
            latent: 3,
            hidden: 6,
            mixture: 2,
            ..WorldModelsConfig::default()
        };
        let net = initialise(config.init(&SHAPE, &device).unwrap(), 1);
        let uniform = Distribution::Uniform(0.0, 1.0);
        let slices = SliceTensors {
            images: Tensor::random([2 * 3, 3, IMAGE, IMAGE], uniform, &device),
            actions: Tensor::random([2, 2, 10], uniform, &device),
            proprio: Tensor::random([2 * 3, 2], uniform, &device),
            rows_proprio: Tensor::random([2, 11, 2], uniform, &device),
        };
        let moment = Moment {
            seed: 0,
            step: 1,
            progress: 0.0,
            first_slice: 0,
        };
        let gradient = |name: &str, weight: &Tensor<2>| {
            let terms = net.losses(&slices, &config.loss, &moment).unwrap();
            let term = terms.iter().find(|term| term.name == name).unwrap();
            weight.grad(&term.value.clone().backward()).is_some()
        };
        let (vision, memory) = (
            net.vision.mean.weight.val(),
            net.memory.mixture.weight.val(),
        );
        assert!(gradient("reconstruction", &vision) && !gradient("reconstruction", &memory));
        assert!(gradient("divergence", &vision));
        assert!(gradient("prediction", &memory) && !gradient("prediction", &vision));
        let decoded = net.vision.decode(Tensor::zeros([2, 3], &device));
        assert_eq!(decoded.dims(), [2, 3, IMAGE, IMAGE]);
    }
}
