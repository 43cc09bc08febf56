//! What the manifest says that a codec lost. Without the frames of the source it cannot be computed again; but its
//! numbers have to fit each other and the frames that are there.

use super::Problem;
use crate::{Codec, Dataset, StatedLoss};

/// Decibels by which the logarithms of two versions of a library may differ.
const ROUNDING_DB: f64 = 1e-9;

/// A loss is stated for every camera with frames where the codec is not exact, and for none where it is. It is one of
/// as many values as the frames have, its sums are possible and its ratio is theirs.
pub fn the_loss_is_that_of_a_codec(dataset: &Dataset) -> Vec<Problem> {
    let manifest = dataset.manifest();
    let is_exact = !matches!(manifest.codec, Codec::Jpeg { .. });
    let mut details: Vec<(&str, String)> = Vec::new();
    for camera in &manifest.draft.cameras {
        let name = camera.name.as_str();
        let ranges = dataset.episodes().iter().map(|meta| meta.frames.get(name));
        let frames: u64 = ranges.flatten().map(|range| range.count).sum();
        let values = frames.saturating_mul((camera.height * camera.width * 3) as u64);
        match manifest.loss.get(name) {
            Some(_) if is_exact => {
                details.push((
                    name,
                    format!("{} loses nothing, and a loss is stated", manifest.codec),
                ));
            }
            Some(loss) => details.extend(faults(loss, values).map(|fault| (name, fault))),
            None if frames > 0 && !is_exact => {
                details.push((name, format!("what {} lost is not stated", manifest.codec)));
            }
            None => {}
        }
    }
    let is_unknown = |name: &&String| manifest.camera(Some(name)).is_err();
    for name in manifest.loss.keys().filter(is_unknown) {
        details.push((name, "a loss is stated, and there is no such camera".into()));
    }
    let problem = |(camera, detail)| {
        let detail = format!("camera `{camera}`: {detail}");
        Problem::new("dataset.json", None, "loss_mismatch", detail)
    };
    details.into_iter().map(problem).collect()
}

/// What is wrong with a loss over that many values.
fn faults(loss: &StatedLoss, values: u64) -> impl Iterator<Item = String> + use<> {
    let sums = loss.sums;
    let square = u128::from(sums.max_error).pow(2);
    let squares = u128::from(sums.squared_error);
    let count = (sums.values != values).then(|| {
        format!(
            "the loss is one of {} values, the frames have {values}",
            sums.values
        )
    });
    let range = (squares < square || squares > square * u128::from(sums.values)).then(|| {
        format!(
            "{} values with a largest error of {} have no squared error of {squares}",
            sums.values, sums.max_error
        )
    });
    let is_theirs = match (loss.psnr_db, sums.psnr_db()) {
        (Some(stated), Some(found)) => (stated - found).abs() <= ROUNDING_DB,
        (stated, found) => stated.is_none() && found.is_none(),
    };
    let decibels = |psnr: Option<f64>| psnr.map_or("none".into(), |psnr| format!("{psnr:.2} dB"));
    let ratio = (!is_theirs).then(|| {
        format!(
            "the PSNR stated is {}, that of its sums {}",
            decibels(loss.psnr_db),
            decibels(sums.psnr_db())
        )
    });
    [count, range, ratio].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FrameLoss;

    fn stated(values: u64, squared_error: u64, max_error: u8) -> StatedLoss {
        let sums = FrameLoss {
            values,
            squared_error,
            max_error,
        };
        sums.into()
    }

    fn found(loss: &StatedLoss, values: u64) -> Vec<String> {
        faults(loss, values).collect()
    }

    #[test]
    fn possible_losses_have_no_fault() {
        for loss in [
            stated(12, 0, 0),
            stated(12, 1, 1),
            stated(12, 12, 1),
            stated(12, 65_025, 255),
            stated(12, 12 * 65_025, 255),
        ] {
            assert_eq!(found(&loss, 12), [""; 0], "{loss}");
        }
        assert_eq!(found(&stated(0, 0, 0), 0), [""; 0], "no frames");
    }

    #[test]
    fn sums_lie_between_one_largest_error_and_nothing_else() {
        for (squares, worst) in [
            (0, 1),
            (13, 1),
            (3, 2),
            (1, 0),
            (65_024, 255),
            (12 * 65_025 + 1, 255),
        ] {
            let faults = found(&stated(12, squares, worst), 12);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].contains("have no squared error"), "{faults:?}");
        }
        let huge = found(&stated(u64::MAX, u64::MAX, 255), u64::MAX);
        assert_eq!(huge, [""; 0], "nothing overflows");
    }

    #[test]
    fn ratios_are_those_of_their_sums() {
        let good = stated(12, 20, 4);
        for psnr_db in [
            None,
            Some(good.psnr_db.expect("a ratio") + 1e-6),
            Some(f64::INFINITY),
        ] {
            let faults = found(&StatedLoss { psnr_db, ..good }, 12);
            assert!(
                faults.len() == 1 && faults[0].contains("PSNR"),
                "{faults:?}"
            );
        }
        let nothing = StatedLoss {
            psnr_db: Some(60.0),
            ..stated(12, 0, 0)
        };
        assert_eq!(found(&nothing, 12).len(), 1);
    }

    #[test]
    fn losses_are_of_as_many_values_as_there_are() {
        let faults = found(&stated(12, 20, 4), 15);
        assert_eq!(faults, ["the loss is one of 12 values, the frames have 15"]);
    }
}
