//! Queries, keys and values in one array or in three.
//!
//! Our attention holds one packed weight; `HuggingFace`'s files hold three. Rows `0..D` are the queries, then
//! the keys, then the values (models.md section 1.1).

use super::{Array, Checkpoint};
use crate::{Error, Result};

const PARTS: [&str; 3] = ["query", "key", "value"];

/// Every `x.query.y`, `x.key.y` and `x.value.y` as one `x.qkv.y`.
///
/// # Errors
/// [`Error::Weights`] when one of the three is missing or not of the size of the others.
pub(crate) fn pack(mut checkpoint: Checkpoint) -> Result<Checkpoint> {
    let queries: Vec<String> = checkpoint
        .keys()
        .filter(|key| key.contains(".query."))
        .map(str::to_string)
        .collect();
    for query in queries {
        let parts: Vec<Array> = PARTS
            .iter()
            .map(|part| {
                let key = query.replace(".query.", &format!(".{part}."));
                checkpoint.require(&key)?;
                checkpoint.remove(&key).ok_or_else(|| missing(&key))
            })
            .collect::<Result<_>>()?;
        if parts.iter().any(|part| part.shape != parts[0].shape) {
            return Err(Error::Weights {
                name: query,
                detail: "query, key and value differ in shape".into(),
            });
        }
        let mut shape = parts[0].shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows *= PARTS.len();
        }
        let values = parts.into_iter().flat_map(|part| part.values).collect();
        checkpoint.insert(
            &query.replace(".query.", ".qkv."),
            Array::new(shape, values)?,
        );
    }
    Ok(checkpoint)
}

/// Every `x.qkv.y` as three arrays again.
///
/// # Errors
/// [`Error::Shape`] when the rows are not three equal parts.
pub(crate) fn unpack(mut checkpoint: Checkpoint) -> Result<Checkpoint> {
    let packed: Vec<String> = checkpoint
        .keys()
        .filter(|key| key.contains(".qkv."))
        .map(str::to_string)
        .collect();
    for key in packed {
        let array = checkpoint.remove(&key).ok_or_else(|| missing(&key))?;
        let mut shape = array.shape;
        if let Some(rows) = shape.first_mut() {
            *rows /= PARTS.len();
        }
        let length = array.values.len() / PARTS.len();
        for (index, part) in PARTS.iter().enumerate() {
            let values = array.values[index * length..(index + 1) * length].to_vec();
            let part = key.replace(".qkv.", &format!(".{part}."));
            checkpoint.insert(&part, Array::new(shape.clone(), values)?);
        }
    }
    Ok(checkpoint)
}

fn missing(key: &str) -> Error {
    Error::Weights {
        name: key.to_string(),
        detail: "is missing".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apart() -> Checkpoint {
        let mut checkpoint = Checkpoint::default();
        for (key, first) in [
            ("a.query.weight", 0.0),
            ("a.key.weight", 10.0),
            ("a.value.weight", 20.0),
        ] {
            let values = vec![first, first + 1.0];
            checkpoint.insert(key, Array::new(vec![1, 2], values).unwrap());
        }
        checkpoint
    }

    #[test]
    fn queries_come_first_then_keys_then_values() {
        let packed = pack(apart()).unwrap();
        assert_eq!(packed.keys().collect::<Vec<_>>(), ["a.qkv.weight"]);
        let array = packed.get("a.qkv.weight").unwrap();
        assert_eq!(array.shape, [3, 2]);
        assert_eq!(array.values, [0.0, 1.0, 10.0, 11.0, 20.0, 21.0]);
        assert_eq!(unpack(packed).unwrap(), apart());
    }

    #[test]
    fn a_missing_part_is_named() {
        let mut checkpoint = apart();
        checkpoint.remove("a.value.weight");
        let error = pack(checkpoint).unwrap_err().to_string();
        assert!(error.contains("a.value.weight"), "{error}");
    }
}
