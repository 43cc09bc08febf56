//! Tables over many episodes: one value per run, per environment step, per planner iteration.
//!
//! Episodes of any number of runs become one polars table with a row per episode; every aggregate is
//! a grouped query over it. Rows keep the order in which runs and episodes were given.

use polars::prelude::{
    ChunkAgg, ChunkQuantile, Column, DataFrame, Float64Chunked, PolarsResult, QuantileMethod,
};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::record::CONFIDENCE;
use crate::run::Run;
use crate::statistics::{Interval, wilson};

/// Mean and quartiles of a group of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Band {
    /// Position of the group: run, environment step or planner iteration, from 0.
    pub at: u32,
    /// Numbers in the group.
    pub n: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// First quartile.
    pub low: f64,
    /// Median.
    pub median: f64,
    /// Third quartile.
    pub high: f64,
}

/// The numbers of one run, computed from its episodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {
    /// Position of the run in the list given to [`EpisodeTable::new`].
    pub run: u32,
    /// Number of episodes.
    pub episodes: u64,
    /// Episodes at the goal when the budget ended.
    pub successes: u64,
    /// `successes / episodes`.
    pub success_rate: f64,
    /// Wilson 95% interval of the success rate.
    pub interval: Interval,
    /// Episodes that were at the goal at some step.
    pub success_any: u64,
    /// Distance to the goal after the last step.
    pub final_distance: Band,
    /// World-model evaluations per episode.
    pub world_model_calls: f64,
    /// Candidate model steps imagined per episode.
    pub candidate_steps: f64,
    /// Seconds of planning per episode; `None` for runs without timings.
    pub plan_seconds: Option<Band>,
}

/// Costs that a planner saw in its plan number `plan`, over its iterations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CostCurve {
    /// Number of the plan in the episode, from 0.
    pub plan: u32,
    /// Lowest cost of the iteration, over episodes.
    pub best: Vec<Band>,
    /// Mean cost of the elites, over episodes.
    pub elite_mean: Vec<Band>,
    /// Standard deviation of the elites' costs, over episodes.
    pub elite_std: Vec<Band>,
}

/// A table with one row per episode of every run.
#[derive(Debug, Clone)]
pub struct EpisodeTable {
    frame: DataFrame,
}

impl EpisodeTable {
    /// Collects the episodes of `runs`.
    ///
    /// # Errors
    /// When the table cannot be built.
    pub fn new(runs: &[Run]) -> Result<Self> {
        table("episodes", || {
            let mut frame = one_run(0, runs.first())?;
            for (index, run) in runs.iter().enumerate().skip(1) {
                frame.vstack_mut_owned(one_run(index as u32, Some(run))?)?;
            }
            Ok(Self { frame })
        })
    }

    /// The table itself, for queries not foreseen here. Columns: `run`, `seed`, `success`,
    /// `success_any`, `final_distance`, `world_model_calls`, `candidate_steps`, `plan_seconds`.
    pub fn frame(&self) -> &DataFrame {
        &self.frame
    }

    /// One [`Aggregate`] per run, in order.
    ///
    /// # Errors
    /// When the query fails.
    pub fn aggregates(&self) -> Result<Vec<Aggregate>> {
        table("runs", || {
            let distances = bands(&self.frame, "run", "final_distance")?;
            let seconds = bands(&self.frame, "run", "plan_seconds")?;
            let successes = bands(&self.frame, "run", "success")?;
            let any = bands(&self.frame, "run", "success_any")?;
            let calls = bands(&self.frame, "run", "world_model_calls")?;
            let steps = bands(&self.frame, "run", "candidate_steps")?;
            let aggregate = |k: usize| {
                aggregate(
                    distances[k],
                    [successes[k], any[k]],
                    [calls[k], steps[k]],
                    seconds[k],
                )
            };
            Ok((0..distances.len()).filter_map(aggregate).collect())
        })
    }
}

/// Puts the groups of one run together; `None` only for a run without episodes, which no group is.
fn aggregate(
    distance: Band,
    [success, any]: [Band; 2],
    [calls, steps]: [Band; 2],
    seconds: Band,
) -> Option<Aggregate> {
    let count = |share: Band| (share.mean * share.n as f64).round() as u64;
    Some(Aggregate {
        run: distance.at,
        episodes: distance.n,
        successes: count(success),
        success_rate: success.mean,
        interval: wilson(count(success), success.n, CONFIDENCE)?,
        success_any: count(any),
        final_distance: distance,
        world_model_calls: calls.mean,
        candidate_steps: steps.mean,
        plan_seconds: (seconds.n > 0).then_some(seconds),
    })
}

