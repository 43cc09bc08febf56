//! What several sources do alike: tensors of one row per step, columns, files and their order, pixels, hashes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jepa_datasets::transform::Plane;
use jepa_datasets::{Column, Dtype, PIXEL_RANGE, PixelType, Pixels};
use sha2::{Digest, Sha256};

use crate::container::torch_zip::{Tensor, TensorType, TorchFile};
use crate::{Error, Result};

/// Hash of bytes, as the ledger and manifests write it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    sha256_of(&[bytes])
}

/// Hash of several runs of bytes, one after the other.
pub(crate) fn sha256_of(parts: &[&[u8]]) -> String {
    let mut hash = Hash::default();
    for part in parts {
        hash.add(part);
    }
    hash.finish()
}

/// Hash of what an episode comes from, taken as it is read.
#[derive(Default)]
pub(crate) struct Hash(Sha256);

impl Hash {
    /// Adds bytes.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds values as little-endian bytes.
    #[cfg(feature = "hdf5")]
    pub(crate) fn add_column(&mut self, column: &Column) {
        match column {
            Column::F32 { values, .. } => values.iter().for_each(|v| self.add(&v.to_le_bytes())),
            Column::F64 { values, .. } => values.iter().for_each(|v| self.add(&v.to_le_bytes())),
            Column::I64(values) => values.iter().for_each(|v| self.add(&v.to_le_bytes())),
        }
    }

    /// The hash as the ledger and manifests write it.
    pub(crate) fn finish(self) -> String {
        let digits = self.0.finalize();
        let digits: Vec<String> = digits.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{}", digits.concat())
    }
}

/// Input files of a release, by name, with their hashes.
pub(crate) type Inputs = BTreeMap<String, String>;

/// A `[episodes, rows, width]` tensor, copied out of its file.
pub(crate) struct Table {
    pub(crate) path: PathBuf,
    pub(crate) episodes: usize,
    pub(crate) rows: usize,
    pub(crate) width: usize,
    dtype: TensorType,
    values: Values,
}

/// Numbers in the smallest float type that holds them all.
enum Values {
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Table {
    /// Reads a table whose rows must have `width` numbers, and notes its hash under `name`.
    pub(crate) fn open(path: &Path, width: usize, name: &str, inputs: &mut Inputs) -> Result<Self> {
        let file = TorchFile::open(path)?;
        let tensor = file.tensor()?;
        let (episodes, rows) = match *tensor.shape() {
            [episodes, rows, found] if found == width => (episodes, rows),
            _ => {
                let found = tensor.shape();
                let detail = format!("shape {found:?} is not [episodes, rows, {width}]");
                return Err(Error::count(path, detail));
            }
        };
        inputs.insert(name.to_string(), sha256(file.bytes()));
        let values = if tensor.dtype().fits_f32() {
            Values::F32(tensor.to_f32())
        } else {
            Values::F64(tensor.to_f64())
        };
        Ok(Self {
            path: path.to_path_buf(),
            episodes,
            rows,
            width,
            dtype: tensor.dtype(),
            values,
        })
    }

    /// The first `rows` rows of an episode, `[rows, width]`, all finite.
    pub(crate) fn episode(
        &self,
        index: usize,
        rows: usize,
        what: &'static str,
    ) -> Result<Vec<f64>> {
        let start = index * self.rows * self.width;
        let range = start..start + rows.min(self.rows) * self.width;
        let values: Vec<f64> = match &self.values {
            Values::F32(values) => values[range].iter().map(|&v| f64::from(v)).collect(),
            Values::F64(values) => values[range].to_vec(),
        };
        match values.iter().position(|v| !v.is_finite()) {
            Some(at) => {
                let (row, dim) = (at / self.width, at % self.width);
                Err(Error::NonFinite {
                    path: self.path.clone(),
                    what,
                    row,
                    dim,
                })
            }
            None => Ok(values),
        }
    }

    /// The number type in which the table is stored: that of its file, whole numbers and half floats
    /// widened to `float32`.
    pub(crate) fn stored_dtype(&self) -> Dtype {
        if self.dtype.fits_f32() {
            Dtype::F32
        } else {
            Dtype::F64
        }
    }

    /// Whether another table is about the same episodes and rows.
    pub(crate) fn agrees_with(&self, other: &Self) -> Result<()> {
        if (self.episodes, self.rows) == (other.episodes, other.rows)
            && self.rows > 0
            && other.width > 0
        {
            return Ok(());
        }
        let (n, t) = (self.episodes, self.rows);
        Err(Error::count(
            &other.path,
            format!(
                "it has {} episodes of {} rows, the states {n} of {t}",
                other.episodes, other.rows
            ),
        ))
    }
}

/// A column of `float32`; 64-bit values are rounded to the nearest.
pub(crate) fn f32_column(width: usize, values: &[f64]) -> Column {
    Column::F32 {
        width,
        values: values.iter().map(|&v| v as f32).collect(),
    }
}

/// What to say about values that [`f32_column`] rounds.
pub(crate) fn rounded_note(name: &str) -> String {
    format!("`{name}` is of 64 bits in the source and stored as the nearest float32")
}

/// A column of floats of that type.
pub(crate) fn float_column(dtype: Dtype, width: usize, values: Vec<f64>) -> Column {
    match dtype {
        Dtype::F64 => Column::F64 { width, values },
        _ => f32_column(width, &values),
    }
}

/// Finds the file `episode_<number>.<extension>` of every episode, under any padding of its number
/// (datasets.md section 16, case 22). Other files, those of macOS archives among them, are left alone.
pub(crate) fn numbered_files(
    folder: &Path,
    extension: &str,
    total: usize,
) -> Result<Vec<Option<PathBuf>>> {
    let mut files: Vec<Option<PathBuf>> = vec![None; total];
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let number = name
            .strip_prefix("episode_")
            .and_then(|rest| rest.strip_suffix(extension)?.strip_suffix('.'));
        let Some(index) = number
            .and_then(|digits| digits.parse::<usize>().ok())
            .filter(|&index| index < total)
        else {
            continue;
        };
        if let Some(first) = files[index].replace(path.clone()) {
            let (first, second) = if first < path {
                (first, path)
            } else {
                (path, first)
            };
            return Err(Error::Ambiguous {
                episode: index as u64,
                first,
                second,
            });
        }
    }
    Ok(files)
}

