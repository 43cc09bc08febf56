//! `i-jepa`: an image encoder that learns to predict hidden parts of a frame from the rest, to be frozen under a
//! token-grid model (I-JEPA, arXiv 2301.08243; models.md section 8.2).
//!
//! The encoder sees the visible patches only; a narrow predictor, given mask tokens with their positions, predicts what
//! a slowly following copy of the encoder makes of the hidden blocks when it sees the whole frame:
//!
//! ```text
//! L = mean over blocks  smooth_l1(predict(encode(visible), places of the block), norm(target(frame))[block])
//! target <- m target + (1 - m) encoder        after every step, m rises from 0.996 to 1
//! ```
//!
//! A world model sees the tokens of that copy, each with a layer norm without parameters. Differences from the published
//! recipe: frames of a dataset in place of cropped photographs, and a small network. What a frame has at its right and
//! lower edge beyond whole patches is not seen.

mod masks;

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Deserializer, Serialize};

pub use masks::MaskConfig;

use crate::encoder::conv::frames_to_input;
use crate::layer::block::{Block, BlockConfig};
use crate::layer::init::{Draw, initialise_with};
use crate::layer::layer_norm::{LayerNorm, plain_norm};
use crate::layer::linear::linear;
use crate::layer::patch_embedding::PatchEmbedding;
use crate::loss::elementwise::ElementLoss;
use crate::pldm::DataShape;
use crate::predictor::Grid;
use crate::train::{
    FrameInput, LossTerm, Moment, Rollouts, SliceTensors, Trainable, TrainingConfig, over_defaults,
};
use crate::{Error, Result};

/// Its name in configurations and run folders; it is no model of the zoo, because it cannot plan.
pub(crate) const NAME: &str = "i-jepa";
/// Native steps between the frames of a sample: neighbours would show nearly the same.
pub(crate) const FRAMESKIP: usize = 5;
/// Added to the variance of every layer norm.
const EPSILON: f64 = 1e-6;
/// Hidden width of a block's perceptron, in widths.
const HIDDEN_FACTOR: usize = 4;
/// Standard deviation of a fresh mask token.
const FRESH_STD: f64 = 0.02;
/// Frames that are encoded at a time, to bound memory.
const FRAMES_AT_A_TIME: usize = 64;

/// Sizes of one of its two transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Width of the tokens, a multiple of 4 and of the heads.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
}

impl VitConfig {
    fn check(self, key: &'static str) -> Result<()> {
        let heads = self.heads.max(1);
        if self.depth == 0
            || self.heads == 0
            || self.width == 0
            || !self.width.is_multiple_of(4)
            || !self.width.is_multiple_of(heads)
        {
            return Err(Error::Config {
                key,
                detail: format!(
                    "needs blocks, heads, and a width that is a multiple of 4 and of the heads; has {}, {} and {}",
                    self.depth, self.heads, self.width
                ),
            });
        }
        Ok(())
    }

    fn blocks(self, device: &Device) -> Vec<Block> {
        let block = BlockConfig {
            width: self.width,
            heads: self.heads,
            hidden: HIDDEN_FACTOR * self.width,
            epsilon: EPSILON,
            layer_scale: false,
        };
        (0..self.depth).map(|_| block.init(device)).collect()
    }
}

/// What the loss needs beside the network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IjepaLoss {
    /// How blocks are drawn.
    pub masks: MaskConfig,
    /// Share of itself that the target encoder keeps in the first step, `[0, 1]`; it rises linearly to 1 in the last.
    pub momentum: f64,
}

impl Default for IjepaLoss {
    fn default() -> Self {
        Self {
            masks: MaskConfig::default(),
            momentum: 0.996,
        }
    }
}

/// Network and loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IjepaConfig {
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Encoder.
    pub encoder: VitConfig,
    /// Predictor.
    pub predictor: VitConfig,
    /// Loss.
    pub loss: IjepaLoss,
}

impl Default for IjepaConfig {
    /// Half the width and half the depth of models.md section 8.2, for two processor cores.
    fn default() -> Self {
        Self {
            patch: 8,
            encoder: VitConfig {
                width: 64,
                depth: 3,
                heads: 4,
            },
            predictor: VitConfig {
                width: 32,
                depth: 2,
                heads: 4,
            },
            loss: IjepaLoss::default(),
        }
    }
}

