//! The state decoder: patch features of a frozen encoder to the raw state of a simulator (models.md section 6.2).
//!
//! A learned token reads the patches through pre-norm blocks, and a linear layer reads the token. There is no final
//! layer norm, and the state is not normalised.

use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::grid::{check_table, position_table};
use super::{array, grid_features, shape, unfit};
use crate::Result;
use crate::layer::block::{Block, BlockConfig};
use crate::weights::{Array, Checkpoint, fill, import};

/// What folders of these weights say they are.
pub(crate) const KIND: &str = "state-decoder";
/// Key of the fixed position table; files may hold it, it is never used.
pub(crate) const TABLE: &str = "decoder_pos_embed";

/// Sizes of a [`StateDecoder`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateDecoderConfig {
    /// Width of the encoder's features.
    pub features: usize,
    /// Width of the decoder's tokens, a multiple of 4.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the hidden layer of each block.
    pub hidden: usize,
    /// Epsilon of the layer norms.
    pub epsilon: f64,
    /// Rows and columns of the features.
    pub grid: [usize; 2],
    /// Numbers of a state.
    pub state: usize,
}

impl StateDecoderConfig {
    /// The trained sizes on `DINOv2` ViT-S features, for states of `state` numbers: 2 for Wall, 4 for mazes, 7 for
    /// Push-T, 39 for Metaworld.
    pub fn released(state: usize) -> Self {
        Self {
            features: 384,
            width: 384,
            depth: 6,
            heads: 16,
            hidden: 4 * 384,
            epsilon: 1e-5,
            grid: [16, 16],
            state,
        }
    }

    fn check(&self) -> Result<()> {
        let fail = |detail: &str| Err(unfit("state decoder", detail));
        if self.width == 0 || !self.width.is_multiple_of(4) {
            return fail("the width is not a multiple of 4");
        }
        if self.heads == 0 || !self.width.is_multiple_of(self.heads) {
            return fail("the width is not a multiple of the heads");
        }
        if self.grid.contains(&0) {
            return fail("the grid has no patches");
        }
        Ok(())
    }

    /// A network of these sizes with lazy weights: nothing is allocated until they are used.
    pub(crate) fn init(&self, device: &Device) -> Result<Network> {
        self.check()?;
        let block = BlockConfig {
            width: self.width,
            heads: self.heads,
            hidden: self.hidden,
            epsilon: self.epsilon,
            layer_scale: false,
        };
        Ok(Network {
            state_token: Initializer::Zeros.init([1, 1, self.width], device),
            decoder_embed: LinearConfig::new(self.features, self.width).init(device),
            decoder_blocks: (0..self.depth).map(|_| block.init(device)).collect(),
            state_proj: LinearConfig::new(self.width, self.state).init(device),
        })
    }
}

/// The weights; fields are called as in the released files.
#[derive(Module, Debug)]
pub(crate) struct Network {
    state_token: Param<Tensor<3>>,
    decoder_embed: Linear,
    decoder_blocks: Vec<Block>,
    state_proj: Linear,
}

/// Reads the state of a simulator from patch features.
#[derive(Debug)]
pub struct StateDecoder {
    config: StateDecoderConfig,
    network: Network,
    /// `[1, h w, D]`, the same for every frame.
    positions: Tensor<3>,
    device: Device,
}

impl StateDecoder {
    /// A decoder with the weights of a file, under released key names and without wrapper prefix. A position table in
    /// it must be the one that we make.
    ///
    /// # Errors
    /// [`crate::Error::Keys`] for anything partial, [`crate::Error::Weights`] for sizes that make no decoder.
    pub fn new(config: StateDecoderConfig, weights: Checkpoint) -> Result<Self> {
        Self::on(config, weights, Device::flex())
    }

    /// The same on a device.
    pub(crate) fn on(
        config: StateDecoderConfig,
        mut weights: Checkpoint,
        device: Device,
    ) -> Result<Self> {
        let network = config.init(&device)?;
        if let Some(in_file) = weights.remove(TABLE) {
            Self::check_table(&config, &in_file)?;
        }
        let network = fill::fill("state decoder", network, weights, str::to_string)?;
        let [rows, columns] = config.grid;
        let table = position_table(rows, columns, config.width);
        let table = TensorData::new(table, [1, rows * columns, config.width]);
        Ok(Self {
            positions: Tensor::from_data(table, &device),
            config,
            network,
            device,
        })
    }

