//! Gradients of a module under the names and in the layout of `PyTorch`, to be compared with those of other
//! programs.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use super::Array;
use super::fill::{Place, transposed};

/// The gradient of every parameter that has one, by the key that `key` makes of its path (see
/// [`super::fill::fill`]).
pub(crate) fn gradients<M: Module>(
    module: &M,
    gradients: &GradientsParams,
    key: impl Fn(&str) -> String,
) -> BTreeMap<String, Array> {
    let mut reader = Reader {
        place: Place::default(),
        key,
        gradients,
        found: BTreeMap::new(),
    };
    module.visit(&mut reader);
    reader.found
}

struct Reader<'a, F> {
    place: Place,
    key: F,
    gradients: &'a GradientsParams,
    found: BTreeMap<String, Array>,
}

impl<F: Fn(&str) -> String> ModuleVisitor for Reader<'_, F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.place.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.place.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.get::<D>(param.id) else {
            return;
        };
        let shape = gradient.dims().to_vec();
        let values = gradient.into_data().iter::<f32>().collect();
        let mut array = Array { shape, values };
        if self.place.is_linear_weight(D) {
            let shape = vec![array.shape[1], array.shape[0]];
            array = Array {
                values: transposed(&array),
                shape,
            };
        }
        self.found.insert((self.key)(&self.place.path()), array);
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn the_gradient_of_a_linear_weight_is_turned() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(2, 3).init(&device);
        let input = Tensor::<2>::from_floats([[5.0, 7.0]], &device);
        let weights = Tensor::<2>::from_floats([[1.0, 2.0, 3.0]], &device);
        let grads = (layer.forward(input) * weights).sum().backward();
        let grads = GradientsParams::from_grads(grads, &layer);
        let found = gradients(&layer, &grads, |path| format!("fc.{path}"));
        // Row o, column i: weight_o * input_i.
        assert_eq!(found["fc.weight"].shape, [3, 2]);
        assert_eq!(
            found["fc.weight"].values,
            [5.0, 7.0, 10.0, 14.0, 15.0, 21.0]
        );
        assert_eq!(found["fc.bias"].values, [1.0, 2.0, 3.0]);
    }
}
