//! The pages as a whole: every place renders, and text of strangers stays text.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::snapshot::{Details, Row, Snapshot, TaskView};
use super::*;
use crate::key::Identity;
use crate::record::{EpisodeRow, RunRecord, TaskRef};
use crate::referee::Rules;
use crate::run::Run;
use crate::store::{BoardRun, BoardSubmission, BoardTask, Erratum, Event, Rerun, Revocation};
use crate::submission::{Bundle, Claims, Submission};
use crate::testing::SyntheticRun;
use crate::verification::{Check, Level, Outcome, Verdict};

/// What would run, end an element or an attribute, or break a line of CSV, if it were not escaped.
const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'&,\n=1+1</script>]]>";

/// Episodes of a run with the same hostile words around them.
struct Shown {
    rows: Arc<[EpisodeRow]>,
}

impl Details for Shown {
    fn rules(&self, _task: &TaskRef, _data: Option<&str>) -> Option<Rules> {
        Some(Rules {
            summary: HOSTILE.into(),
            text: HOSTILE.into(),
            first_seed: 2,
            seed_stride: 1,
            episodes: self.rows.len() as u64,
            distance_unit: HOSTILE.into(),
            may_repeat: false,
            not_replayed: Some(HOSTILE.into()),
        })
    }

    fn episodes(&self, _run: &str) -> Option<Arc<[EpisodeRow]>> {
        Some(Arc::clone(&self.rows))
    }

    fn method(&self, _row: &Row) -> Option<String> {
        Some(format!(
            "# {HOSTILE}\n\n{HOSTILE}\n\n- {HOSTILE}\n\n```\n{HOSTILE}\n```\n`{HOSTILE}`"
        ))
    }
}

/// Puts hostile words behind every text of a document, except where a word is one of a few.
fn spoil(value: &mut Value, name: &str) {
    match value {
        Value::String(text) if !matches!(name, "kind" | "key" | "code_url" | "weights_url") => {
            *text = format!("{text}{HOSTILE}");
        }
        Value::Array(items) => items.iter_mut().for_each(|item| spoil(item, name)),
        Value::Object(fields) => {
            let mut spoiled = serde_json::Map::new();
            for (field, mut value) in std::mem::take(fields) {
                spoil(&mut value, &field);
                // Names of settings and files are words of strangers too.
                let is_free = matches!(name, "settings" | "objective" | "files" | "dependencies");
                spoiled.insert(
                    if is_free {
                        format!("{field}{HOSTILE}")
                    } else {
                        field
                    },
                    value,
                );
            }
            *fields = spoiled;
        }
        _ => {}
    }
}

fn spoiled<T: serde::Serialize + serde::de::DeserializeOwned>(document: &T) -> T {
    let mut value = serde_json::to_value(document).unwrap();
    spoil(&mut value, "");
    serde_json::from_value(value).unwrap()
}

fn submission(run: &Run) -> BoardSubmission {
    let claims = Claims {
        licence: "MIT".into(),
        contact: "a@b.c".into(),
        method: "words".into(),
        code_url: Some("https://example.org/code".into()),
        created_utc: "2026-01-31T12:00:00Z".into(),
        ..Claims::default()
    };
    let identity = Identity::from_secret("lab", &[7; 32]).unwrap();
    let bundle = Bundle::new(run, &claims, &identity).unwrap();
    let check = |outcome| Check {
        level: Level::V1,
        name: HOSTILE.into(),
        outcome,
    };
    BoardSubmission {
        id: HOSTILE.into(),
        submission: spoiled::<Submission>(&bundle.submission),
        method: HOSTILE.into(),
        verdict: Verdict {
            level: Some(Level::V2),
            checks: vec![
                check(Outcome::Passed(HOSTILE.into())),
                check(Outcome::Failed(HOSTILE.into())),
                check(Outcome::NotRun(HOSTILE.into())),
            ],
            above_random: None,
        },
        reruns: vec![Rerun {
            level: Level::V3,
            holds: false,
            by: HOSTILE.into(),
            detail: HOSTILE.into(),
            run: HOSTILE.into(),
        }],
        bundle: "00".repeat(32),
        revoked: Some(Revocation {
            reason: HOSTILE.into(),
            by: HOSTILE.into(),
            signature: None,
        }),
    }
}

