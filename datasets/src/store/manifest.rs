//! What a manifest may say. It may come from anywhere: no name in it leads out of its folder, and no size
//! in it can be more than a reader has room for.

use std::path::{Component, Path};

use super::WriterOptions;
use crate::episode::{ACTION, PROPRIO, STATE};
use crate::schema::{Manifest, ManifestDraft};
use crate::{Error, Result};

/// Largest frame before compression.
const MOST_FRAME_BYTES: usize = 1 << 28;
/// Most numbers of one row, over all fields.
const MOST_ROW_NUMBERS: usize = 1 << 20;

/// Refuses what no writer writes.
pub(super) fn check(path: &Path, manifest: &Manifest) -> Result<()> {
    // A dataset that needs another build is not damaged.
    manifest.codec.check_build()?;
    let draft = &manifest.draft;
    check_sizes(draft).map_err(|detail| Error::corrupt(path, detail))?;
    let options = WriterOptions {
        manifest: draft.clone(),
        codec: manifest.codec,
        overwrite: false,
        total_episodes: manifest.source_episodes,
        selection: manifest.selection.clone(),
    };
    options.check().map_err(|e| Error::corrupt(path, e))?;
    let widths = [
        (ACTION, manifest.action_width),
        (PROPRIO, manifest.proprio_width),
        (STATE, manifest.state_width),
    ];
    let of_field = |name: &str| manifest.field(name).map_or(0, crate::Field::width);
    if let Some((name, width)) = widths.iter().find(|(name, width)| of_field(name) != *width) {
        let detail = format!("`{name}` has {} numbers, not {width}", of_field(name));
        return Err(Error::corrupt(path, detail));
    }
    let counts = manifest.counts;
    let largest = counts.episodes.max(counts.rows).max(counts.frames);
    if i64::try_from(largest).is_err() {
        return Err(Error::corrupt(path, format!("{largest} is no count")));
    }
    match manifest.files.keys().find(|name| !is_inside(name)) {
        Some(name) => Err(Error::corrupt(
            path,
            format!("the file `{name}` is not one of the dataset"),
        )),
        None => Ok(()),
    }
}

/// Every product of sizes is one that memory can hold.
fn check_sizes(draft: &ManifestDraft) -> std::result::Result<(), String> {
    let product = |sizes: &[usize]| {
        let mut sizes = sizes.iter();
        sizes.try_fold(1_usize, |product, &size| product.checked_mul(size))
    };
    let mut numbers = 0_usize;
    for field in &draft.fields {
        let width = product(&field.shape);
        numbers = numbers.saturating_add(width.unwrap_or(usize::MAX));
        if numbers > MOST_ROW_NUMBERS {
            return Err(format!(
                "with the field `{}` a row is larger than {MOST_ROW_NUMBERS} numbers",
                field.name
            ));
        }
    }
    for camera in &draft.cameras {
        let bytes = product(&[camera.height, camera.width, 3, camera.dtype.bytes()]);
        if bytes.is_none_or(|bytes| bytes > MOST_FRAME_BYTES) {
            return Err(format!(
                "frames of camera `{}` are {}x{} pixels",
                camera.name, camera.height, camera.width
            ));
        }
    }
    Ok(())
}

/// Whether a name is a path below the dataset, on every system.
fn is_inside(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    !name.is_empty()
        && !name.contains(['\\', ':', '\0'])
        && parts.all(|part| matches!(part, Component::Normal(_)))
}
