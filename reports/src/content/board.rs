//! A report of all that a leaderboard holds: records and outcomes, without the episodes themselves.

use jepa_leaderboard::{
    BoardRun, ModelKind, Ranked, Scored, TaskRef, distinct_labels, published_for, rank,
};
use serde::Serialize;

use super::caveats;
use super::results::planner_of;
use super::summary::left_out_text;
use crate::document::{
    Block, Cell, Document, Fact, Figure, Section, Table, Tone, cell, code, code_cell, number,
    paragraph, plain, strong,
};
use crate::error::{Error, Result};
use crate::figure::{Bar, BarKind, success_bars};
use crate::text::{NONE, decimal, listed, percent, percent_interval, plural, points, short_hash};

/// A leaderboard.
#[derive(Debug, Clone, Default)]
pub struct BoardInput {
    /// Its tasks.
    pub tasks: Vec<BoardTaskInput>,
    /// Head of its event chain.
    pub head: String,
}

/// A task of a leaderboard.
#[derive(Debug, Clone)]
pub struct BoardTaskInput {
    /// The task.
    pub task: TaskRef,
    /// Its runs.
    pub runs: Vec<BoardRun>,
}

/// A task with its ranking, best first.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BoardTaskFacts {
    pub(crate) task: TaskRef,
    pub(crate) ranking: Vec<Ranked>,
    /// Identities of the runs, in the order of the ranking.
    pub(crate) ids: Vec<String>,
    #[serde(skip)]
    runs: Vec<BoardRun>,
}

impl BoardTaskFacts {
    /// Ranks the runs of every task that has any.
    ///
    /// # Errors
    /// When the board is empty, or runs disagree about an episode.
    pub(crate) fn of(input: &BoardInput) -> Result<Vec<Self>> {
        let filled = input.tasks.iter().filter(|task| !task.runs.is_empty());
        let facts: Vec<Self> = filled.map(Self::of_task).collect::<Result<_>>()?;
        if facts.is_empty() {
            Err(Error::NoRuns)
        } else {
            Ok(facts)
        }
    }

    fn of_task(input: &BoardTaskInput) -> Result<Self> {
        let named: Vec<_> = input
            .runs
            .iter()
            .map(|run| (&run.record, short_hash(&run.id)))
            .collect();
        let labels = distinct_labels(&named);
        let scored: Vec<(Scored, ModelKind)> = input
            .runs
            .iter()
            .zip(labels)
            .map(|(run, label)| (run.scored(label), run.record.model.kind))
            .collect();
        let ranking = rank(&scored)?;
        let runs: Vec<BoardRun> = ranking
            .iter()
            .map(|row| input.runs[row.index].clone())
            .collect();
        Ok(Self {
            task: input.task.clone(),
            ids: runs.iter().map(|run| run.id.clone()).collect(),
            ranking,
            runs,
        })
    }

    /// The best trained model, or else the first run.
    fn lead(&self) -> &Ranked {
        let trained = self
            .ranking
            .iter()
            .find(|row| row.kind == ModelKind::Trained);
        trained.unwrap_or(&self.ranking[0])
    }
}

/// Builds the document.
///
/// # Errors
/// When a figure cannot be drawn.
pub(crate) fn build(input: &BoardInput, tasks: &[BoardTaskFacts]) -> Result<Document> {
    let mut sections = vec![summary(input, tasks)];
    for task in tasks {
        sections.push(results(task)?);
    }
    sections.push(care());
    sections.push(caveats::citation());
    let runs: usize = tasks.iter().map(|task| task.runs.len()).sum();
    Ok(Document {
        title: "A leaderboard of world models".into(),
        subtitle: format!(
            "{} on {}",
            plural(runs as u64, "run"),
            plural(tasks.len() as u64, "task")
        ),
        sections,
    })
}

fn summary(input: &BoardInput, tasks: &[BoardTaskFacts]) -> Section {
    let mut section = Section::new("Summary");
    for task in tasks {
        let lead = task.lead();
        section.blocks.push(Block::Claim {
            spans: vec![
                strong(lead.label.clone()),
                plain(format!(
                    " leads with {} of {} of ",
                    lead.successes,
                    plural(lead.episodes, "episode")
                )),
                code(task.task.id()),
                plain(": "),
                strong(percent(lead.success_rate)),
                plain(format!(
                    ", 95% interval {}.",
                    percent_interval(lead.interval)
                )),
            ],
        });
        section.blocks.push(Block::Facts {
            items: facts(task, lead),
        });
    }
    section.blocks.push(paragraph(vec![
        plain("Head of the event chain: "),
        code(input.head.clone()),
    ]));
    section
}