/// A board on which everything that strangers write is hostile.
fn hostile() -> (Snapshot, Shown) {
    let erratum = Erratum {
        text: HOSTILE.into(),
        tasks: Vec::new(),
        commits: Vec::new(),
        versions: Vec::new(),
        runs: Vec::new(),
    };
    let folder = tempfile::tempdir().unwrap();
    let runs = [("one", 1), ("one", 2), ("two", 1), ("floor:random", 1)].map(|(model, seed)| {
        let synthetic = SyntheticRun::new(model, 8).reaching(0.5).seeded(seed);
        let run = Run::load(&synthetic.write(folder.path()).unwrap()).unwrap();
        BoardRun {
            id: run.id().unwrap(),
            added_utc: "2026-01-31T12:00:00Z".into(),
            record: spoiled::<RunRecord>(&run.record),
            scores: crate::compare::Scored::new(&run, String::new()).scores,
            submission: Some(submission(&run)),
            errata: vec![erratum.clone()],
        }
    });
    let task = BoardTask {
        task: runs[0].record.task.clone(),
        data: Some(HOSTILE.into()),
        runs: 4,
    };
    let name = task.task.name.clone();
    let foreign =
        ["source", "model", "metric", "value", "url"].map(|field| (field, Value::from(HOSTILE)));
    let foreign: BTreeMap<&str, Value> = foreign
        .into_iter()
        .chain([("task", Value::from(name))])
        .collect();
    let task = TaskView::of(
        task,
        runs.to_vec(),
        &[serde_json::to_value(foreign).unwrap()],
    )
    .unwrap();
    let event = Event {
        number: 1,
        utc: "2026-01-31T12:00:00Z".into(),
        kind: "submit".into(),
        subject: HOSTILE.into(),
        detail: format!("=1+1{HOSTILE}"),
        previous: "0".into(),
        hash: "1".into(),
    };
    let snapshot = Snapshot::made_of("f".repeat(64), vec![event], vec![task], vec![erratum]);
    let rows = SyntheticRun::new("one", 8).reaching(0.5).episodes().into();
    (snapshot, Shown { rows })
}

/// Every page of a board.
fn places(snapshot: &Snapshot) -> Vec<Place> {
    let mut places = vec![
        Place::Index,
        Place::Submit,
        Place::Keys,
        Place::Log,
        Place::Feed,
    ];
    for task in &snapshot.tasks {
        places.extend([
            Place::Board(task.slug.clone()),
            Place::Rules(task.slug.clone()),
        ]);
        for row in &task.rows {
            let id = &row.run.id;
            places.extend([Place::Run(id.clone()), Place::Episode(id.clone(), 3)]);
            places.push(Place::Compare(task.rows[0].run.id.clone(), id.clone()));
        }
    }
    places
}

fn text(site: &mut Site<'_>, place: &Place, form: Form, query: &str) -> String {
    let rendered = site.render(place, form, query);
    let rendered = rendered.unwrap_or_else(|| panic!("{place:?} as {form:?} is nothing"));
    String::from_utf8(rendered.body).unwrap()
}

#[test]
fn words_of_strangers_stay_words_on_every_page() {
    let (snapshot, shown) = hostile();
    let mut site = Site {
        snapshot: &snapshot,
        details: &shown,
        links: Links::server(),
    };
    let mut seen = 0;
    for place in places(&snapshot) {
        let page = text(
            &mut site,
            &place,
            Form::Page,
            "q=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E%22&track=%22%3E%3Cb%3E",
        );
        assert!(!page.contains("<img src=x"), "{place:?}: {page}");
        assert!(!page.contains("\"><b>"), "{place:?}");
        assert_eq!(
            page.matches("<script").count(),
            usize::from(place.is_page()),
            "{place:?}"
        );
        assert_eq!(
            page.matches("onerror=").count(),
            page.matches("onerror=alert(1)&gt;").count(),
            "{place:?}"
        );
        assert!(
            !page.contains(" style=\"") && !page.contains("javascript:"),
            "{place:?}"
        );
        seen += page.matches("&lt;img src=x").count();
    }
    assert!(
        seen > 200,
        "the hostile words were not on the pages: {seen}"
    );
}

