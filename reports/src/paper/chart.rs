//! Figures 3 to 6: one design value varied, everything else held (evaluation.md section 6).

use std::collections::BTreeMap;

use jepa_leaderboard::TASK_GROUPS;
use serde::Serialize;

use super::row::{planner_label, published_score};
use super::{Entry, GROUPS, PaperInput, PaperRun, mean_of_groups};

/// What a figure varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Axis {
    Planner,
    RolloutSteps,
    Proprio,
    Encoder,
    Context,
    Size,
    Predictor,
    Depth,
}

/// A figure, filled.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Chart {
    pub(crate) axis: Axis,
    /// Every variant of the paper, with or without runs.
    pub(crate) variants: Vec<Variant>,
    /// What was held, by task group; only groups with values.
    pub(crate) held: Vec<(&'static str, String)>,
}

/// One bar colour, or one position of the lines.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Variant {
    /// As printed.
    pub(crate) label: String,
    /// Position on a numeric axis.
    pub(crate) position: f64,
    /// One per task group.
    pub(crate) entries: [Entry; GROUPS],
    /// The paper's numbers for the model that is held, where it prints any.
    pub(crate) published: [Option<f64>; GROUPS],
    /// Mean over all groups; `None` if one lacks.
    pub(crate) average: Option<f64>,
}

impl Axis {
    /// In the order of the figures: 3 left, 3 right, 4 left, ..
    pub(crate) const ALL: [Self; 8] = [
        Self::Planner,
        Self::RolloutSteps,
        Self::Proprio,
        Self::Encoder,
        Self::Context,
        Self::Size,
        Self::Predictor,
        Self::Depth,
    ];

    /// Whether the figure is of lines over a numeric value, not of bars.
    pub(crate) fn is_numeric(self) -> bool {
        matches!(
            self,
            Self::RolloutSteps | Self::Context | Self::Size | Self::Depth
        )
    }

    /// Variants of the paper: label, position, and what a run has to be called to be of it.
    fn variants(self) -> Vec<(String, f64, String)> {
        let named = |pairs: &[(&str, &str)]| -> Vec<(String, f64, String)> {
            let numbered = pairs.iter().enumerate();
            numbered
                .map(|(k, (label, key))| ((*label).into(), k as f64, (*key).into()))
                .collect()
        };
        let numbers = |values: &[u32]| -> Vec<(String, f64, String)> {
            values
                .iter()
                .map(|value| (value.to_string(), f64::from(*value), value.to_string()))
                .collect()
        };
        match self {
            Self::Planner => {
                let planners = ["cem", "ng", "adam-as-released", "gd"];
                let setups = planners
                    .iter()
                    .flat_map(|planner| ["l2", "l1"].map(|d| format!("{planner} {d}")));
                let numbered = setups.enumerate();
                numbered
                    .map(|(k, setup)| (planner_label(&setup), k as f64, setup))
                    .collect()
            }
            Self::RolloutSteps => numbers(&[1, 2, 3, 6]),
            Self::Proprio => named(&[("proprio", "true"), ("no proprio", "false")]),
            Self::Encoder => named(&[
                ("DINOv2", "dinov2"),
                ("DINOv3", "dinov3"),
                ("V-JEPA", "vjepa"),
                ("V-JEPA 2", "vjepa2"),
            ]),
            Self::Context => numbers(&[1, 2, 3, 5, 7]),
            Self::Size => named(&[("S", "0"), ("B", "1"), ("L", "2")]),
            Self::Predictor => named(&[
                ("sincos + feature", "feature"),
                ("RoPE + feature", "sequence-feature"),
                ("RoPE + sequence", "sequence"),
                ("AdaLN + RoPE", "adaln"),
            ]),
            Self::Depth => numbers(&[3, 6, 9, 12]),
        }
    }

    /// The value of a run on this axis.
    fn value(self, run: &PaperRun) -> Option<String> {
        let design = &run.design;
        match self {
            Self::Planner => Some(run.setup.clone()),
            Self::RolloutSteps => design.rollout_steps.map(|n| n.to_string()),
            Self::Proprio => design.proprio.map(|is| is.to_string()),
            Self::Encoder => design.encoder_family().map(String::from),
            Self::Context => design.context.map(|n| n.to_string()),
            Self::Size => design.size().map(|n| n.to_string()),
            Self::Predictor => design.predictor.clone(),
            Self::Depth => design.depth.map(|n| n.to_string()),
        }
    }