/// Distance to the goal after the reset and after each environment step, over episodes.
///
/// # Errors
/// When the query fails.
pub fn distance_curve(run: &Run) -> Result<Vec<Band>> {
    table("distances", || {
        let (mut at, mut distance) = (Vec::new(), Vec::new());
        for row in &run.episodes {
            at.extend(0..row.distances.len() as u32);
            distance.extend_from_slice(&row.distances);
        }
        bands(
            &frame(vec![column("at", at), column("distance", distance)])?,
            "at",
            "distance",
        )
    })
}

/// Costs per planner iteration, one curve per plan of the episode; none for runs without a planner.
///
/// # Errors
/// When the query fails.
pub fn cost_curves(run: &Run) -> Result<Vec<CostCurve>> {
    let iterations = run
        .episodes
        .iter()
        .map(|row| iterations(row.cost_best.len(), row.plans))
        .max();
    let Some(iterations) = iterations.filter(|&count| count > 0) else {
        return Ok(Vec::new());
    };
    table("costs", || {
        let (mut at, mut best, mut mean, mut std) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for row in &run.episodes {
            at.extend(0..row.cost_best.len() as u32);
            best.extend_from_slice(&row.cost_best);
            mean.extend_from_slice(&row.cost_elite_mean);
            std.extend_from_slice(&row.cost_elite_std);
        }
        let costs = vec![
            column("at", at),
            column("best", best),
            column("mean", mean),
            column("std", std),
        ];
        let costs = frame(costs)?;
        let best = per_plan(&bands(&costs, "at", "best")?, iterations);
        let mean = per_plan(&bands(&costs, "at", "mean")?, iterations);
        let std = per_plan(&bands(&costs, "at", "std")?, iterations);
        let curve = |(plan, ((best, elite_mean), elite_std))| CostCurve {
            plan,
            best,
            elite_mean,
            elite_std,
        };
        Ok((0..)
            .zip(best.into_iter().zip(mean).zip(std))
            .map(curve)
            .collect())
    })
}

/// Iterations per plan of an episode with `costs` costs.
fn iterations(costs: usize, plans: u32) -> usize {
    costs.checked_div(plans as usize).unwrap_or(0)
}

/// Splits groups numbered `plan * iterations + iteration` into one list per plan.
fn per_plan(bands: &[Band], iterations: usize) -> Vec<Vec<Band>> {
    let renumber = |(k, band): (usize, &Band)| Band {
        at: k as u32,
        ..*band
    };
    bands
        .chunks(iterations)
        .map(|plan| plan.iter().enumerate().map(renumber).collect())
        .collect()
}

/// The rows of one run; no run gives an empty table with the same columns.
fn one_run(index: u32, run: Option<&Run>) -> PolarsResult<DataFrame> {
    let rows = run.map_or(&[][..], |run| &run.episodes);
    let seconds = |episode: u32| {
        let timings = run.map_or(&[][..], |run| &run.timings);
        timings
            .iter()
            .find(|timing| timing.episode == episode)
            .map(|timing| timing.plan_seconds)
    };
    let flag = |yes: bool| if yes { 1.0 } else { 0.0 };
    frame(vec![
        column("run", vec![index; rows.len()]),
        column("seed", rows.iter().map(|r| r.seed).collect::<Vec<u64>>()),
        column(
            "success",
            rows.iter().map(|r| flag(r.success)).collect::<Vec<f64>>(),
        ),
        column(
            "success_any",
            rows.iter()
                .map(|r| flag(r.success_any))
                .collect::<Vec<f64>>(),
        ),
        column(
            "final_distance",
            rows.iter().map(|r| r.final_distance).collect::<Vec<f64>>(),
        ),
        column(
            "world_model_calls",
            rows.iter()
                .map(|r| r.world_model_calls as f64)
                .collect::<Vec<f64>>(),
        ),
        column(
            "candidate_steps",
            rows.iter()
                .map(|r| r.candidate_steps as f64)
                .collect::<Vec<f64>>(),
        ),
        column(
            "plan_seconds",
            rows.iter()
                .map(|r| seconds(r.episode))
                .collect::<Vec<Option<f64>>>(),
        ),
    ])
}

/// Mean and quartiles of column `value` per value of column `key`, groups in order of appearance.
/// Missing values are left out; a group of nothing but those has `n` 0 and zeros.
fn bands(frame: &DataFrame, key: &str, value: &str) -> PolarsResult<Vec<Band>> {
    if frame.height() == 0 {
        return Ok(Vec::new());
    }
    let groups = frame
        .select([key, value])?
        .group_by_stable([key])?
        .apply(|group| {
            let at = group.column(key)?.u32()?.first();
            let values = group.column(value)?.f64()?;
            one_band(at.unwrap_or_default(), values)
        })?;
    let at = groups.column("at")?.u32()?;
    let n = groups.column("n")?.u64()?;
    let [mean, low, median, high] =
        ["mean", "low", "median", "high"].map(|name| groups.column(name));
    let [mean, low, median, high] = [mean?.f64()?, low?.f64()?, median?.f64()?, high?.f64()?];
    let number = |values: &Float64Chunked, k: usize| values.get(k).unwrap_or_default();
    let band = |k: usize| Band {
        at: at.get(k).unwrap_or_default(),
        n: n.get(k).unwrap_or_default(),
        mean: number(mean, k),
        low: number(low, k),
        median: number(median, k),
        high: number(high, k),
    };
    Ok((0..groups.height()).map(band).collect())
}

