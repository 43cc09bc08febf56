//! What the sources of tables and arrays have in common: hashes, columns, sizes, order of files.

use std::fs;
use std::path::{Path, PathBuf};

use jepa_datasets::transform::Plane;
use jepa_datasets::{Column, Dtype, PixelType, Pixels};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Hash of bytes, as the ledger and manifests write it.
pub(super) fn sha256(bytes: &[u8]) -> String {
    sha256_of(&[bytes])
}

/// Hash of several runs of bytes, one after the other.
pub(super) fn sha256_of(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    let digits: Vec<String> = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{}", digits.concat())
}

/// A column of `float32`; 64-bit values are rounded to the nearest.
pub(super) fn f32_column(width: usize, values: &[f64]) -> Column {
    Column::F32 {
        width,
        values: values.iter().map(|&v| v as f32).collect(),
    }
}

/// A column of floats of that type.
pub(super) fn float_column(dtype: Dtype, width: usize, values: Vec<f64>) -> Column {
    match dtype {
        Dtype::F64 => Column::F64 { width, values },
        _ => f32_column(width, &values),
    }
}

/// Values that must be finite, in rows of `width` of which the first is row `first` of its file.
pub(super) fn finite(
    path: &Path,
    what: &'static str,
    values: &[f64],
    width: usize,
    first: usize,
) -> Result<()> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(at) => Err(Error::NonFinite {
            path: path.to_path_buf(),
            what,
            row: first + at / width.max(1),
            dim: at % width.max(1),
        }),
        None => Ok(()),
    }
}

/// Resizes `[T, h, w, 3]` frames by bilinear interpolation without antialias (datasets.md section 4.1), if
/// another size is wanted; returns the size they have then.
pub(super) fn resized(
    pixels: Pixels,
    native: [usize; 2],
    wanted: Option<[usize; 2]>,
) -> (Pixels, [usize; 2]) {
    let Some(size) = wanted.filter(|size| *size != native) else {
        return (pixels, native);
    };
    let dtype = pixels.dtype();
    let out = Pixels::F32(resize(&pixels.into_f32(), native, size));
    match dtype {
        PixelType::U8 => (Pixels::U8(out.into_u8()), size),
        PixelType::F32 => (out, size),
    }
}

fn resize(frames: &[f32], [height, width]: [usize; 2], [h, w]: [usize; 2]) -> Vec<f32> {
    let mut out = Vec::with_capacity(frames.len() / (height * width) * h * w);
    for frame in frames.chunks_exact(height * width * 3) {
        let plane = |c| Plane {
            height,
            width,
            values: frame.iter().skip(c).step_by(3).copied().collect(),
        };
        let [red, green, blue] = [0, 1, 2].map(|c| plane(c).bilinear(h, w).values);
        out.extend((0..h * w).flat_map(|i| [red[i], green[i], blue[i]]));
    }
    out
}

/// Refuses options that a source has no use for.
pub(super) fn refuse(what: &'static str, given: &[String], why: &str) -> Result<()> {
    match given.first() {
        Some(value) => Err(Error::Invalid {
            what,
            value: value.clone(),
            detail: why.into(),
        }),
        None => Ok(()),
    }
}

/// A path relative to the release, with forward slashes.
pub(super) fn relative(root: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(root).unwrap_or(path);
    inside.to_string_lossy().replace('\\', "/")
}

/// Total size of files; those that are not there count nothing.
pub(super) fn total_bytes<'a>(files: impl Iterator<Item = &'a Path>) -> u64 {
    files
        .filter_map(|path| fs::metadata(path).ok())
        .map(|metadata| metadata.len())
        .sum()
}

/// The files of a folder with one of the extensions, by name; those that macOS adds to archives are not
/// data.
pub(super) fn files_in(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        let is_wanted = path
            .extension()
            .is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted));
        let is_stray = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if is_wanted && !is_stray && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Sorts by name with numbers compared as numbers: `chunk-2` before `chunk-10`, whatever the padding.
pub(super) fn sort_numerically(paths: &mut [PathBuf]) {
    paths.sort_by_cached_key(|path| (parts(&path.to_string_lossy()), path.clone()));
}

/// Runs of text and of digits in turn, as they compare.
fn parts(name: &str) -> Vec<(String, u128)> {
    let mut parts: Vec<(String, u128)> = vec![(String::new(), 0)];
    let mut in_number = false;
    for c in name.chars() {
        let digit = c.to_digit(10);
        if digit.is_none() && in_number {
            parts.push((String::new(), 0));
        }
        in_number = digit.is_some();
        if let Some((text, number)) = parts.last_mut() {
            match digit {
                Some(digit) => *number = number.saturating_mul(10).saturating_add(digit.into()),
                None => text.push(c),
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_compared_as_numbers() {
        let names = [
            "chunk-1000/file-000",
            "chunk-101/file-002",
            "chunk-101/file-0010",
            "chunk-9/file-1",
        ];
        let mut paths = names.map(PathBuf::from);
        sort_numerically(&mut paths);
        let order = [
            "chunk-9/file-1",
            "chunk-101/file-002",
            "chunk-101/file-0010",
            "chunk-1000/file-000",
        ];
        assert_eq!(paths, order.map(PathBuf::from));
    }

    /// SHA-256 of `abc`, FIPS 180-2, appendix B.1.
    #[test]
    fn hashes_run_over_all_parts() {
        let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), expected);
        assert_eq!(sha256_of(&[b"a", b"", b"bc"]), expected);
    }
}
