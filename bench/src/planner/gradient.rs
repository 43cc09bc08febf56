//! `gd`, `adam` and `adam-as-released`: one plan, improved along the gradient of its cost
//! (evaluation.md section 3.4).
//!
//! ```text
//! a ~ N(0, initial_std)
//! a <- a - learning_rate dcost/da + action_noise N(0, 1), clipped       J times
//! ```
//!
//! The plan is the last one, not the best. The release calls two planners by two names that compute the
//! same: its Adam holds betas and an epsilon and never uses them. `adam-as-released` is that planner, so
//! that its published column can be run again; `adam` is the optimiser of that name (arXiv 1412.6980) with
//! those betas, which the release does not have.

use serde::{Deserialize, Serialize};

use super::gaussian::{Limit, check_dims, check_limits, check_positive, clip};
use super::{
    ActionBatch, CostModel, Noise, Plan, PlanShape, Planner, PlannerEntry, Trace,
    evaluate_gradient, invalid, read_settings, table_of,
};
use crate::Result;

/// The line of plain gradient descent in [`super::PLANNERS`].
pub const GD: PlannerEntry = PlannerEntry {
    name: "gd",
    summary: "gradient descent on one plan, with noise; needs a model that offers gradients",
    paper: "arXiv 2512.24497, planner GD; settings of Table S4.1",
    defaults: || table_of(&DescentConfig::default()),
    build: |settings| Descend::boxed(GD.name, &read_settings(GD.name, settings)?, None),
};

/// The line of the released "Adam" in [`super::PLANNERS`].
pub const ADAM_AS_RELEASED: PlannerEntry = PlannerEntry {
    name: "adam-as-released",
    summary: "what JEPA-WMs release as Adam: the same as gd; needs a model that offers gradients",
    paper: "arXiv 2512.24497, planner Adam; settings of Table S4.1",
    defaults: || table_of(&DescentConfig::default()),
    build: |settings| {
        let name = ADAM_AS_RELEASED.name;
        Descend::boxed(name, &read_settings(name, settings)?, None)
    },
};

/// The line of Adam in [`super::PLANNERS`].
pub const ADAM: PlannerEntry = PlannerEntry {
    name: "adam",
    summary: "gd with the steps of Adam; needs a model that offers gradients",
    paper: "arXiv 1412.6980; betas of the JEPA-WMs configuration, which does not use them",
    defaults: || table_of(&AdamConfig::default()),
    build: |settings| {
        let config: AdamConfig = read_settings(ADAM.name, settings)?;
        Descend::boxed(ADAM.name, &config.descent(), Some(config.rates()))
    },
};

/// Where a descent starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// At normal random numbers.
    Normal,
    /// At zero.
    Zero,
}

/// Settings of `gd` and `adam-as-released`; the defaults are those of the paper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DescentConfig {
    /// Steps, `J`.
    pub iterations: usize,
    /// Length of a step per unit of gradient.
    pub learning_rate: f64,
    /// Where it starts.
    pub start: Start,
    /// Standard deviation of a normal start, in normalised units.
    pub initial_std: f64,
    /// Standard deviation of the noise added after every step.
    pub action_noise: f64,
    /// Components that are clipped after every step.
    pub limits: Vec<Limit>,
}

impl Default for DescentConfig {
    fn default() -> Self {
        Self {
            iterations: 500,
            learning_rate: 1.0,
            start: Start::Normal,
            initial_std: 1.0,
            action_noise: 0.003,
            limits: Vec::new(),
        }
    }
}

/// Settings of `adam`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamConfig {
    /// Steps, `J`.
    pub iterations: usize,
    /// Length of a step per unit of normalised gradient.
    pub learning_rate: f64,
    /// Share of the old mean of gradients in the new one, in `[0, 1)`.
    pub beta1: f64,
    /// Share of the old mean of squared gradients in the new one, in `[0, 1)`.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// Where it starts.
    pub start: Start,
    /// Standard deviation of a normal start, in normalised units.
    pub initial_std: f64,
    /// Standard deviation of the noise added after every step.
    pub action_noise: f64,
    /// Components that are clipped after every step.
    pub limits: Vec<Limit>,
}

impl Default for AdamConfig {
    fn default() -> Self {
        let DescentConfig {
            iterations,
            learning_rate,
            start,
            initial_std,
            action_noise,
            limits,
        } = DescentConfig::default();
        Self {
            iterations,
            learning_rate,
            beta1: 0.9,
            beta2: 0.995,
            epsilon: 1e-8,
            start,
            initial_std,
            action_noise,
            limits,
        }
    }
}

impl AdamConfig {
    fn descent(&self) -> DescentConfig {
        DescentConfig {
            iterations: self.iterations,
            learning_rate: self.learning_rate,
            start: self.start,
            initial_std: self.initial_std,
            action_noise: self.action_noise,
            limits: self.limits.clone(),
        }
    }

    fn rates(&self) -> AdamRates {
        AdamRates {
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
        }
    }
}

/// How Adam averages gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
struct AdamRates {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
}

/// Descent along gradients, plain or with the steps of Adam.
#[derive(Debug, Clone)]
pub struct Descend {
    name: &'static str,
    config: DescentConfig,
    adam: Option<AdamRates>,
}