/// Settings of a training of `i-jepa`, with those of [`IjepaConfig::training`] for what is not said.
pub(crate) fn training_over_defaults<'de, D: Deserializer<'de>>(
    given: D,
) -> std::result::Result<TrainingConfig, D::Error> {
    over_defaults(given, &IjepaConfig::training())
}

impl IjepaConfig {
    /// How it is trained where nothing else is said.
    pub fn training() -> TrainingConfig {
        TrainingConfig {
            steps: 2000,
            batch: 32,
            horizon: 1,
            learning_rate: 1e-3,
            weight_decay: 0.05,
            clip_norm: 1.0,
            validate_every: 1000,
            validation_slices: 512,
            ..TrainingConfig::default()
        }
    }

    /// Checks the values that neither types nor frames bound.
    pub(crate) fn check(&self) -> Result<()> {
        if self.patch == 0 {
            return Err(Error::Config {
                key: "token.encoder.ijepa.patch",
                detail: "must be at least 1".into(),
            });
        }
        self.encoder.check("token.encoder.ijepa.encoder")?;
        self.predictor.check("token.encoder.ijepa.predictor")?;
        if !(0.0..=1.0).contains(&self.loss.momentum) {
            return Err(Error::Config {
                key: "token.encoder.ijepa.loss.momentum",
                detail: format!("must be in [0, 1], is {}", self.loss.momentum),
            });
        }
        self.loss.masks.check()
    }

    /// Whole patches of a frame.
    fn grid(&self, shape: &DataShape) -> Grid {
        Grid {
            rows: shape.height / self.patch,
            columns: shape.width / self.patch,
        }
    }

    /// A network for frames of this shape, with the back end's own weights.
    pub(crate) fn init(&self, shape: &DataShape, device: &Device) -> Result<IjepaNet> {
        let grid = self.grid(shape);
        self.loss.masks.check_on(grid)?;
        let encoder = || Encoder {
            patches: PatchEmbedding::new(self.encoder.width, self.patch, device),
            blocks: self.encoder.blocks(device),
            norm: LayerNorm::new(self.encoder.width, EPSILON, device),
            patch: self.patch,
            rows: grid.rows,
            columns: grid.columns,
        };
        let (outer, inner) = (self.encoder.width, self.predictor.width);
        Ok(IjepaNet {
            encoder: encoder(),
            target: encoder(),
            predictor: Predictor {
                enter: LinearConfig::new(outer, inner).init(device),
                mask_token: Initializer::Zeros.init([1, 1, inner], device),
                blocks: self.predictor.blocks(device),
                norm: LayerNorm::new(inner, EPSILON, device),
                leave: LinearConfig::new(inner, outer).init(device),
                rows: grid.rows,
                columns: grid.columns,
            },
        })
    }

    /// A network to train: weights from the stream `init`, the target equal to the encoder.
    pub(crate) fn init_seeded(
        &self,
        shape: &DataShape,
        seed: u64,
        device: &Device,
    ) -> Result<IjepaNet> {
        let rule = |path: &str| match path {
            "predictor.mask_token" => Draw::Normal(FRESH_STD),
            _ => Draw::Default,
        };
        let net = initialise_with(self.init(shape, device)?, seed, rule);
        Ok(net.follow(0.0))
    }
}

/// Patches with fixed positions, and blocks over them.
#[derive(Module, Debug)]
pub(crate) struct Encoder {
    patches: PatchEmbedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    patch: usize,
    rows: usize,
    columns: usize,
}

impl Encoder {
    fn grid(&self) -> Grid {
        Grid {
            rows: self.rows,
            columns: self.columns,
        }
    }

    /// Patches with their positions, `[n, 3, h, w]` to `[n, N, D]`.
    fn embed(&self, images: Tensor<4>) -> Tensor<3> {
        let whole = images
            .slice_dim(2, 0..self.rows * self.patch)
            .slice_dim(3, 0..self.columns * self.patch);
        let patches = self.patches.forward(whole);
        let [_, count, width] = patches.dims();
        let table = TensorData::new(positions(self.grid(), width), [1, count, width]);
        let table = Tensor::<3>::from_data(table, &patches.device());
        patches + table
    }

    /// # Shapes
    /// - input and output: `[n, K, D]`, any of the embedded patches
    fn encode(&self, patches: Tensor<3>) -> Tensor<3> {
        let blocks = self.blocks.iter();
        self.norm
            .forward(blocks.fold(patches, |x, block| block.forward(x, None, None)))
    }

    /// What a world model sees of whole frames: `[n, 3, h, w]` to `[n, N, D]`.
    fn tokens(&self, images: Tensor<4>) -> Tensor<3> {
        plain_norm(self.encode(self.embed(images)), EPSILON)
    }
}

