//! Filling a module with the arrays of a checkpoint.
//!
//! A parameter's key is its path in the module with the names of `PyTorch`: fields are called as in the
//! reference where they can be, `gamma` and `beta` of norms are `weight` and `bias`, and what is left is a
//! renaming given by the caller. Weights of linear layers are turned: `[out, in]` in files, `[in, out]` here.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

use super::{Array, Checkpoint};
use crate::{Error, Result};

/// Modules whose parameters `gamma` and `beta` are called `weight` and `bias` in files.
const NORMS: [&str; 3] = ["Struct:LayerNorm", "Struct:GroupNorm", "Struct:BatchNorm"];

/// `module` with every parameter from `checkpoint`, and nothing of the checkpoint left over.
///
/// `key` gives the key in the file for a parameter's path with `PyTorch`'s leaf names; most callers return
/// the path as it is.
///
/// # Errors
/// [`Error::Keys`] that lists every key that is missing, unexpected or of another shape.
pub(crate) fn fill<M: Module>(
    name: &str,
    module: M,
    checkpoint: Checkpoint,
    key: impl Fn(&str) -> String,
) -> Result<M> {
    let mut mapper = Filler {
        place: Place::default(),
        key,
        left: checkpoint,
        missing: Vec::new(),
        shapes: Vec::new(),
    };
    let module = module.map(&mut mapper);
    let unexpected: Vec<String> = mapper.left.keys().map(str::to_string).collect();
    if mapper.missing.is_empty() && mapper.shapes.is_empty() && unexpected.is_empty() {
        return Ok(module);
    }
    Err(Error::Keys {
        name: name.to_string(),
        missing: mapper.missing,
        unexpected,
        shapes: mapper.shapes,
    })
}

/// The keys and shapes, in `PyTorch`'s layout, that [`fill`] would look for.
pub(crate) fn expected<M: Module>(
    module: &M,
    key: impl Fn(&str) -> String,
) -> Vec<(String, Vec<usize>)> {
    struct Lister<F> {
        place: Place,
        key: F,
        found: Vec<(String, Vec<usize>)>,
    }
    impl<F: Fn(&str) -> String> ModuleVisitor for Lister<F> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.place.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.place.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let mut shape: Vec<usize> = param.lazy_shape().dims::<D>().to_vec();
            if self.place.is_linear_weight(D) {
                shape.reverse();
            }
            self.found.push(((self.key)(&self.place.path()), shape));
        }
    }
    let mut lister = Lister {
        place: Place::default(),
        key,
        found: Vec::new(),
    };
    module.visit(&mut lister);
    lister.found
}

/// Where in a module a mapper or visitor is.
#[derive(Debug, Default)]
pub(super) struct Place {
    names: Vec<String>,
    containers: Vec<String>,
}

impl Place {
    pub(super) fn enter(&mut self, name: &str, container: &str) {
        self.names.push(name.to_string());
        self.containers.push(container.to_string());
    }

    pub(super) fn exit(&mut self) {
        self.names.pop();
        self.containers.pop();
    }

    fn container(&self) -> &str {
        self.containers.last().map_or("", String::as_str)
    }

    pub(super) fn is_linear_weight(&self, rank: usize) -> bool {
        rank == 2
            && self.container() == "Struct:Linear"
            && self.names.last().is_some_and(|name| name == "weight")
    }

    /// The path with `PyTorch`'s leaf names.
    pub(super) fn path(&self) -> String {
        let mut path = self.names.join(".");
        if NORMS.contains(&self.container()) {
            for (ours, theirs) in [(".gamma", ".weight"), (".beta", ".bias")] {
                if let Some(stem) = path.strip_suffix(ours) {
                    path = format!("{stem}{theirs}");
                }
            }
        }
        path
    }
}

struct Filler<F> {
    place: Place,
    key: F,
    left: Checkpoint,
    missing: Vec<String>,
    shapes: Vec<String>,
}

impl<F: Fn(&str) -> String> ModuleMapper for Filler<F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.place.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.place.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let key = (self.key)(&self.place.path());
        let Some(array) = self.left.remove(&key) else {
            self.missing.push(key);
            return param;
        };
        let turned = self.place.is_linear_weight(D);
        let ours: [usize; D] = param.lazy_shape().dims();
        let mut expected = ours.to_vec();
        if turned {
            expected.reverse();
        }
        if array.shape != expected {
            self.shapes.push(format!(
                "{key}: {:?} in the file, {expected:?} in the model",
                array.shape
            ));
            return param;
        }
        let values = if turned {
            transposed(&array)
        } else {
            array.values
        };
        let tensor = Tensor::from_data(TensorData::new(values, ours), &param.lazy_device());
        let id = param.id;
        param.transform_for_load(tensor, id)
    }
}

/// The values of a matrix with its sides exchanged.
pub(super) fn transposed(array: &Array) -> Vec<f32> {
    let (rows, columns) = (array.shape[0], array.shape[1]);
    let mut turned = vec![0.0; array.values.len()];
    for (row, values) in array.values.chunks_exact(columns.max(1)).enumerate() {
        for (column, value) in values.iter().enumerate() {
            turned[column * rows + row] = *value;
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
    use burn::tensor::Device;

    use super::*;

    #[derive(Module, Debug)]
    struct Net {
        fc: Linear,
        norm: LayerNorm,
    }

    fn net(device: &Device) -> Net {
        Net {
            fc: LinearConfig::new(3, 2).init(device),
            norm: LayerNormConfig::new(2).init(device),
        }
    }

    fn arrays() -> BTreeMap<String, Array> {
        let array = |shape: &[usize], first: f32| {
            let count = shape.iter().product::<usize>();
            let values = (0..count).map(|i| first + i as f32).collect();
            Array::new(shape.to_vec(), values).unwrap()
        };
        BTreeMap::from([
            ("fc.weight".to_string(), array(&[2, 3], 0.0)),
            ("fc.bias".to_string(), array(&[2], 10.0)),
            ("norm.weight".to_string(), array(&[2], 20.0)),
            ("norm.bias".to_string(), array(&[2], 30.0)),
        ])
    }

    #[test]
    fn linear_weights_are_turned_and_norms_are_renamed() {
        let device = Device::flex();
        let path = |path: &str| path.to_string();
        let filled = fill("net", net(&device), Checkpoint::new(arrays()), path).unwrap();
        let weight = filled
            .fc
            .weight
            .val()
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        assert_eq!(weight, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let beta = filled.norm.beta.unwrap().val().into_data();
        assert_eq!(beta.try_to_vec::<f32>().unwrap(), [30.0, 31.0]);
    }

    #[test]
    fn every_wrong_key_is_listed() {
        let device = Device::flex();
        let mut arrays = arrays();
        arrays.remove("fc.bias");
        arrays.insert("extra".into(), Array::new(vec![1], vec![0.0]).unwrap());
        arrays.insert(
            "norm.bias".into(),
            Array::new(vec![3], vec![0.0; 3]).unwrap(),
        );
        let path = |path: &str| path.to_string();
        let error = fill("net", net(&device), Checkpoint::new(arrays), path).unwrap_err();
        let text = error.to_string();
        for part in [
            "fc.bias",
            "extra",
            "norm.bias: [3] in the file, [2] in the model",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn expected_keys_are_those_that_fill_takes() {
        let keys = expected(&net(&Device::flex()), str::to_string);
        let arrays = arrays();
        assert_eq!(keys.len(), arrays.len());
        for (key, shape) in &keys {
            assert_eq!(&arrays[key].shape, shape);
        }
    }
}
