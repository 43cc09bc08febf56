//! AdamW with decay groups, and clipping by the norm of the whole gradient.

use burn::module::{Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::Tensor;

use super::config::TrainingConfig;

/// AdamW as in `PyTorch` (epsilon 1e-8), with weight decay on matrices and kernels only.
pub(crate) fn adamw<M: Module>(module: &M, config: &TrainingConfig) -> ModuleOptimizer {
    let without_decay = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(0.0);
    let with_decay = without_decay
        .clone()
        .with_weight_decay(config.weight_decay as f32);
    let mut decayed = Decayed::default();
    module.visit(&mut decayed);
    without_decay
        .init()
        .with_group(ParamGroup::from_ids(decayed.ids), with_decay.build(), None)
}

/// Ids of the parameters called `weight`: matrices and kernels, not biases and norms.
#[derive(Default)]
struct Decayed {
    ids: Vec<ParamId>,
    path: Vec<String>,
}

impl ModuleVisitor for Decayed {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.path.last().is_some_and(|name| name == "weight") {
            self.ids.push(param.id);
        }
    }
}

/// Scales the gradient so that its norm over all parameters is at most `bound`, and returns the norm
/// before scaling: `g *= min(1, bound / (norm + 1e-6))` (models.md section 5.1).
pub(crate) fn clip_global_norm<M: Module>(
    module: &M,
    grads: GradientsParams,
    bound: f64,
) -> (GradientsParams, f64) {
    let mut squares = SumOfSquares {
        grads: &grads,
        sum: 0.0,
    };
    module.visit(&mut squares);
    let norm = squares.sum.sqrt();
    let factor = bound / (norm + 1e-6);
    if factor >= 1.0 {
        return (grads, norm);
    }
    let mut scale = Scale {
        from: grads,
        to: GradientsParams::new(),
        factor,
    };
    module.visit(&mut scale);
    (scale.to, norm)
}

/// Sum of squares over all gradients, added in the order of the module's parameters.
struct SumOfSquares<'a> {
    grads: &'a GradientsParams,
    sum: f64,
}

impl ModuleVisitor for SumOfSquares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            let values = grad.into_data();
            self.sum += values.iter::<f64>().map(|g| g * g).sum::<f64>();
        }
    }
}

struct Scale {
    from: GradientsParams,
    to: GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.from.remove::<D>(param.id) {
            self.to.register(param.id, grad * self.factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    use super::*;

    fn with_gradients() -> (Linear, GradientsParams) {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(2, 1).init(&device);
        let input = Tensor::<2>::from_floats([[3.0, 0.0]], &device);
        let grads = layer.forward(input).sum().backward();
        let params = GradientsParams::from_grads(grads, &layer);
        (layer, params)
    }

    #[test]
    fn the_norm_is_taken_over_all_parameters_together() {
        // Gradient (3, 0) of the weight and 1 of the bias: norm sqrt(10).
        let (layer, grads) = with_gradients();
        let (clipped, norm) = clip_global_norm(&layer, grads, 1.0);
        assert!((norm - 10f64.sqrt()).abs() < 1e-6);
        let weight = clipped
            .get::<2>(layer.weight.id)
            .unwrap()
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        let bias_id = layer.bias.as_ref().unwrap().id;
        let bias = clipped
            .get::<1>(bias_id)
            .unwrap()
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        assert!((weight[0] - 3.0 / 10f32.sqrt()).abs() < 1e-5, "{weight:?}");
        assert!((bias[0] - 1.0 / 10f32.sqrt()).abs() < 1e-5, "{bias:?}");
    }

    #[test]
    fn a_small_gradient_is_left_alone() {
        let (layer, grads) = with_gradients();
        let (clipped, _) = clip_global_norm(&layer, grads, 100.0);
        let weight = clipped
            .get::<2>(layer.weight.id)
            .unwrap()
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        assert_eq!(weight, [3.0, 0.0]);
    }

    #[test]
    fn one_step_is_that_of_pytorch() {
        // AdamW's first step moves by lr * g / (|g| + eps) after decaying matrices by 1 - lr * wd.
        let (layer, grads) = with_gradients();
        let config = TrainingConfig {
            weight_decay: 0.5,
            ..TrainingConfig::default()
        };
        let before = layer.weight.val().into_data().try_to_vec::<f32>().unwrap();
        let bias_before = layer
            .bias
            .as_ref()
            .unwrap()
            .val()
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        let mut optimizer = adamw(&layer, &config);
        let layer = optimizer.step(0.1, layer, grads);
        let after = layer.weight.val().into_data().try_to_vec::<f32>().unwrap();
        let bias_after = layer
            .bias
            .as_ref()
            .unwrap()
            .val()
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        assert!(
            (after[0] - (before[0] * 0.95 - 0.1)).abs() < 1e-6,
            "{before:?} {after:?}"
        );
        assert!(
            (after[1] - before[1] * 0.95).abs() < 1e-6,
            "no gradient, only decay"
        );
        assert!(
            (bias_after[0] - (bias_before[0] - 0.1)).abs() < 1e-6,
            "no decay on a bias"
        );
    }
}
