//! Figures 3 to 6, left and right.

use jepa_leaderboard::TASK_GROUPS;

use super::tables::simulator;
use crate::document::{Block, Figure, Section, Span, code, paragraph, plain, strong};
use crate::error::Result;
use crate::figure::{BarGroup, DesignLine, GroupBar, LinePoint, design_lines, group_bars};
use crate::paper::{Axis, Chart, Entry, GROUPS, Layouts, Variant};
use crate::text::{decimal, listed};

/// Number, side, what is compared, the axis of lines, and the settings that make its variants.
const FIGURES: [(u32, &str, &str, &str, &str); 8] = [
    (
        3,
        "left",
        "planners",
        "",
        "eval --planner NAME --set objective.distance=l2 (or l1)",
    ),
    (
        3,
        "right",
        "steps of the rollout loss",
        "rollout steps",
        "\"token.objective.rollout.steps\" = [1, 2, 3, 6]",
    ),
    (
        4,
        "left",
        "with and without proprio",
        "",
        "\"token.predictor.proprio_width\" = [0, 16]",
    ),
    (
        4,
        "right",
        "encoders",
        "",
        "\"token.encoder.weights\" = [..]",
    ),
    (
        5,
        "left",
        "frames of context in training",
        "context W",
        "\"training.horizon\" = [1, 2, 3, 5, 7]",
    ),
    (
        5,
        "right",
        "size of encoder and predictor",
        "size",
        "\"token.encoder.weights\" = [..]",
    ),
    (
        6,
        "left",
        "predictors",
        "",
        "model = [\"ours\", \"dino-wm\", \"vjepa2-ac\"]",
    ),
    (
        6,
        "right",
        "depth of the predictor",
        "blocks",
        "\"token.predictor.depth\" = [3, 6, 9, 12]",
    ),
];

/// One section per figure of the paper.
pub(super) fn sections(layouts: &Layouts) -> Result<Vec<Section>> {
    let mut sections: Vec<Section> = Vec::new();
    for (chart, (number, side, what, axis, _)) in layouts.charts.iter().zip(FIGURES) {
        let title = format!("Figure {number}");
        if sections.last().is_none_or(|section| section.title != title) {
            sections.push(Section::new(&title));
        }
        let name = format!("figure-{number}-{side}");
        let heading = format!("Figure {number} {side}: {what}");
        let block = if chart.held.is_empty() {
            let words = format!(
                "{heading}. No run is of any of its variants; what is missing is listed below."
            );
            paragraph(vec![plain(words)])
        } else {
            Block::Figure(figure(chart, name, &heading, axis)?)
        };
        if let Some(section) = sections.last_mut() {
            section.blocks.push(block);
        }
    }
    Ok(sections)
}

/// For figures that lack variants in every group: what makes them.
pub(super) fn how_to(layouts: &Layouts) -> Vec<Vec<Span>> {
    let figures = layouts.charts.iter().zip(FIGURES);
    let items = figures.filter_map(|(chart, (number, side, _, _, setting))| {
        let is_absent =
            |entries: &[Entry; GROUPS]| entries.iter().all(|entry| entry.mean().is_none());
        let absent: Vec<String> = chart
            .variants
            .iter()
            .filter(|variant| is_absent(&variant.entries))
            .map(|variant| variant.label.clone())
            .collect();
        (!absent.is_empty()).then(|| {
            let mut item = vec![
                strong(format!("Figure {number} {side}")),
                plain(format!(" has no run of {}: ", listed(&absent))),
            ];
            if chart.axis != Axis::Planner {
                item.extend([plain("a grid of "), code("train --sweep"), plain(" with ")]);
            }
            item.extend([code(setting), plain(".")]);
            item
        })
    });
    items.collect()
}

fn figure(chart: &Chart, name: String, heading: &str, axis: &str) -> Result<Figure> {
    let svg = if chart.axis.is_numeric() {
        design_lines(&name, axis, &ticks(chart), &lines(chart))?
    } else {
        let labels: Vec<String> = chart.variants.iter().map(|v| v.label.clone()).collect();
        group_bars(&name, &labels, &bar_groups(chart))?
    };
    Ok(Figure {
        caption: caption(chart, heading),
        alt: alt(chart, heading),
        svg,
        name,
    })
}

