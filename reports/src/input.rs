//! What a report is made from, and the numbers that its sections share.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jepa_leaderboard::{
    Aggregate, Band, Comparison, CostCurve, EpisodeTable, EpochAverage, EpochScore, ModelKind,
    Proxy, Published, PublishedScore, Ranked, Run, RunRecord, Scored, SeedMean, TaskRef,
    average_epochs, compare_sharing, cost_curves, distance_curve, distinct_labels, epoch_window,
    published_for, rank, recipes, seed_means, smoothed,
};
use serde_json::Value;

use crate::dataset::DatasetCard;
use crate::error::{Error, Result};
use crate::film::{Film, load_films};
use crate::training::TrainingRun;

/// What a report is made from.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// The runs; of one task or of several.
    pub runs: Vec<Run>,
    /// Training runs behind the models, where known.
    pub training: Vec<TrainingRun>,
    /// Datasets behind the models, where known.
    pub datasets: Vec<DatasetCard>,
    /// Correlations of validation errors with success, by task.
    pub proxies: Vec<(String, Proxy)>,
    /// Head of the event chain of the board, where there is one.
    pub board_head: Option<String>,
}

/// A run with everything computed from its episodes.
#[derive(Debug, Clone)]
pub(crate) struct RunFacts {
    /// Name, different for every run of the task.
    pub(crate) label: String,
    pub(crate) run: Run,
    pub(crate) aggregate: Aggregate,
    pub(crate) distances: Vec<Band>,
    pub(crate) costs: Vec<CostCurve>,
    pub(crate) films: Vec<Film>,
}

/// One recipe with one planner over the models kept along its training.
#[derive(Debug, Clone)]
pub(crate) struct RecipeFacts {
    /// Name, different for every recipe of a task and planner.
    pub(crate) label: String,
    /// Record of one of its runs.
    pub(crate) record: RunRecord,
    /// Average of the last epochs; optimiser steps stand for epochs, with which they grow.
    pub(crate) average: EpochAverage,
    /// By training seed: optimiser steps, success and smoothed success.
    pub(crate) curves: Vec<SeedCurve>,
}

/// A training seed with optimiser steps, success and smoothed success of its models.
pub(crate) type SeedCurve = (u64, Vec<(f64, f64, f64)>);

/// Weight of the newest success rate in the moving average over epochs (evaluation.md section 4.4).
const ALPHA: f64 = 0.2;
/// Epochs that are averaged where the paper has no rule for the task.
const LAST: usize = 10;

impl RecipeFacts {
    /// The recipe of these runs; `None` if no seed has models of two epochs, or one has two of the same.
    fn of(records: &[&RunRecord]) -> Option<Self> {
        let first = *records.first()?;
        let mut seen = BTreeSet::new();
        let distinct = records
            .iter()
            .filter(|record| seen.insert(&record.model.weights_hash));
        let mut scores: Vec<EpochScore> = distinct
            .filter_map(|record| {
                let training = record.model.training.as_ref()?;
                Some(EpochScore {
                    seed: training.seed,
                    epoch: training.steps as f64,
                    successes: record.summary.successes,
                    episodes: record.summary.episodes,
                })
            })
            .collect();
        scores.sort_by(|a, b| a.seed.cmp(&b.seed).then(a.epoch.total_cmp(&b.epoch)));
        let by_seed = || scores.chunk_by(|a, b| a.seed == b.seed);
        if by_seed().all(|scores| scores.len() < 2) {
            return None;
        }
        let window = epoch_window(&first.task.name);
        let last = window.map_or(LAST, |window| window.in_paper);
        let curve = |scores: &[EpochScore]| {
            let rates: Vec<f64> = scores
                .iter()
                .map(|s| s.successes as f64 / s.episodes as f64)
                .collect();
            let smooth = smoothed(&rates, ALPHA)?;
            let points = scores.iter().zip(rates).zip(smooth);
            let points = points.map(|((score, raw), smooth)| (score.epoch, raw, smooth));
            Some((scores[0].seed, points.collect()))
        };
        Some(Self {
            label: first.model.name.clone(),
            record: first.clone(),
            average: average_epochs(&scores, last)?,
            curves: by_seed().map(curve).collect::<Option<Vec<_>>>()?,
        })
    }
}

