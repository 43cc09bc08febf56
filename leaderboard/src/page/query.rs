//! What a reader asked of a table: order, filters, page. Everything has a plain link.

use std::cmp::Ordering;
use std::fmt::Write;

use super::snapshot::Row;
use crate::record::ModelKind;

/// Rows on one page of a board.
pub(crate) const PAGE_ROWS: usize = 200;

/// A column that a board can be ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// The order of the board: rank, then ceiling and floors.
    Rank,
    /// Label of the model.
    Model,
    /// Who submitted it.
    Submitter,
    /// Name and preset of the planner.
    Planner,
    /// Data track.
    Track,
    /// Verification level.
    Level,
    /// Number of episodes.
    Episodes,
    /// Success rate.
    Success,
    /// Letters of the groups that cannot be told apart.
    Group,
    /// Success above the random floor.
    OverRandom,
    /// Difference to the best model.
    ToBest,
    /// Mean final distance.
    Distance,
    /// Seconds per episode spent planning.
    Seconds,
    /// Candidate steps per episode.
    Steps,
    /// When it was added.
    Date,
}

/// Every column with its name in links, its heading and whether large values come first.
pub(crate) const COLUMNS: [(Column, &str, &str, bool); 15] = [
    (Column::Rank, "rank", "rank", false),
    (Column::Model, "model", "model", false),
    (Column::Submitter, "submitter", "submitter", false),
    (Column::Planner, "planner", "planner", false),
    (Column::Track, "track", "track", false),
    (Column::Level, "level", "level", true),
    (Column::Episodes, "n", "n", true),
    (Column::Success, "success", "success, 95% interval", true),
    (Column::Group, "group", "group", false),
    (Column::OverRandom, "random", "over random", true),
    (Column::ToBest, "best", "to the best", true),
    (Column::Distance, "distance", "distance", false),
    (Column::Seconds, "seconds", "plan s", false),
    (Column::Steps, "steps", "steps", false),
    (Column::Date, "date", "added", true),
];

/// A question to a board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    /// The column to order by.
    pub(crate) sort: Column,
    /// Whether the order is turned round: large values first.
    pub(crate) is_descending: bool,
    /// Only rows with this text in model, submitter, planner or identity.
    pub(crate) text: String,
    /// Only this data track; empty for all.
    pub(crate) track: String,
    /// Only rows of at least this level.
    pub(crate) level: Option<u8>,
    /// Page, from 1.
    pub(crate) page: usize,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            sort: Column::Rank,
            is_descending: false,
            text: String::new(),
            track: String::new(),
            level: None,
            page: 1,
        }
    }
}

impl Query {
    /// Reads `sort=success&desc=1&q=..`; what is not understood is as if it were not there.
    pub(crate) fn parse(query: &str) -> Self {
        let mut read = Self::default();
        for (name, value) in pairs(query) {
            match name.as_str() {
                "sort" => {
                    if let Some((column, _, _, _)) =
                        COLUMNS.iter().find(|(_, name, _, _)| *name == value)
                    {
                        read.sort = *column;
                    }
                }
                "desc" => read.is_descending = value == "1",
                "q" => read.text = value.trim().chars().take(100).collect(),
                "track" => read.track = value.chars().take(40).collect(),
                "level" => read.level = value.parse().ok().filter(|level| *level <= 4),
                "page" => read.page = value.parse().unwrap_or(1).clamp(1, 1_000_000),
                _ => {}
            }
        }
        read
    }

    /// The query as part of a link, with its `?`; empty for the question that asks nothing.
    pub(crate) fn link(&self) -> String {
        let mut parts = Vec::new();
        if self.sort != Column::Rank {
            parts.push(("sort", name_of(self.sort).to_string()));
        }
        if self.is_descending {
            parts.push(("desc", "1".into()));
        }
        if !self.text.is_empty() {
            parts.push(("q", self.text.clone()));
        }
        if !self.track.is_empty() {
            parts.push(("track", self.track.clone()));
        }
        if let Some(level) = self.level {
            parts.push(("level", level.to_string()));
        }
        if self.page > 1 {
            parts.push(("page", self.page.to_string()));
        }
        if parts.is_empty() {
            return String::new();
        }
        let written: Vec<String> = parts
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        format!("?{}", written.join("&"))
    }

    /// The same question in the order of `column`: turned round when it is that order already.
    pub(crate) fn ordered_by(&self, column: Column) -> Self {
        let first = COLUMNS
            .iter()
            .any(|(known, _, _, first)| *known == column && *first);
        Self {
            sort: column,
            is_descending: if self.sort == column {
                !self.is_descending
            } else {
                first
            },
            page: 1,
            ..self.clone()
        }
    }

    /// The rows that are wanted, in order, all pages.
    pub(crate) fn select<'a>(&self, rows: &'a [Row]) -> Vec<&'a Row> {
        let words = self.text.to_lowercase();
        let mut found: Vec<&Row> = rows
            .iter()
            .filter(|row| words.is_empty() || row.search_text.contains(&words))
            .filter(|row| self.track.is_empty() || row.track() == self.track)
            .filter(|row| self.level.is_none_or(|least| row.level() >= Some(least)))
            .collect();
        if self.sort != Column::Rank || self.is_descending {
            found.sort_by(|a, b| compare(a, b, self.sort, self.is_descending));
        }
        found
    }
}

fn name_of(column: Column) -> &'static str {
    let known = COLUMNS.iter().find(|(known, _, _, _)| *known == column);
    known.map_or("rank", |(_, name, _, _)| name)
}

