//! Where an export comes from: what other readers ignore and a later user needs (datasets.md section 14.6).

use serde_json::{Value, json};

use super::Plan;
use crate::{ACTION, EpisodeMeta};

/// The document that every export carries.
pub(super) fn document(plan: &Plan<'_>) -> Value {
    let manifest = plan.dataset.manifest();
    let draft = &manifest.draft;
    let fields = plan.fields.iter().map(|(field, name)| {
        json!({
            "name": field.name,
            "exported_as": name,
            "dtype": field.dtype,
            "shape": field.shape,
            "units": field.units,
            "meaning": field.meaning,
            "alignment": field.alignment,
        })
    });
    let cameras = plan.cameras.iter().map(|(camera, name)| {
        json!({
            "name": camera.name,
            "exported_as": name,
            "height": camera.height,
            "width": camera.width,
            "dtype_in_dataset": camera.dtype,
            "dtype": "uint8",
            "resized_from": camera.resized_from,
            "resize": camera.resized_from.map(|_| "bilinear, half-pixel centres, no antialias"),
        })
    });
    let splits = plan.dataset.splits().iter().map(|split| {
        json!({"name": split.name, "rule": split.rule, "seed": split.seed, "episodes": split.episodes})
    });
    json!({
        "tool": concat!("jepa-bench ", env!("CARGO_PKG_VERSION")),
        "layout": plan.format.name(),
        "dataset": {
            "content_hash": manifest.content_hash,
            "codec": manifest.codec,
            "loss": manifest.loss,
            "format_version": manifest.format_version,
            "source": draft.source,
            "licence": draft.licence,
            "citation": draft.citation,
            "notes": draft.notes,
        },
        "action": action(plan),
        "fps": draft.fps,
        "control_hz": draft.control_hz,
        "fields": fields.collect::<Vec<_>>(),
        "cameras": cameras.collect::<Vec<_>>(),
        "statistics": "over all episodes, train and val together: computed before any split",
        "splits": splits.collect::<Vec<_>>(),
        "episodes": plan.dataset.episodes().iter().map(episode).collect::<Vec<_>>(),
        "changes": plan.changes,
    })
}

/// Unit of the actions, and whether they are relative to the state, as far as the source tells.
fn action(plan: &Plan<'_>) -> Value {
    let manifest = plan.dataset.manifest();
    let Some(field) = manifest.field(ACTION) else {
        return Value::Null;
    };
    let is_relative = match manifest.draft.source.name.as_str() {
        "wall" | "pusht" | "droid" | "franka" | "metaworld" | "tdmpc2" | "robocasa" => Some(true),
        "zarr" if field.meaning.starts_with("absolute") => Some(false),
        _ => None,
    };
    json!({
        "units": field.units,
        "meaning": field.meaning,
        "alignment": field.alignment,
        "relative": is_relative,
        "normalized": false,
        "scale": "as in the dataset: this export changes no value",
    })
}

fn episode(meta: &EpisodeMeta) -> Value {
    json!({
        "episode_index": meta.episode_index,
        "source_index": meta.source_index,
        "source_path": meta.source_path,
        "source_hash": meta.source_hash,
        "split": meta.split,
        "seed": meta.seed,
        "task": meta.task,
        "extras": meta.extras,
    })
}