    /// Compares the position table of a file with ours.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] when it is another one.
    pub(crate) fn check_table(config: &StateDecoderConfig, in_file: &Array) -> Result<()> {
        let [rows, columns] = config.grid;
        let ours = position_table(rows, columns, config.width);
        check_table("state decoder", in_file, &ours)
    }

    /// Reads a folder that `weights import` wrote.
    ///
    /// # Errors
    /// Errors of reading it, and those of [`StateDecoder::new`].
    pub fn load(folder: &Path) -> Result<Self> {
        let (config, weights) = import::load(folder, KIND)?;
        Self::new(config, weights)
    }

    /// Raw states.
    ///
    /// # Shapes
    /// - `features`: `[frames, h, w, D]`; result: `[frames, state]`
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for features of another size.
    pub fn decode(&self, features: &Array) -> Result<Array> {
        let config = &self.config;
        let given = &features.shape;
        let (features, grid) = grid_features(features, config.features, &self.device)?;
        if grid != config.grid {
            let [rows, columns] = config.grid;
            let expected = format!("[frames, {rows}, {columns}, {}]", config.features);
            return Err(shape("features", &expected, given));
        }
        let net = &self.network;
        let patches = net.decoder_embed.forward(features) + self.positions.clone();
        let frames = patches.dims()[0];
        let token = net.state_token.val().expand([frames, 1, config.width]);
        let tokens = Tensor::cat(vec![token, patches], 1);
        let tokens = net
            .decoder_blocks
            .iter()
            .fold(tokens, |tokens, block| block.forward(tokens, None, None));
        let state = net.state_proj.forward(tokens.slice_dim(1, 0..1));
        array(state.reshape([frames, config.state]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::check::testing::{assert_case, folder, torch};
    use crate::weights::fill::expected;

    fn parameters(config: &StateDecoderConfig) -> usize {
        let network = config.init(&Device::flex()).unwrap();
        let sizes = expected(&network, str::to_string);
        sizes
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }

    fn of_the_case() -> StateDecoderConfig {
        StateDecoderConfig {
            features: 20,
            width: 32,
            depth: 2,
            heads: 4,
            hidden: 128,
            epsilon: 1e-5,
            grid: [4, 4],
            state: 4,
        }
    }

    fn file() -> Checkpoint {
        let path = folder("head_state_decoder").join("model.pth.tar");
        torch(&path).unwrap().section("model").without_wrapper()
    }

    #[test]
    fn states_are_those_of_the_reference() {
        assert_case("head_state_decoder");
    }

    #[test]
    fn trained_sizes_have_the_parameters_of_the_specification() {
        // models.md section 6.2: 10.8M; by hand L (12 D^2 + 13 D) + D + (E + 1) D + (D + 1) S.
        for (state, count) in [
            (2, 10_795_778),
            (4, 10_796_548),
            (7, 10_797_703),
            (39, 10_810_023),
        ] {
            assert_eq!(parameters(&StateDecoderConfig::released(state)), count);
        }
    }

    #[test]
    fn features_of_another_grid_are_refused() {
        let decoder = StateDecoder::new(of_the_case(), file()).unwrap();
        let features =
            |rows: usize| Array::new(vec![1, rows, 4, 20], vec![0.0; rows * 80]).unwrap();
        assert_eq!(decoder.decode(&features(4)).unwrap().shape, [1, 4]);
        let error = decoder.decode(&features(3)).unwrap_err().to_string();
        assert!(error.contains("[frames, 4, 4, 20]"), "{error}");
    }

    #[test]
    fn a_key_too_many_or_too_few_is_refused() {
        let mut more = file();
        more.insert(
            "decoder_norm.weight",
            Array::new(vec![32], vec![1.0; 32]).unwrap(),
        );
        let error = StateDecoder::new(of_the_case(), more)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("1 unexpected [decoder_norm.weight]"),
            "{error}"
        );
        let mut less = file();
        less.remove("state_token");
        let error = StateDecoder::new(of_the_case(), less)
            .unwrap_err()
            .to_string();
        assert!(error.contains("1 missing [state_token]"), "{error}");
    }
}