/// The order of two rows; rows without a value come last in both directions. Equal rows keep the order
/// of the board.
fn compare(a: &Row, b: &Row, column: Column, is_descending: bool) -> Ordering {
    let turned = |order: Ordering| {
        if is_descending {
            order.reverse()
        } else {
            order
        }
    };
    match (a.sort_key(column), b.sort_key(column)) {
        (Some(a), Some(b)) => turned(a.compare(&b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

/// What a row is ordered by.
pub(crate) enum SortKey {
    /// A number.
    Number(f64),
    /// A word; capitals do not count.
    Text(String),
}

impl SortKey {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Number(_), Self::Text(_)) => Ordering::Less,
            (Self::Text(_), Self::Number(_)) => Ordering::Greater,
        }
    }

    /// The key as an attribute that the script sorts by.
    pub(crate) fn attribute(&self) -> String {
        match self {
            Self::Number(value) => value.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

impl Row {
    /// What this row is ordered by; `None` where it has no value.
    pub(crate) fn sort_key(&self, column: Column) -> Option<SortKey> {
        let text = |text: &str| (!text.is_empty()).then(|| SortKey::Text(text.to_lowercase()));
        let summary = &self.run.record.summary;
        let episodes = self.ranked.episodes as f64;
        let number = match column {
            Column::Rank => f64::from(self.ranked.rank?),
            Column::Model => return text(&self.ranked.label),
            Column::Submitter => return text(self.submitter().unwrap_or("")),
            Column::Planner => return text(&self.planner()),
            Column::Track => return text(self.track()),
            Column::Level => f64::from(self.level()?),
            Column::Episodes => episodes,
            Column::Success => self.ranked.success_rate,
            Column::Group => return text(&self.ranked.letters),
            Column::OverRandom => self.over_random()?.mean,
            Column::ToBest => match &self.ranked.to_best {
                Some(pair) => -pair.success.mean,
                None if self.ranked.kind == ModelKind::Trained => 0.0,
                None => return None,
            },
            Column::Distance => self.ranked.final_distance_mean,
            Column::Seconds => summary.plan_seconds_p50,
            Column::Steps => summary.candidate_steps as f64 / episodes,
            Column::Date => return text(&self.run.added_utc),
        };
        Some(SortKey::Number(number))
    }
}

/// The names and values of a query, decoded.
pub(crate) fn pairs(query: &str) -> Vec<(String, String)> {
    let part = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(name), decode(value))
    };
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .take(32)
        .map(part)
        .collect()
}

/// Decodes `+` and `%xx`; what is not UTF-8 is replaced.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = hex
            .filter(|_| first == b'%')
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = if escaped.is_some() {
            &after[2..]
        } else {
            after
        };
        bytes.push(escaped.unwrap_or(if first == b'+' { b' ' } else { first }));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::snapshot::tests::snapshot;

    #[test]
    fn a_question_survives_its_link() {
        let query = Query {
            sort: Column::Success,
            is_descending: true,
            text: "a&b=c %ä+".into(),
            track: "standard".into(),
            level: Some(2),
            page: 3,
        };
        let link = query.link();
        assert_eq!(
            Query::parse(link.strip_prefix('?').unwrap()),
            query,
            "{link}"
        );
        assert_eq!(Query::default().link(), "");
    }

    #[test]
    fn nonsense_is_as_if_it_were_not_there() {
        let asked = "sort=drop+table&desc=yes&level=9&page=-3&%zz=%&x&q=%ff";
        let expected = Query {
            text: "\u{fffd}".into(),
            ..Query::default()
        };
        assert_eq!(Query::parse(asked), expected);
        assert_eq!(Query::parse("page=99999999999999999999").page, 1);
    }

    #[test]
    fn a_heading_that_is_chosen_again_turns_the_order() {
        let by_success = Query::default().ordered_by(Column::Success);
        assert!(by_success.is_descending);
        assert!(!by_success.ordered_by(Column::Success).is_descending);
        assert!(!by_success.ordered_by(Column::Distance).is_descending);
    }

    #[test]
    fn rows_are_ordered_by_every_column_and_those_without_a_value_are_last() {
        let snapshot = snapshot();
        let rows = &snapshot.tasks[0].rows;
        for (column, _, _, _) in COLUMNS {
            for is_descending in [false, true] {
                let query = Query {
                    sort: column,
                    is_descending,
                    ..Query::default()
                };
                let selected = query.select(rows);
                assert_eq!(selected.len(), rows.len());
                let keys: Vec<Option<SortKey>> =
                    selected.iter().map(|row| row.sort_key(column)).collect();
                for pair in keys.windows(2) {
                    let order = match (&pair[0], &pair[1]) {
                        (Some(a), Some(b)) => a.compare(b),
                        (None, Some(_)) => panic!("a row without a value comes first"),
                        _ => continue,
                    };
                    let wrong = if is_descending {
                        Ordering::Less
                    } else {
                        Ordering::Greater
                    };
                    assert_ne!(order, wrong, "{column:?}");
                }
            }
        }
    }

    #[test]
    fn filters_keep_what_they_name() {
        let snapshot = snapshot();
        let rows = &snapshot.tasks[0].rows;
        let labels = |query: &str| -> Vec<String> {
            let selected = Query::parse(query).select(rows);
            selected
                .iter()
                .map(|row| row.ranked.label.clone())
                .collect()
        };
        assert_eq!(labels("q=WEAK"), ["weak"]);
        assert_eq!(labels("q=no+such+model"), [""; 0]);
        assert_eq!(labels("track=reduced"), ["good", "weak"]);
        assert_eq!(labels("track=standard"), [""; 0]);
        assert_eq!(labels("sort=success&q=floor%3Arandom"), ["Random actions"]);
    }
}