/// Recipes of one name and planner get a number.
fn number_equal_labels(recipes: &mut [RecipeFacts]) {
    let keys: Vec<(String, String)> = recipes
        .iter()
        .map(|recipe| (recipe.label.clone(), format!("{:?}", recipe.record.planner)))
        .collect();
    for (k, recipe) in recipes.iter_mut().enumerate() {
        let of_key = |other: &&(String, String)| **other == keys[k];
        if keys.iter().filter(of_key).count() > 1 {
            let number = keys[..k].iter().filter(of_key).count() + 1;
            recipe.label = format!("{} #{number}", recipe.label);
        }
    }
}

/// What a report leads with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lead<'a> {
    /// One run: the best of recipes with a single training seed, or a report without a trained model.
    Run(&'a RunFacts),
    /// The mean over training seeds, and the run of the first seed.
    Mean(&'a SeedMean, &'a RunFacts),
}

impl<'a> Lead<'a> {
    /// The run itself, or that of the first seed.
    pub(crate) fn run(self) -> &'a RunFacts {
        match self {
            Self::Run(run) | Self::Mean(_, run) => run,
        }
    }
}

/// The runs of one task, best first, and how they compare.
#[derive(Debug, Clone)]
pub(crate) struct TaskFacts {
    pub(crate) task: TaskRef,
    /// Trained models by success rate, then the ceiling, then floors.
    pub(crate) runs: Vec<RunFacts>,
    /// Rows of the ranking, in the order of `runs`.
    pub(crate) ranking: Vec<Ranked>,
    /// Pairs that share episodes: each trained model with every run below it.
    pub(crate) comparisons: Vec<Comparison>,
    /// Means over training seeds, best first; positions of `runs`.
    pub(crate) seed_means: Vec<SeedMean>,
    /// Recipes with models of several epochs of a training seed.
    pub(crate) recipes_over_epochs: Vec<RecipeFacts>,
    /// Rows of the paper for this task with the planner and distance of the first run.
    pub(crate) published: Vec<(&'static Published, PublishedScore)>,
}

impl TaskFacts {
    /// Computes the facts of every task, in the order in which tasks first appear.
    pub(crate) fn of(input: &Input) -> Result<Vec<Self>> {
        let mut tasks: Vec<&TaskRef> = Vec::new();
        for run in &input.runs {
            if !tasks.contains(&&run.record.task) {
                tasks.push(&run.record.task);
            }
        }
        if tasks.is_empty() {
            return Err(Error::NoRuns);
        }
        tasks
            .into_iter()
            .map(|task| Self::of_task(input, task))
            .collect()
    }

    fn of_task(input: &Input, task: &TaskRef) -> Result<Self> {
        let runs: Vec<Run> = input
            .runs
            .iter()
            .filter(|run| run.record.task == *task)
            .cloned()
            .collect();
        let labels = labels(&runs)?;
        let scored: Vec<(Scored, ModelKind)> = runs
            .iter()
            .zip(&labels)
            .map(|(run, label)| (Scored::new(run, label.clone()), run.record.model.kind))
            .collect();
        let ranking = rank(&scored)?;
        let ordered: Vec<Run> = ranking.iter().map(|row| runs[row.index].clone()).collect();
        let aggregates = EpisodeTable::new(&ordered)?.aggregates()?;
        let comparisons = comparisons(&ranking, &scored)?;
        let facts = ordered.into_iter().zip(aggregates).zip(&ranking);
        let runs = facts
            .map(|((run, aggregate), row)| RunFacts::new(run, aggregate, row.label.clone()))
            .collect::<Result<Vec<RunFacts>>>()?;
        let published = published(task, &runs);
        let ordered = ranking.iter().map(|row| &scored[row.index].0);
        let pairs: Vec<_> = runs
            .iter()
            .map(|facts| &facts.run.record)
            .zip(ordered)
            .collect();
        let seed_means = seed_means(&pairs);
        let over_epochs = |group: Vec<usize>| {
            let records = group.iter().map(|&k| pairs[k].0);
            RecipeFacts::of(&records.collect::<Vec<_>>())
        };
        let mut recipes_over_epochs: Vec<RecipeFacts> = recipes(&pairs)
            .into_iter()
            .filter_map(over_epochs)
            .collect();
        recipes_over_epochs.sort_by(|a, b| b.average.pooled.mean.total_cmp(&a.average.pooled.mean));
        number_equal_labels(&mut recipes_over_epochs);
        Ok(Self {
            task: task.clone(),
            runs,
            ranking,
            comparisons,
            seed_means,
            recipes_over_epochs,
            published,
        })
    }

