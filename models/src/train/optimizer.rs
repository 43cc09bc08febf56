//! AdamW with decay groups and a weight decay that may change, and clipping by the norm of the whole gradient.
//!
//! Weight decay acts on matrices and kernels: parameters of two dimensions or more that are not biases (models.md
//! section 5.1). burn's own optimiser keeps the decay that it was built with; [`AdamW`] decays the weights itself,
//! by what each step says, and then takes burn's step without decay. The numbers and the saved state are the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use burn::module::{Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::optim::{AdamWConfig, AdamWState, GradientsParams, ModuleOptimizer, Optimizer};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::config::TrainingConfig;

/// Constants of `AdamW`; the defaults are those of `PyTorch`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AdamWSettings {
    /// Decay rates of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub epsilon: f64,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self {
            betas: [0.9, 0.999],
            epsilon: 1e-8,
        }
    }
}

impl AdamWSettings {
    /// burn's optimiser of these constants, without decay.
    fn undecayed(self) -> AdamWConfig {
        AdamWConfig::new()
            .with_beta_1(self.betas[0] as f32)
            .with_beta_2(self.betas[1] as f32)
            .with_epsilon(self.epsilon as f32)
            .with_weight_decay(0.0)
    }
}

/// AdamW whose weight decay is given with every step.
pub(crate) struct AdamW {
    optimizer: ModuleOptimizer,
    decay: Arc<AtomicU64>,
}

impl AdamW {
    /// With the constants of a training configuration.
    pub(crate) fn of<M: Module>(module: &M, config: &TrainingConfig) -> Self {
        let settings = AdamWSettings {
            betas: config.betas,
            ..AdamWSettings::default()
        };
        Self::new(module, settings)
    }

    /// Its moments, as a file.
    pub(crate) fn to_bytes(&self) -> std::result::Result<Vec<u8>, String> {
        let bytes = self.optimizer.into_bytes().map_err(|e| e.to_string())?;
        Ok(bytes.to_vec())
    }

    /// With the moments of a file.
    pub(crate) fn with_moments(self, file: Vec<u8>) -> std::result::Result<Self, String> {
        let bytes = burn::tensor::Bytes::from_bytes_vec(file);
        let optimizer = self
            .optimizer
            .from_bytes(bytes)
            .map_err(|e| e.to_string())?;
        Ok(Self { optimizer, ..self })
    }

    /// For the parameters of `module`.
    pub(crate) fn new<M: Module>(module: &M, settings: AdamWSettings) -> Self {
        let decay = Arc::new(AtomicU64::new(0));
        let decaying = Decaying {
            inner: settings.undecayed().build(),
            decay: decay.clone(),
        };
        let decayed = ParamGroup::from_ids(decayed(module));
        Self {
            optimizer: settings
                .undecayed()
                .init()
                .with_group(decayed, decaying, None),
            decay,
        }
    }

    /// `module` after one step: `w * (1 - rate * weight_decay)` of the decayed parameters, then Adam's move of all
    /// of them.
    pub(crate) fn step<M: Module>(
        &mut self,
        rate: f64,
        weight_decay: f64,
        module: M,
        grads: GradientsParams,
    ) -> M {
        // In single precision, as an optimiser with a fixed decay keeps it.
        let weight_decay = f64::from(weight_decay as f32);
        self.decay.store(weight_decay.to_bits(), Ordering::Relaxed);
        self.optimizer.step(rate, module, grads)
    }
}

/// burn's AdamW behind a decay that the owner of the module optimiser sets before each step.
#[derive(Clone)]
struct Decaying {
    inner: burn::optim::AdamW,
    /// Weight decay, the bits of an `f64`.
    decay: Arc<AtomicU64>,
}

impl Optimizer for Decaying {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        rate: f64,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let decay = f64::from_bits(self.decay.load(Ordering::Relaxed));
        self.inner
            .step(rate, tensor * (1.0 - rate * decay), grad, state)
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        burn::optim::AdamW::to_device(state, device)
    }
}

/// Ids of the parameters with weight decay: of two dimensions or more, and no bias.
pub(crate) fn decayed<M: Module>(module: &M) -> Vec<ParamId> {
    let mut decayed = Decayed::default();
    module.visit(&mut decayed);
    decayed.ids
}

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
        if D > 1 && !self.path.iter().any(|name| name.contains("bias")) {
            self.ids.push(param.id);
        }
    }
}

/// What a gradient of norm `norm` is multiplied by to bring its norm to at most `bound`: `PyTorch`'s
/// `min(1, bound / (norm + 1e-6))` (models.md section 5.1).
pub(crate) fn clip_factor(norm: f64, bound: f64) -> f64 {
    (bound / (norm + 1e-6)).min(1.0)
}

