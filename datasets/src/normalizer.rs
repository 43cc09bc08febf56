//! Statistics of fields, and the scaling of actions and proprioception made from them.
//!
//! Moments are accumulated per episode in f64 (Welford) and merged in episode order (Chan), so the
//! result does not depend on threads. Both estimators of the standard deviation are kept: the
//! references of this field use `n - 1`, NumPy and LeRobot `n` (datasets.md section 3.1).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, catalog};

/// A standard deviation below this counts as zero (datasets.md section 16, case 15).
pub const CONSTANT_STD: f64 = 1e-8;

/// Quantiles that `stats.json` holds, with their names.
pub const QUANTILES: [(&str, f64); 5] = [
    ("q01", 0.01),
    ("q10", 0.10),
    ("q50", 0.50),
    ("q90", 0.90),
    ("q99", 0.99),
];

/// Running count, mean, sum of squared deviations, minimum and maximum of every dimension.
///
/// ```text
/// delta = x - mean;  mean += delta / n;  m2 += delta * (x - mean)         Welford 1962
/// m2 = m2_a + m2_b + delta^2 * n_a * n_b / (n_a + n_b)                    Chan, Golub, LeVeque 1979
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    count: u64,
    mean: Vec<f64>,
    m2: Vec<f64>,
    min: Vec<f64>,
    max: Vec<f64>,
}

impl Moments {
    /// Moments of nothing, for rows of `width` numbers.
    pub fn new(width: usize) -> Self {
        Self {
            count: 0,
            mean: vec![0.0; width],
            m2: vec![0.0; width],
            min: vec![f64::INFINITY; width],
            max: vec![f64::NEG_INFINITY; width],
        }
    }

    /// Moments of `[rows, width]` values, row-major. A last incomplete row is not counted.
    pub fn of(values: &[f64], width: usize) -> Self {
        let mut moments = Self::new(width);
        if width > 0 {
            values.chunks_exact(width).for_each(|row| moments.push(row));
        }
        moments
    }

    /// Adds one row.
    ///
    /// # Panics
    /// When the row has another width.
    pub fn push(&mut self, row: &[f64]) {
        assert_eq!(row.len(), self.mean.len(), "width of a row of statistics");
        self.count += 1;
        let n = self.count as f64;
        for (d, &x) in row.iter().enumerate() {
            let delta = x - self.mean[d];
            self.mean[d] += delta / n;
            self.m2[d] += delta * (x - self.mean[d]);
            self.min[d] = self.min[d].min(x);
            self.max[d] = self.max[d].max(x);
        }
    }

    /// Adds the rows that `other` has seen. The order of merges decides the last bits.
    ///
    /// # Panics
    /// When the widths differ.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(
            other.mean.len(),
            self.mean.len(),
            "width of merged statistics"
        );
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            self.clone_from(other);
            return;
        }
        let (a, b) = (self.count as f64, other.count as f64);
        for d in 0..self.mean.len() {
            let delta = other.mean[d] - self.mean[d];
            self.mean[d] += delta * b / (a + b);
            self.m2[d] += other.m2[d] + delta * delta * a * b / (a + b);
            self.min[d] = self.min[d].min(other.min[d]);
            self.max[d] = self.max[d].max(other.max[d]);
        }
        self.count += other.count;
    }

    /// Number of rows seen.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Mean per dimension; zeros when nothing was seen.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Standard deviation per dimension with the divisor `n - 1`; nothing below two rows.
    pub fn std_unbiased(&self) -> Option<Vec<f64>> {
        let divisor = self.count.checked_sub(1).filter(|&d| d > 0)? as f64;
        Some(self.m2.iter().map(|m2| (m2 / divisor).sqrt()).collect())
    }

    /// Standard deviation per dimension with the divisor `n`; nothing without rows.
    pub fn std_population(&self) -> Option<Vec<f64>> {
        let divisor = (self.count > 0).then_some(self.count as f64)?;
        Some(self.m2.iter().map(|m2| (m2 / divisor).sqrt()).collect())
    }
}

/// Statistics of one field over some episodes. Every list has one number per dimension.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// Rows seen.
    pub count: u64,
    /// Mean.
    pub mean: Vec<f64>,
    /// Standard deviation with the divisor `n - 1`, as torch and the references; nothing for one row.
    pub std: Option<Vec<f64>>,
    /// Standard deviation with the divisor `n`, as NumPy and LeRobot.
    pub std_population: Vec<f64>,
    /// Smallest value.
    pub min: Vec<f64>,
    /// Largest value.
    pub max: Vec<f64>,
    /// Quantile name -> values, linearly interpolated between order statistics.
    pub quantiles: BTreeMap<String, Vec<f64>>,
    /// Whether the dimension never changes (standard deviation below [`CONSTANT_STD`]).
    pub constant: Vec<bool>,
}

impl Statistics {
    /// Statistics from merged moments and, per dimension, all values (they are sorted in place).
    ///
    /// Nothing for no rows.
    pub fn new(moments: &Moments, dimensions: &mut [Vec<f64>]) -> Option<Self> {
        for values in dimensions.iter_mut() {
            values.sort_by(f64::total_cmp);
        }
        Self::with(moments, |q| {
            let of = |values: &Vec<f64>| quantile(values, q);
            dimensions.iter().filter_map(of).collect()
        })
    }