    /// What the report is about: the best recipe, by its mean over training seeds where it has several;
    /// without a trained model the first run. A single run has to beat the best mean to lead.
    pub(crate) fn lead(&self) -> Option<Lead<'_>> {
        let in_a_mean = |k: usize| self.seed_means.iter().any(|mean| mean.members.contains(&k));
        let alone = (0..self.runs.len()).find(|&k| !in_a_mean(k));
        let alone = alone.map(|k| &self.runs[k]);
        let Some(mean) = self.seed_means.first() else {
            return alone.map(Lead::Run);
        };
        match alone {
            Some(run)
                if run.kind() == ModelKind::Trained
                    && run.aggregate.success_rate > mean.success_rate =>
            {
                Some(Lead::Run(run))
            }
            _ => Some(Lead::Mean(mean, &self.runs[mean.members[0]])),
        }
    }

    /// Trained recipes to choose a lead from: means over seeds, and runs that are in none.
    pub(crate) fn recipes(&self) -> usize {
        let joined: usize = self.seed_means.iter().map(|mean| mean.members.len()).sum();
        let is_trained = |run: &&RunFacts| run.kind() == ModelKind::Trained;
        let trained = self.runs.iter().filter(is_trained).count();
        trained - joined + self.seed_means.len()
    }

    /// Whether two runs share episodes, so that they could be paired.
    pub(crate) fn share_episodes(a: &RunFacts, b: &RunFacts) -> bool {
        let seeds: BTreeSet<u64> = a.run.episodes.iter().map(|row| row.seed).collect();
        b.run.episodes.iter().any(|row| seeds.contains(&row.seed))
    }

    /// Position of a run among the trained models, if it is one.
    pub(crate) fn model_number(&self, k: usize) -> Option<usize> {
        (self.runs.get(k)?.kind() == ModelKind::Trained).then_some(k)
    }
}

impl RunFacts {
    fn new(run: Run, aggregate: Aggregate, label: String) -> Result<Self> {
        let (distances, costs) = (distance_curve(&run)?, cost_curves(&run)?);
        let films = load_films(&run.dir)?;
        Ok(Self {
            label,
            run,
            aggregate,
            distances,
            costs,
            films,
        })
    }

    /// The role of the run.
    pub(crate) fn kind(&self) -> ModelKind {
        self.run.record.model.kind
    }

    /// A setting of the planner as text; `None` if it has no such setting.
    pub(crate) fn setting(&self, name: &str) -> Option<String> {
        self.run.record.planner.settings.get(name).map(value_text)
    }
}

/// Names of runs, all different: those of their models, and where several runs are of one, with the steps of training and
/// the planner, and the first digits of the record's hash if that is not enough.
fn labels(runs: &[Run]) -> Result<Vec<String>> {
    let base = |run: &Run| run.record.model.label.clone();
    let mut named: Vec<(&RunRecord, String)> = Vec::new();
    for run in runs {
        let name = steps_and_planner(&run.record);
        let is_same =
            |other: &&Run| base(other) == base(run) && steps_and_planner(&other.record) == name;
        let id = run.id()?;
        let digits = id.get(..ID_DIGITS).unwrap_or(&id);
        let is_enough = !name.is_empty() && runs.iter().filter(is_same).count() == 1;
        let parts = [&name[..], if is_enough { "" } else { digits }];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        named.push((&run.record, parts.join(", ")));
    }
    let labels = distinct_labels(&named);
    let is_alone = |run: &Run| runs.iter().filter(|other| base(other) == base(run)).count() == 1;
    let short: Vec<String> = runs
        .iter()
        .zip(&labels)
        .map(|(run, label)| {
            if is_alone(run) {
                base(run)
            } else {
                label.clone()
            }
        })
        .collect();
    let distinct: BTreeSet<&String> = short.iter().collect();
    Ok(if distinct.len() == short.len() {
        short
    } else {
        labels
    })
}

/// Digits of a record's hash that tell runs apart.
const ID_DIGITS: usize = 6;

fn steps_and_planner(record: &RunRecord) -> String {
    let steps = record
        .model
        .training
        .as_ref()
        .map(|training| format!("{} steps", training.steps));
    let planner = Some(record.planner.name.clone()).filter(|name| name != "none");
    let parts: Vec<String> = steps.into_iter().chain(planner).collect();
    parts.join(", ")
}

/// A setting as people write it: strings without quotation marks.
pub(crate) fn value_text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), String::from)
}

