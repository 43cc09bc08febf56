//! Results for other programs, and results of other programs.
//!
//! Out: [`export`] turns runs into files of another layout, [`ExportFormat`] names them. The functions are pure: the same runs
//! give the same bytes. In: [`ImportedRow`] is what another benchmark claims; it is shown as unverified and never ranked,
//! since there are no episodes behind it that anybody here could run again. docs/interop.md has every field and its source.

mod clear_lewm;
mod csv;
mod every_eval_ever;
mod hf_eval_results;
mod imported;
mod python_literal;
mod stable_worldmodel;
mod table;

use std::collections::BTreeMap;

pub use clear_lewm::read_clear_lewm;
pub use csv::export_csv;
pub use every_eval_ever::export_every_eval_ever;
pub use hf_eval_results::export_hf_eval_results;
pub use imported::{ImportStatus, ImportedFrom, ImportedRow};
pub use stable_worldmodel::read_stable_worldmodel;
pub use table::export_parquet;

use crate::compare::{Score, Scored};
use crate::error::{Error, Result};
use crate::record::RunRecord;
use crate::run::Run;
use crate::store::BoardRun;

/// A layout that runs are exported to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExportFormat {
    /// YAML for the folder `.eval_results/` of a model repository on the Hugging Face Hub.
    HfEvalResults,
    /// One JSON document per run for the collection Every Eval Ever.
    EveryEvalEver,
    /// One row per run, RFC 4180.
    Csv,
    /// One row per episode.
    Parquet,
}

impl ExportFormat {
    /// Every format, in the order in which they are listed.
    pub const ALL: [Self; 4] = [
        Self::HfEvalResults,
        Self::EveryEvalEver,
        Self::Csv,
        Self::Parquet,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::HfEvalResults => "hf-eval-results",
            Self::EveryEvalEver => "every-eval-ever",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
}

impl std::str::FromStr for ExportFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|format| format.name() == name);
        found.ok_or_else(|| Error::UnknownFormat { name: name.into() })
    }
}

/// A run to be exported: its record and how its episodes went.
#[derive(Debug, Clone)]
pub struct ExportRun<'a> {
    /// Hash (blake3, hex) of the record; the identity of the run on a board.
    pub id: String,
    /// The record.
    pub record: &'a RunRecord,
    /// Outcomes by seed.
    pub scores: BTreeMap<u64, Score>,
}

impl<'a> ExportRun<'a> {
    /// A run folder that was loaded.
    ///
    /// # Errors
    /// When a setting cannot be represented in JSON.
    pub fn of_run(run: &'a Run) -> Result<Self> {
        Ok(Self {
            id: run.id()?,
            record: &run.record,
            scores: Scored::new(run, String::new()).scores,
        })
    }

    /// A run of a board.
    pub fn of_board(run: &'a BoardRun) -> Self {
        Self {
            id: run.id.clone(),
            record: &run.record,
            scores: run.scores.clone(),
        }
    }
}

/// What an export needs to know that no record says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExportOptions {
    /// Dataset on the Hugging Face Hub that is registered as the benchmark, `owner/name`; needed by
    /// [`ExportFormat::HfEvalResults`].
    pub hub_dataset: Option<String>,
    /// Where the runs can be seen: a page of a board, a repository.
    pub source_url: Option<String>,
    /// User or organisation on the Hub that the results come from.
    pub hub_user: Option<String>,
    /// Who evaluated; `unknown` where it is not said.
    pub organization: Option<String>,
    /// Who made the models, the first half of `developer/model`; `unknown` where it is not said.
    pub developer: Option<String>,
}

/// A file of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportFile {
    /// Name without folders.
    pub name: String,
    /// Content.
    pub bytes: Vec<u8>,
}

/// Runs as files of another layout: one file, or one per run for [`ExportFormat::EveryEvalEver`].
///
/// # Errors
/// When an option that the format needs is missing, or a table cannot be encoded.
pub fn export(
    format: ExportFormat,
    runs: &[ExportRun],
    options: &ExportOptions,
) -> Result<Vec<ExportFile>> {
    let single = |name: &str, bytes: Vec<u8>| {
        let name = name.into();
        vec![ExportFile { name, bytes }]
    };
    Ok(match format {
        ExportFormat::HfEvalResults => {
            let text = export_hf_eval_results(runs, options)?;
            single("jepa-bench.yaml", text.into_bytes())
        }
        ExportFormat::EveryEvalEver => runs
            .iter()
            .map(|run| {
                let name = every_eval_ever::file_name(run);
                let bytes = export_every_eval_ever(run, options)?.into_bytes();
                Ok(ExportFile { name, bytes })
            })
            .collect::<Result<_>>()?,
        ExportFormat::Csv => single("runs.csv", export_csv(runs).into_bytes()),
        ExportFormat::Parquet => single("episodes.parquet", export_parquet(runs)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SyntheticRun;

    /// Loaded runs of these models.
    pub(super) fn runs(models: &[&str]) -> Vec<Run> {
        let folder = tempfile::tempdir().unwrap();
        let load = |model: &&str| {
            let written = SyntheticRun::new(model, 8).write(folder.path()).unwrap();
            Run::load(&written).unwrap()
        };
        models.iter().map(load).collect()
    }

    /// Every option set.
    pub(super) fn options() -> ExportOptions {
        ExportOptions {
            hub_dataset: Some("someone/jepa-bench".into()),
            source_url: Some("https://board.example/wall".into()),
            hub_user: Some("someone".into()),
            organization: Some("Some Lab".into()),
            developer: Some("some-lab".into()),
        }
    }

    #[test]
    fn formats_are_known_by_their_names() {
        for format in ExportFormat::ALL {
            assert_eq!(format.name().parse::<ExportFormat>().unwrap(), format);
        }
        let error = "xlsx".parse::<ExportFormat>().unwrap_err();
        assert!(error.to_string().contains("`xlsx`"));
        assert!(
            error
                .hint()
                .unwrap()
                .contains("hf-eval-results, every-eval-ever, csv, parquet")
        );
    }

    #[test]
    fn every_format_gives_the_same_bytes_again() {
        let runs = runs(&["pldm", "floor:random"]);
        let exported = || -> Vec<ExportRun> {
            runs.iter()
                .map(|run| ExportRun::of_run(run).unwrap())
                .collect()
        };
        for (format, files) in ExportFormat::ALL.into_iter().zip([1, 2, 1, 1]) {
            let found = export(format, &exported(), &options()).unwrap();
            assert_eq!(found, export(format, &exported(), &options()).unwrap());
            assert_eq!(found.len(), files);
            assert!(found.iter().all(|file| !file.bytes.is_empty()));
        }
    }

    #[test]
    fn a_run_folder_and_its_copy_on_a_board_export_alike() {
        let folder = tempfile::tempdir().unwrap();
        let written = SyntheticRun::new("pldm", 12).write(folder.path()).unwrap();
        let run = Run::load(&written).unwrap();
        let mut board = crate::Board::open(&folder.path().join("board.db")).unwrap();
        board.add(&run).unwrap();
        let stored = board.runs(&run.record.task).unwrap();
        let (a, b) = (
            ExportRun::of_run(&run).unwrap(),
            ExportRun::of_board(&stored[0]),
        );
        for format in ExportFormat::ALL {
            let files =
                |run: &ExportRun| export(format, std::slice::from_ref(run), &options()).unwrap();
            assert_eq!(files(&a), files(&b));
        }
    }
}
