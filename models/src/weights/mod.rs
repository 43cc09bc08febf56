//! Weights of other programs: named arrays, and modules filled from them.
//!
//! A [`Checkpoint`] is what a weight file holds, whatever its container: arrays by their full key
//! (`predictor.module.predictor_blocks.0.attn.qkv.weight`). Torch files are read by whoever has a reader
//! for them and come in as arrays; safetensors are read here. `fill` puts the arrays into a module and
//! refuses anything partial: a key that is missing, unexpected or of another shape is an error that lists
//! them all.

pub mod check;
pub(crate) mod fill;
pub mod import;
pub(crate) mod packed;
pub(crate) mod read_out;

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};

use crate::{Error, Result};

/// One array of a weight file, widened to 32-bit floats.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Sizes, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Values, row-major.
    pub values: Vec<f32>,
}

impl Array {
    /// An array of `values` in the shape given.
    ///
    /// # Errors
    /// [`Error::Shape`] when the number of values is not that of the shape.
    pub fn new(shape: Vec<usize>, values: Vec<f32>) -> Result<Self> {
        let count = shape
            .iter()
            .try_fold(1_usize, |n, side| n.checked_mul(*side));
        if count != Some(values.len()) {
            return Err(Error::Shape {
                what: "array",
                expected: format!("{} values", values.len()),
                actual: format!("shape {shape:?}"),
            });
        }
        Ok(Self { shape, values })
    }
}

/// The arrays of a weight file by their full key, in the order of the keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checkpoint {
    arrays: BTreeMap<String, Array>,
}

impl Checkpoint {
    /// A checkpoint of these arrays.
    pub fn new(arrays: BTreeMap<String, Array>) -> Self {
        Self { arrays }
    }

    /// Reads a safetensors file: `F64`, `F32`, `F16`, `BF16`, integers and booleans become 32-bit floats.
    ///
    /// # Errors
    /// [`Error::Weights`] when the bytes are no safetensors file or hold another type.
    pub fn from_safetensors(name: &str, bytes: &[u8]) -> Result<Self> {
        let broken = |detail: String| Error::Weights {
            name: name.to_string(),
            detail,
        };
        let file = SafeTensors::deserialize(bytes).map_err(|e| broken(e.to_string()))?;
        let mut arrays = BTreeMap::new();
        for (key, view) in file.tensors() {
            let values = widen(view.dtype(), view.data())
                .ok_or_else(|| broken(format!("`{key}` is of type {:?}", view.dtype())))?;
            arrays.insert(key, Array::new(view.shape().to_vec(), values)?);
        }
        Ok(Self { arrays })
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.arrays.is_empty()
    }

    /// Keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.arrays.keys().map(String::as_str)
    }

    /// The array called `key`.
    pub fn get(&self, key: &str) -> Option<&Array> {
        self.arrays.get(key)
    }

    /// The array called `key`.
    ///
    /// # Errors
    /// [`Error::Weights`] that names `key` and what there is.
    pub fn require(&self, key: &str) -> Result<&Array> {
        self.get(key).ok_or_else(|| Error::Weights {
            name: key.to_string(),
            detail: format!(
                "is not among {}",
                self.keys().collect::<Vec<_>>().join(", ")
            ),
        })
    }

    /// The entries below `name.`, without that prefix: one part of a file that holds several models.
    #[must_use]
    pub fn section(&self, name: &str) -> Self {
        self.clone()
            .rename(|key| Some(key.strip_prefix(name)?.strip_prefix('.')?.to_string()))
    }

    /// The same arrays under other keys; those whose new key is `None` are left out.
    #[must_use]
    pub fn rename(self, new: impl Fn(&str) -> Option<String>) -> Self {
        let renamed = self.arrays.into_iter();
        Self {
            arrays: renamed
                .filter_map(|(key, array)| Some((new(&key)?, array)))
                .collect(),
        }
    }

    /// Without every `module.` that data-parallel training puts into keys (models.md section 2.5).
    #[must_use]
    pub fn without_wrapper(self) -> Self {
        self.rename(|key| Some(key.replace("module.", "")))
    }

    /// Puts an array in; what was there under its key is returned.
    pub fn insert(&mut self, key: &str, array: Array) -> Option<Array> {
        self.arrays.insert(key.to_string(), array)
    }

    /// Takes an array out.
    pub fn remove(&mut self, key: &str) -> Option<Array> {
        self.arrays.remove(key)
    }
}

/// Little-endian numbers as 32-bit floats; `None` for a type that weight files do not have.
fn widen(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        let (chunks, _) = bytes.as_chunks::<N>();
        chunks.iter().map(|chunk| number(*chunk)).collect()
    }
    Some(match dtype {
        Dtype::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
        Dtype::F32 => each(bytes, f32::from_le_bytes),
        Dtype::F16 => each(bytes, |b| burn::tensor::f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => each(bytes, |b| burn::tensor::bf16::from_le_bytes(b).to_f32()),
        Dtype::I64 => each(bytes, |b| i64::from_le_bytes(b) as f32),
        Dtype::I32 => each(bytes, |b| i32::from_le_bytes(b) as f32),
        Dtype::I16 => each(bytes, |b| f32::from(i16::from_le_bytes(b))),
        Dtype::I8 => each(bytes, |[b]| f32::from(b.cast_signed())),
        Dtype::U8 | Dtype::BOOL => each(bytes, |[b]| f32::from(b)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(keys: &[&str]) -> Checkpoint {
        let array = Array::new(vec![1], vec![0.0]).unwrap();
        Checkpoint::new(
            keys.iter()
                .map(|k| ((*k).to_string(), array.clone()))
                .collect(),
        )
    }

    #[test]
    fn a_section_is_what_lies_below_its_name() {
        let file = checkpoint(&[
            "predictor.module.a",
            "predictor.module.b.c",
            "predictors",
            "opt.x",
        ]);
        let part = file.section("predictor").without_wrapper();
        assert_eq!(part.keys().collect::<Vec<_>>(), ["a", "b.c"]);
    }

    #[test]
    fn an_array_of_another_size_is_refused() {
        assert!(Array::new(vec![2, 3], vec![0.0; 5]).is_err());
        assert!(Array::new(vec![usize::MAX, 2], vec![0.0; 5]).is_err());
        assert!(Array::new(vec![], vec![1.0]).is_ok());
    }

    #[test]
    fn half_floats_and_integers_widen_exactly() {
        let halves: Vec<u8> = [0x3c00_u16, 0xc000, 0x0001]
            .iter()
            .flat_map(|h| h.to_le_bytes())
            .collect();
        assert_eq!(
            widen(Dtype::F16, &halves).unwrap(),
            [1.0, -2.0, 5.960_464_5e-8]
        );
        let brains: Vec<u8> = [0x3f80_u16, 0xbf00]
            .iter()
            .flat_map(|h| h.to_le_bytes())
            .collect();
        assert_eq!(widen(Dtype::BF16, &brains).unwrap(), [1.0, -0.5]);
        assert_eq!(widen(Dtype::I8, &[0xff, 2]).unwrap(), [-1.0, 2.0]);
    }
}