#[test]
fn every_page_is_json_and_csv_as_well_and_no_cell_is_a_formula() {
    let (snapshot, shown) = hostile();
    let mut site = Site {
        snapshot: &snapshot,
        details: &shown,
        links: Links::server(),
    };
    for place in places(&snapshot).into_iter().filter(Place::is_page) {
        let json = text(&mut site, &place, Form::Json, "");
        serde_json::from_str::<Value>(&json).unwrap();
        let csv = text(&mut site, &place, Form::Csv, "");
        let rows = cells(&csv);
        assert!(
            rows.iter().all(|row| row.len() == rows[0].len()),
            "{place:?}: {csv}"
        );
        let formulas = rows
            .iter()
            .flatten()
            .filter(|cell| cell.starts_with(['=', '@']));
        assert_eq!(formulas.count(), 0, "{place:?}: {csv}");
    }
}

/// A reader of CSV after RFC 4180.
fn cells(csv: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut is_quoted = false;
    let mut letters = csv.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, is_quoted) {
            ('"', true) if letters.peek() == Some(&'"') => {
                letters.next();
                cell.push('"');
            }
            ('"', _) => is_quoted = !is_quoted,
            (',', false) => row.push(std::mem::take(&mut cell)),
            ('\r', false) => {}
            ('\n', false) => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            (letter, _) => cell.push(letter),
        }
    }
    assert!(
        cell.is_empty() && row.is_empty() && !is_quoted,
        "the last line is not ended"
    );
    rows
}

#[test]
fn runs_with_an_erratum_are_struck_out_and_never_hidden() {
    let (snapshot, shown) = hostile();
    let mut site = Site {
        snapshot: &snapshot,
        details: &shown,
        links: Links::server(),
    };
    let task = &snapshot.tasks[0];
    let page = text(&mut site, &Place::Board(task.slug.clone()), Form::Page, "");
    assert_eq!(page.matches("struck out: ").count(), task.rows.len());
    let run = text(
        &mut site,
        &Place::Run(task.rows[0].run.id.clone()),
        Form::Page,
        "",
    );
    assert!(
        run.contains("Struck out: ")
            && run.contains("not reproduced by")
            && run.contains("key revoked"),
        "{run}"
    );
    let csv = text(&mut site, &Place::Board(task.slug.clone()), Form::Csv, "");
    assert_eq!(csv.matches("struck out: ").count(), task.rows.len());
}

#[test]
fn an_empty_board_has_its_pages() {
    let snapshot = Snapshot::default();
    let shown = Shown {
        rows: Vec::new().into(),
    };
    let mut site = Site {
        snapshot: &snapshot,
        details: &shown,
        links: Links::server(),
    };
    for place in [
        Place::Index,
        Place::Submit,
        Place::Keys,
        Place::Log,
        Place::Feed,
    ] {
        assert!(text(&mut site, &place, Form::Page, "").contains("jepa-bench"));
    }
    assert!(
        site.render(&Place::Board("wall@1".into()), Form::Page, "")
            .is_none()
    );
    assert!(
        site.render(&Place::Run("00".into()), Form::Json, "")
            .is_none()
    );
}

#[test]
fn a_large_board_has_pages_of_two_hundred_rows_and_an_export_has_one() {
    let snapshot = snapshot::tests::large(450);
    let shown = Shown {
        rows: Vec::new().into(),
    };
    let mut site = Site {
        snapshot: &snapshot,
        details: &shown,
        links: Links::server(),
    };
    let place = Place::Board(snapshot.tasks[0].slug.clone());
    let rows = |page: &str| page.matches("name=\"run\"").count();
    let first = text(&mut site, &place, Form::Page, "");
    assert_eq!(rows(&first), 200);
    assert!(
        first.contains("450 of 450 runs")
            && first.contains("?page=3")
            && !first.contains("?page=4")
    );
    assert!(
        !first.contains("data-complete"),
        "the script must not sort a part of the rows"
    );
    assert_eq!(rows(&text(&mut site, &place, Form::Page, "page=3")), 50);
    assert_eq!(rows(&text(&mut site, &place, Form::Page, "page=99")), 50);
    assert_eq!(rows(&text(&mut site, &place, Form::Page, "q=model-44")), 10);
    site.links = Links::files(places(&snapshot).into_iter().collect());
    let exported = text(&mut site, &place, Form::Page, "");
    assert_eq!(exported.matches(" data-text=\"").count(), 450);
    assert!(exported.contains("data-complete=\"yes\""));
}