fn facts(task: &BoardTaskFacts, lead: &Ranked) -> Vec<Fact> {
    let fact = |label: &str, value: String, note: String| Fact {
        label: label.into(),
        value,
        note,
    };
    let trained = task
        .ranking
        .iter()
        .filter(|row| row.kind == ModelKind::Trained)
        .count();
    let above = lead
        .above_floor
        .map_or_else(|| NONE.into(), |above| points(above.mean));
    vec![
        fact(
            "success rate",
            percent(lead.success_rate),
            percent_interval(lead.interval),
        ),
        fact(
            "over the best floor",
            above,
            "percentage points, same episodes".into(),
        ),
        fact(
            "runs",
            task.runs.len().to_string(),
            plural(trained as u64, "trained model"),
        ),
        fact("task", task.task.id(), short_hash(&task.task.hash)),
    ]
}

fn results(task: &BoardTaskFacts) -> Result<Section> {
    let mut section = Section::new(&format!("Results: {}", task.task.id()));
    section.blocks.push(Block::Table(table(task)));
    section.blocks.push(Block::Figure(bars(task)?));
    Ok(section)
}

fn table(task: &BoardTaskFacts) -> Table {
    let headings = [
        "#rank",
        "model",
        "planner",
        "#n",
        "#success",
        "#95% interval",
        "#over floor",
        "#distance",
        "group",
        "run",
    ];
    let mut table = Table::new(
        &format!("{}, task hash {}", task.task.id(), task.task.hash),
        &headings,
    );
    for (ranked, run) in task.ranking.iter().zip(&task.runs) {
        let tone = match (ranked.rank, ranked.kind) {
            (Some(1), _) => Tone::Strong,
            (_, ModelKind::Trained) => Tone::Plain,
            _ => Tone::Muted,
        };
        table.push(tone, row(ranked, run));
    }
    table.with_note(
        "over floor: success above the best floor on the same episodes, in percentage points; models with the same letter in \
         group could not be told apart (exact McNemar, Holm, 5%); run: first digits of the record's hash",
    )
}

fn row(ranked: &Ranked, run: &BoardRun) -> Vec<Cell> {
    let rank = ranked.rank.map_or_else(
        || cell(NONE),
        |rank| number(rank.to_string(), f64::from(rank)),
    );
    let above = ranked.above_floor.map_or_else(
        || cell(NONE),
        |above| number(points(above.mean), above.mean),
    );
    vec![
        rank,
        cell(ranked.label.clone()),
        cell(planner_of(&run.record)),
        number(ranked.episodes.to_string(), ranked.episodes as f64),
        number(percent(ranked.success_rate), ranked.success_rate),
        number(percent_interval(ranked.interval), ranked.interval.low),
        above,
        number(
            decimal(ranked.final_distance_mean, 2),
            ranked.final_distance_mean,
        ),
        cell(if ranked.letters.is_empty() {
            NONE
        } else {
            &ranked.letters
        }),
        code_cell(short_hash(&run.id)),
    ]
}

/// Bars drawn at most: a figure is no longer than a page.
const MOST_BARS: usize = 24;

fn bars(task: &BoardTaskFacts) -> Result<Figure> {
    let kind = |k: usize, row: &Ranked| match row.kind {
        ModelKind::Trained => BarKind::Model(k),
        ModelKind::Oracle => BarKind::Ceiling,
        ModelKind::Floor => BarKind::Floor,
    };
    let of_run = |(k, row): (usize, &Ranked)| Bar {
        label: row.label.clone(),
        kind: kind(k, row),
        rate: row.success_rate,
        whisker: row.interval,
        note: format!("{}/{}", row.successes, row.episodes),
    };
    let mut bars: Vec<Bar> = task.ranking.iter().enumerate().map(of_run).collect();
    let left_out = bars.len().saturating_sub(MOST_BARS);
    bars.truncate(MOST_BARS);
    bars.extend(
        published_for(&task.task.name, "cem", "l2")
            .map(|(row, score)| Bar::published(row.model, score)),
    );
    let name = format!("{}-success", crate::document::slug(&task.task.id()));
    let rates: Vec<String> = bars
        .iter()
        .map(|bar| format!("{} {}", bar.label, percent(bar.rate)))
        .collect();
    Ok(Figure {
        caption: format!(
            "Success rate on {} with Wilson 95% intervals. Hollow bars are published numbers (CEM, L2); their whiskers are the \
             authors' standard deviation over seeds and epochs.{}",
            task.task.id(),
            left_out_text(left_out)
        ),
        alt: format!("Bar chart of success rates: {}", listed(&rates)),
        svg: success_bars(&name, &bars)?,
        name,
    })
}

fn care() -> Section {
    let mut section = Section::new("Caveats");
    let items = [
        "Intervals cover the draw of evaluation episodes only; training again with another seed moves a model by an amount that \
         they do not show.",
        "The leader of a task was chosen by these very episodes: on new ones it is likely to do a little worse.",
        "Published numbers come from the authors' models and episodes and were not verified here.",
        "A board keeps records and outcomes of episodes; curves, films and planning costs are in the reports of the runs.",
    ];
    section.blocks.push(Block::List {
        items: items.iter().map(|text| vec![plain(*text)]).collect(),
    });
    section
}
