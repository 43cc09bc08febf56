//! Which validation error tells most about success: rank correlation over the epochs of training
//! (evaluation.md section 4.4).
//!
//! For one task and one model there is a point per epoch and evaluation setup: a validation metric of the model after
//! that epoch, and its success rate, smoothed over the epochs of the setup. The coefficient is minus Spearman's rank
//! correlation: the larger, the more a lower error goes with a higher success. Coefficients of models are averaged,
//! never their points pooled: models with lower errors of another scale would decide.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::statistics::{mean, smoothed, spearman};

/// A model of one epoch, evaluated in one setup.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProxyPoint {
    /// Evaluation setup: planner and objective.
    pub setup: String,
    /// Passes over the training slices.
    pub epoch: f64,
    /// Optimiser steps.
    pub steps: u64,
    /// Share of the episodes that reached the goal.
    pub success_rate: f64,
    /// The same after smoothing over the epochs of its setup; filled in by [`proxy`].
    pub smoothed: f64,
    /// Validation metrics by name; lower is better.
    pub metrics: BTreeMap<String, f64>,
}

/// A training run over its epochs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProxyModel {
    /// Name to print.
    pub label: String,
    /// Its points, by setup and epoch.
    pub points: Vec<ProxyPoint>,
}

/// How a metric goes with success.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProxyMetric {
    /// Name of the metric.
    pub name: String,
    /// Coefficient of each model, in their order; `None` where it is undefined: less than two points, a point without the
    /// metric, a success rate or a metric that never changes.
    pub coefficients: Vec<Option<f64>>,
    /// Mean of those that are defined.
    pub mean: Option<f64>,
}

/// The metrics of some models against their success on one task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proxy {
    /// Weight of the newest success rate in the moving average.
    pub alpha: f64,
    /// Models, in the order given.
    pub models: Vec<ProxyModel>,
    /// Metrics, by name.
    pub metrics: Vec<ProxyMetric>,
}

/// Smooths the success rates of `models` and correlates every metric with them.
///
/// `None` when `alpha` is not in `(0, 1]`, or a model has two points of one setup and epoch.
pub fn proxy(models: Vec<ProxyModel>, alpha: f64) -> Option<Proxy> {
    let models: Option<Vec<ProxyModel>> = models
        .into_iter()
        .map(|model| smooth(model, alpha))
        .collect();
    let models = models?;
    let points = models.iter().flat_map(|model| &model.points);
    let names: BTreeSet<&String> = points.flat_map(|point| point.metrics.keys()).collect();
    let metric = |name: &String| {
        let coefficients: Vec<Option<f64>> = models
            .iter()
            .map(|model| coefficient(&model.points, name))
            .collect();
        let defined: Vec<f64> = coefficients.iter().flatten().copied().collect();
        ProxyMetric {
            name: name.clone(),
            mean: mean(&defined),
            coefficients,
        }
    };
    let metrics = names.into_iter().map(metric).collect();
    Some(Proxy {
        alpha,
        models,
        metrics,
    })
}

/// Orders the points by setup and epoch, and smooths each setup by itself.
fn smooth(mut model: ProxyModel, alpha: f64) -> Option<ProxyModel> {
    let order = |a: &ProxyPoint, b: &ProxyPoint| {
        let by_setup = a.setup.cmp(&b.setup);
        by_setup.then(a.epoch.total_cmp(&b.epoch))
    };
    model.points.sort_by(order);
    if model
        .points
        .windows(2)
        .any(|pair| order(&pair[0], &pair[1]).is_eq())
    {
        return None;
    }
    for series in model.points.chunk_by_mut(|a, b| a.setup == b.setup) {
        let rates: Vec<f64> = series.iter().map(|point| point.success_rate).collect();
        for (point, smoothed) in series.iter_mut().zip(smoothed(&rates, alpha)?) {
            point.smoothed = smoothed;
        }
    }
    Some(model)
}

