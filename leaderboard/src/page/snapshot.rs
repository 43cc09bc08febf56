//! What the pages are drawn from: the whole board at one moment, ranked.
//!
//! A snapshot is built from a [`Board`] once per change and never changes itself; everything that is
//! too large to keep (actions and states of episodes, films, bundles) comes through [`Details`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::place::slug;
use crate::compare::{Scored, distinct_labels};
use crate::error::Result;
use crate::published::{Published, PublishedScore, published_for};
use crate::ranking::{RANDOM_FLOOR, Ranked, rank_models};
use crate::record::{EpisodeRow, ModelKind, ModelRef, RunRecord, TaskRef};
use crate::referee::Rules;
use crate::seed_mean::{SeedMean, seed_means};
use crate::statistics::Difference;
use crate::store::{Board, BoardRun, BoardTask, Erratum, Event, PinnedKey, Rerun};
use crate::submission::VIDEO_FOLDER;
use crate::verification::{Check, Outcome};

/// Words of a submitter up to this size are kept in a snapshot.
const METHOD_BYTES: usize = 16 * 1024;

/// The board at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Hash of the last event.
    pub(crate) head: String,
    /// The log, oldest first.
    pub(crate) events: Vec<Event>,
    /// The tasks, by name and version.
    pub(crate) tasks: Vec<TaskView>,
    /// The keys, by name.
    pub(crate) keys: Vec<PinnedKey>,
    /// Errors that were noted, oldest first.
    pub(crate) errata: Vec<Erratum>,
    /// Task and row of every run, by identity.
    places: HashMap<String, (usize, usize)>,
}

/// One task and its runs.
#[derive(Debug)]
pub(crate) struct TaskView {
    /// Name, version and hash.
    pub(crate) task: TaskRef,
    /// Content hash of the dataset that its goals come from.
    pub(crate) data: Option<String>,
    /// The task in addresses.
    pub(crate) slug: String,
    /// Its runs in the order of the board.
    pub(crate) rows: Vec<Row>,
    /// Means over training seeds, without what is struck out; members are positions in `rows`.
    pub(crate) means: Vec<SeedMean>,
    /// What the authors of the paper reported.
    pub(crate) published: Vec<(&'static Published, PublishedScore)>,
    /// Rows of other boards, unverified.
    pub(crate) imported: Vec<Value>,
}

/// One run of a board.
#[derive(Debug)]
pub(crate) struct Row {
    /// The run as stored.
    pub(crate) run: BoardRun,
    /// Where it stands.
    pub(crate) ranked: Ranked,
    /// What a filter looks in, in lower case.
    pub(crate) search_text: String,
    /// Whether the words of the submitter are kept here; long ones are left in the bundle.
    pub(crate) has_method: bool,
    /// Why the run is struck out, if it is.
    struck: Option<String>,
}

/// One check of a submission.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CheckView {
    /// Level that it belongs to, `V0` to `V4`.
    pub(crate) level: &'static str,
    /// What was checked.
    pub(crate) name: String,
    /// `passed`, `failed` or `not run`.
    pub(crate) outcome: &'static str,
    /// What there is to say: what was found, why it failed, why it was not run.
    pub(crate) detail: String,
}

impl CheckView {
    /// A check as the server made it.
    pub(crate) fn of(check: &Check) -> Self {
        let (outcome, detail) = match &check.outcome {
            Outcome::Passed(detail) => ("passed", detail),
            Outcome::Failed(detail) => ("failed", detail),
            Outcome::NotRun(detail) => ("not run", detail),
        };
        Self {
            level: check.level.as_str(),
            name: check.name.clone(),
            outcome,
            detail: detail.clone(),
        }
    }

    fn of_rerun(rerun: &Rerun) -> Self {
        Self {
            level: rerun.level.as_str(),
            name: format!("run again by {}", rerun.by),
            outcome: if rerun.holds { "passed" } else { "failed" },
            detail: rerun.detail.clone(),
        }
    }
}

