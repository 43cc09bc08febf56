//! The one-page summary: the claim, its interval, what it was measured on, and the success bars.

use jepa_leaderboard::{Interval, ModelKind};

use super::{Scope, bar_kind};
use crate::document::{Block, Fact, Figure, Section, Span, code, paragraph, plain, strong};
use crate::error::Result;
use crate::figure::{Bar, BarKind, success_bars};
use crate::input::{RunFacts, TaskFacts};
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
        section.blocks.push(Block::Figure(bars(&scope)?));
    }
    Ok(section)
}

fn claim(task: &TaskFacts, lead: &RunFacts) -> Vec<Span> {
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

fn facts(task: &TaskFacts, lead: &RunFacts) -> Vec<Fact> {
    let aggregate = &lead.aggregate;
    let fact = |label: &str, value: String, note: String| Fact {
        label: label.into(),
        value,
        note,
    };
    let mut items = vec![
        fact(
            "success rate",
            percent(aggregate.success_rate),
            percent_interval(aggregate.interval),
        ),
        fact(
            "episodes",
            aggregate.episodes.to_string(),
            format!("seeds from {}", lead.run.record.first_seed),
        ),
        fact(
            "final distance",
            decimal(aggregate.final_distance.median, 2),
            format!("median; mean {}", decimal(aggregate.final_distance.mean, 2)),
        ),
    ];
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
fn context(task: &TaskFacts, lead: &RunFacts) -> Vec<Block> {
    let mut blocks = Vec::new();
    let others = task
        .runs
        .iter()
        .filter(|facts| facts.kind() != ModelKind::Trained && facts.label != lead.label);
    let (same, other): (Vec<&RunFacts>, Vec<&RunFacts>) =
        others.partition(|facts| TaskFacts::share_episodes(lead, facts));
    if !same.is_empty() {
        blocks.push(paragraph(vec![plain(format!(
            "On the same episodes: {}.{}",
            rates(&same),
            lead_text(task)
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

/// How far the first run is above the best floor; empty if they were not paired.
fn lead_text(task: &TaskFacts) -> String {
    let Some(above) = task.ranking.first().and_then(|row| row.above_floor) else {
        return String::new();
    };
    format!(
        " The lead over the best floor is {} percentage points (paired 95% interval {}).",
        decimal(100.0 * above.mean, 1),
        points_interval(above.interval)
    )
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

fn bars(scope: &Scope<'_>) -> Result<Figure> {
    let task = scope.task;
    let mut bars: Vec<Bar> = task
        .runs
        .iter()
        .enumerate()
        .map(|(k, facts)| bar(task, k, facts))
        .collect();
    bars.extend(task.published.iter().map(|(row, score)| Bar {
        label: row.model.into(),
        kind: BarKind::Published,
        rate: score.mean / 100.0,
        whisker: Interval {
            low: (score.mean - score.std) / 100.0,
            high: (score.mean + score.std) / 100.0,
        },
        note: format!("± {}", decimal(score.std, 1)),
    }));
    let name = scope.figure_name("success");
    let spread = if task.published.is_empty() {
        ""
    } else {
        " Hollow bars are published numbers; their whiskers are the authors' standard deviation over seeds and epochs."
    };
    Ok(Figure {
        caption: format!(
            "Success rate on {} with Wilson 95% intervals.{spread}",
            task.task.id()
        ),
        alt: alt(&bars),
        svg: success_bars(&name, &bars)?,
        name,
    })
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