/// Every trained model against every run below it; without a trained model, all pairs. Pairs that
/// share no episode are left out.
fn comparisons(ranking: &[Ranked], scored: &[(Scored, ModelKind)]) -> Result<Vec<Comparison>> {
    let ordered: Vec<Scored> = ranking
        .iter()
        .map(|row| scored[row.index].0.clone())
        .collect();
    let trained = ranking.iter().filter(|row| row.kind == ModelKind::Trained);
    let names: Vec<&str> = trained.map(|row| row.label.as_str()).collect();
    let mut all = compare_sharing(&ordered)?;
    if !names.is_empty() {
        all.retain(|comparison| names.contains(&comparison.first.as_str()));
    }
    Ok(all)
}

/// The paper's rows for the planner and distance of the best trained model, or else of the first run.
/// A distance that the paper does not have (a planner on true states) stands for the default, L2.
fn published(task: &TaskRef, runs: &[RunFacts]) -> Vec<(&'static Published, PublishedScore)> {
    let planned = |facts: &&RunFacts| facts.run.record.planner.name != "none";
    let Some(facts) = runs.iter().find(planned).or_else(|| runs.first()) else {
        return Vec::new();
    };
    let RunRecord {
        planner, objective, ..
    } = &facts.run.record;
    let distance = objective
        .get("distance")
        .map(|value| value_text(value).to_ascii_lowercase());
    let distance = distance
        .filter(|name| name == "l1" || name == "l2")
        .unwrap_or_else(|| "l2".into());
    let planner = if planner.name == "none" {
        "cem"
    } else {
        &planner.name
    };
    published_for(&task.name, planner, &distance).collect()
}

impl Input {
    /// An input of nothing but runs.
    pub fn new(runs: Vec<Run>) -> Self {
        Self {
            runs,
            ..Self::default()
        }
    }

    /// Folders of the training runs that the records name, without repetition.
    pub fn training_folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = Vec::new();
        for training in self
            .runs
            .iter()
            .filter_map(|run| run.record.model.training.as_ref())
        {
            let folder = PathBuf::from(&training.run);
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        folders
    }
}

#[cfg(test)]
mod tests {
    use jepa_leaderboard::testing::SyntheticRun;

    use super::*;

    fn run(model: &str, seed: u64) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let synthetic = SyntheticRun::new(model, 4).seeded(seed);
        Run::load(&synthetic.write(folder.path()).unwrap()).unwrap()
    }

    #[test]
    fn runs_of_one_model_are_told_apart_by_what_differs() {
        let (mut early, late, floor) = (run("pldm", 1), run("pldm", 1), run("floor:random", 1));
        if let Some(training) = &mut early.record.model.training {
            training.steps = 500;
        }
        let mut other = late.clone();
        other.record.planner.name = "ng".into();
        let names = labels(&[early, late.clone(), other, floor.clone()]).unwrap();
        let expected = [
            "PLDM, 500 steps, cem",
            "PLDM, 9000 steps, cem",
            "PLDM, 9000 steps, ng",
            "Random actions",
        ];
        assert_eq!(names, expected);
        let mut again = late.clone();
        again.record.first_seed = 7;
        let names = labels(&[late, again, floor]).unwrap();
        assert!(
            names[0].starts_with("PLDM, 9000 steps, cem, ") && names[0] != names[1],
            "{names:?}"
        );
    }

    #[test]
    fn recipes_of_several_epochs_have_an_average_and_a_smoothed_curve() {
        let record = |seed: u64, steps: u64, successes: u64| {
            let mut record = SyntheticRun::new("pldm", 4).seeded(seed).record();
            record.model.weights_hash = Some(format!("{seed} {steps}"));
            record.summary.successes = successes;
            if let Some(training) = &mut record.model.training {
                training.steps = steps;
            }
            record
        };
        // 25%, 75%, and of the other seed 50%: mean 50%, deviation sqrt(2 / 3) * 25%.
        let records = [record(1, 20, 3), record(1, 10, 1), record(2, 20, 2)];
        let facts = RecipeFacts::of(&records.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(facts.average.pooled.values, 3);
        assert!((facts.average.pooled.mean - 0.5).abs() < 1e-12);
        assert!((facts.average.pooled.std - 0.25 * (2.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        // 0.2 * 0.75 + 0.8 * 0.25 = 0.35
        let (seed, curve) = &facts.curves[0];
        assert_eq!(
            (*seed, curve.len(), curve[1].0, curve[1].1),
            (1, 2, 20.0, 0.75)
        );
        assert!((curve[1].2 - 0.35).abs() < 1e-12);
        assert!(RecipeFacts::of(&[&records[0], &records[2]]).is_none());
    }
}