    /// Statistics from merged moments and the quantiles of every dimension; nothing for no rows.
    pub(crate) fn with(moments: &Moments, quantiles: impl Fn(f64) -> Vec<f64>) -> Option<Self> {
        let std_population = moments.std_population()?;
        Some(Self {
            count: moments.count,
            mean: moments.mean.clone(),
            std: moments.std_unbiased(),
            min: moments.min.clone(),
            max: moments.max.clone(),
            quantiles: QUANTILES
                .iter()
                .map(|&(name, q)| (name.to_string(), quantiles(q)))
                .collect(),
            constant: std_population.iter().map(|&s| s < CONSTANT_STD).collect(),
            std_population,
        })
    }

    fn has_width(&self, width: usize) -> bool {
        let lists = [&self.mean, &self.std_population, &self.min, &self.max];
        let mut lists = lists
            .into_iter()
            .chain(&self.std)
            .chain(self.quantiles.values());
        lists.all(|list| list.len() == width) && self.constant.len() == width
    }
}

/// Linearly interpolated quantile of sorted values (`numpy.quantile`'s default); nothing of nothing.
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = q.clamp(0.0, 1.0) * last as f64;
    let below = sorted[position.floor() as usize];
    let above = sorted[position.ceil() as usize];
    Some(quantile_between(below, above, position))
}

/// The value at a position between the two sorted values around it.
pub(crate) fn quantile_between(below: f64, above: f64, position: f64) -> f64 {
    below + (above - below) * (position - position.floor())
}

/// Statistics of one field on the training split and on everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldStats {
    /// Over the training split; nothing when it is empty.
    pub train: Option<Statistics>,
    /// Over all episodes of the dataset; nothing when it is empty.
    pub all: Option<Statistics>,
}

impl FieldStats {
    /// Whether every list has one number per dimension.
    pub(crate) fn has_width(&self, width: usize) -> bool {
        let mut found = self.train.iter().chain(&self.all);
        found.all(|statistics| statistics.has_width(width))
    }
}

/// `stats.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stats {
    /// Field name -> statistics.
    pub fields: BTreeMap<String, FieldStats>,
}

impl Stats {
    /// Statistics of a field over `train` or `all`.
    pub fn get(&self, field: &str, split: &str) -> Result<&Statistics> {
        let unknown = |kind, name: &str, known: Vec<String>| Error::UnknownName {
            kind,
            name: name.into(),
            known,
        };
        let stats = self.fields.get(field);
        let stats =
            stats.ok_or_else(|| unknown("column", field, self.fields.keys().cloned().collect()))?;
        let found = match split {
            "train" => &stats.train,
            "all" => &stats.all,
            _ => {
                return Err(unknown(
                    "statistics split",
                    split,
                    vec!["train".into(), "all".into()],
                ));
            }
        };
        found
            .as_ref()
            .ok_or_else(|| Error::invalid("statistics split", split, "it holds no rows"))
    }
}

/// Scales values to mean 0 and standard deviation 1 per dimension, and back.
///
/// ```text
/// normalized = (x - mean) / std                                          datasets.md section 3.1
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalizer {
    /// Mean per dimension.
    pub mean: Vec<f64>,
    /// Standard deviation per dimension, never 0.
    pub std: Vec<f64>,
}

impl Normalizer {
    /// The constants published with a dataset, used by released checkpoints (datasets.md section 3.2).
    ///
    /// `field` is `action`, `observation.proprio` or `observation.state`; the short names `proprio`
    /// and `state` are understood too.
    pub fn released(dataset: &str, field: &str) -> Option<Self> {
        catalog::find(dataset)?.released_normalizer(field)
    }

    /// From statistics with the divisor `n - 1`. Constant dimensions get a standard deviation of 1,
    /// so they become 0 instead of infinity.
    pub fn from_statistics(statistics: &Statistics) -> Self {
        let std = statistics
            .std
            .as_ref()
            .unwrap_or(&statistics.std_population);
        let std = std
            .iter()
            .map(|&s| if s < CONSTANT_STD { 1.0 } else { s })
            .collect();
        Self {
            mean: statistics.mean.clone(),
            std,
        }
    }

    /// Mean 0 and standard deviation 1: changes nothing.
    pub fn identity(width: usize) -> Self {
        Self {
            mean: vec![0.0; width],
            std: vec![1.0; width],
        }
    }

    /// Number of dimensions.
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// Normalizes rows in place. A row of several actions is normalized action by action.
    ///
    /// # Panics
    /// When the number of values is not a multiple of the width.
    pub fn normalize(&self, values: &mut [f32]) {
        self.each(values, |x, mean, std| (x - mean) / std);
    }

    /// Undoes [`normalize`](Self::normalize).
    ///
    /// # Panics
    /// When the number of values is not a multiple of the width.
    pub fn denormalize(&self, values: &mut [f32]) {
        self.each(values, |x, mean, std| x * std + mean);
    }

    fn each(&self, values: &mut [f32], change: impl Fn(f64, f64, f64) -> f64) {
        let width = self.width();
        if width == 0 && values.is_empty() {
            return;
        }
        assert!(
            width > 0 && values.len().is_multiple_of(width),
            "{} values in rows of {width}",
            values.len()
        );
        for row in values.chunks_exact_mut(width) {
            for ((value, &mean), &std) in row.iter_mut().zip(&self.mean).zip(&self.std) {
                *value = change(f64::from(*value), mean, std) as f32;
            }
        }
    }
}