    /// What is held when this axis varies, by name.
    fn held(self, run: &PaperRun) -> BTreeMap<&'static str, String> {
        let design = &run.design;
        let number = |n: Option<u64>| n.map_or_else(|| NOT_STATED.into(), |n| n.to_string());
        let text = |t: Option<&str>| t.unwrap_or(NOT_STATED).to_string();
        let mut held = BTreeMap::from([
            ("model", run.model.clone()),
            ("planner", planner_label(&run.setup)),
            ("predictor", text(design.predictor.as_deref())),
            ("depth", number(design.depth)),
            ("rollout steps", number(design.rollout_steps)),
            ("W", number(design.context)),
            (
                "proprio",
                design.proprio.map_or_else(
                    || NOT_STATED.into(),
                    |is| if is { "yes" } else { "no" }.into(),
                ),
            ),
            ("encoder", text(design.encoder.as_deref())),
        ]);
        // Six rollout steps need longer slices: the paper pairs them with W = 7.
        let is_long = self == Self::RolloutSteps
            && (design.rollout_steps, design.context) == (Some(6), Some(7));
        let free: &[&str] = match self {
            Self::Planner => &["planner"],
            Self::RolloutSteps if is_long => &["rollout steps", "W"],
            Self::RolloutSteps => &["rollout steps"],
            Self::Proprio => &["proprio"],
            Self::Encoder | Self::Size => &["encoder"],
            Self::Context => &["W"],
            // The registry has a model for each kind of predictor.
            Self::Predictor => &["predictor", "model"],
            Self::Depth => &["depth"],
        };
        held.retain(|name, _| !free.contains(name));
        match self {
            Self::Encoder => {
                let size = design.size().and_then(|size| ["S", "B", "L"].get(size));
                held.insert("encoder size", text(size.copied()));
            }
            Self::Size => {
                held.insert("encoder", text(design.encoder_family()));
            }
            _ => {}
        }
        held
    }
}

/// A design value that no configuration states.
const NOT_STATED: &str = "not stated";

/// Every figure in the order of the paper.
pub(crate) fn charts(input: &PaperInput) -> Vec<Chart> {
    Axis::ALL.map(|axis| chart(input, axis)).into()
}

type Held = BTreeMap<&'static str, String>;

fn chart(input: &PaperInput, axis: Axis) -> Chart {
    let variants = axis.variants();
    let known = |run: &&PaperRun| {
        axis.value(run)
            .is_some_and(|value| variants.iter().any(|v| v.2 == value))
    };
    let planned = |run: &&PaperRun| axis == Axis::Planner || run.setup == "cem l2";
    let runs: Vec<&PaperRun> = input.runs.iter().filter(known).filter(planned).collect();
    let bases: Vec<Option<Held>> = (0..GROUPS).map(|group| base(axis, group, &runs)).collect();
    let fits = |run: &PaperRun| {
        let base = run.group.and_then(|group| bases[group].as_ref());
        base.is_some_and(|base| agree(base, &axis.held(run)))
    };
    let filled = variants.iter().map(|(label, position, key)| {
        let entry = |group: usize| {
            let here = runs.iter().copied().filter(|run| {
                run.group == Some(group) && axis.value(run).as_ref() == Some(key) && fits(run)
            });
            Entry::of(input, group, &here.collect::<Vec<_>>())
        };
        let entries: [Entry; GROUPS] = std::array::from_fn(entry);
        let values = entries
            .each_ref()
            .map(|entry| entry.mean().map(|mean| mean.value));
        Variant {
            label: label.clone(),
            position: *position,
            published: std::array::from_fn(|group| {
                printed(axis, bases[group].as_ref()?, key, group)
            }),
            entries,
            average: mean_of_groups(&values).ok(),
        }
    });
    let variants = filled.collect();
    let held = bases
        .iter()
        .enumerate()
        .filter_map(|(group, base)| Some((TASK_GROUPS[group], sentence(base.as_ref()?))));
    Chart {
        axis,
        variants,
        held: held.collect(),
    }
}

/// The number that Table S5.1 prints for the model that is held and a planner. Its models have proprio in simulation and
/// none on Robocasa and DROID (evaluation.md section 5).
fn printed(axis: Axis, held: &Held, setup: &str, group: usize) -> Option<f64> {
    let proprio = if group < FIRST_WITHOUT_PROPRIO {
        "yes"
    } else {
        "no"
    };
    let is_published =
        axis == Axis::Planner && held.get("proprio").is_some_and(|value| value == proprio);
    let score = is_published.then(|| published_score(&held["model"], setup, group))?;
    score.map(|score| score.mean)
}

/// The first group, Robocasa, on which the published models have no proprio.
const FIRST_WITHOUT_PROPRIO: usize = 5;

/// Two descriptions agree in everything that both have.
fn agree(a: &Held, b: &Held) -> bool {
    a.iter()
        .all(|(name, value)| b.get(name).is_none_or(|other| other == value))
}

/// What is held in a group: the description that most variants of the group agree with; then the one that has more
/// variants in all groups, then the first by name.
fn base(axis: Axis, group: usize, runs: &[&PaperRun]) -> Option<Held> {
    let here: Vec<&PaperRun> = runs
        .iter()
        .copied()
        .filter(|run| run.group == Some(group))
        .collect();
    let most = here.iter().map(|run| axis.held(run).len()).max()?;
    let mut bases: Vec<Held> = here
        .iter()
        .map(|run| axis.held(run))
        .filter(|held| held.len() == most)
        .collect();
    bases.sort();
    bases.dedup();
    let covered = |base: &Held, runs: &[&PaperRun]| {
        let agreeing = runs.iter().filter(|run| agree(base, &axis.held(run)));
        let mut values: Vec<(Option<usize>, Option<String>)> =
            agreeing.map(|run| (run.group, axis.value(run))).collect();
        values.sort();
        values.dedup();
        values.len()
    };
    // `max_by_key` takes the last of equals, the order wants the first.
    bases
        .into_iter()
        .rev()
        .max_by_key(|base| (covered(base, &here), covered(base, runs)))
}

fn sentence(held: &Held) -> String {
    let stated = held.iter().filter(|(_, value)| *value != NOT_STATED);
    let parts: Vec<String> = stated
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    parts.join(", ")
}
