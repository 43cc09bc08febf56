//! The other way round: arrays of a module, its parameters or their gradients, under the keys and in the
//! layout of `PyTorch`.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use super::fill::Place;
use super::{Array, Checkpoint};

/// Every parameter and running statistic of `module`, by its path.
pub(crate) fn weights_of<M: Module>(module: &M) -> Checkpoint {
    read(module, None, str::to_string)
}

/// The same by the key that `key` makes of its path, see [`super::fill::fill`].
pub(crate) fn weights_by<M: Module>(module: &M, key: impl Fn(&str) -> String) -> Checkpoint {
    read(module, None, key)
}

/// The gradient of every parameter of `module` that has one, by its path.
pub(crate) fn gradients_of<M: Module>(module: &M, gradients: &GradientsParams) -> Checkpoint {
    read(module, Some(gradients), str::to_string)
}

/// The same by the key that `key` makes of its path.
pub(crate) fn gradients_by<M: Module>(
    module: &M,
    gradients: &GradientsParams,
    key: impl Fn(&str) -> String,
) -> Checkpoint {
    read(module, Some(gradients), key)
}

fn read<M: Module>(
    module: &M,
    gradients: Option<&GradientsParams>,
    key: impl Fn(&str) -> String,
) -> Checkpoint {
    let mut reader = Reader {
        place: Place::default(),
        gradients,
        key,
        found: Checkpoint::default(),
    };
    module.visit(&mut reader);
    reader.found
}

struct Reader<'a, F> {
    place: Place,
    gradients: Option<&'a GradientsParams>,
    key: F,
    found: Checkpoint,
}

impl<F: Fn(&str) -> String> ModuleVisitor for Reader<'_, F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.place.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.place.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = match self.gradients {
            Some(gradients) => gradients.get::<D>(param.id),
            None => Some(param.val()),
        };
        let Some(tensor) = tensor else {
            return;
        };
        let turned = self.place.is_linear_weight(D);
        let tensor = if turned {
            tensor.swap_dims(0, 1)
        } else {
            tensor
        };
        let array = Array {
            shape: tensor.dims().to_vec(),
            values: tensor.into_data().iter::<f32>().collect(),
        };
        self.found.insert(&(self.key)(&self.place.path()), array);
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    use super::*;
    use crate::weights::fill::fill;

    #[derive(Module, Debug)]
    struct Net {
        fc: Linear,
    }

    fn net(device: &Device) -> Net {
        let fc = LinearConfig::new(2, 3).init(device);
        Net { fc }
    }

    #[test]
    fn what_was_filled_in_is_read_out() {
        let mut file = Checkpoint::default();
        let array =
            |shape: &[usize], values: &[f32]| Array::new(shape.to_vec(), values.to_vec()).unwrap();
        file.insert("fc.weight", array(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        file.insert("fc.bias", array(&[3], &[7.0, 8.0, 9.0]));
        let net = fill("net", net(&Device::flex()), file.clone(), str::to_string);
        assert_eq!(weights_of(&net.unwrap()), file);
    }

    #[test]
    fn gradients_have_the_layout_of_the_weights() {
        let device = Device::flex().autodiff();
        let net = net(&device);
        let input = Tensor::<2>::from_floats([[2.0, 5.0]], &device);
        let output = net.fc.forward(input).slice_dim(1, 1..2);
        let gradients = GradientsParams::from_grads(output.sum().backward(), &net);
        let gradients = gradients_of(&net, &gradients);
        // Only the second output counts: its row of the [out, in] weight has the input as its gradient.
        let weight = gradients.get("fc.weight").unwrap();
        assert_eq!(
            (weight.shape.as_slice(), weight.values.as_slice()),
            ([3, 2].as_slice(), [0.0, 0.0, 2.0, 5.0, 0.0, 0.0].as_slice())
        );
        assert_eq!(gradients.get("fc.bias").unwrap().values, [0.0, 1.0, 0.0]);
    }

    #[test]
    fn keys_are_what_is_made_of_the_paths() {
        let net = net(&Device::flex());
        let renamed = weights_by(&net, |path| format!("model.{path}"));
        let keys: Vec<&str> = renamed.keys().collect();
        assert_eq!(keys, ["model.fc.bias", "model.fc.weight"]);
    }
}