/// Minus the rank correlation of a metric with smoothed success.
fn coefficient(points: &[ProxyPoint], metric: &str) -> Option<f64> {
    let errors: Option<Vec<f64>> = points
        .iter()
        .map(|point| point.metrics.get(metric).copied())
        .collect();
    let success: Vec<f64> = points.iter().map(|point| point.smoothed).collect();
    // 0 - rho, so that no correlation is 0 and not -0.
    spearman(&errors?, &success).map(|rho| 0.0 - rho)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(setup: &str, epoch: u32, success_rate: f64, error: f64) -> ProxyPoint {
        ProxyPoint {
            setup: setup.into(),
            epoch: f64::from(epoch),
            steps: 0,
            success_rate,
            smoothed: f64::NAN,
            metrics: BTreeMap::from([("error".to_string(), error)]),
        }
    }

    fn model(points: &[(&str, u32, f64, f64)]) -> ProxyModel {
        let points = points.iter();
        ProxyModel {
            label: "m".into(),
            points: points
                .map(|&(setup, epoch, rate, error)| point(setup, epoch, rate, error))
                .collect(),
        }
    }

    #[test]
    fn errors_that_fall_while_success_rises_have_coefficient_1() {
        let falling = model(&[("a", 1, 0.1, 3.0), ("a", 2, 0.5, 2.0), ("a", 3, 0.6, 1.0)]);
        let rising = model(&[("a", 1, 0.1, 1.0), ("a", 2, 0.5, 2.0), ("a", 3, 0.6, 3.0)]);
        let found = proxy(vec![falling, rising], 0.2).unwrap();
        assert_eq!(found.metrics.len(), 1);
        assert_eq!(found.metrics[0].coefficients, [Some(1.0), Some(-1.0)]);
        assert_eq!(found.metrics[0].mean, Some(0.0));
    }

    #[test]
    fn success_is_smoothed_in_the_order_of_epochs_of_each_setup() {
        let model = model(&[
            ("b", 1, 0.5, 1.0),
            ("a", 2, 1.0, 1.0),
            ("a", 1, 0.0, 2.0),
            ("b", 2, 0.5, 1.0),
            ("a", 3, 0.0, 3.0),
        ]);
        let found = proxy(vec![model], 0.25).unwrap();
        let points = found.models[0].points.iter();
        let shown: Vec<_> = points
            .map(|p| (p.setup.as_str(), p.epoch, p.smoothed))
            .collect();
        let expected = [
            ("a", 1.0, 0.0),
            ("a", 2.0, 0.25),
            ("a", 3.0, 0.1875),
            ("b", 1.0, 0.5),
            ("b", 2.0, 0.5),
        ];
        assert_eq!(shown, expected);
        // By hand: errors 2 1 3 1 1 have ranks 4 2 5 2 2, success 1 3 2 4.5 4.5; products of
        // deviations are -2, 0, -2, -1.5, -1.5, and squares 8 and 9.5.
        let rho = -7.0 / (8.0_f64 * 9.5).sqrt();
        let coefficient = found.metrics[0].coefficients[0].unwrap();
        assert!((coefficient + rho).abs() < 1e-12, "{coefficient}");
    }

    #[test]
    fn models_are_averaged_and_not_pooled() {
        // Within each model a lower error goes with more success; over both it is the other way round.
        let low = model(&[("a", 1, 0.1, 2.0), ("a", 2, 0.2, 1.0)]);
        let high = model(&[("a", 1, 0.8, 20.0), ("a", 2, 0.9, 10.0)]);
        let found = proxy(vec![low, high], 1.0).unwrap();
        assert_eq!(found.metrics[0].mean, Some(1.0));
    }

    #[test]
    fn what_is_undefined_is_left_out_of_the_mean() {
        let flat = model(&[("a", 1, 0.5, 2.0), ("a", 2, 0.5, 1.0)]);
        let one = model(&[("a", 1, 0.5, 2.0)]);
        let mut lacking = model(&[("a", 1, 0.1, 2.0), ("a", 2, 0.2, 1.0)]);
        lacking.points[1].metrics.clear();
        let whole = model(&[("a", 1, 0.1, 2.0), ("a", 2, 0.2, 1.0)]);
        let found = proxy(vec![flat, one, lacking, whole], 0.5).unwrap();
        let coefficients = [None, None, None, Some(1.0)];
        assert_eq!(found.metrics[0].coefficients, coefficients);
        assert_eq!(found.metrics[0].mean, Some(1.0));
        assert!(proxy(Vec::new(), 0.5).unwrap().metrics.is_empty());
    }

    #[test]
    fn a_model_scored_twice_in_one_setup_is_refused() {
        let twice = model(&[("a", 1, 0.1, 2.0), ("a", 1, 0.2, 2.0)]);
        assert_eq!(proxy(vec![twice], 0.2), None);
        let once = model(&[("a", 1, 0.1, 2.0)]);
        assert_eq!(proxy(vec![once], 0.0), None);
    }
}
