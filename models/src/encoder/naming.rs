//! Names of an encoder's tensors in weight files, and loading under any of them.
//!
//! A family of encoders is released under the names of its authors and under those of `HuggingFace`. A
//! [`Naming`] is a table from ours (which are the authors' where they can be) to the file's. Nothing partial:
//! what is missing, what is left over and what has another shape is listed in the error; what is left out on
//! purpose stands in the table.

use burn::module::Module;

use crate::weights::fill::{expected, fill};
use crate::weights::{Array, Checkpoint};
use crate::{Error, Result};

/// One way of naming the tensors of an encoder.
#[derive(Debug)]
pub(super) struct Naming {
    /// Beginnings of our names and of the file's. `#` stands for the number of a block; `{a,b,c}` for tensors
    /// that are one of ours, one upon the other, where `-` is one that does not exist and counts as zeros.
    /// The first row that fits is taken; a name that none fits is the same in the file.
    pub rows: &'static [(&'static str, &'static str)],
    /// Keys that files have and no model uses; `#` is a number, a final `.` stands for all below.
    pub ignored: &'static [&'static str],
}

impl Naming {
    /// The file's key for one of our paths.
    fn key(&self, path: &str) -> String {
        let (pattern, number) = without_number(path);
        let row = self
            .rows
            .iter()
            .find_map(|(ours, theirs)| Some((pattern.strip_prefix(ours)?, theirs)));
        match row {
            Some((rest, theirs)) => format!("{theirs}{rest}").replacen('#', &number, 1),
            None => path.to_string(),
        }
    }

    fn ignores(&self, key: &str) -> bool {
        let (pattern, _) = without_number(key);
        self.ignored.iter().any(|ignored| {
            pattern == *ignored || (ignored.ends_with('.') && pattern.starts_with(ignored))
        })
    }

    /// How many of the tensors of `module` the file has under these names.
    fn found<M: Module>(&self, module: &M, checkpoint: &Checkpoint) -> usize {
        let keys = expected(module, |path| self.key(path));
        let held = |(key, _): &&(String, Vec<usize>)| {
            pieces(key)
                .into_iter()
                .flatten()
                .any(|piece| checkpoint.get(&piece).is_some())
        };
        keys.iter().filter(held).count()
    }
}

/// `module` with the arrays of `checkpoint`, under whichever of the namings most of its keys are of.
///
/// # Errors
/// [`Error::Keys`] that lists every key that is missing, unexpected or of another shape.
pub(super) fn load<M: Module>(
    name: &str,
    module: M,
    mut checkpoint: Checkpoint,
    namings: &[Naming],
) -> Result<M> {
    let best = namings
        .iter()
        .rev()
        .max_by_key(|naming| naming.found(&module, &checkpoint));
    let naming = best.expect("every family has a naming");
    let mut unjoined = Unjoined::default();
    for (key, shape) in expected(&module, |path| naming.key(path)) {
        if let Some(array) = unjoined.join(&mut checkpoint, &key, &shape) {
            checkpoint.insert(&key, array);
        }
    }
    let used = checkpoint.rename(|key| (!naming.ignores(key)).then(|| key.to_string()));
    fill(name, module, used, |path| naming.key(path)).map_err(|error| unjoined.explain(error))
}

/// What was wrong with tensors that are several in the file.
#[derive(Debug, Default)]
struct Unjoined {
    missing: Vec<String>,
    shapes: Vec<String>,
}

impl Unjoined {
    /// Takes the pieces of `key` out of the file and puts them one upon the other; nothing for a key that is
    /// one tensor in the file, or when a piece is wrong.
    fn join(&mut self, checkpoint: &mut Checkpoint, key: &str, shape: &[usize]) -> Option<Array> {
        let pieces = pieces(key);
        if pieces.len() < 2 {
            return None;
        }
        let mut piece_shape = shape.to_vec();
        piece_shape[0] /= pieces.len();
        let mut values = Vec::with_capacity(shape.iter().product());
        let mut complete = true;
        for piece in pieces {
            let Some(piece) = piece else {
                values.resize(values.len() + piece_shape.iter().product::<usize>(), 0.0);
                continue;
            };
            match checkpoint.remove(&piece) {
                Some(array) if array.shape == piece_shape => values.extend(array.values),
                Some(array) => {
                    complete = false;
                    let found = array.shape;
                    self.shapes.push(format!(
                        "{piece}: {found:?} in the file, {piece_shape:?} in the model"
                    ));
                }
                None => {
                    complete = false;
                    self.missing.push(piece);
                }
            }
        }
        let shape = shape.to_vec();
        complete.then_some(Array { shape, values })
    }

    /// The error with the pieces in place of the tensor that they make.
    fn explain(self, error: Error) -> Error {
        match error {
            Error::Keys {
                name,
                mut missing,
                unexpected,
                mut shapes,
            } => {
                missing.retain(|key| pieces(key).len() < 2);
                missing.extend(self.missing);
                shapes.extend(self.shapes);
                Error::Keys {
                    name,
                    missing,
                    unexpected,
                    shapes,
                }
            }
            other => other,
        }
    }
}

