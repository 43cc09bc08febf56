//! Properties of splits, statistics and normalizers on arbitrary input.
#![expect(
    clippy::float_cmp,
    reason = "compared values are the same numbers, not results of arithmetic"
)]

use jepa_datasets::mt19937::torch_randperm;
use jepa_datasets::{Codec, Moments, Normalizer, SliceSpec, SplitRule, Statistics, quantile};
use proptest::prelude::*;

/// Mean and sum of squared deviations in two passes.
fn two_passes(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, values.iter().map(|v| (v - mean).powi(2)).sum())
}

proptest! {
    #[test]
    fn merged_moments_are_those_of_the_whole(
        values in prop::collection::vec(-1e3_f64..1e3, 2..200),
        cuts in prop::collection::vec(0_usize..200, 0..5),
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(values.len())).chain([0, values.len()]).collect();
        cuts.sort_unstable();
        let mut merged = Moments::new(1);
        cuts.windows(2).for_each(|w| merged.merge(&Moments::of(&values[w[0]..w[1]], 1)));
        let (mean, m2) = two_passes(&values);
        let std = (m2 / (values.len() - 1) as f64).sqrt();
        prop_assert_eq!(merged.count(), values.len() as u64);
        prop_assert!((merged.mean()[0] - mean).abs() < 1e-9);
        prop_assert!((merged.std_unbiased().expect("two values")[0] - std).abs() < 1e-8);
        prop_assert!(merged.std_population().expect("a value")[0] <= std + 1e-12);
    }

    #[test]
    fn statistics_shift_and_scale_with_their_values(
        values in prop::collection::vec(-1e2_f64..1e2, 2..100),
        shift in -1e2_f64..1e2,
        scale in 0.1_f64..10.0,
    ) {
        let of = |values: &[f64]| Statistics::new(&Moments::of(values, 1), &mut [values.to_vec()]).expect("values");
        let moved: Vec<f64> = values.iter().map(|v| v * scale + shift).collect();
        let (before, after) = (of(&values), of(&moved));
        prop_assert!((after.mean[0] - (before.mean[0] * scale + shift)).abs() < 1e-7);
        prop_assert!((after.std_population[0] - before.std_population[0] * scale).abs() < 1e-7);
        for (name, q) in &before.quantiles {
            prop_assert!((after.quantiles[name][0] - (q[0] * scale + shift)).abs() < 1e-7);
        }
    }

    #[test]
    fn quantiles_lie_between_the_ends_and_never_fall(mut values in prop::collection::vec(-1e3_f64..1e3, 1..50)) {
        values.sort_by(f64::total_cmp);
        let at = |q: f64| quantile(&values, q).expect("values");
        prop_assert_eq!(at(0.0), values[0]);
        prop_assert_eq!(at(1.0), values[values.len() - 1]);
        for k in 0..20 {
            prop_assert!(at(f64::from(k) / 20.0) <= at(f64::from(k + 1) / 20.0) + 1e-9);
        }
    }

    #[test]
    fn normalizing_and_back_changes_nothing(
        values in prop::collection::vec(-100.0_f32..100.0, 6),
        mean in prop::collection::vec(-10.0_f64..10.0, 3),
        std in prop::collection::vec(0.1_f64..10.0, 3),
    ) {
        let normalizer = Normalizer { mean, std };
        let mut changed = values.clone();
        normalizer.normalize(&mut changed);
        normalizer.denormalize(&mut changed);
        for (a, b) in changed.iter().zip(&values) {
            prop_assert!((a - b).abs() < 1e-3);
        }
    }

    #[test]
    fn every_episode_is_in_exactly_one_split(n in 1_u64..400, fraction in 0.0_f64..=1.0, seed in 0_u64..1000) {
        for rule in [SplitRule::DinoWm, SplitRule::JepaWms { fraction, seed }, SplitRule::Random { seed, fraction }] {
            let (train, val) = rule.divide(n).expect("a split");
            let mut all: Vec<u64> = train.iter().chain(&val).copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..n).collect::<Vec<_>>());
            prop_assert_eq!(rule.to_string().parse::<SplitRule>().expect("its own name"), rule);
        }
    }

    #[test]
    fn windows_are_the_starts_that_fit(length in 0_u64..200, context in 1_usize..8, frameskip in 1_usize..8, last in any::<bool>()) {
        let spec = SliceSpec { last_block: last, ..SliceSpec::new(context, frameskip, "all") };
        let fit = (0..length).filter(|start| start + spec.rows() as u64 <= length).count() as u64;
        prop_assert_eq!(spec.windows(length), fit);
        let rows: Vec<usize> = spec.rows_of(3).collect();
        prop_assert_eq!(rows.len(), spec.frames());
        prop_assert!(rows[rows.len() - 1] < 3 + spec.rows());
    }

    #[test]
    fn randperm_is_a_permutation(n in 0_u32..2000, seed in any::<u64>()) {
        let mut order = torch_randperm(n, seed);
        order.sort_unstable();
        prop_assert!(order.into_iter().eq(0..n));
    }
}

/// Rule and number of episodes; first and last of train, first and last of val.
type Members = (SplitRule, u64, [u64; 8], [u64; 2], [u64; 4], [u64; 2]);

