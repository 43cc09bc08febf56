//! The parameters of a module by the keys and in the layouts that [`super::fill`] reads.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use super::fill::{Place, transposed};
use super::{Array, Checkpoint};

/// The parameters of `module`, by the key that `key` makes of their path.
pub(crate) fn parameters<M: Module>(module: &M, key: impl Fn(&str) -> String) -> Checkpoint {
    let mut exporter = Exporter {
        place: Place::default(),
        key,
        found: Checkpoint::default(),
    };
    module.visit(&mut exporter);
    exporter.found
}

struct Exporter<F> {
    place: Place,
    key: F,
    found: Checkpoint,
}

impl<F: Fn(&str) -> String> ModuleVisitor for Exporter<F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.place.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.place.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let mut shape = value.dims().to_vec();
        let mut array = Array {
            shape: shape.clone(),
            values: value.into_data().iter::<f32>().collect(),
        };
        if self.place.is_linear_weight(D) {
            let values = transposed(&array);
            shape.reverse();
            array = Array { shape, values };
        }
        self.found.insert(&(self.key)(&self.place.path()), array);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn::nn::LinearConfig;
    use burn::tensor::Device;

    use super::*;
    use crate::weights::fill::fill;

    #[test]
    fn what_was_filled_in_comes_out() {
        let path = |path: &str| path.to_string();
        let array =
            |shape: &[usize], values: &[f32]| Array::new(shape.to_vec(), values.to_vec()).unwrap();
        let file = Checkpoint::new(BTreeMap::from([
            (
                "weight".to_string(),
                array(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            ),
            ("bias".to_string(), array(&[2], &[7.0, 8.0])),
        ]));
        let empty = LinearConfig::new(3, 2).init(&Device::flex().autodiff());
        let layer = fill("layer", empty, file.clone(), path).unwrap();
        assert_eq!(parameters(&layer, path), file);
    }
}
