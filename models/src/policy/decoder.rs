//! Actions as a sentence: a causal transformer that says one token after the other (models.md section 8.6).
//!
//! ```text
//! slot 0: the condition      slot t: token t - 1      every slot + its position -> blocks -> norm -> head
//! ```
//!
//! Slot `t` gives the odds of token `t` and sees the condition and the tokens before it.

use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::layer::attention::FrameCausal;
use crate::layer::block::{Block, BlockConfig};
use crate::layer::init::Draw;
use crate::layer::layer_norm::LayerNorm;
use crate::layer::linear::linear;

/// Added to the variance of the norms.
const EPSILON: f64 = 1e-5;
/// Standard deviation of fresh tokens and positions.
const FRESH_STD: f64 = 0.02;

/// Sizes of a [`TokenDecoder`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenDecoderConfig {
    /// Width of the condition.
    pub condition: usize,
    /// Tokens that exist `B`.
    pub bins: usize,
    /// Tokens of a sentence `L`.
    pub length: usize,
    pub width: usize,
    pub depth: usize,
    pub heads: usize,
    /// Width of the hidden layer of a block's perceptron.
    pub hidden: usize,
}

impl TokenDecoderConfig {
    pub(crate) fn init(&self, device: &Device) -> TokenDecoder {
        let block = BlockConfig {
            width: self.width,
            heads: self.heads,
            hidden: self.hidden,
            epsilon: EPSILON,
            layer_scale: false,
        };
        let fresh = Initializer::Normal {
            mean: 0.0,
            std: FRESH_STD,
        };
        TokenDecoder {
            condition: LinearConfig::new(self.condition, self.width).init(device),
            tokens: fresh.init([self.bins + 1, self.width], device),
            positions: fresh.init([1, self.length, self.width], device),
            blocks: (0..self.depth).map(|_| block.init(device)).collect(),
            norm: LayerNorm::new(self.width, EPSILON, device),
            head: LinearConfig::new(self.width, self.bins).init(device),
        }
    }
}

