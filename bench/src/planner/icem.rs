//! `icem`: the cross-entropy method with the improvements of Pinneri et al. 2020 (arXiv 2008.06389), in the form of
//! stable-worldmodel (evaluation.md section 3.8).
//!
//! - Samples are smooth in time: noise along the steps of a plan has power `frequency^-noise_exponent`.
//! - The best `kept_elites` of an iteration compete again in the next one, in the first places.
//! - Mean and deviation keep the share `momentum` of the old ones.
//! - Components with a limit are clipped; the plan is the last mean.
//!
//! Against the paper: the number of candidates does not shrink, elites are not kept from one plan to the next (no
//! planner here starts warm), the mean is not a candidate of its own, and the plan is the mean and not the best sample.
//! The deviation is that of a sample, n - 1, as in [`super::cem`]. Kept elites are evaluated again with the others, so
//! that every iteration is one batch of the same size.

mod coloured;

use serde::{Deserialize, Serialize};

use super::gaussian::{
    Gaussian, blend, check_dims, check_limits, check_momentum, check_positive, check_sizes, clip,
};
use super::{
    ActionBatch, CostModel, Limit, Noise, Plan, PlanShape, Planner, PlannerEntry, Trace, elites,
    evaluate, invalid, read_settings, table_of,
};
use crate::Result;
use coloured::Coloured;

/// The line in [`super::PLANNERS`].
pub const ENTRY: PlannerEntry = PlannerEntry {
    name: "icem",
    summary: "cross-entropy method with coloured noise that keeps elites",
    paper: "arXiv 2008.06389; settings of stable-worldmodel",
    defaults: || table_of(&IcemConfig::default()),
    build: |settings| Ok(Box::new(Icem::new(read_settings(ENTRY.name, settings)?)?)),
};

/// Settings of [`Icem`]; the defaults are those of stable-worldmodel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IcemConfig {
    /// Candidates per iteration, `S`, kept ones included.
    pub candidates: usize,
    /// Candidates the next mean and deviation are fitted to, `K`.
    pub elites: usize,
    /// Of these, how many are candidates of the next iteration as well.
    pub kept_elites: usize,
    /// Iterations, `J`.
    pub iterations: usize,
    /// Standard deviation of the first iteration, in normalised units.
    pub initial_std: f64,
    /// How fast the power of the noise falls with its frequency; 0 is white.
    pub noise_exponent: f64,
    /// Share of the old mean and deviation in the new ones, in `[0, 1]`.
    pub momentum: f64,
    /// Components that are clipped.
    pub limits: Vec<Limit>,
}

impl Default for IcemConfig {
    fn default() -> Self {
        Self {
            candidates: 300,
            elites: 30,
            kept_elites: 5,
            iterations: 30,
            initial_std: 1.0,
            noise_exponent: 2.0,
            momentum: 0.1,
            limits: Vec::new(),
        }
    }
}

/// The improved cross-entropy method.
#[derive(Debug, Clone)]
pub struct Icem {
    config: IcemConfig,
}

impl Icem {
    /// A planner with these settings.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn new(config: IcemConfig) -> Result<Self> {
        let name = ENTRY.name;
        check_sizes(name, config.candidates, config.elites, config.iterations)?;
        check_positive(name, "initial_std", config.initial_std)?;
        check_momentum(name, config.momentum)?;
        check_limits(name, &config.limits)?;
        let (kept, exponent) = (config.kept_elites, config.noise_exponent);
        if kept > config.elites || kept >= config.candidates {
            let detail = format!(
                "`kept_elites` is {kept}, more than {} elites or all {} candidates",
                config.elites, config.candidates
            );
            return Err(invalid(name, detail));
        }
        if !exponent.is_finite() || exponent < 0.0 {
            let detail = format!("`noise_exponent` is {exponent}, not 0 or more");
            return Err(invalid(name, detail));
        }
        Ok(Self { config })
    }
}

/// Puts the sequences `kept` in the first places of a batch.
fn keep(batch: &mut ActionBatch, kept: &[Vec<f64>]) {
    for (index, sequence) in kept.iter().enumerate() {
        batch.candidate_mut(index).copy_from_slice(sequence);
    }
}

impl Planner for Icem {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn iterations(&self) -> u64 {
        self.config.iterations as u64
    }

    fn evaluations(&self) -> u64 {
        (self.config.candidates * self.config.iterations) as u64
    }

    fn plan(
        &self,
        shape: PlanShape,
        cost: &mut dyn CostModel,
        noise: &mut dyn Noise,
    ) -> Result<Plan> {
        let config = &self.config;
        check_dims(ENTRY.name, &config.limits, shape)?;
        let coloured = Coloured::new(shape.horizon, config.noise_exponent);
        let mut search = Gaussian::centred(shape, config.initial_std);
        let mut batch = ActionBatch::zeros(config.candidates, shape);
        let mut kept: Vec<Vec<f64>> = Vec::new();
        let mut trace = Trace::default();
        for iteration in 0..config.iterations {
            noise.normals(iteration, &mut batch.values);
            coloured.apply(&mut batch);
            search.scale(&mut batch);
            keep(&mut batch, &kept);
            clip(&mut batch, &config.limits);
            let costs = evaluate(cost, &batch, iteration)?;
            let elites = elites(&costs, config.elites);
            trace.push(&costs, &elites);
            let sequences = elites[..config.kept_elites].iter();
            kept = sequences
                .map(|&index| batch.candidate(index).to_vec())
                .collect();
            search.refit(&batch, &elites, |_, fitted, (mean, std)| {
                *mean = blend(fitted.0, *mean, config.momentum);
                *std = blend(fitted.1, *std, config.momentum);
            });
        }
        Ok(Plan {
            actions: search.mean,
            trace,
        })
    }
}

#[cfg(test)]
mod tests;