/// The one-row table of a group.
fn one_band(at: u32, values: &Float64Chunked) -> PolarsResult<DataFrame> {
    let quartile = |q: f64| values.quantile(q, QuantileMethod::Linear);
    frame(vec![
        column("at", vec![at]),
        column("n", vec![(values.len() - values.null_count()) as u64]),
        column("mean", vec![values.mean()]),
        column("low", vec![quartile(0.25)?]),
        column("median", vec![quartile(0.5)?]),
        column("high", vec![quartile(0.75)?]),
    ])
}

fn column<T, Phantom: ?Sized>(name: &str, values: T) -> Column
where
    polars::prelude::Series: polars::prelude::NamedFrom<T, Phantom>,
{
    use polars::prelude::{NamedFrom, Series};
    Series::new(name.into(), values).into()
}

fn frame(columns: Vec<Column>) -> PolarsResult<DataFrame> {
    DataFrame::new_infer_height(columns)
}

fn table<T>(what: &'static str, query: impl FnOnce() -> PolarsResult<T>) -> Result<T> {
    query().map_err(|source| Error::Table { what, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Summary;
    use crate::statistics::{mean, quantile};
    use crate::testing::SyntheticRun;

    fn load(synthetic: &SyntheticRun) -> Run {
        let folder = tempfile::tempdir().unwrap();
        Run::load(&synthetic.write(folder.path()).unwrap()).unwrap()
    }

    #[test]
    fn aggregates_agree_with_the_summaries_of_the_records() {
        let runs = [
            load(&SyntheticRun::new("pldm", 31)),
            load(&SyntheticRun::new("floor:random", 17)),
        ];
        let aggregates = EpisodeTable::new(&runs).unwrap().aggregates().unwrap();
        assert_eq!(aggregates.len(), 2);
        for (k, (aggregate, run)) in aggregates.iter().zip(&runs).enumerate() {
            let summary: &Summary = &run.record.summary;
            assert_eq!(aggregate.run as usize, k);
            assert_eq!(
                (aggregate.episodes, aggregate.successes),
                (summary.episodes, summary.successes)
            );
            assert_eq!(aggregate.interval.low, summary.wilson_low);
            assert!((aggregate.final_distance.mean - summary.final_distance_mean).abs() < 1e-9);
            assert!(
                (aggregate.final_distance.median - summary.final_distance_median).abs() < 1e-12
            );
            let seconds = aggregate.plan_seconds.unwrap();
            assert!((seconds.median - summary.plan_seconds_p50).abs() < 1e-12);
        }
    }

    #[test]
    fn curves_are_quartiles_per_step() {
        let run = load(&SyntheticRun::new("pldm", 9));
        let curve = distance_curve(&run).unwrap();
        assert_eq!(curve.len(), run.episodes[0].distances.len());
        let at_7: Vec<f64> = run.episodes.iter().map(|row| row.distances[7]).collect();
        assert_eq!((curve[7].at, curve[7].n), (7, 9));
        assert!((curve[7].mean - mean(&at_7).unwrap()).abs() < 1e-12);
        assert!((curve[7].low - quantile(&at_7, 0.25).unwrap()).abs() < 1e-12);
        assert!((curve[7].high - quantile(&at_7, 0.75).unwrap()).abs() < 1e-12);
    }

    #[test]
    fn costs_are_split_by_plan() {
        let mut run = load(&SyntheticRun::new("pldm", 4));
        let single = cost_curves(&run).unwrap();
        assert_eq!((single.len(), single[0].best.len()), (1, 30));
        for row in &mut run.episodes {
            row.plans = 2;
        }
        let double = cost_curves(&run).unwrap();
        assert_eq!(
            (double.len(), double[1].plan, double[1].best.len()),
            (2, 1, 15)
        );
        assert_eq!(double[1].best[3].median, single[0].best[18].median);
        assert_eq!(double[1].best[3].at, 3);
    }

    #[test]
    fn runs_without_planner_or_timings_have_neither_curve() {
        let mut run = load(&SyntheticRun::new("floor:random", 4));
        assert!(cost_curves(&run).unwrap().is_empty());
        run.timings.clear();
        let aggregates = EpisodeTable::new(&[run]).unwrap().aggregates().unwrap();
        assert_eq!(aggregates[0].plan_seconds, None);
        assert!(
            EpisodeTable::new(&[])
                .unwrap()
                .aggregates()
                .unwrap()
                .is_empty()
        );
    }
}
