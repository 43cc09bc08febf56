//! The other way round: arrays of a module, its parameters or their gradients, under the keys and in the
//! layout of `PyTorch`.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use super::fill::Place;
use super::{Array, Checkpoint};

/// Every parameter and running statistic of `module`.
pub(crate) fn weights_of<M: Module>(module: &M) -> Checkpoint {
    read(module, None)
}

/// The gradient of every parameter of `module` that has one.
pub(crate) fn gradients_of<M: Module>(module: &M, gradients: &GradientsParams) -> Checkpoint {
    read(module, Some(gradients))
}

fn read<M: Module>(module: &M, gradients: Option<&GradientsParams>) -> Checkpoint {
    let mut reader = Reader {
        place: Place::default(),
        gradients,
        found: Checkpoint::default(),
    };
    module.visit(&mut reader);
    reader.found
}

struct Reader<'a> {
    place: Place,
    gradients: Option<&'a GradientsParams>,
    found: Checkpoint,
}

impl ModuleVisitor for Reader<'_> {
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
        self.found.insert(&self.place.path(), array);
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
}