/// A narrow transformer over visible tokens and mask tokens.
#[derive(Module, Debug)]
struct Predictor {
    enter: Linear,
    mask_token: Param<Tensor<3>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    leave: Linear,
    rows: usize,
    columns: usize,
}

impl Predictor {
    /// Tokens at the places of a block.
    ///
    /// # Shapes
    /// - `context`: `[B, K, D]`, at the places `visible`; output `[B, T, D]`, at the places `block`
    fn predict(
        &self,
        context: Tensor<3>,
        visible: &[Vec<usize>],
        block: &[Vec<usize>],
    ) -> Tensor<3> {
        let seen = linear(&self.enter, context);
        let [samples, count, width] = seen.dims();
        let grid = Grid {
            rows: self.rows,
            columns: self.columns,
        };
        let table = TensorData::new(positions(grid, width), [1, grid.tokens(), width]);
        let table = Tensor::<3>::from_data(table, &seen.device());
        let table = table.expand([samples, grid.tokens(), width]);
        let masked = pick(table.clone(), block) + self.mask_token.val();
        let length = count + masked.dims()[1];
        let tokens = Tensor::cat(vec![seen + pick(table, visible), masked], 1);
        let tokens = self
            .blocks
            .iter()
            .fold(tokens, |x, block| block.forward(x, None, None));
        let hidden = tokens.slice_dim(1, count..length);
        linear(&self.leave, self.norm.forward(hidden))
    }
}

/// Tokens at some places of every sample.
///
/// # Shapes
/// - `tokens`: `[B, N, D]`; `places`: `[B][K]`; output `[B, K, D]`
fn pick(tokens: Tensor<3>, places: &[Vec<usize>]) -> Tensor<3> {
    let [samples, count, width] = tokens.dims();
    let of_sample = |(sample, places): (usize, &Vec<usize>)| {
        let flat = places
            .iter()
            .map(move |place| (sample * count + place) as i64);
        flat.collect::<Vec<i64>>()
    };
    let flat: Vec<i64> = places.iter().enumerate().flat_map(of_sample).collect();
    let picked = flat.len();
    let flat = Tensor::<1, Int>::from_data(TensorData::new(flat, [picked]), &tokens.device());
    let rows = tokens.reshape([samples * count, width]).select(0, flat);
    rows.reshape([samples, picked / samples, width])
}

/// Sines and cosines of the row in one half of the channels and of the column in the other, `[N, D]`.
fn positions(grid: Grid, width: usize) -> Vec<f32> {
    let quarter = width / 4;
    let code = move |place: usize| {
        let angle =
            move |j: usize| place as f64 * libm::pow(10_000.0, -(j as f64) / quarter as f64);
        let sines = (0..quarter).map(move |j| libm::sin(angle(j)) as f32);
        sines.chain((0..quarter).map(move |j| libm::cos(angle(j)) as f32))
    };
    let places = 0..grid.tokens();
    places
        .flat_map(|place| code(place / grid.columns).chain(code(place % grid.columns)))
        .collect()
}

/// The encoder, the copy that follows it, and the predictor that only training uses.
#[derive(Module, Debug)]
pub(crate) struct IjepaNet {
    encoder: Encoder,
    target: Encoder,
    predictor: Predictor,
}

impl IjepaNet {
    /// The encoder that is frozen under another model: the one that followed.
    pub(crate) fn into_encoder(self) -> Encoder {
        self.target
    }

    /// Numbers that the tokens take.
    pub(crate) fn token_parameters(&self) -> usize {
        self.target.num_params()
    }

    /// Moves the target encoder towards the encoder; it keeps `momentum` of itself.
    fn follow(self, momentum: f64) -> Self {
        let mut leader = Values::default();
        self.encoder.visit(&mut leader);
        let mut follower = Follower {
            leader: leader.values,
            path: Vec::new(),
            momentum,
        };
        Self {
            target: self.target.map(&mut follower),
            ..self
        }
    }
}

/// Parameters by their paths.
#[derive(Default)]
struct Values {
    values: BTreeMap<String, TensorData>,
    path: Vec<String>,
}

impl ModuleVisitor for Values {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.values
            .insert(self.path.join("."), param.val().into_data());
    }
}

/// Moves every parameter towards the one at the same path.
struct Follower {
    leader: BTreeMap<String, TensorData>,
    path: Vec<String>,
    momentum: f64,
}