/// Scales the gradient so that its norm over all parameters is at most `bound`, where that is above 0, and returns
/// the norm before scaling.
pub(crate) fn clip_global_norm<M: Module>(
    module: &M,
    grads: GradientsParams,
    bound: f64,
) -> (GradientsParams, f64) {
    let norm = global_norm(module, &grads);
    let factor = clip_factor(norm, bound);
    if bound == 0.0 || factor >= 1.0 {
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

/// Norm of the gradient over all parameters.
pub(crate) fn global_norm<M: Module>(module: &M, grads: &GradientsParams) -> f64 {
    let mut squares = SumOfSquares { grads, sum: 0.0 };
    module.visit(&mut squares);
    squares.sum.sqrt()
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
        let mut optimizer = AdamW::of(&layer, &config);
        let layer = optimizer.step(0.1, config.weight_decay, layer, grads);
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

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec::<f32>().unwrap()
    }

    #[test]
    fn a_decay_that_changes_acts_in_its_own_step() {
        let (mut layer, _) = with_gradients();
        let mut optimizer = AdamW::new(&layer, AdamWSettings::default());
        // The second weight has no gradient: its change is the decay alone, 1 - 0.1 * 0.5 and 1 - 0.1 * 2.
        for (decay, factor) in [(0.5, 0.95), (2.0, 0.8), (0.0, 1.0)] {
            let input = Tensor::<2>::from_floats([[3.0, 0.0]], &Device::flex().autodiff());
            let grads = GradientsParams::from_grads(layer.forward(input).sum().backward(), &layer);
            let before = values(layer.weight.val());
            layer = optimizer.step(0.1, decay, layer, grads);
            let after = values(layer.weight.val());
            assert!(
                (after[1] - before[1] * factor).abs() < 1e-6,
                "{before:?} {after:?}"
            );
        }
    }

    #[test]
    fn steps_with_a_constant_decay_are_those_of_burn() {
        let (layer, _) = with_gradients();
        let (mut ours, mut expected) = (layer.clone(), layer);
        let mut changing = AdamW::new(&ours, AdamWSettings::default());
        let without_decay = AdamWSettings::default().undecayed();
        let with_decay = without_decay.clone().with_weight_decay(0.25);
        let group = ParamGroup::from_ids(decayed(&expected));
        let mut constant = without_decay
            .init()
            .with_group(group, with_decay.build(), None);
        for scale in [1.0, -0.5, 2.0] {
            let grads = |layer: &Linear| {
                let input = Tensor::<2>::from_floats([[3.0, -1.0]], &Device::flex().autodiff());
                let loss = layer.forward(input).square().sum() * scale;
                GradientsParams::from_grads(loss.backward(), layer)
            };
            let (a, b) = (grads(&ours), grads(&expected));
            ours = changing.step(0.1, 0.25, ours, a);
            expected = constant.step(0.1, expected, b);
        }
        assert_eq!(values(ours.weight.val()), values(expected.weight.val()));
        assert_eq!(
            values(ours.bias.unwrap().val()),
            values(expected.bias.unwrap().val())
        );
    }

    #[test]
    fn betas_and_epsilon_are_those_of_the_settings() {
        // Second step with gradients g, then 0: moments b1 (1 - b1) g and b2 (1 - b2) g^2, corrected by 1 - b^2.
        let settings = AdamWSettings {
            betas: [0.5, 0.75],
            epsilon: 1.0,
        };
        let (mut layer, grads) = with_gradients();
        let mut optimizer = AdamW::new(&layer, settings);
        let start = values(layer.weight.val())[0];
        layer = optimizer.step(0.1, 0.0, layer, grads);
        let first = values(layer.weight.val())[0];
        // 3 / (3 + 1).
        assert!((start - first - 0.075).abs() < 1e-6);
        let input = Tensor::<2>::zeros([1, 2], &Device::flex().autodiff());
        let grads = GradientsParams::from_grads(layer.forward(input).sum().backward(), &layer);
        layer = optimizer.step(0.1, 0.0, layer, grads);
        let second = values(layer.weight.val())[0];
        // 0.75 / 0.75 = 1 and 0.1875 * 9 / 0.4375: 1 / (1.963961 + 1).
        assert!(
            (first - second - 0.1 / 2.963_961).abs() < 1e-6,
            "{}",
            first - second
        );
    }

    #[test]
    fn tables_decay_and_neither_vectors_nor_biases_do() {
        #[derive(Module, Debug)]
        struct Net {
            pos_embedding: Param<Tensor<3>>,
            gamma: Param<Tensor<1>>,
            bias: Param<Tensor<2>>,
            layer: Linear,
        }
        let device = Device::flex();
        let net = Net {
            pos_embedding: Param::from_tensor(Tensor::zeros([1, 2, 3], &device)),
            gamma: Param::from_tensor(Tensor::zeros([3], &device)),
            bias: Param::from_tensor(Tensor::zeros([1, 3], &device)),
            layer: LinearConfig::new(2, 1).init(&device),
        };
        assert_eq!(decayed(&net), [net.pos_embedding.id, net.layer.weight.id]);
    }
}
