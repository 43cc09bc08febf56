//! The one-page summary: the claim, its interval, what it was measured on, and the success bars.

use jepa_leaderboard::{ModelKind, SeedMean};

use super::{Scope, bar_kind};
use crate::document::{Block, Fact, Figure, Section, Span, code, paragraph, plain, strong};
use crate::error::Result;
use crate::figure::{Bar, BarKind, success_bars};
use crate::input::{Lead, RunFacts, TaskFacts};
use crate::text::{
    decimal, listed, percent, percent_interval, plural, points_interval, seconds, short_hash,
};

/// The summary of all tasks.
pub(super) fn section(tasks: &[TaskFacts]) -> Result<Section> {
    let mut section = Section::new("Summary");
    for task in tasks {
        let scope = Scope {
            task,
            is_alone: tasks.len() == 1,
        };
        let Some(lead) = task.lead() else { continue };
        section.blocks.push(Block::Claim {
            spans: claim(task, lead),
        });
        section.blocks.push(Block::Facts {
            items: facts(task, lead),
        });
        section.blocks.extend(context(task, lead));
        // The summary is a page: with several tasks the bars stand beside the results.
        if scope.is_alone {
            section.blocks.push(Block::Figure(bars(&scope)?));
        }
    }
    Ok(section)
}

fn claim(task: &TaskFacts, lead: Lead<'_>) -> Vec<Span> {
    match lead {
        Lead::Run(run) => claim_of_run(task, run),
        Lead::Mean(mean, run) => claim_of_mean(task, mean, run),
    }
}

fn claim_of_mean(task: &TaskFacts, mean: &SeedMean, run: &RunFacts) -> Vec<Span> {
    vec![
        strong(run.run.record.model.name.clone()),
        plain(format!(
            ", trained with {} seeds, reaches the goal in a mean of ",
            mean.seeds.len()
        )),
        strong(percent(mean.success_rate)),
        plain(format!(" of {} of ", plural(mean.episodes, "episode"))),
        code(task.task.id()),
        plain(format!(
            ", 95% interval {}; single seeds reach {} to {}.",
            percent_interval(mean.interval),
            percent(mean.lowest),
            percent(mean.highest)
        )),
    ]
}

fn claim_of_run(task: &TaskFacts, lead: &RunFacts) -> Vec<Span> {
    let aggregate = &lead.aggregate;
    vec![
        strong(lead.label.clone()),
        plain(format!(
            " reaches the goal in {} of {} of ",
            aggregate.successes,
            plural(aggregate.episodes, "episode")
        )),
        code(task.task.id()),
        plain(": "),
        strong(percent(aggregate.success_rate)),
        plain(format!(
            ", 95% interval {}.",
            percent_interval(aggregate.interval)
        )),
    ]
}

fn facts(task: &TaskFacts, lead: Lead<'_>) -> Vec<Fact> {
    let aggregate = &lead.run().aggregate;
    let fact = |label: &str, value: String, note: String| Fact {
        label: label.into(),
        value,
        note,
    };
    let (success, distance) = match lead {
        Lead::Run(_) => (
            fact(
                "success rate",
                percent(aggregate.success_rate),
                percent_interval(aggregate.interval),
            ),
            fact(
                "final distance",
                decimal(aggregate.final_distance.median, 2),
                format!("median; mean {}", decimal(aggregate.final_distance.mean, 2)),
            ),
        ),
        Lead::Mean(mean, _) => (
            fact(
                "success rate",
                percent(mean.success_rate),
                format!(
                    "mean of {} seeds, std {}",
                    mean.seeds.len(),
                    decimal(100.0 * mean.standard_deviation, 1)
                ),
            ),
            fact(
                "final distance",
                decimal(mean.final_distance_mean, 2),
                "mean over seeds and episodes".into(),
            ),
        ),
    };
    let episodes = fact(
        "episodes",
        aggregate.episodes.to_string(),
        format!("seeds from {}", lead.run().run.record.first_seed),
    );
    let mut items = vec![success, episodes, distance];
    items.push(
        match aggregate.plan_seconds.filter(|band| band.median > 0.0) {
            Some(band) => fact(
                "planning",
                seconds(band.median),
                "per episode, median".into(),
            ),
            None => fact("task", task.task.id(), short_hash(&task.task.hash)),
        },
    );
    items
}

/// How the claim stands against floor, ceiling and paper; one paragraph each, where they exist.
fn context(task: &TaskFacts, lead: Lead<'_>) -> Vec<Block> {
    let first = lead.run();
    let mut blocks = Vec::new();
    let others = task
        .runs
        .iter()
        .filter(|facts| facts.kind() != ModelKind::Trained && facts.label != first.label);
    let (same, other): (Vec<&RunFacts>, Vec<&RunFacts>) =
        others.partition(|facts| TaskFacts::share_episodes(first, facts));
    if !same.is_empty() {
        blocks.push(paragraph(vec![plain(format!(
            "On the same episodes: {}.{}",
            rates(&same),
            lead_text(task, lead)
        ))]));
    }
    if !other.is_empty() {
        let text = format!(
            "On other episodes, not paired with these: {}.",
            rates(&other)
        );
        blocks.push(paragraph(vec![plain(text)]));
    }
    if !task.published.is_empty() {
        blocks.push(paragraph(vec![plain(published_text(task))]));
    }
    blocks
}

