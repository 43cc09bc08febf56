//! What another benchmark claims.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::statistics::Interval;

/// Longest text that a field may hold, in bytes.
const MAX_TEXT: usize = 2_000;

/// A number from another benchmark, as claimed there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportedRow {
    /// The benchmark that it comes from.
    pub source: ImportedFrom,
    /// Always [`ImportStatus::Unverified`]: such a row is shown beside a board and never ranked.
    pub status: ImportStatus,
    /// Task, as the source names it.
    pub task: String,
    /// Model, as the source names it.
    pub model: String,
    /// What was measured: `success_rate`, a share in `[0, 1]`.
    pub metric: String,
    /// The number.
    pub value: f64,
    /// Number of episodes behind it.
    pub n: u64,
    /// 95% interval, where the source gives one.
    pub interval: Option<Interval>,
    /// When it was measured, where the source says so.
    pub date: Option<String>,
    /// Address of the model or its code, where the source gives one.
    pub url: Option<String>,
    /// Hash (blake3, hex) of the file that the number was read from.
    pub raw_hash: String,
}

/// A benchmark that rows are imported from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImportedFrom {
    /// Results file of stable-worldmodel's evaluation scripts.
    StableWorldmodel,
    /// Submission bundle of CLEAR-LeWM.
    ClearLewm,
}

impl ImportedFrom {
    /// The name in files and errors.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StableWorldmodel => "stable-worldmodel",
            Self::ClearLewm => "clear-lewm",
        }
    }
}

/// What this program knows about an imported number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImportStatus {
    /// Nothing was recomputed but what the file itself allows.
    Unverified,
}

/// A document from outside, with the way to what is read, for errors that name the field.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) from: ImportedFrom,
    /// What the document is called in errors.
    pub(super) file: &'a str,
}

impl Reader<'_> {
    /// An error about a field, with what to do about it.
    pub(super) fn wrong(self, field: &str, detail: impl Into<String>, fix: &str) -> Error {
        Error::Import {
            from: self.from.as_str(),
            file: shortened(self.file),
            field: shortened(field),
            detail: detail.into(),
            fix: fix.into(),
        }
    }

    /// Refuses a document that is larger than `limit` bytes before anything looks at it.
    pub(super) fn check_size(self, bytes: &[u8], limit: usize) -> Result<()> {
        if bytes.len() <= limit {
            return Ok(());
        }
        let detail = format!("has {} bytes, the limit is {limit}", bytes.len());
        Err(self.wrong(
            "file",
            detail,
            "import the results file alone, without media or logs",
        ))
    }

    /// An object of JSON. Depth is bounded by the parser.
    pub(super) fn object(self, bytes: &[u8]) -> Result<Map<String, Value>> {
        let fix = "pass the file as the other benchmark wrote it";
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(self.wrong("file", "is not a JSON object", fix)),
            Err(error) => Err(self.wrong("file", format!("is not JSON: {error}"), fix)),
        }
    }

    /// An object inside an object.
    pub(super) fn inner<'v>(
        self,
        object: &'v Map<String, Value>,
        field: &str,
    ) -> Result<&'v Map<String, Value>> {
        let value = object.get(last(field)).and_then(Value::as_object);
        value.ok_or_else(|| {
            self.wrong(
                field,
                "is not an object",
                "see docs/interop.md for the layout",
            )
        })
    }

    /// A text of moderate length without control characters.
    pub(super) fn text<'v>(self, object: &'v Map<String, Value>, field: &str) -> Result<&'v str> {
        let value = object.get(last(field)).and_then(Value::as_str);
        let value = value.ok_or_else(|| {
            self.wrong(field, "is not a text", "see docs/interop.md for the layout")
        })?;
        self.check_text(value, field)
    }

    /// A text that is shown to people: not empty, not long, one line.
    pub(super) fn check_text<'v>(self, text: &'v str, field: &str) -> Result<&'v str> {
        let problem = if text.trim().is_empty() {
            "is empty"
        } else if text.len() > MAX_TEXT {
            "is too long"
        } else if text.chars().any(char::is_control) {
            "has control characters"
        } else {
            return Ok(text.trim());
        };
        Err(self.wrong(
            field,
            problem,
            "write a name of one line, up to 2,000 bytes",
        ))
    }

    /// A finite number.
    pub(super) fn number(self, object: &Map<String, Value>, field: &str) -> Result<f64> {
        let value = object.get(last(field)).and_then(Value::as_f64);
        let finite = value.filter(|value| value.is_finite());
        finite.ok_or_else(|| {
            self.wrong(
                field,
                "is not a number",
                "see docs/interop.md for the layout",
            )
        })
    }

    /// A percentage as a share.
    pub(super) fn share(self, percent: f64, field: &str) -> Result<f64> {
        if (0.0..=100.0).contains(&percent) {
            return Ok(percent / 100.0);
        }
        let detail = format!("is {percent}, not a percentage");
        Err(self.wrong(field, detail, "give it between 0 and 100"))
    }
}

/// The key at the end of the way to a field: `metrics.episodes` is found under `episodes`.
fn last(field: &str) -> &str {
    field.rsplit('.').next().unwrap_or(field)
}

/// A text from outside, short enough for an error.
fn shortened(text: &str) -> String {
    let printable = text.chars().filter(|c| !c.is_control());
    printable.take(200).collect()
}
