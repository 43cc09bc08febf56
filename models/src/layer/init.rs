//! Weight initialisation from a named random stream.
//!
//! Every parameter draws from a stream of its own, named by its path in the module, so adding a layer
//! does not change the others, and a seed gives the same weights on every back end. Parameter ids are
//! derived from the path too, so that optimiser state read from a checkpoint finds its parameter.

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Tensor, TensorData};
use jepa_datasets::Stream;

/// How the values of one parameter are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Draw {
    /// As `PyTorch` does it: weights and biases of linear and convolution layers from
    /// `U(-1/sqrt(fan_in), 1/sqrt(fan_in))` (recipes.md section 2), norms to scale 1 and shift 0.
    Default,
    /// Normal with mean 0 and this standard deviation. (The reference cuts some of these off at 2, a hundred
    /// deviations away.)
    Normal(f64),
    /// All the same.
    Constant(f32),
}

/// Redraws every parameter by [`Draw::Default`].
pub(crate) fn initialise<M: Module>(module: M, seed: u64) -> M {
    initialise_with(module, seed, |_| Draw::Default)
}

/// Redraws every parameter by what `rule` says about its path, such as `blocks.0.attn.qkv.weight`.
pub(crate) fn initialise_with<M: Module>(module: M, seed: u64, rule: impl Fn(&str) -> Draw) -> M {
    let mut mapper = Initialiser {
        seed,
        rule,
        path: Vec::new(),
        fan_in: 1,
    };
    module.map(&mut mapper)
}

struct Initialiser<R> {
    seed: u64,
    rule: R,
    path: Vec<String>,
    /// Fan-in of the weight visited last; the bias of the same layer follows it.
    fan_in: usize,
}

impl<R: Fn(&str) -> Draw> Initialiser<R> {
    /// Values of the parameter at the current path.
    fn draw(&mut self, dims: &[usize]) -> Vec<f32> {
        let count = dims.iter().product();
        let path = self.path.join(".");
        let mut stream = Stream::new(self.seed, &["init", &path]);
        match (self.rule)(&path) {
            Draw::Default => self.draw_default(dims, &mut stream),
            Draw::Normal(std) => (0..count).map(|_| (stream.normal() * std) as f32).collect(),
            Draw::Constant(value) => vec![value; count],
        }
    }

    fn draw_default(&mut self, dims: &[usize], stream: &mut Stream) -> Vec<f32> {
        let count = dims.iter().product();
        let leaf = self.path.last().map_or("", String::as_str);
        match (leaf, dims) {
            ("gamma" | "running_var", _) => vec![1.0; count],
            ("beta" | "running_mean", _) => vec![0.0; count],
            _ => {
                match dims {
                    // Linear layers hold [in, out], batches of them [copies, in, out].
                    [inputs, _] | [_, inputs, _] if leaf == "weight" => self.fan_in = *inputs,
                    [_, channels, height, width] => self.fan_in = channels * height * width,
                    _ => {}
                }
                let bound = 1.0 / (self.fan_in as f64).sqrt();
                (0..count)
                    .map(|_| ((2.0 * stream.uniform() - 1.0) * bound) as f32)
                    .collect()
            }
        }
    }
}

impl<R: Fn(&str) -> Draw> ModuleMapper for Initialiser<R> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (_, tensor, mapper) = param.consume();
        let dims = tensor.dims();
        let data = TensorData::new(self.draw(&dims), dims);
        let device = tensor.device();
        let fresh = Tensor::from_data(data, &device);
        let fresh = if device.is_autodiff() {
            fresh.require_grad()
        } else {
            fresh
        };
        Param::from_mapped_value(id_of(&self.path.join(".")), fresh, mapper)
    }
}

/// A parameter id that depends on nothing but the parameter's path.
fn id_of(path: &str) -> ParamId {
    let hash = blake3::hash(path.as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.as_bytes()[..8]);
    ParamId::from(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    use super::*;

    fn layer(seed: u64) -> Linear {
        initialise(LinearConfig::new(25, 400).init(&Device::flex()), seed)
    }

    #[test]
    fn weights_fill_the_interval_given_by_the_fan_in() {
        let values = layer(1)
            .weight
            .val()
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        let (low, high) = values
            .iter()
            .fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
        assert!(
            (-0.2..-0.198).contains(&low) && (0.198..0.2).contains(&high),
            "{low} {high}"
        );
        let bias = layer(1)
            .bias
            .unwrap()
            .val()
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        assert!(bias.iter().all(|b| b.abs() <= 0.2));
        assert!(
            bias.iter().any(|b| b.abs() > 0.15),
            "the bias uses the fan-in of its weight"
        );
    }

    #[test]
    fn a_seed_gives_the_same_weights_and_another_seed_others() {
        let data = |seed| layer(seed).weight.val().into_data();
        assert_eq!(data(3), data(3));
        assert_ne!(data(3), data(4));
    }

    #[test]
    fn a_rule_decides_by_the_path_how_a_parameter_is_drawn() {
        let rule = |path: &str| match path {
            "weight" => Draw::Normal(0.02),
            _ => Draw::Constant(0.5),
        };
        let drawn = initialise_with(LinearConfig::new(100, 400).init(&Device::flex()), 7, rule);
        let weights = drawn.weight.val().into_data().try_to_vec::<f32>().unwrap();
        let square = weights.iter().map(|w| f64::from(w * w)).sum::<f64>() / weights.len() as f64;
        assert!((square.sqrt() - 0.02).abs() < 2e-4, "{square}");
        assert!(
            weights.iter().any(|w| w.abs() > 0.05),
            "a normal distribution has tails"
        );
        let bias = drawn
            .bias
            .unwrap()
            .val()
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        assert_eq!(bias, [0.5; 400]);
    }

    #[test]
    fn ids_follow_from_the_path() {
        assert_eq!(layer(1).weight.id, layer(2).weight.id);
        let one = layer(1);
        assert_ne!(one.weight.id, one.bias.unwrap().id);
    }
}