impl Descend {
    /// Plain gradient descent.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn new(config: DescentConfig) -> Result<Self> {
        Self::checked(GD.name, config, None)
    }

    fn boxed(
        name: &'static str,
        config: &DescentConfig,
        adam: Option<AdamRates>,
    ) -> Result<Box<dyn Planner>> {
        Ok(Box::new(Self::checked(name, config.clone(), adam)?))
    }

    fn checked(name: &'static str, config: DescentConfig, adam: Option<AdamRates>) -> Result<Self> {
        if config.iterations == 0 {
            return Err(invalid(name, "`iterations` is 0"));
        }
        check_positive(name, "learning_rate", config.learning_rate)?;
        check_positive(name, "initial_std", config.initial_std)?;
        if !config.action_noise.is_finite() || config.action_noise < 0.0 {
            let detail = format!("`action_noise` is {}, not 0 or more", config.action_noise);
            return Err(invalid(name, detail));
        }
        check_limits(name, &config.limits)?;
        if let Some(AdamRates {
            beta1,
            beta2,
            epsilon,
        }) = adam
        {
            check_positive(name, "epsilon", epsilon)?;
            if ![beta1, beta2].iter().all(|beta| (0.0..1.0).contains(beta)) {
                return Err(invalid(
                    name,
                    format!("a beta of {beta1}, {beta2} is not in [0, 1)"),
                ));
            }
        }
        Ok(Self { name, config, adam })
    }

    /// Descends, showing gradient and plan after every step to `watch`.
    pub(crate) fn search(
        &self,
        shape: PlanShape,
        cost: &mut dyn CostModel,
        noise: &mut dyn Noise,
        watch: &mut dyn FnMut(&[f64], &[f64]),
    ) -> Result<Plan> {
        let DescentConfig {
            iterations,
            learning_rate,
            action_noise,
            ref limits,
            ..
        } = self.config;
        check_dims(self.name, limits, shape)?;
        let cost = cost.with_gradients()?;
        let mut plan = self.start(shape, noise);
        let mut normals = vec![0.0; shape.len()];
        let mut averages = self.adam.map(|rates| Averages::new(rates, shape.len()));
        let mut trace = Trace::default();
        for iteration in 0..iterations {
            let descent = evaluate_gradient(cost, &plan, iteration)?;
            trace.push(&descent.costs, &[0]);
            let direction = match &mut averages {
                Some(averages) => averages.direction(&descent.gradient),
                None => descent.gradient.clone(),
            };
            // The numbers of iteration 0 are the start.
            noise.normals(iteration + 1, &mut normals);
            for ((value, slope), normal) in plan.values.iter_mut().zip(&direction).zip(&normals) {
                *value += action_noise * normal - learning_rate * slope;
            }
            clip(&mut plan, limits);
            watch(&descent.gradient, &plan.values);
        }
        Ok(Plan {
            actions: plan.values,
            trace,
        })
    }

    fn start(&self, shape: PlanShape, noise: &mut dyn Noise) -> ActionBatch {
        let mut plan = ActionBatch::zeros(1, shape);
        if self.config.start == Start::Normal {
            noise.normals(0, &mut plan.values);
            for value in &mut plan.values {
                *value *= self.config.initial_std;
            }
        }
        plan
    }
}

impl Planner for Descend {
    fn name(&self) -> &'static str {
        self.name
    }

    fn iterations(&self) -> u64 {
        self.config.iterations as u64
    }

    fn evaluations(&self) -> u64 {
        self.config.iterations as u64
    }

    fn needs_gradients(&self) -> bool {
        true
    }

    fn plan(
        &self,
        shape: PlanShape,
        cost: &mut dyn CostModel,
        noise: &mut dyn Noise,
    ) -> Result<Plan> {
        self.search(shape, cost, noise, &mut |_, _| ())
    }
}

/// Running means of gradients and of their squares.
struct Averages {
    rates: AdamRates,
    steps: u32,
    mean: Vec<f64>,
    square: Vec<f64>,
}

impl Averages {
    fn new(rates: AdamRates, numbers: usize) -> Self {
        Self {
            rates,
            steps: 0,
            mean: vec![0.0; numbers],
            square: vec![0.0; numbers],
        }
    }

    /// Takes a gradient in; the mean over the root of the mean square, both corrected for their start at 0.
    fn direction(&mut self, gradient: &[f64]) -> Vec<f64> {
        let AdamRates {
            beta1,
            beta2,
            epsilon,
        } = self.rates;
        self.steps += 1;
        let seen = |beta: f64| 1.0 - libm::pow(beta, f64::from(self.steps));
        let (seen1, seen2) = (seen(beta1), seen(beta2));
        let averages = self.mean.iter_mut().zip(&mut self.square).zip(gradient);
        averages
            .map(|((mean, square), slope)| {
                *mean = beta1 * *mean + (1.0 - beta1) * slope;
                *square = beta2 * *square + (1.0 - beta2) * slope * slope;
                *mean / seen1 / ((*square / seen2).sqrt() + epsilon)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
