//! Statistics beside those of scipy, statsmodels and a script of its own (tests/fixtures/statistics/generate.py).

use serde_json::Value;

use super::{
    PairedOutcomes, holm, mcnemar_exact, minimal_detectable_paired_difference,
    stratified_bootstrap, wilson,
};
use crate::{ModelKind, Score, Scored, TaskRef, rank};

fn expected() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/statistics/expected.json"
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().unwrap();
    list.iter().map(|x| x.as_f64().unwrap()).collect()
}

/// Other programs evaluate the same formulas in other orders, and have quantiles of their own.
fn close(found: f64, expected: f64, what: &str) {
    let tolerance = 1e-9 * expected.abs().max(1e-3);
    assert!(
        (found - expected).abs() <= tolerance,
        "{what}: {found} is not {expected}"
    );
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

#[test]
fn intervals_and_tests_are_those_of_statsmodels() {
    let expected = expected();
    for case in expected["wilson"].as_array().unwrap() {
        let found = wilson(count(&case["successes"]), count(&case["n"]), 0.95).unwrap();
        let ends = numbers(&case["interval"]);
        close(found.low, ends[0], "wilson");
        close(found.high, ends[1], "wilson");
    }
    for case in expected["mcnemar"].as_array().unwrap() {
        let found = mcnemar_exact(count(&case["only_first"]), count(&case["only_second"]));
        close(found, case["p"].as_f64().unwrap(), "mcnemar");
    }
    let adjusted = holm(&numbers(&expected["holm"]["p"]));
    for (found, expected) in adjusted.iter().zip(numbers(&expected["holm"]["adjusted"])) {
        close(*found, expected, "holm");
    }
}

#[test]
fn detectable_paired_differences_are_the_roots_of_connors_formula() {
    for case in expected()["detectable_paired"].as_array().unwrap() {
        let discordance = case["discordance"].as_f64().unwrap();
        let found = minimal_detectable_paired_difference(discordance, count(&case["n"]), 0.95, 0.8);
        match case["difference"].as_f64() {
            Some(expected) => close(found.unwrap(), expected, "detectable"),
            None => assert_eq!(found, None),
        }
    }
}

#[test]
fn a_stratified_bootstrap_draws_what_the_script_draws() {
    let case = &expected()["stratified"];
    let strata: Vec<Vec<f64>> = case["strata"]
        .as_array()
        .unwrap()
        .iter()
        .map(numbers)
        .collect();
    let resamples = count(&case["resamples"]) as usize;
    let found = stratified_bootstrap(&strata, resamples, 0.95, count(&case["seed"])).unwrap();
    let ends = numbers(&case["interval"]);
    close(found.mean, case["mean"].as_f64().unwrap(), "mean");
    close(found.interval.low, ends[0], "low");
    close(found.interval.high, ends[1], "high");
}

/// The runs of the made-up board, as trained models without distances.
fn board(case: &Value) -> Vec<(Scored, ModelKind)> {
    let run = |(k, outcomes): (usize, &Value)| {
        let score = |(seed, success): (&String, &Value)| {
            let score = Score {
                success: success.as_bool().unwrap(),
                final_distance: 0.0,
                start_hash: seed.clone(),
            };
            (seed.parse().unwrap(), score)
        };
        let run = Scored {
            label: format!("run {k}"),
            task: TaskRef {
                name: "made-up".into(),
                version: 1,
                hash: "0".into(),
            },
            scores: outcomes.as_object().unwrap().iter().map(score).collect(),
        };
        (run, ModelKind::Trained)
    };
    let runs = case["runs"].as_array().unwrap();
    runs.iter().enumerate().map(run).collect()
}

#[test]
fn a_board_says_what_the_script_says() {
    let case = &expected()["board"];
    let rows = rank(&board(case)).unwrap();
    let letters: Vec<&str> = rows.iter().map(|row| row.letters.as_str()).collect();
    assert_eq!(Value::from(letters), case["letters"]);
    let intervals = rows.iter().map(|row| row.rank_interval.unwrap());
    let intervals: Vec<Value> = intervals
        .map(|(low, high)| vec![low, high].into())
        .collect();
    assert_eq!(Value::from(intervals), case["rank_intervals"]);
    for (row, expected) in rows[1..].iter().zip(numbers(&case["p_holm_to_best"])) {
        let to_best = row.to_best.as_ref().unwrap();
        close(to_best.p_holm, expected, &row.label);
        let PairedOutcomes {
            only_first,
            only_second,
            ..
        } = to_best.outcomes;
        let share = (only_first + only_second) as f64 / to_best.shared as f64;
        let detectable = minimal_detectable_paired_difference(share, to_best.shared, 0.95, 0.8);
        assert_eq!(row.detectable_paired, detectable);
    }
}