impl ModuleMapper for Follower {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(leader) = self.leader.remove(&self.path.join(".")) else {
            return param;
        };
        let (id, tensor, mapper) = param.consume();
        let device = tensor.device();
        let leader = Tensor::<D>::from_data(leader, &device);
        let moved = (tensor.detach() * self.momentum + leader * (1.0 - self.momentum)).detach();
        let moved = if device.is_autodiff() {
            moved.require_grad()
        } else {
            moved
        };
        Param::from_mapped_value(id, moved, mapper)
    }
}

impl Trainable for IjepaNet {
    type Weights = IjepaLoss;

    fn losses(
        &self,
        slices: &SliceTensors,
        weights: &IjepaLoss,
        moment: &Moment,
    ) -> Result<Vec<LossTerm>> {
        let images = slices.images.clone();
        let (frames, grid) = (images.dims()[0], self.encoder.grid());
        let masks = weights.masks.draw(moment.seed, moment.step, frames, grid);
        let truth = self.target.tokens(images.clone()).detach();
        // Hidden patches are left out before the blocks: they cost nothing.
        let visible = pick(self.encoder.embed(images), &masks.visible);
        let context = self.encoder.encode(visible);
        let blocks = masks.targets.iter().map(|block| {
            let predicted = self
                .predictor
                .predict(context.clone(), &masks.visible, block);
            let wanted = pick(truth.clone(), block);
            ElementLoss::SmoothL1.mean(predicted.unsqueeze(), wanted.unsqueeze())
        });
        let total = blocks.reduce(|a, b| a + b);
        Ok(total
            .map(|total| LossTerm {
                name: "prediction",
                weight: 1.0,
                value: total / masks.targets.len() as f64,
            })
            .into_iter()
            .collect())
    }

    fn after_step(self, weights: &IjepaLoss, moment: &Moment) -> Self {
        self.follow(weights.momentum + (1.0 - weights.momentum) * moment.progress)
    }

    /// The tokens of every frame; "predictions" are the frames' own tokens, as those of `lejepa`.
    fn rollouts(&self, slices: &SliceTensors, _weights: &IjepaLoss) -> Result<Rollouts> {
        let frames = slices.actions.dims()[1] + 1;
        Ok(Rollouts::of_encodings(
            self.target.tokens(slices.images.clone()),
            frames,
        ))
    }
}

/// The frozen encoder in front of a token-grid model.
#[derive(Debug)]
pub(crate) struct IjepaGrid {
    encoder: Encoder,
    height: usize,
    width: usize,
    tokens: [usize; 3],
    device: Device,
}

impl IjepaGrid {
    /// `encoder` must be on `device`, without gradients.
    pub(crate) fn new(
        encoder: Encoder,
        config: &IjepaConfig,
        shape: &DataShape,
        device: Device,
    ) -> Self {
        Self {
            tokens: config.tokens(shape),
            encoder,
            height: shape.height,
            width: shape.width,
            device,
        }
    }
}

impl IjepaConfig {
    /// Tokens of a frame, `[De, rows, columns]`.
    pub(crate) fn tokens(&self, shape: &DataShape) -> [usize; 3] {
        let grid = self.grid(shape);
        [self.encoder.width, grid.rows, grid.columns]
    }
}

impl FrameInput for IjepaGrid {
    fn shape(&self) -> [usize; 3] {
        self.tokens
    }

    fn convert(&self, rgb: &[u8]) -> Result<Vec<f32>> {
        let parts = rgb.chunks(3 * self.height * self.width * FRAMES_AT_A_TIME);
        let encode = |frames: &[u8]| {
            let count = frames.len() / (3 * self.height * self.width);
            let input = frames_to_input(frames, self.height, self.width);
            let shape = [count, 3, self.height, self.width];
            let images = Tensor::<4>::from_data(TensorData::new(input, shape), &self.device);
            // Channels first, as the input of a network.
            let tokens = self.encoder.tokens(images).swap_dims(1, 2);
            tokens.into_data().iter::<f32>().collect::<Vec<f32>>()
        };
        Ok(parts.flat_map(encode).collect())
    }
}

#[cfg(test)]
mod tests {
    use burn::optim::GradientsParams;
    use jepa_datasets::Stream;

    use super::*;
    use crate::train::optimizer::AdamW;
    use crate::weights::read_out::weights_of;

