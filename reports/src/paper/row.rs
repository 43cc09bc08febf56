//! Rows of Table S5.1, of which those of CEM with L2 are Table 1.

use jepa_leaderboard::{Published, PublishedScore, published};
use serde::{Serialize, Serializer};

use super::{Entry, GROUPS, PaperInput, PaperRun, mean_of_groups};

/// A row of runs, and the paper's row beside it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// Planner and distance as printed: `CEM L2`.
    pub(crate) planner: String,
    /// Registry name of the model.
    pub(crate) model: String,
    /// One per task group.
    pub(crate) entries: [Entry; GROUPS],
    /// Mean over all groups, or the groups that lack.
    #[serde(serialize_with = "average")]
    pub(crate) average: Result<f64, Vec<&'static str>>,
    /// The same row of the paper; `None` for planners and models that it has not.
    pub(crate) published: Option<Published>,
}

/// Planners of Table S5.1: how they are printed, what records call them, what the published table calls them.
///
/// The paper's Adam never took a step of Adam (evaluation.md section 0): it is `adam-as-released` here.
const PLANNERS: [(&str, &str, &str); 4] = [
    ("CEM", "cem", "cem"),
    ("NG", "ng", "ng"),
    ("Adam", "adam-as-released", "adam"),
    ("GD", "gd", "gd"),
];
/// Distances, in the order of the table.
const DISTANCES: [&str; 2] = ["l2", "l1"];
/// Models of the paper: what records call them, and released ones by the beginning of their name; what the published table
/// calls them.
const MODELS: [(&str, &str, &str); 3] = [
    ("dino-wm", "dino_wm_", "DINO-WM"),
    ("vjepa2-ac", "vjepa2_ac_", "V-JEPA-2-AC (fixed)"),
    ("ours", "jepa_wm_", "JEPA-WM of the paper"),
];
/// The same in few letters.
const SHORT: [&str; 3] = ["DINO-WM", "VJ2AC", "JEPA-WM"];

/// Planner and distance as Table S5.1 prints them.
pub(super) fn planner_label(setup: &str) -> String {
    let (planner, distance) = setup.rsplit_once(' ').unwrap_or((setup, ""));
    let known = PLANNERS.iter().find(|(_, name, _)| *name == planner);
    let label = known.map_or(planner, |(label, ..)| label);
    format!("{label} {}", distance.to_uppercase())
        .trim()
        .to_string()
}

/// The paper's model of a registry name, by its position in [`MODELS`].
fn paper_model(name: &str) -> Option<usize> {
    let is = |(own, released, _): &(&str, &str, &str)| *own == name || name.starts_with(released);
    MODELS.iter().position(is)
}

/// The paper's number for a model, planner with distance, and group.
pub(super) fn published_score(model: &str, setup: &str, group: usize) -> Option<PublishedScore> {
    let (.., published_model) = MODELS[paper_model(model)?];
    let (name, distance) = setup.rsplit_once(' ')?;
    let (.., planner) = PLANNERS.iter().find(|(_, known, _)| *known == name)?;
    let is_it = |row: &&Published| {
        (row.planner, row.distance, row.model) == (*planner, distance, published_model)
    };
    published().iter().find(is_it)?.scores[group]
}

/// The rows of the paper in its order, then those of other models and planners.
pub(crate) fn rows(input: &PaperInput) -> Vec<Row> {
    let mut rows = Vec::new();
    for (_, planner, published_planner) in PLANNERS {
        for distance in DISTANCES {
            let setup = format!("{planner} {distance}");
            for (k, (model, _, published_model)) in MODELS.iter().enumerate() {
                let is_here =
                    |run: &&PaperRun| run.setup == setup && paper_model(&run.model) == Some(k);
                let row = published().iter().find(|row| {
                    (row.planner, row.distance, row.model)
                        == (published_planner, distance, *published_model)
                });
                rows.push(Row::new(input, &setup, model, is_here, row.copied()));
            }
            rows.extend(others(input, |run| {
                run.setup == setup && paper_model(&run.model).is_none()
            }));
        }
    }
    let is_known = |setup: &str| {
        let known = PLANNERS
            .iter()
            .flat_map(|(_, name, _)| DISTANCES.map(|d| format!("{name} {d}")));
        known.into_iter().any(|known| known == setup)
    };
    rows.extend(others(input, |run| !is_known(&run.setup)));
    rows
}

/// A row per setup and model of the runs that `fits` accepts.
fn others(input: &PaperInput, fits: impl Fn(&PaperRun) -> bool) -> Vec<Row> {
    let fitting = || {
        input
            .runs
            .iter()
            .filter(|run| run.group.is_some() && fits(run))
    };
    let mut names: Vec<(&str, &str)> = fitting()
        .map(|run| (&run.setup[..], &run.model[..]))
        .collect();
    names.sort_unstable();
    names.dedup();
    let row = |(setup, model): (&str, &str)| {
        Row::new(
            input,
            setup,
            model,
            |run| run.setup == setup && run.model == model,
            None,
        )
    };
    names.into_iter().map(row).collect()
}

impl Row {
    fn new(
        input: &PaperInput,
        setup: &str,
        model: &str,
        is_here: impl Fn(&&PaperRun) -> bool,
        published: Option<Published>,
    ) -> Self {
        let entry = |group: usize| {
            let runs = input.runs.iter().filter(|run| run.group == Some(group));
            Entry::of(input, group, &runs.filter(&is_here).collect::<Vec<_>>())
        };
        let entries: [Entry; GROUPS] = std::array::from_fn(entry);
        let values = entries
            .each_ref()
            .map(|entry| entry.mean().map(|mean| mean.value));
        Self {
            planner: planner_label(setup),
            model: model.into(),
            entries,
            average: mean_of_groups(&values),
            published,
        }
    }

    /// Whether the row is one of Table 1.
    pub(crate) fn is_in_table_1(&self) -> bool {
        self.planner == "CEM L2"
    }

    /// Whether any run is in it.
    pub(crate) fn has_values(&self) -> bool {
        self.entries.iter().any(|entry| entry.mean().is_some())
    }

    /// Mean of the paper's row over all groups, where it has them all.
    pub(crate) fn published_average(&self) -> Option<f64> {
        let scores = self
            .published?
            .scores
            .map(|score| score.map(|score| score.mean));
        mean_of_groups(&scores).ok()
    }

    /// The paper's name of its model in few letters.
    pub(crate) fn published_label(&self) -> &'static str {
        paper_model(&self.model).map_or("", |k| SHORT[k])
    }

    /// How many groups have a value.
    pub(crate) fn groups_present(&self) -> usize {
        self.entries
            .iter()
            .filter(|entry| entry.mean().is_some())
            .count()
    }
}

fn average<S: Serializer>(
    average: &Result<f64, Vec<&'static str>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    average.as_ref().ok().serialize(serializer)
}