fn rates(runs: &[&RunFacts]) -> String {
    let rates = runs
        .iter()
        .map(|facts| format!("{} {}", facts.label, percent(facts.aggregate.success_rate)));
    listed(&rates.collect::<Vec<_>>())
}

/// How far the lead is above the best floor; empty if they were not paired.
fn lead_text(task: &TaskFacts, lead: Lead<'_>) -> String {
    let above = |run: &RunFacts| {
        let row = task.ranking.iter().find(|row| row.label == run.label);
        row.and_then(|row| row.above_floor)
    };
    match lead {
        Lead::Run(run) => above(run).map_or_else(String::new, |above| {
            format!(
                " The lead over the best floor is {} percentage points (paired 95% interval {}).",
                decimal(100.0 * above.mean, 1),
                points_interval(above.interval)
            )
        }),
        Lead::Mean(mean, _) => {
            let runs = mean.members.iter().map(|&k| above(&task.runs[k]));
            let Some(leads) = runs.collect::<Option<Vec<_>>>() else {
                return String::new();
            };
            let total: f64 = leads.iter().map(|above| above.mean).sum();
            format!(
                " The mean lead over the best floor is {} percentage points.",
                decimal(100.0 * total / leads.len() as f64, 1)
            )
        }
    }
}

fn published_text(task: &TaskFacts) -> String {
    let rows: Vec<String> = task
        .published
        .iter()
        .map(|(row, score)| {
            format!(
                "{}% (std {}) for {}",
                decimal(score.mean, 1),
                decimal(score.std, 1),
                row.model
            )
        })
        .collect();
    let (first, _) = task.published[0];
    format!(
        "With planner {} and distance {} the paper reports {} ({}). Those are means over training seeds and the \
         last epochs of much larger models, reported by the authors and not verified here.",
        first.planner,
        first.distance,
        listed(&rows),
        first.source()
    )
}

/// Bars of runs and of means over seeds drawn at most: a figure is no longer than a page.
const MOST_BARS: usize = 20;

/// Positions of the runs that are drawn: the best trained models, and all floors and oracles, as far as there is room.
fn shown(task: &TaskFacts, room: usize) -> Vec<usize> {
    let is_reference = |&k: &usize| task.runs[k].kind() != ModelKind::Trained;
    let all = 0..task.runs.len();
    let references: Vec<usize> = all.clone().filter(is_reference).take(room / 2).collect();
    let trained = all
        .filter(|k| !is_reference(k))
        .take(room - references.len());
    trained.chain(references.iter().copied()).collect()
}

/// Success rates as bars, published ones beside them.
pub(super) fn bars(scope: &Scope<'_>) -> Result<Figure> {
    let task = scope.task;
    let mut bars: Vec<Bar> = task.seed_means.iter().map(mean_bar).collect();
    bars.truncate(MOST_BARS / 2);
    let (means, room) = (bars.len(), MOST_BARS - bars.len());
    let shown = shown(task, room);
    bars.extend(shown.iter().map(|&k| bar(task, k, &task.runs[k])));
    let left_out = task.seed_means.len() - means + task.runs.len() - shown.len();
    let published = task.published.iter();
    bars.extend(published.map(|(row, score)| Bar::published(row.model, *score)));
    let name = scope.figure_name("success");
    let means_text = if task.seed_means.is_empty() {
        ""
    } else {
        " Dark bars are means over training seeds; their intervals are as wide as those of one run."
    };
    let spread = if task.published.is_empty() {
        ""
    } else {
        " Hollow bars are published numbers; their whiskers are the authors' standard deviation over seeds and epochs."
    };
    Ok(Figure {
        caption: format!(
            "Success rate on {} with Wilson 95% intervals.{means_text}{spread}{}",
            task.task.id(),
            left_out_text(left_out)
        ),
        alt: alt(&bars),
        svg: success_bars(&name, &bars)?,
        name,
    })
}

/// That some bars are not drawn.
pub(super) fn left_out_text(count: usize) -> String {
    match count {
        0 => String::new(),
        count => format!(" The best are drawn; {count} more are in the table."),
    }
}

fn mean_bar(mean: &SeedMean) -> Bar {
    Bar {
        label: mean.label.clone(),
        kind: BarKind::Mean,
        rate: mean.success_rate,
        whisker: mean.interval,
        note: format!("± {}", decimal(100.0 * mean.standard_deviation, 1)),
    }
}

fn bar(task: &TaskFacts, k: usize, facts: &RunFacts) -> Bar {
    let aggregate = &facts.aggregate;
    Bar {
        label: facts.label.clone(),
        kind: bar_kind(task, k),
        rate: aggregate.success_rate,
        whisker: aggregate.interval,
        note: format!("{}/{}", aggregate.successes, aggregate.episodes),
    }
}

fn alt(bars: &[Bar]) -> String {
    let rates: Vec<String> = bars
        .iter()
        .map(|bar| format!("{} {}", bar.label, percent(bar.rate)))
        .collect();
    format!("Bar chart of success rates: {}", listed(&rates))
}