/// Why a run is struck out: an erratum, a revoked key, a maintainer who got something else.
fn why_struck(run: &BoardRun) -> Option<String> {
    let mut reasons: Vec<String> = run
        .errata
        .iter()
        .map(|erratum| erratum.text.clone())
        .collect();
    if let Some(submission) = &run.submission {
        if let Some(revocation) = &submission.revoked {
            reasons.push(format!(
                "key revoked by its {}: {}",
                revocation.by, revocation.reason
            ));
        }
        if let Some(rerun) = submission.contradicted() {
            reasons.push(format!("not reproduced by {}: {}", rerun.by, rerun.detail));
        }
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// What is too large for a snapshot, found when a page needs it.
pub(crate) trait Details {
    /// The rules of a task, if this build knows the task.
    fn rules(&self, task: &TaskRef, data: Option<&str>) -> Option<Rules>;

    /// The episodes of a run with actions and states, if they are kept.
    fn episodes(&self, run: &str) -> Option<Arc<[EpisodeRow]>>;

    /// The words of the submitter of a run.
    fn method(&self, row: &Row) -> Option<String>;
}

/// What is read of a board before it is ranked.
pub(crate) struct Content {
    head: String,
    events: Vec<Event>,
    tasks: Vec<(BoardTask, Vec<BoardRun>)>,
    keys: Vec<PinnedKey>,
    errata: Vec<Erratum>,
    foreign: Vec<Value>,
}

impl Content {
    /// Reads a board.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn of(board: &Board) -> Result<Self> {
        let mut tasks = Vec::new();
        for known in board.tasks()? {
            let runs = board.runs(&known.task)?;
            tasks.push((known, runs));
        }
        Ok(Self {
            head: board.head()?,
            events: board.events()?,
            tasks,
            keys: board.keys()?,
            errata: board.errata()?,
            foreign: board
                .imported()?
                .iter()
                .filter_map(|row| serde_json::to_value(row).ok())
                .collect(),
        })
    }
}

impl Snapshot {
    /// Reads and ranks a board.
    ///
    /// # Errors
    /// When the board cannot be read or its runs disagree about an episode.
    pub(crate) fn of(board: &Board) -> Result<Self> {
        Self::ranked(Content::of(board)?)
    }

    /// Ranks what was read of a board, which is free meanwhile.
    ///
    /// # Errors
    /// When runs disagree about an episode.
    pub(crate) fn ranked(content: Content) -> Result<Self> {
        let foreign = content.foreign;
        let tasks = content.tasks.into_iter();
        let mut snapshot = Self {
            head: content.head,
            events: content.events,
            tasks: tasks
                .map(|(known, runs)| TaskView::of(known, runs, &foreign))
                .collect::<Result<Vec<TaskView>>>()?,
            keys: content.keys,
            errata: content.errata,
            places: HashMap::new(),
        };
        snapshot.find_places();
        Ok(snapshot)
    }

    fn find_places(&mut self) {
        let mut places = HashMap::new();
        for (t, task) in self.tasks.iter().enumerate() {
            for (r, row) in task.rows.iter().enumerate() {
                places.insert(row.run.id.clone(), (t, r));
            }
        }
        self.places = places;
    }

    /// A snapshot of made-up parts.
    #[cfg(test)]
    pub(super) fn made_of(
        head: String,
        events: Vec<Event>,
        tasks: Vec<TaskView>,
        errata: Vec<Erratum>,
    ) -> Self {
        let mut snapshot = Self {
            head,
            events,
            tasks,
            errata,
            ..Self::default()
        };
        snapshot.find_places();
        snapshot
    }

    /// The task with this slug.
    pub(crate) fn task(&self, slug: &str) -> Option<&TaskView> {
        self.tasks.iter().find(|task| task.slug == slug)
    }

    /// A run and its task, by its whole identity.
    pub(crate) fn run(&self, id: &str) -> Option<(&TaskView, &Row)> {
        let &(task, row) = self.places.get(id)?;
        let task = &self.tasks[task];
        Some((task, &task.rows[row]))
    }

    /// Number of runs over all tasks.
    pub(crate) fn runs(&self) -> usize {
        self.places.len()
    }
}

impl TaskView {
    pub(super) fn of(known: BoardTask, runs: Vec<BoardRun>, foreign: &[Value]) -> Result<Self> {
        let BoardTask { task, data, .. } = known;
        let (struck, sound): (Vec<BoardRun>, Vec<BoardRun>) =
            runs.into_iter().partition(|run| why_struck(run).is_some());
        let (mut rows, means) = ranked(sound)?;
        // What is struck out takes nobody's place: it stands behind the trained models, without a rank.
        let (mut apart, _) = ranked(struck)?;
        for row in &mut apart {
            row.ranked.rank = None;
            row.ranked.rank_interval = None;
            row.ranked.to_best = None;
            row.ranked.letters = String::new();
        }
        let first = rows
            .iter()
            .take_while(|row| row.ranked.kind == ModelKind::Trained)
            .count();
        rows.splice(first..first, apart);
        let published = ["l2", "l1"]
            .iter()
            .flat_map(|distance| published_for(&task.name, "cem", distance))
            .collect();
        let names = [task.id(), task.name.clone()];
        let is_of_task = |row: &&Value| {
            let named = row.get("task").and_then(Value::as_str);
            named.is_some_and(|named| names.iter().any(|name| name == named))
        };
        Ok(Self {
            imported: foreign.iter().filter(is_of_task).cloned().collect(),
            slug: slug(&task.id()),
            task,
            data,
            rows,
            means,
            published,
        })
    }

    /// The best trained model that is not struck out.
    pub(crate) fn best(&self) -> Option<&Row> {
        self.rows.first().filter(|row| row.ranked.rank.is_some())
    }

    /// Number of trained models.
    pub(crate) fn trained(&self) -> usize {
        let is_trained = |row: &&Row| row.ranked.kind == ModelKind::Trained;
        self.rows.iter().filter(is_trained).count()
    }

    /// Success rate of the random floor; of the best floor where there is none of that name.
    pub(crate) fn floor(&self) -> Option<f64> {
        let floors = || {
            self.rows
                .iter()
                .filter(|row| row.ranked.kind == ModelKind::Floor)
        };
        floors()
            .find(|row| row.run.record.model.name == RANDOM_FLOOR)
            .or_else(|| floors().next())
            .map(|row| row.ranked.success_rate)
    }

    /// Success rate of the ceiling.
    pub(crate) fn ceiling(&self) -> Option<f64> {
        let oracle = self
            .rows
            .iter()
            .find(|row| row.ranked.kind == ModelKind::Oracle);
        oracle.map(|row| row.ranked.success_rate)
    }
}

/// Ranks runs; members of the means are positions in the rows.
fn ranked(runs: Vec<BoardRun>) -> Result<(Vec<Row>, Vec<SeedMean>)> {
    let named: Vec<(&RunRecord, String)> = runs
        .iter()
        .map(|run| (&run.record, run.id.chars().take(12).collect()))
        .collect();
    let labels = distinct_labels(&named);
    let scored: Vec<(Scored, &ModelRef)> = runs
        .iter()
        .zip(labels)
        .map(|(run, label)| (run.scored(label), &run.record.model))
        .collect();
    let ranking = rank_models(&scored)?;
    let ordered: Vec<_> = ranking
        .iter()
        .map(|ranked| (&runs[ranked.index].record, &scored[ranked.index].0))
        .collect();
    let means = seed_means(&ordered);
    drop(scored);
    let mut runs: Vec<Option<BoardRun>> = runs.into_iter().map(Some).collect();
    let rows = ranking
        .into_iter()
        .filter_map(|ranked| Some(Row::new(runs[ranked.index].take()?, ranked)));
    Ok((rows.collect(), means))
}

impl Row {
    fn new(mut run: BoardRun, ranked: Ranked) -> Self {
        let mut has_method = false;
        if let Some(submission) = &mut run.submission {
            has_method = submission.method.len() <= METHOD_BYTES;
            if !has_method {
                submission.method = String::new();
            }
        }
        let mut row = Self {
            struck: why_struck(&run),
            run,
            ranked,
            search_text: String::new(),
            has_method,
        };
        let words = [
            row.ranked.label.as_str(),
            &row.run.record.model.name,
            &row.planner(),
            row.submitter().unwrap_or(""),
            &row.run.id,
        ];
        row.search_text = words.join("\n").to_lowercase();
        row
    }

    /// Name and preset of the planner; `-` without one.
    pub(crate) fn planner(&self) -> String {
        let planner = &self.run.record.planner;
        match planner.name.as_str() {
            "none" => "-".into(),
            name => format!("{name} {}", planner.preset),
        }
    }

    /// Data track; empty for runs without training.
    pub(crate) fn track(&self) -> &str {
        let training = self.run.record.model.training.as_ref();
        training.map_or("", |training| &training.track)
    }

    /// Who submitted the run; `None` for one that was added on the machine of the board.
    pub(crate) fn submitter(&self) -> Option<&str> {
        let submission = self.run.submission.as_ref()?;
        Some(&submission.submission.submitter)
    }

    /// The highest verification level that was passed; `None` for runs that were added on the machine
    /// of the board.
    pub(crate) fn level(&self) -> Option<u8> {
        Some(self.run.submission.as_ref()?.level()? as u8)
    }

    /// Why the run is struck out, if it is.
    pub(crate) fn struck(&self) -> Option<&str> {
        self.struck.as_deref()
    }

    /// The checks of a submission, in order, and what maintainers found later.
    pub(crate) fn checks(&self) -> Vec<CheckView> {
        let Some(submission) = &self.run.submission else {
            return Vec::new();
        };
        let first = submission.verdict.checks.iter().map(CheckView::of);
        let later = submission.reruns.iter().map(CheckView::of_rerun);
        first.chain(later).collect()
    }

    /// Names of the videos of the bundle.
    pub(crate) fn videos(&self) -> impl Iterator<Item = &str> {
        let submission = self.run.submission.as_ref();
        let files = submission
            .into_iter()
            .flat_map(|taken| taken.submission.files.keys());
        files.filter_map(|name| name.strip_prefix(VIDEO_FOLDER))
    }

    /// Success above the random floor on the same episodes.
    pub(crate) fn over_random(&self) -> Option<&Difference> {
        let submission = self.run.submission.as_ref();
        let recomputed = submission.and_then(|taken| taken.verdict.above_random.as_ref());
        recomputed.or(self.ranked.above_random.as_ref())
    }

    /// Seconds per episode spent planning, median; `None` where nothing was planned.
    pub(crate) fn plan_seconds(&self) -> Option<f64> {
        let seconds = self.run.record.summary.plan_seconds_p50;
        (seconds > 0.0).then_some(seconds)
    }

    /// Candidate steps imagined per episode; `None` where nothing was planned.
    pub(crate) fn candidate_steps(&self) -> Option<f64> {
        let steps = self.run.record.summary.candidate_steps;
        (steps > 0).then(|| steps as f64 / self.ranked.episodes as f64)
    }

    /// The row in machine-readable form.
    pub(crate) fn json(&self) -> Value {
        let record = &self.run.record;
        json!({
            "run": self.run.id,
            "model": record.model.name,
            "submitter": self.submitter(),
            "planner": self.planner(),
            "track": self.track(),
            "level": self.level(),
            "struck_out": self.struck(),
            "plan_seconds_p50": record.summary.plan_seconds_p50,
            "candidate_steps_per_episode": self.candidate_steps(),
            "added_utc": self.run.added_utc,
            "ranked": self.ranked,
        })
    }

    /// Settings of the planner and the objective, in order.
    pub(crate) fn settings(&self) -> BTreeMap<String, String> {
        let record = &self.run.record;
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let planner = record.planner.settings.iter();
        let objective = record.objective.iter();
        planner
            .map(|(name, value)| (format!("planner.{name}"), text(value)))
            .chain(objective.map(|(name, value)| (format!("objective.{name}"), text(value))))
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::run::Run;
    use crate::testing::SyntheticRun;

    /// A board with two trained models, two seeds of one of them, floors and a ceiling.
    pub(crate) fn snapshot() -> Snapshot {
        let folder = tempfile::tempdir().unwrap();
        let mut board = Board::open(&folder.path().join("board.sqlite")).unwrap();
        for synthetic in [
            SyntheticRun::new("good", 40).reaching(0.95),
            SyntheticRun::new("weak", 40).reaching(0.3),
            SyntheticRun::new("floor:random", 40),
            SyntheticRun::new("floor:noop", 40),
            SyntheticRun::new("oracle", 40),
        ] {
            let run = Run::load(&synthetic.write(folder.path()).unwrap()).unwrap();
            board.add(&run).unwrap();
        }
        Snapshot::of(&board).unwrap()
    }

    /// A board with so many models of four episodes each.
    pub(crate) fn large(models: usize) -> Snapshot {
        let runs: Vec<BoardRun> = (0..models)
            .map(|k| {
                let synthetic = SyntheticRun::new(&format!("model-{k:03}"), 4).reaching(0.5);
                let record = synthetic.record();
                let scores = synthetic
                    .episodes()
                    .into_iter()
                    .map(|row| (row.seed, crate::compare::Score::new(&row)));
                BoardRun {
                    id: blake3::hash(&k.to_le_bytes()).to_hex().to_string(),
                    added_utc: "2026-01-31T12:00:00Z".into(),
                    scores: scores.collect(),
                    record,
                    submission: None,
                    errata: Vec::new(),
                }
            })
            .collect();
        let known = BoardTask {
            task: runs[0].record.task.clone(),
            data: None,
            runs: models as u64,
        };
        let task = TaskView::of(known, runs, &[]).unwrap();
        Snapshot::made_of(String::new(), Vec::new(), vec![task], Vec::new())
    }

    #[test]
    fn a_snapshot_finds_every_run_again() {
        let snapshot = snapshot();
        assert_eq!((snapshot.tasks.len(), snapshot.runs()), (1, 5));
        let task = snapshot.task("wall@1").unwrap();
        assert_eq!(task.trained(), 2);
        assert_eq!(task.best().unwrap().ranked.label, "good");
        for row in &task.rows {
            let (found, same) = snapshot.run(&row.run.id).unwrap();
            assert_eq!((&found.slug, &same.run.id), (&task.slug, &row.run.id));
        }
        assert!(snapshot.run(&task.rows[0].run.id[..12]).is_none());
        assert!(task.floor().unwrap() < 0.2 && task.ceiling().unwrap() > 0.9);
    }
}