/// datasets.md section 2.4 and 17: members of the released splits.
#[test]
fn released_splits_have_their_members() {
    let cases: [Members; 6] = [
        (
            SplitRule::DinoWm,
            2000,
            [1542, 1486, 252, 1959, 410, 190, 1488, 1520],
            [574, 870],
            [1796, 221, 1669, 704],
            [635, 1217],
        ),
        (
            SplitRule::JEPA_WMS,
            2000,
            [1720, 1388, 416, 369, 1247, 1625, 653, 1133],
            [1463, 309],
            [1983, 800, 67, 477],
            [1260, 1475],
        ),
        (
            SplitRule::DinoWm,
            1920,
            [102, 33, 1056, 1591, 354, 245, 790, 1323],
            [632, 1018],
            [1054, 207, 1715, 1233],
            [1826, 196],
        ),
        (
            SplitRule::JEPA_WMS,
            1920,
            [1480, 1427, 974, 395, 427, 1515, 397, 1509],
            [1760, 1539],
            [803, 19, 641, 749],
            [1249, 865],
        ),
        (
            SplitRule::JEPA_WMS,
            12600,
            [10720, 1757, 12570, 2048, 1119, 11910, 3007, 207],
            [6993, 11987],
            [11283, 6988, 2715, 10447],
            [10584, 5135],
        ),
        (
            SplitRule::JepaWms {
                fraction: 0.9,
                seed: 1,
            },
            12600,
            [5845, 9877, 3678, 11639, 23, 2173, 4127, 8272],
            [11247, 7415],
            [6057, 2615, 8090, 2806],
            [2325, 5487],
        ),
    ];
    for (rule, n, first, last, val_first, val_last) in cases {
        let (train, val) = rule.divide(n).expect("a split");
        assert_eq!(train[..8], first, "{rule} of {n}");
        assert_eq!(train[train.len() - 2..], last, "{rule} of {n}");
        assert_eq!(val[..4], val_first, "{rule} of {n}");
        assert_eq!(val[val.len() - 2..], val_last, "{rule} of {n}");
    }
}

/// datasets.md section 2.4.
#[test]
fn released_datasets_have_their_number_of_slices() {
    let count = |episodes: u64, length, context| {
        episodes * SliceSpec::new(context, 5, "all").windows(length)
    };
    assert_eq!((count(1800, 100, 3), count(200, 100, 7)), (145_800, 12_200));
    assert_eq!((count(1728, 50, 3), count(192, 50, 7)), (53_568, 2_112));
    assert_eq!(
        (count(11_340, 99, 3), count(1_260, 99, 17)),
        (907_200, 12_600)
    );
}

/// datasets.md section 17: T = 20 gives one window, 19 none.
#[test]
fn a_slice_of_four_frames_five_apart_needs_twenty_rows() {
    let spec = SliceSpec::new(3, 5, "all");
    assert_eq!([20, 19, 3].map(|length| spec.windows(length)), [1, 0, 0]);
    assert_eq!(spec.rows_of(0).collect::<Vec<_>>(), [0, 5, 10, 15]);
    let short = SliceSpec {
        last_block: false,
        ..spec
    };
    assert_eq!([16, 15].map(|length| short.windows(length)), [1, 0]);
}

#[test]
fn senseless_specs_rules_and_codecs_are_refused() {
    assert!(SliceSpec::new(0, 5, "all").check().is_err());
    assert!(SliceSpec::new(3, 0, "all").check().is_err());
    assert!(SliceSpec::new(usize::MAX, 5, "all").check().is_err());
    assert!(SliceSpec::new(3, usize::MAX, "all").check().is_err());
    for rule in [
        "",
        "jepa",
        "jepa-wms:2",
        "jepa-wms:0.9:x",
        "random",
        "random:1",
        "random:1:nan",
        "released:1",
    ] {
        assert!(rule.parse::<SplitRule>().is_err(), "{rule}");
    }
    for codec in ["jpeg", "jpeg:", "jpeg:0", "jpeg:101", "jpeg:x", "zip"] {
        assert!(codec.parse::<Codec>().is_err(), "{codec}");
    }
    assert_eq!("jpeg:90".parse::<Codec>().is_ok(), cfg!(feature = "jpeg"));
}

#[test]
fn released_constants_are_those_of_the_reference() {
    let wall = Normalizer::released("wall", "action").expect("published");
    assert_eq!(wall.std, [0.752_332_866_191_864, 0.746_689_796_447_753_9]);
    assert_eq!(
        Normalizer::released("wall", "proprio"),
        Normalizer::released("wall", "observation.proprio")
    );
    assert_eq!(
        Normalizer::released("pusht", "state")
            .expect("published")
            .width(),
        7
    );
    assert!(
        Normalizer::released("wall", "reward").is_none()
            && Normalizer::released("none", "action").is_none()
    );
}

#[test]
fn constant_dimensions_do_not_blow_up() {
    let statistics = Statistics::new(
        &Moments::of(&[2.0, 1.0, 2.0, 3.0], 2),
        &mut [vec![2.0, 2.0], vec![1.0, 3.0]],
    );
    let statistics = statistics.expect("two rows");
    assert_eq!(statistics.constant, [true, false]);
    let normalizer = Normalizer::from_statistics(&statistics);
    let mut values = [2.0, 2.0];
    normalizer.normalize(&mut values);
    assert_eq!(values, [0.0, 0.0]);
}

#[test]
fn nothing_has_no_statistics_and_one_row_no_unbiased_deviation() {
    assert!(Statistics::new(&Moments::new(2), &mut [vec![], vec![]]).is_none());
    assert!(quantile(&[], 0.5).is_none());
    let one = Statistics::new(&Moments::of(&[7.0], 1), &mut [vec![7.0]]).expect("a row");
    assert_eq!(
        (one.std, one.std_population, one.mean),
        (None, vec![0.0], vec![7.0])
    );
}
