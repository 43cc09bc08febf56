//! The tables of damaged releases: `bad/expected.json`, `bad/tables.json`, `bad/expected_hdf5.json`.

use std::path::PathBuf;

use serde_json::Value;

use super::{fixture, json};

/// One case of `bad/tables.json`: its folder, and what is expected.
pub(crate) fn bad_case(id: u64) -> (PathBuf, Value) {
    let cases = json("bad/tables.json");
    let cases = cases["cases"].as_array().expect("cases");
    let case = cases.iter().find(|case| case["id"] == id);
    let case = case.expect("the case");
    let dir = case["dir"].as_str().expect("a folder");
    (fixture("bad").join(dir), case.clone())
}

/// Cases of `bad/expected.json` of a format.
pub(crate) fn cases(format: &str) -> Vec<Value> {
    let expected = json("bad/expected.json");
    let cases = expected["cases"].as_array().expect("cases").iter();
    cases
        .filter(|case| case["format"] == format)
        .cloned()
        .collect()
}