/// The keys that `a.{b,-,c}.d` stands for: `a.b.d`, nothing, `a.c.d`.
fn pieces(key: &str) -> Vec<Option<String>> {
    let split = key.split_once('{').and_then(|(head, rest)| {
        let (names, tail) = rest.split_once('}')?;
        Some((head, names, tail))
    });
    let Some((head, names, tail)) = split else {
        return vec![Some(key.to_string())];
    };
    let name = |name: &str| (name != "-").then(|| format!("{head}{name}{tail}"));
    names.split(',').map(name).collect()
}

/// The key with `#` for its first part that is a number, and that number.
fn without_number(key: &str) -> (String, String) {
    let mut parts: Vec<&str> = key.split('.').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let Some(at) = parts.iter().position(is_number) else {
        return (key.to_string(), String::new());
    };
    let number = std::mem::replace(&mut parts[at], "#").to_string();
    (parts.join("."), number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    use super::*;

    #[derive(Module, Debug)]
    struct Net {
        blocks: Vec<Attention>,
    }

    #[derive(Module, Debug)]
    struct Attention {
        qkv: Linear,
    }

    const NAMINGS: &[Naming] = &[
        Naming {
            rows: &[],
            ignored: &["mask_token"],
        },
        Naming {
            rows: &[
                ("blocks.#.qkv.bias", "layer.#.{q,-,v}.bias"),
                ("blocks.#.qkv.", "layer.#.{q,k,v}."),
            ],
            ignored: &["step", "optimizer."],
        },
    ];

    fn net() -> Net {
        let qkv = || LinearConfig::new(2, 6).init(&Device::flex());
        Net {
            blocks: vec![Attention { qkv: qkv() }, Attention { qkv: qkv() }],
        }
    }

    /// A file under the second naming; weights count from 0, biases from 100.
    fn file() -> BTreeMap<String, Array> {
        let mut arrays = BTreeMap::new();
        let mut insert = |key: String, shape: &[usize], first: f32| {
            let values = (0..shape.iter().product())
                .map(|i| first + i as f32)
                .collect();
            arrays.insert(key, Array::new(shape.to_vec(), values).unwrap());
        };
        for block in 0..2 {
            for (i, part) in ["q", "k", "v"].iter().enumerate() {
                insert(
                    format!("layer.{block}.{part}.weight"),
                    &[2, 2],
                    10.0 * i as f32,
                );
                if *part != "k" {
                    insert(
                        format!("layer.{block}.{part}.bias"),
                        &[2],
                        100.0 + 10.0 * i as f32,
                    );
                }
            }
        }
        insert("optimizer.3.moment".into(), &[1], 0.0);
        insert("step".into(), &[], 0.0);
        arrays
    }

    fn refusal(arrays: BTreeMap<String, Array>) -> [Vec<String>; 3] {
        match load("net", net(), Checkpoint::new(arrays), NAMINGS).unwrap_err() {
            Error::Keys {
                missing,
                unexpected,
                shapes,
                ..
            } => [missing, unexpected, shapes],
            other => panic!("{other}"),
        }
    }

    #[test]
    fn three_tensors_become_one_and_one_that_does_not_exist_is_zero() {
        let net = load("net", net(), Checkpoint::new(file()), NAMINGS).unwrap();
        let qkv = &net.blocks[1].qkv;
        let bias = qkv
            .bias
            .as_ref()
            .unwrap()
            .val()
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        assert_eq!(bias, [100.0, 101.0, 0.0, 0.0, 120.0, 121.0]);
        // [out, in] in the file, [in, out] here: the first row is the first column of q, k and v.
        let weight = qkv.weight.val().into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(weight[..6], [0.0, 2.0, 10.0, 12.0, 20.0, 22.0]);
    }

    #[test]
    fn a_missing_piece_an_extra_key_and_another_shape_are_listed_under_the_names_of_the_file() {
        let mut arrays = file();
        arrays.remove("layer.0.k.weight");
        arrays.insert(
            "layer.1.k.bias".into(),
            Array::new(vec![2], vec![0.0; 2]).unwrap(),
        );
        arrays.insert(
            "layer.1.v.bias".into(),
            Array::new(vec![3], vec![0.0; 3]).unwrap(),
        );
        let [missing, unexpected, shapes] = refusal(arrays);
        assert_eq!(missing, ["layer.0.k.weight"]);
        assert_eq!(unexpected, ["layer.1.k.bias"]);
        assert_eq!(
            shapes,
            ["layer.1.v.bias: [3] in the file, [2] in the model"]
        );
    }

    #[test]
    fn what_one_naming_ignores_is_unexpected_under_another() {
        let mut arrays = file();
        arrays.insert("mask_token".into(), Array::new(vec![1], vec![0.0]).unwrap());
        assert_eq!(refusal(arrays)[1], ["mask_token"]);
    }

    #[test]
    fn only_the_first_number_is_that_of_the_block() {
        assert_eq!(
            without_number("a.12.b.12"),
            ("a.#.b.12".into(), "12".into())
        );
        assert_eq!(without_number("norm1.weight").0, "norm1.weight");
    }
}