fn ticks(chart: &Chart) -> Vec<(f64, String)> {
    chart
        .variants
        .iter()
        .map(|variant| (variant.position, variant.label.clone()))
        .collect()
}

fn lines(chart: &Chart) -> Vec<DesignLine> {
    let groups = (0..GROUPS).map(|group| {
        let points = chart.variants.iter().filter_map(|variant| {
            let mean = variant.entries[group].mean()?;
            Some(LinePoint {
                position: variant.position,
                value: mean.value,
                whisker: mean.range(),
            })
        });
        DesignLine {
            name: TASK_GROUPS[group].into(),
            points: points.collect(),
            is_average: false,
        }
    });
    let averages = chart.variants.iter().filter_map(|variant| {
        Some(LinePoint {
            position: variant.position,
            value: variant.average?,
            whisker: None,
        })
    });
    let average = DesignLine {
        name: "Avg".into(),
        points: averages.collect(),
        is_average: true,
    };
    groups.chain([average]).collect()
}

fn bar_groups(chart: &Chart) -> Vec<BarGroup> {
    let groups = (0..GROUPS).map(|group| BarGroup {
        name: TASK_GROUPS[group].into(),
        bars: chart
            .variants
            .iter()
            .map(|variant| bar(variant, group))
            .collect(),
        missing: match chart
            .variants
            .first()
            .map(|variant| &variant.entries[group])
        {
            Some(Entry::NotBuilt) => format!("{}\nnot built", simulator(group)),
            _ => "no run".into(),
        },
    });
    let averages = chart.variants.iter().map(|variant| {
        variant.average.map(|value| GroupBar {
            value,
            whisker: None,
            published: None,
        })
    });
    let average = BarGroup {
        name: "Avg".into(),
        bars: averages.collect(),
        missing: "groups\nlack".into(),
    };
    groups.chain([average]).collect()
}

fn bar(variant: &Variant, group: usize) -> Option<GroupBar> {
    let mean = variant.entries[group].mean()?;
    Some(GroupBar {
        value: mean.value,
        whisker: mean.range(),
        published: variant.published[group],
    })
}

fn caption(chart: &Chart, heading: &str) -> String {
    let whiskers = "Whiskers: population standard deviation over the last epochs of all seeds, or the Wilson 95% interval of a \
                    single run; Avg, the unweighted mean over all eight groups, has none and is there only where no group lacks.";
    let shape = if chart.axis.is_numeric() {
        let without = lines(chart);
        let without: Vec<String> = without
            .iter()
            .filter(|line| line.points.is_empty())
            .map(|line| line.name.clone())
            .collect();
        let lacks = match without.as_slice() {
            [] => String::new(),
            names => format!(" No points: {}.", listed(names)),
        };
        format!("Groups are shifted a little so that they can be told apart.{lacks}")
    } else {
        "×: no run of this variant.".into()
    };
    let planner = if chart.axis == Axis::Planner {
        ""
    } else {
        " Planned with CEM and L2."
    };
    let printed = chart
        .variants
        .iter()
        .any(|variant| variant.published.iter().any(Option::is_some));
    let published = if printed {
        "Diamonds: what the authors report for the model in Table S5.1, not verified here."
    } else {
        "The paper prints no numbers for this figure."
    };
    format!(
        "{heading}.{planner} Held: {}. {whiskers} {shape} {published}",
        held(chart)
    )
}

/// What was held, once for groups that agree.
fn held(chart: &Chart) -> String {
    let mut texts: Vec<(&str, Vec<String>)> = Vec::new();
    for (group, text) in &chart.held {
        match texts.iter_mut().find(|(known, _)| known == text) {
            Some((_, groups)) => groups.push((*group).into()),
            None => texts.push((text, vec![(*group).into()])),
        }
    }
    let parts: Vec<String> = texts
        .iter()
        .map(|(text, groups)| format!("{text} (on {})", listed(groups)))
        .collect();
    parts.join("; ")
}

fn alt(chart: &Chart, heading: &str) -> String {
    let values = chart.variants.iter().flat_map(|variant| {
        let groups = variant.entries.iter().zip(TASK_GROUPS);
        groups.filter_map(|(entry, group)| {
            Some(format!(
                "{} on {group} {}%",
                variant.label,
                decimal(entry.mean()?.value, 1)
            ))
        })
    });
    format!("{heading}: {}", listed(&values.collect::<Vec<_>>()))
}
