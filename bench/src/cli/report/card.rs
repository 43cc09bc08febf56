//! What a dataset is, for a report: its manifest, statistics, splits and ledger.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use jepa_datasets::{ACTION, Dataset, Outcome, Statistics};
use jepa_reports::{DatasetCard, FieldRow};

/// The card of a dataset, from its manifest, statistics, splits and ledger.
pub(crate) fn card(path: &Path) -> anyhow::Result<DatasetCard> {
    let dataset = Dataset::open(path)
        .with_context(|| format!("cannot describe dataset `{}`", path.display()))?;
    let name = path.file_name().map_or_else(
        || "dataset".into(),
        |name| name.to_string_lossy().into_owned(),
    );
    Ok(DatasetCard {
        name,
        facts: facts(&dataset),
        fields: fields(&dataset),
        rejects: rejects(&dataset)?,
    })
}

fn facts(dataset: &Dataset) -> Vec<(String, String)> {
    let manifest = dataset.manifest();
    let (draft, counts) = (&manifest.draft, &manifest.counts);
    let cameras = draft
        .cameras
        .iter()
        .map(|camera| format!("{} ({} x {})", camera.name, camera.height, camera.width));
    let rate = draft
        .control_hz
        .map_or_else(|| "no physical time".into(), |hz| format!("{hz} Hz"));
    let mut facts = vec![
        ("source", draft.source.name.clone()),
        (
            "revision",
            draft.source.revision.clone().unwrap_or_default(),
        ),
        ("episodes", counts.episodes.to_string()),
        ("rows", counts.rows.to_string()),
        ("frames", counts.frames.to_string()),
        (
            "rejected, skipped",
            format!("{}, {}", counts.rejected, counts.skipped),
        ),
        ("cameras", cameras.collect::<Vec<_>>().join(", ")),
        ("control rate", rate),
        ("codec", manifest.codec.to_string()),
        (
            "licence",
            draft.licence.clone().unwrap_or_else(|| "not stated".into()),
        ),
        ("citation", draft.citation.clone().unwrap_or_default()),
        ("notes", draft.notes.join(" ")),
        ("content hash", dataset.content_hash().into()),
    ];
    facts.retain(|(_, value)| !value.is_empty());
    let splits = dataset.splits().iter().map(|split| {
        let text = format!(
            "{} episodes by rule {}, hash {}",
            split.episodes.len(),
            split.rule,
            split.hash
        );
        (format!("split {}", split.name), text)
    });
    facts
        .into_iter()
        .map(|(name, value)| (name.to_string(), value))
        .chain(splits)
        .collect()
}

/// Fields with the statistics of the training split, actions first.
fn fields(dataset: &Dataset) -> Vec<FieldRow> {
    let mut fields = dataset.manifest().draft.fields.clone();
    fields.sort_by_key(|field| field.name != ACTION);
    let rows = fields.into_iter().filter_map(|field| {
        let stats = dataset.stats().fields.get(&field.name)?;
        let Statistics {
            mean,
            std,
            min,
            max,
            ..
        } = stats.train.as_ref().or(stats.all.as_ref())?.clone();
        Some(FieldRow {
            name: field.name,
            shape: format!("{:?}", field.shape),
            meaning: format!("{} [{}]", field.meaning, field.units),
            mean,
            std: std.unwrap_or_default(),
            min,
            max,
        })
    });
    rows.collect()
}

/// Reasons for which source episodes were left out, with their counts.
fn rejects(dataset: &Dataset) -> anyhow::Result<Vec<(String, u64)>> {
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for row in dataset
        .ledger()?
        .into_iter()
        .filter(|row| row.outcome != Outcome::Accepted)
    {
        *reasons.entry(row.code).or_default() += 1;
    }
    Ok(reasons.into_iter().collect())
}
