//! `bad/expected_hdf5.json`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::json;

/// One case.
#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) dir: String,
    #[serde(default)]
    pub(crate) errors: Vec<Fault>,
    #[serde(default)]
    pub(crate) ingested: Vec<serde_json::Value>,
    #[serde(default)]
    pub(crate) files: BTreeMap<String, FileCase>,
}

#[derive(Deserialize)]
pub(crate) struct Fault {
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) episode: serde_json::Value,
    #[serde(default)]
    pub(crate) file: String,
    pub(crate) key: Option<String>,
    pub(crate) filter_id: Option<i32>,
}

#[derive(Deserialize)]
pub(crate) struct FileCase {
    #[serde(default)]
    pub(crate) fatal: bool,
    pub(crate) errors: Vec<Fault>,
    #[serde(default)]
    pub(crate) ingested: Vec<u64>,
}

pub(crate) fn case(id: u32) -> Case {
    let cases = json("bad/expected_hdf5.json");
    let cases = cases["cases"].as_array().expect("cases");
    let case = cases.iter().find(|case| case["id"] == id);
    serde_json::from_value(case.expect("the case").clone()).expect("a case")
}