    /// Five columns of patches fit, and a pixel is left.
    const SHAPE: DataShape = DataShape {
        height: 16,
        width: 21,
        action_dim: 2,
        proprio_dim: 2,
    };
    const FRAMES: usize = 6;

    fn small() -> IjepaConfig {
        IjepaConfig {
            patch: 4,
            encoder: VitConfig {
                width: 8,
                depth: 1,
                heads: 2,
            },
            predictor: VitConfig {
                width: 4,
                depth: 1,
                heads: 1,
            },
            ..IjepaConfig::default()
        }
    }

    fn net(device: &Device) -> IjepaNet {
        small().init_seeded(&SHAPE, 3, device).unwrap()
    }

    fn images(name: &str, device: &Device) -> Tensor<4> {
        let mut stream = Stream::new(1, &["test", name]);
        let count = FRAMES * 3 * SHAPE.height * SHAPE.width;
        let values: Vec<f32> = (0..count).map(|_| stream.uniform() as f32).collect();
        let shape = [FRAMES, 3, SHAPE.height, SHAPE.width];
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    fn slices(images: Tensor<4>) -> SliceTensors {
        let device = images.device();
        SliceTensors {
            images,
            actions: Tensor::zeros([FRAMES / 2, 1, 2], &device),
            proprio: Tensor::zeros([FRAMES, 2], &device),
            rows_proprio: Tensor::zeros([FRAMES / 2, 6, 2], &device),
        }
    }

    const MOMENT: Moment = Moment {
        first_slice: 0,
        seed: 5,
        step: 1,
        progress: 0.5,
    };

    fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
        tensor.into_data().iter::<f64>().collect()
    }

    #[test]
    fn the_loss_is_the_mean_over_blocks_of_a_plain_smooth_distance() {
        let device = Device::flex();
        let (net, images) = (net(&device), images("loss", &device));
        let loss = IjepaLoss::default();
        // A target far from the encoder, so that distances above 1 are among them.
        let net = IjepaNet {
            target: small().init_seeded(&SHAPE, 9, &device).unwrap().target,
            ..net
        };
        let terms = net.losses(&slices(images.clone()), &loss, &MOMENT).unwrap();
        let ours = numbers(terms[0].value.clone())[0];

        let masks = loss.masks.draw(5, 1, FRAMES, net.encoder.grid());
        let truth = numbers(net.target.tokens(images.clone()));
        let context = net
            .encoder
            .encode(pick(net.encoder.embed(images), &masks.visible));
        let (mut of_blocks, mut large) = (0.0, 0);
        for block in &masks.targets {
            let predicted = net
                .predictor
                .predict(context.clone(), &masks.visible, block);
            let predicted = numbers(predicted);
            let wanted = block.iter().enumerate().flat_map(|(frame, places)| {
                let at = move |place: &usize| 8 * (frame * 20 + place);
                places.iter().map(at)
            });
            let wanted = wanted.flat_map(|start| truth[start..start + 8].iter());
            let mut sum = 0.0;
            for (p, t) in predicted.iter().zip(wanted) {
                let distance = (p - t).abs();
                large += usize::from(distance > 1.0);
                sum += if distance < 1.0 {
                    0.5 * distance * distance
                } else {
                    distance - 0.5
                };
            }
            of_blocks += sum / predicted.len() as f64 / 4.0;
        }
        assert!(large > 10, "{large}");
        assert!((ours - of_blocks).abs() < 1e-5, "{ours} {of_blocks}");
    }

    #[test]
    fn the_context_sees_visible_patches_and_no_others() {
        let device = Device::flex();
        let net = net(&device);
        let visible = vec![vec![0, 7, 13]; FRAMES];
        let context = |images: Tensor<4>| {
            let seen = pick(net.encoder.embed(images), &visible);
            numbers(net.encoder.encode(seen))
        };
        let images = images("context", &device);
        let before = context(images.clone());
        let change = |row: usize, column: usize| {
            let zeros = Tensor::zeros([FRAMES, 3, 1, 1], &device);
            let at = [0..FRAMES, 0..3, row..row + 1, column..column + 1];
            context(images.clone().slice_assign(at, zeros))
        };
        // Place 7 is the patch of rows 4 to 7 and columns 8 to 11; column 20 is beyond the patches.
        for (row, column, is_seen) in [
            (4, 8, true),
            (7, 11, true),
            (3, 8, false),
            (4, 12, false),
            (0, 20, false),
        ] {
            assert_eq!(change(row, column) != before, is_seen, "{row} {column}");
        }
    }