/// A condition to a sentence of tokens.
#[derive(Module, Debug)]
pub(crate) struct TokenDecoder {
    condition: Linear,
    /// Vectors of the `B` tokens, and of a masked one.
    tokens: Param<Tensor<2>>,
    positions: Param<Tensor<3>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl TokenDecoder {
    /// How a fresh parameter is drawn, by its path.
    pub(crate) fn draw(path: &str) -> Draw {
        match path.rsplit('.').next() {
            Some("tokens" | "positions") => Draw::Normal(FRESH_STD),
            _ => Draw::Default,
        }
    }

    /// Tokens that exist `B`; the number of the masked one.
    pub(crate) fn masked(&self) -> usize {
        self.tokens.lazy_shape().dims::<2>()[0] - 1
    }

    /// Tokens of a sentence `L`.
    pub(crate) fn length(&self) -> usize {
        self.positions.lazy_shape().dims::<3>()[1]
    }

    /// Odds, before the softmax, of the tokens after the condition and after each of the `earlier` ones.
    ///
    /// # Shapes
    /// - `condition`: `[n, C]`; `earlier`: `[n, k]`, row-major, `k < L`
    /// - output: `[n, k + 1, B]`
    pub(crate) fn forward(&self, condition: Tensor<2>, earlier: &[usize]) -> Tensor<3> {
        let [sentences, _] = condition.dims();
        let width = self.tokens.lazy_shape().dims::<2>()[1];
        let said = earlier.len() / sentences;
        assert_eq!(
            earlier.len(),
            sentences * said,
            "as many tokens of each sentence"
        );
        let first = linear(&self.condition, condition).unsqueeze_dim::<3>(1);
        let slots = if said == 0 {
            first
        } else {
            let vectors = self
                .tokens
                .val()
                .select(0, indices(earlier, &first.device()))
                .reshape([sentences, said, width]);
            Tensor::cat(vec![first, vectors], 1)
        };
        let placed = slots + self.positions.val().slice_dim(1, 0..said + 1);
        let causal = FrameCausal { tokens: 1 };
        let seen = self
            .blocks
            .iter()
            .fold(placed, |x, block| block.forward(x, None, Some(causal)));
        linear(&self.head, self.norm.forward(seen))
    }

    /// The sentence whose every token has the best odds after those before it; of equals the first. `[n, L]`, row-major.
    pub(crate) fn greedy(&self, condition: &Tensor<2>) -> Vec<usize> {
        let [sentences, _] = condition.dims();
        let mut said = vec![Vec::with_capacity(self.length()); sentences];
        for slot in 0..self.length() {
            let odds = self.forward(condition.clone(), &said.concat());
            let last: Vec<f32> = odds
                .slice_dim(1, slot..slot + 1)
                .into_data()
                .iter::<f32>()
                .collect();
            let rows = last.chunks_exact(self.masked());
            for (sentence, row) in said.iter_mut().zip(rows) {
                sentence.push(best(row));
            }
        }
        said.concat()
    }
}

/// Numbers of rows or tokens as a tensor.
pub(crate) fn indices(numbers: &[usize], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = numbers.iter().map(|number| *number as i64).collect();
    Tensor::from_data(TensorData::new(values, [numbers.len()]), device)
}

/// Place of the largest number, of equals the first.
fn best(row: &[f32]) -> usize {
    let mut best = 0;
    for (at, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = at;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;
    use crate::layer::init::initialise_with;

    const SMALL: TokenDecoderConfig = TokenDecoderConfig {
        condition: 5,
        bins: 7,
        length: 4,
        width: 12,
        depth: 2,
        heads: 2,
        hidden: 16,
    };

    fn decoder() -> TokenDecoder {
        // Large weights and no biases, so that a choice depends on what came before it.
        let rule = |path: &str| match path.rsplit('.').next() {
            Some("gamma" | "beta") => Draw::Default,
            Some("bias") => Draw::Constant(0.0),
            _ => Draw::Normal(0.8),
        };
        initialise_with(SMALL.init(&Device::flex()), 3, rule)
    }

    fn conditions(count: usize) -> Tensor<2> {
        let device = Device::flex();
        device.seed(4);
        Tensor::random([count, 5], Distribution::Normal(0.0, 1.0), &device)
    }

    /// Odds in some slots of both sentences.
    fn slots(odds: &Tensor<3>, range: std::ops::Range<usize>) -> TensorData {
        odds.clone().slice_dim(1, range).into_data()
    }

    #[test]
    fn a_token_is_seen_by_the_slots_after_it_and_by_no_earlier_one() {
        let (decoder, condition) = (decoder(), conditions(2));
        let before = decoder.forward(condition.clone(), &[0, 1, 2, 3, 4, 5]);
        // The second token of each sentence, in slot 2, is another.
        let after = decoder.forward(condition.clone(), &[0, 6, 2, 3, 6, 5]);
        assert_eq!(slots(&before, 0..2), slots(&after, 0..2));
        for slot in 2..4 {
            assert_ne!(
                slots(&before, slot..slot + 1),
                slots(&after, slot..slot + 1)
            );
        }
        // The condition is seen by all.
        let other = decoder.forward(condition * 1.5, &[0, 1, 2, 3, 4, 5]);
        for slot in 0..4 {
            assert_ne!(
                slots(&before, slot..slot + 1),
                slots(&other, slot..slot + 1)
            );
        }
    }

    #[test]
    fn a_greedy_sentence_takes_the_best_token_after_each_beginning() {
        let (decoder, condition) = (decoder(), conditions(3));
        let said = decoder.greedy(&condition);
        assert_eq!(said.len(), 3 * 4);
        let earlier: Vec<usize> = said.chunks(4).flat_map(|row| &row[..3]).copied().collect();
        let odds: Vec<f32> = decoder
            .forward(condition.clone(), &earlier)
            .into_data()
            .iter::<f32>()
            .collect();
        for (token, row) in said.iter().zip(odds.chunks_exact(7)) {
            assert!(
                row.iter().all(|other| *other <= row[*token]),
                "{row:?} {token}"
            );
        }
        // Sentences do not depend on their neighbours.
        let alone: Vec<usize> = (0..3)
            .flat_map(|row| decoder.greedy(&condition.clone().slice_dim(0, row..row + 1)))
            .collect();
        assert_eq!(alone, said);
        assert!(
            said.chunks(4).any(|sentence| *sentence != said[..4]),
            "{said:?} tells no conditions apart"
        );
    }

    #[test]
    fn of_equal_odds_the_first_is_taken() {
        assert_eq!(best(&[0.0, 2.0, -1.0, 2.0]), 1);
        assert_eq!(best(&[1.0; 5]), 0);
    }

    #[test]
    fn fresh_tokens_and_positions_are_small() {
        assert_eq!(TokenDecoder::draw("decoder.tokens"), Draw::Normal(0.02));
        assert_eq!(TokenDecoder::draw("decoder.positions"), Draw::Normal(0.02));
        assert_eq!(TokenDecoder::draw("decoder.head.weight"), Draw::Default);
    }
}