/// Total size of files; those that are not there count nothing.
pub(crate) fn total_bytes(files: impl Iterator<Item = impl AsRef<Path>>) -> u64 {
    files
        .filter_map(|path| fs::metadata(path).ok())
        .map(|metadata| metadata.len())
        .sum()
}

/// Positions of the files that are not there.
pub(crate) fn missing_files(files: &[Option<PathBuf>]) -> Vec<u64> {
    let missing = files.iter().enumerate().filter(|(_, file)| file.is_none());
    missing.map(|(index, _)| index as u64).collect()
}

/// A path relative to the release, with forward slashes.
pub(crate) fn relative(root: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(root).unwrap_or(path);
    inside.to_string_lossy().replace('\\', "/")
}

/// Pixels in the type of the file, checked to lie in 0 to 255.
pub(crate) fn pixels(path: &Path, tensor: &Tensor<'_>) -> Result<Pixels> {
    if let Some(values) = tensor.to_u8() {
        return Ok(Pixels::U8(values));
    }
    if !tensor.dtype().fits_f32() {
        let found = format!("{:?}", tensor.dtype());
        return Err(Error::Dtype {
            path: path.to_path_buf(),
            found,
            wanted: "frames",
        });
    }
    let values = tensor.to_f32();
    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
        let size: usize = tensor.shape()[1..].iter().product();
        return Err(Error::NonFinite {
            path: path.to_path_buf(),
            what: "a pixel",
            row: at / size,
            dim: at % size,
        });
    }
    let (low, high) = values
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &v| {
            (low.min(v), high.max(v))
        });
    if !PIXEL_RANGE.contains(&low) || !PIXEL_RANGE.contains(&high) || high <= 1.5 {
        let detail = format!("pixels lie between {low} and {high}, the release has 0 to 255");
        return Err(Error::Range {
            path: path.to_path_buf(),
            detail,
        });
    }
    Ok(Pixels::F32(values))
}

/// Resizes `[T, h, w, 3]` frames by bilinear interpolation without antialias (datasets.md section 4.1), if
/// another size is wanted; returns the size they have then.
pub(crate) fn resized(
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

/// One byte frame, resized as [`resized`] does.
#[cfg(any(feature = "video", feature = "hdf5"))]
pub(crate) fn resized_frame(frame: &[u8], native: [usize; 2], size: [usize; 2]) -> Vec<u8> {
    let floats: Vec<f32> = frame.iter().copied().map(f32::from).collect();
    Pixels::F32(resize(&floats, native, size)).into_u8()
}

/// Refuses options that a source has no use for.
pub(crate) fn refuse(what: &'static str, given: &[String], why: &str) -> Result<()> {
    match given.first() {
        Some(value) => Err(Error::Invalid {
            what,
            value: value.clone(),
            detail: why.into(),
        }),
        None => Ok(()),
    }
}

/// Values that must be finite, in rows of `width` of which the first is row `first` of its file.
pub(crate) fn finite(
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

/// The files of a folder with one of the extensions, by name; those that macOS adds to archives are not
/// data.
pub(crate) fn files_in(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
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
pub(crate) fn sort_numerically(paths: &mut [PathBuf]) {
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