    #[test]
    fn the_target_follows_slowly_and_no_gradient_reaches_it() {
        let device = Device::flex().autodiff();
        let net = net(&device);
        let loss = IjepaLoss::default();
        let first = weights_of(&net.encoder);
        assert_eq!(first, weights_of(&net.target), "it begins as a copy");

        let terms = net
            .losses(&slices(images("step", &device)), &loss, &MOMENT)
            .unwrap();
        let gradients = terms[0].value.clone().backward();
        let gradients = GradientsParams::from_grads(gradients, &net);
        let mut optimizer = AdamW::of(&net, &IjepaConfig::training());
        let moved = optimizer.step(0.1, 0.5, net, gradients);
        assert_eq!(first, weights_of(&moved.target), "the optimiser leaves it");
        let leader = weights_of(&moved.encoder);
        assert_ne!(first, leader);

        let followed = moved.after_step(&loss, &MOMENT);
        assert_eq!(leader, weights_of(&followed.encoder));
        // Half-way from 0.996 to 1.
        let target = weights_of(&followed.target);
        for key in [
            "patches.proj.weight",
            "blocks.0.mlp.fc1.weight",
            "norm.weight",
        ] {
            let values = |of: &crate::weights::Checkpoint| of.get(key).unwrap().values.clone();
            let (old, new) = (values(&first), values(&leader));
            for ((old, new), ours) in old.iter().zip(new).zip(values(&target)) {
                let expected = 0.998 * f64::from(*old) + 0.002 * f64::from(new);
                assert!((f64::from(ours) - expected).abs() < 1e-6, "{key}");
            }
        }
        let last = Moment {
            progress: 1.0,
            ..MOMENT
        };
        let stays = weights_of(&followed.after_step(&loss, &last).target);
        assert_eq!(target, stays);
    }

    #[test]
    fn places_differ_in_their_codes_by_row_and_column() {
        let grid = Grid {
            rows: 2,
            columns: 3,
        };
        let codes = positions(grid, 8);
        // Place 5 is row 1, column 2; frequencies 1 and 0.01.
        let code = |p: f64| [p.sin(), (0.01 * p).sin(), p.cos(), (0.01 * p).cos()];
        let expected = [code(1.0), code(2.0)].concat();
        for (ours, expected) in codes[5 * 8..].iter().zip(expected) {
            assert!((f64::from(*ours) - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn the_frozen_grid_is_the_tokens_of_the_target_channels_first() {
        let device = Device::flex();
        let config = small();
        let net = net(&device);
        let rgb: Vec<u8> = (0..2 * 3 * SHAPE.height * SHAPE.width)
            .map(|i| (i * 37 % 251) as u8)
            .collect();
        let shape = [2, 3, SHAPE.height, SHAPE.width];
        let input = frames_to_input(&rgb, SHAPE.height, SHAPE.width);
        let input = Tensor::<4>::from_data(TensorData::new(input, shape), &device);
        let tokens = numbers(net.target.tokens(input));
        let grid = IjepaGrid::new(net.into_encoder(), &config, &SHAPE, device);
        assert_eq!(grid.shape(), [8, 4, 5]);
        let planes = grid.convert(&rgb).unwrap();
        assert_eq!(planes.len(), tokens.len());
        for (i, plane) in planes.iter().enumerate() {
            let (frame, channel, place) = (i / 160, i / 20 % 8, i % 20);
            let token = tokens[frame * 160 + place * 8 + channel];
            assert!((f64::from(*plane) - token).abs() < 1e-6, "{i}");
        }
    }

    #[test]
    fn wrong_settings_are_named() {
        let named = |change: fn(&mut IjepaConfig), key: &str| {
            let mut config = small();
            config.check().unwrap();
            change(&mut config);
            let error = config.check().unwrap_err().to_string();
            let expected = format!("`token.encoder.ijepa.{key}`");
            assert!(error.contains(&expected), "{error}");
        };
        named(|c| c.patch = 0, "patch");
        named(|c| c.encoder.heads = 3, "encoder");
        named(|c| c.encoder.width = 6, "encoder");
        named(|c| c.predictor.depth = 0, "predictor");
        named(|c| c.loss.momentum = 1.5, "loss.momentum");
        named(|c| c.loss.masks.targets = 0, "masks.targets");
        let coarse = IjepaConfig {
            patch: 8,
            ..small()
        };
        let error = coarse.init(&SHAPE, &Device::flex()).unwrap_err();
        assert!(error.to_string().contains("least_seen"), "{error}");
    }
}
