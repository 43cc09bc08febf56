//! Reference cases: models with the weights of a file, compared with the outputs of the reference code.
//!
//! A case is a folder with a `manifest.json` (class, configuration, tolerance), weights under released key
//! names, inputs and expected outputs. [`check`] finds the class in [`CHECKS`], runs our model and compares
//! every number. Planners have cases too; they are checked where planners live, with the same [`Case`].

mod case;
mod compare;
mod encoder;
mod head;
mod pipeline;
mod pixels;
mod planning;
pub(crate) mod predictor;
mod training;
mod transform;

pub use case::{Case, ReadWeights};
pub use compare::{Comparison, Tolerance, compare, compare_number, compare_to_largest};
pub use planning::{Planning, world_model};
pub use predictor::planner;

use crate::{Error, Result};

/// How one reference class is checked.
#[derive(Clone, Copy)]
pub struct CheckEntry {
    /// The class as `manifest.json` names it: its `cls`, or the beginning of it.
    pub class: &'static str,
    /// Which project it is from, where several have a class of that name: contained in `source`.
    pub source: &'static str,
    /// Runs the case.
    pub run: fn(&Case<'_>) -> Result<Vec<Comparison>>,
}

/// Every class of models, losses and transforms that can be checked. The losses of a predictor class come before
/// the class alone: the first entry that fits a case runs it.
pub const CHECKS: &[&[CheckEntry]] = &[
    encoder::ENTRIES,
    training::ENTRIES,
    predictor::ENTRIES,
    pipeline::ENTRIES,
    pixels::ENTRIES,
    head::ENTRIES,
    transform::ENTRIES,
];

/// Runs a case of one of our models.
///
/// # Errors
/// Errors of reading the case; [`Error::Weights`] for a class that nothing here computes.
pub fn check(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let entry = CHECKS.iter().copied().flatten().find(|entry| {
        case.class().starts_with(entry.class) && case.source().contains(entry.source)
    });
    let Some(entry) = entry else {
        return Err(Error::Weights {
            name: case.name().to_string(),
            detail: format!(
                "no check for class `{}` of `{}`",
                case.class(),
                case.source()
            ),
        });
    };
    let compared = (entry.run)(case)?;
    if compared.is_empty() {
        return Err(Error::Weights {
            name: case.name().to_string(),
            detail: "nothing was compared".into(),
        });
    }
    Ok(compared)
}

#[cfg(test)]
pub(crate) mod testing {
    //! Cases of the project, for the tests of the code that they check.

    use std::path::{Path, PathBuf};

    use jepa_ingest::container::torch_zip::TorchFile;

    use super::*;
    use crate::weights::{Array, Checkpoint};

    /// A case folder of `tests/fixtures/models`.
    pub(crate) fn folder(case: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/fixtures/models")
            .join(case)
    }

    /// The arrays of a torch file.
    pub(crate) fn torch(path: &Path) -> Result<Checkpoint> {
        let broken = |detail: String| Error::Weights {
            name: path.display().to_string(),
            detail,
        };
        let file = TorchFile::open(path).map_err(|e| broken(e.to_string()))?;
        let tensors = file.tensors().map_err(|e| broken(e.to_string()))?;
        let arrays = tensors.into_iter().map(|(key, tensor)| {
            let array = Array::new(tensor.shape().to_vec(), tensor.to_f32())?;
            Ok((key, array))
        });
        Ok(Checkpoint::new(arrays.collect::<Result<_>>()?))
    }

    /// Runs a case and says what is out of tolerance; panics when anything is.
    pub(crate) fn assert_case(case: &str) {
        let case = Case::open(&folder(case), &torch).unwrap();
        let compared = check(&case).unwrap();
        for one in &compared {
            println!("{one:?}");
        }
        assert!(compared.iter().all(|one| one.passed), "{}", case.name());
    }
}
