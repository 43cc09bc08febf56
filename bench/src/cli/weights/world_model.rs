//! World models among the files that `weights import` takes.

use std::path::Path;
use std::process::ExitCode;

use jepa_models::weights::import::{ImportedModel, ModelEntry, Normalizers, WORLD_MODEL};
use serde_json::{Value, json};

use super::{Context, Import, read_file, read_sizes};
use crate::weights;

/// Where the sizes of released models are.
const OF_MODELS: &str = "`jepa-bench weights list --json` shows the `sizes` of the released ones";

/// Name of the arrays in the folder of a model.
const ARRAYS: &str = "model.safetensors";

/// One `weights import` of a world model.
pub(super) struct ImportModel<'a> {
    pub job: Import<'a>,
    pub entry: &'static ModelEntry,
    pub encoder: Option<&'a Path>,
    pub stats: Option<&'a Path>,
}

impl ImportModel<'_> {
    pub(super) fn run(&self, ctx: &Context) -> anyhow::Result<ExitCode> {
        let (job, entry) = (&self.job, self.entry);
        let encoder = self.encoder.ok_or_else(|| self.no_encoder())?;
        let source = weights::identify(job.file, entry.origin)?;
        job.refuse_others(&source.blake3)?;
        let sizes = job.sizes.map(|path| read_sizes(path, OF_MODELS));
        let statistics = self.stats.map(|path| -> anyhow::Result<_> {
            let name = path.display().to_string();
            Ok(Normalizers::of_statistics(&name, &read_file(path)?)?)
        });
        let (sizes, statistics) = (sizes.transpose()?, statistics.transpose()?);
        let file = weights::read_where(job.file, &|key| entry.reads(key))?;
        let model = ImportedModel::new(entry, file, encoder, sizes, statistics, source)?;
        let config = if job.dry_run {
            model.config().clone()
        } else {
            model.write(job.out)?
        };
        job.report(&config, ARRAYS, ctx)
    }

    fn no_encoder(&self) -> crate::Error {
        let encoder = (self.entry.sizes)().encoder;
        crate::Error::Config {
            what: format!("`--model {}`", self.entry.name),
            detail: format!("the file comes without its image encoder, `{encoder}`"),
            hint: Some(format!(
                "import that first, with `--model {encoder} --out DIR`, and pass `--encoder DIR`"
            )),
        }
    }
}

/// A model in the document of `weights list --json`.
pub(super) fn listed(entry: &ModelEntry) -> Value {
    json!({
        "name": entry.name,
        "summary": entry.summary,
        "kind": WORLD_MODEL,
        "origin": entry.origin,
        "sizes": (entry.sizes)(),
    })
}
