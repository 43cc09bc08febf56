//! Splits: which episodes are for training and which for validation.
//!
//! A split is a rule, a seed and a list of episodes in the order the rule gives them. Membership is
//! decided over *all* source episodes, so a rejected one never moves another between train and val.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::duplicates::{Start, group};
use crate::mt19937::{RANDPERM_LIMIT, torch_randperm};
use crate::pcg64::choice;
use crate::stream::Stream;
use crate::{EpisodeMeta, Error, Result, catalog};

/// How episodes are divided.
#[derive(Debug, Clone, PartialEq)]
pub enum SplitRule {
    /// The rule of the data's own release, from the catalog.
    Released,
    /// DINO-WM: 90 % by `torch.randperm` with seed 42 (datasets.md section 2.1).
    DinoWm,
    /// JEPA-WMs: `torch.randperm` with a seed; 0.9 and 234 unless given (datasets.md section 2.1).
    JepaWms {
        /// Share of the episodes used for training.
        fraction: f64,
        /// Seed of the permutation and of the slice order.
        seed: u64,
    },
    /// The first episodes of the source are for training, the others for validation: releases that
    /// come in two folders, and releases of one part only.
    First {
        /// Number of training episodes.
        train: u64,
        /// Seed of the slice order.
        seed: u64,
    },
    /// `diffusion_policy`: a random choice for validation, at least one episode; 0.02 and 42 as for Push-T
    /// (datasets.md section 14.3). Both parts keep the order of the source.
    DiffusionPolicy {
        /// Share of the episodes used for validation.
        ratio: f64,
        /// Seed of the choice and of the slice order.
        seed: u64,
    },
    /// A shuffle from the project's own random streams.
    Random {
        /// Seed of the shuffle and of the slice order.
        seed: u64,
        /// Share of the episodes used for training.
        fraction: f64,
    },
    /// Families stay together: episodes of one task that begin in the same state, such as the 101 replays of
    /// each demonstration in Push-T (datasets.md section 5). Families are shuffled by the project's own
    /// random streams; both parts keep the order of the source.
    Family {
        /// Largest difference of any number of the first state, in its own units.
        tolerance: f64,
        /// Share of the families used for training.
        fraction: f64,
        /// Seed of the shuffle and of the slice order.
        seed: u64,
    },
}

impl SplitRule {
    /// The rule of JEPA-WMs with its released settings.
    pub const JEPA_WMS: Self = Self::JepaWms {
        fraction: 0.9,
        seed: 234,
    };

    /// The rule of `diffusion_policy` with the settings of its Push-T configurations.
    pub const DIFFUSION_POLICY: Self = Self::DiffusionPolicy {
        ratio: 0.02,
        seed: 42,
    };

    /// The concrete rule: `released` is looked up in the catalog under the source's name. The format `zarr`
    /// has one rule for whatever data is in it.
    pub fn resolve(&self, source: &str) -> Result<Self> {
        match self {
            Self::Released if source == "zarr" => Ok(Self::DIFFUSION_POLICY),
            Self::Released => catalog::find(source)
                .and_then(catalog::CatalogEntry::released_split)
                .ok_or_else(|| {
                    Error::invalid(
                        "split rule",
                        "released",
                        format!("`{source}` has no released split"),
                    )
                }),
            other => Ok(other.clone()),
        }
    }

    /// Seed of the permutation; also of the slice order (datasets.md section 2.3).
    pub fn seed(&self) -> u64 {
        match self {
            Self::Released => 0,
            Self::DinoWm => 42,
            Self::JepaWms { seed, .. }
            | Self::DiffusionPolicy { seed, .. }
            | Self::Random { seed, .. }
            | Self::Family { seed, .. }
            | Self::First { seed, .. } => *seed,
        }
    }

    /// Whether the rule looks at the first state of every episode.
    pub fn needs_states(&self) -> bool {
        matches!(self, Self::Family { .. })
    }

    fn fraction(&self) -> f64 {
        match self {
            Self::Released | Self::DinoWm | Self::First { .. } => 0.9,
            Self::DiffusionPolicy { ratio, .. } => 1.0 - ratio,
            Self::JepaWms { fraction, .. }
            | Self::Random { fraction, .. }
            | Self::Family { fraction, .. } => *fraction,
        }
    }

    /// Source indices of train and val, in the order the rule gives them.
    ///
    /// The number for training is `floor(fraction * n)` in binary doubles, as in the references.
    ///
    /// # Errors
    /// For more episodes than a split can order, and for [`Self::Family`], which needs their states.
    pub fn divide(&self, n: u64) -> Result<(Vec<u64>, Vec<u64>)> {
        let n32 = u32::try_from(n)
            .ok()
            .filter(|&n| u64::from(n) < RANDPERM_LIMIT);
        let n32 =
            n32.ok_or_else(|| Error::invalid("number of episodes", n, "too many for a split"))?;
        if let Self::Family { .. } = self {
            let why = "which episodes are of one family is known from their states only";
            return Err(Error::invalid("split rule", self, why));
        }
        if let Self::First { train, .. } = self {
            let train = (*train).min(n);
            return Ok(((0..train).collect(), (train..n).collect()));
        }
        if let Self::DiffusionPolicy { ratio, seed } = *self {
            return Ok(hold_out(n32, ratio, seed));
        }
        let mut order = self.permutation(n32);
        let train = (self.fraction() * n as f64) as usize;
        let val = order.split_off(train.min(order.len()));
        Ok((order, val))
    }

    fn permutation(&self, n: u32) -> Vec<u64> {
        if let Self::Random { seed, .. } = self {
            let mut order: Vec<u64> = (0..u64::from(n)).collect();
            Stream::new(*seed, &["split"]).shuffle(&mut order);
            return order;
        }
        torch_randperm(n, self.seed())
            .into_iter()
            .map(u64::from)
            .collect()
    }
}

impl fmt::Display for SplitRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Released => f.write_str("released"),
            Self::DinoWm => f.write_str("dino-wm"),
            Self::JepaWms { fraction, seed } => write!(f, "jepa-wms:{fraction}:{seed}"),
            Self::First { train, seed } => write!(f, "first:{train}:{seed}"),
            Self::DiffusionPolicy { ratio, seed } => write!(f, "diffusion-policy:{ratio}:{seed}"),
            Self::Random { seed, fraction } => write!(f, "random:{seed}:{fraction}"),
            Self::Family {
                tolerance,
                fraction,
                seed,
            } => write!(f, "family:{tolerance}:{fraction}:{seed}"),
        }
    }
}

impl FromStr for SplitRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let values: Vec<&str> = parts.collect();
        match (name, values.as_slice()) {
            ("released", []) => Ok(Self::Released),
            ("dino-wm", []) => Ok(Self::DinoWm),
            ("jepa-wms", []) => Ok(Self::JEPA_WMS),
            ("jepa-wms", [f]) => Ok(Self::JepaWms {
                fraction: fraction(text, f)?,
                seed: 234,
            }),
            ("jepa-wms", [f, s]) => Ok(Self::JepaWms {
                fraction: fraction(text, f)?,
                seed: seed(text, s)?,
            }),
            ("first", [n, s]) => Ok(Self::First {
                train: seed(text, n)?,
                seed: seed(text, s)?,
            }),
            ("diffusion-policy", []) => Ok(Self::DIFFUSION_POLICY),
            ("diffusion-policy", [r, s]) => Ok(Self::DiffusionPolicy {
                ratio: fraction(text, r)?,
                seed: seed(text, s)?,
            }),
            ("random", [s, f]) => Ok(Self::Random {
                seed: seed(text, s)?,
                fraction: fraction(text, f)?,
            }),
            ("family", [t]) => Ok(Self::Family {
                tolerance: tolerance(text, t)?,
                fraction: 0.9,
                seed: 234,
            }),
            ("family", [t, f]) => Ok(Self::Family {
                tolerance: tolerance(text, t)?,
                fraction: fraction(text, f)?,
                seed: 234,
            }),
            ("family", [t, f, s]) => Ok(Self::Family {
                tolerance: tolerance(text, t)?,
                fraction: fraction(text, f)?,
                seed: seed(text, s)?,
            }),
            _ => Err(Error::invalid(
                "split rule",
                text,
                "the rules are `released`, `dino-wm`, `jepa-wms[:FRACTION[:SEED]]`, \
                 `diffusion-policy[:RATIO:SEED]`, `random:SEED:FRACTION`, \
                 `family:TOLERANCE[:FRACTION[:SEED]]` and `first:N:SEED`",
            )),
        }
    }
}

/// Train and val of `diffusion_policy`: `clamp(round(ratio * n), 1, n - 1)` episodes for validation.
fn hold_out(n: u32, ratio: f64, seed: u64) -> (Vec<u64>, Vec<u64>) {
    let held = (f64::from(n) * ratio).round_ties_even() as u32;
    let held = if ratio > 0.0 {
        held.max(1).min(n.saturating_sub(1))
    } else {
        0
    };
    let val = choice(n, held, seed);
    let chosen: std::collections::BTreeSet<u64> = val.into_iter().collect();
    let train = (0..u64::from(n)).filter(|e| !chosen.contains(e)).collect();
    (train, chosen.into_iter().collect())
}

fn fraction(rule: &str, text: &str) -> Result<f64> {
    text.parse()
        .ok()
        .filter(|f| (0.0..=1.0).contains(f))
        .ok_or_else(|| {
            Error::invalid(
                "split rule",
                rule,
                format!("`{text}` is not a fraction between 0 and 1"),
            )
        })
}

fn tolerance(rule: &str, text: &str) -> Result<f64> {
    let parsed = text.parse().ok();
    parsed
        .filter(|t: &f64| t.is_finite() && *t >= 0.0)
        .ok_or_else(|| {
            let detail = format!("`{text}` is not a tolerance of at least 0");
            Error::invalid("split rule", rule, detail)
        })
}

fn seed(rule: &str, text: &str) -> Result<u64> {
    text.parse()
        .map_err(|_| Error::invalid("split rule", rule, format!("`{text}` is not a seed")))
}

/// A named list of episodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// `train`, `val` or `all`.
    pub name: String,
    /// The rule that made it.
    pub rule: String,
    /// Seed of the rule and of the released slice order.
    pub seed: u64,
    /// Episode indices of the dataset, in the order of the rule.
    pub episodes: Vec<u64>,
    /// `BLAKE3` over name, rule, and the source index and source hash of every episode in order.
    pub hash: String,
}

/// `splits.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Splits {
    /// The splits: `train`, `val`, `all`.
    pub splits: Vec<Split>,
}

/// Train and val of a rule over all source episodes: those of them that are in the dataset.
fn divide_source(
    rule: &SplitRule,
    total: u64,
    members: &[Member<'_>],
) -> Result<(Vec<u64>, Vec<u64>)> {
    let (train, val) = rule.divide(total)?;
    let known = |source: &u64| {
        members
            .binary_search_by_key(source, |m| m.source_index)
            .ok()
            .map(|i| i as u64)
    };
    Ok((
        train.iter().filter_map(known).collect(),
        val.iter().filter_map(known).collect(),
    ))
}

/// Train and val with whole families in each; an episode that is like no other is a family of one.
fn divide_families(
    members: &[Member<'_>],
    tolerance: f64,
    fraction: f64,
    seed: u64,
) -> Result<(Vec<u64>, Vec<u64>)> {
    if let Some(member) = members.iter().find(|member| member.start.is_empty()) {
        let detail = format!("episode {} has no state", member.source_index);
        return Err(Error::invalid("split rule", "family", detail));
    }
    let starts: Vec<Start<'_>> = members.iter().map(Start::from).collect();
    let families = group(&starts, tolerance);
    let mut order: Vec<usize> = (0..families.len()).collect();
    Stream::new(seed, &["split"]).shuffle(&mut order);
    order.truncate((fraction * families.len() as f64) as usize);
    let mut in_train = vec![false; members.len()];
    let chosen = order.iter().flat_map(|&family| &families[family]);
    chosen.for_each(|&episode| in_train[episode] = true);
    Ok((0..members.len() as u64).partition(|&episode| in_train[episode as usize]))
}

/// An episode as a split sees it.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Position in the source.
    pub source_index: u64,
    /// Hash of the bytes it came from.
    pub source_hash: &'a str,
    /// What the robot is asked to do.
    pub task: &'a str,
    /// First state, for [`SplitRule::Family`]; the other rules do not look at it.
    pub start: &'a [f64],
}

impl<'a> Member<'a> {
    /// The episodes of a dataset with their first states.
    pub(crate) fn all(episodes: &'a [EpisodeMeta], starts: &'a [Vec<f64>]) -> Vec<Self> {
        let member = |(meta, start): (&'a EpisodeMeta, &'a Vec<f64>)| Self {
            source_index: meta.source_index,
            source_hash: &meta.source_hash,
            task: &meta.task,
            start,
        };
        episodes.iter().zip(starts).map(member).collect()
    }
}

impl Splits {
    /// Divides the episodes of a dataset. `members` are its episodes in order, `total` the source's count.
    ///
    /// # Errors
    /// As [`SplitRule::divide`]; for [`SplitRule::Family`], an episode without a state.
    pub fn new(rule: &SplitRule, total: u64, members: &[Member<'_>]) -> Result<Self> {
        let (train, val) = match *rule {
            SplitRule::Family {
                tolerance,
                fraction,
                seed,
            } => divide_families(members, tolerance, fraction, seed)?,
            _ => divide_source(rule, total, members)?,
        };
        let all = (0..members.len() as u64).collect();
        let splits = [("train", train), ("val", val), ("all", all)]
            .into_iter()
            .map(|(name, episodes)| Split::new(name, rule, episodes, members))
            .collect();
        Ok(Self { splits })
    }

    /// The split of a name.
    pub fn get(&self, name: &str) -> Result<&Split> {
        self.splits
            .iter()
            .find(|split| split.name == name)
            .ok_or_else(|| Error::UnknownName {
                kind: "split",
                name: name.into(),
                known: self.splits.iter().map(|split| split.name.clone()).collect(),
            })
    }
}

impl Split {
    fn new(name: &str, rule: &SplitRule, episodes: Vec<u64>, members: &[Member<'_>]) -> Self {
        let rule_text = rule.to_string();
        let mut hasher = blake3::Hasher::new();
        for text in [name, rule_text.as_str()] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        for &episode in &episodes {
            let member = members[episode as usize];
            hasher.update(&member.source_index.to_le_bytes());
            hasher.update(&(member.source_hash.len() as u64).to_le_bytes());
            hasher.update(member.source_hash.as_bytes());
        }
        let hash = hasher.finalize().to_hex().to_string();
        Self {
            name: name.into(),
            rule: rule_text,
            seed: rule.seed(),
            episodes,
            hash,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_of_diffusion_policy_survives_its_text() {
        for rule in [
            SplitRule::DIFFUSION_POLICY,
            SplitRule::DiffusionPolicy {
                ratio: 0.4,
                seed: 7,
            },
        ] {
            assert_eq!(rule.to_string().parse::<SplitRule>().ok(), Some(rule));
        }
        assert_eq!(
            "diffusion-policy".parse::<SplitRule>().ok(),
            Some(SplitRule::DIFFUSION_POLICY)
        );
        assert!("diffusion-policy:2:1".parse::<SplitRule>().is_err());
        let released = SplitRule::Released.resolve("zarr");
        assert_eq!(released.ok(), Some(SplitRule::DIFFUSION_POLICY));
    }

    /// Five families of different sizes, mixed; the states of a family differ by less than the tolerance.
    #[test]
    fn families_are_never_torn_apart() {
        let family_of = |episode: usize| [0, 1, 0, 2, 3, 1, 0, 4, 4, 2, 0, 3][episode];
        let start = |episode: usize| {
            let family = f64::from(family_of(episode));
            vec![10.0 * family, 5.0 + 0.01 * episode as f64]
        };
        let starts: Vec<Vec<f64>> = (0..12).map(start).collect();
        let member = |(k, start)| -> Member<'_> {
            let start: &Vec<f64> = start;
            Member {
                source_index: k as u64,
                source_hash: "",
                task: "push",
                start,
            }
        };
        let members: Vec<Member<'_>> = starts.iter().enumerate().map(member).collect();
        let mut divisions = std::collections::BTreeSet::new();
        for seed in 0..20 {
            let rule = SplitRule::Family {
                tolerance: 0.5,
                fraction: 0.6,
                seed,
            };
            let splits = Splits::new(&rule, 12, &members).expect("a split");
            let parts = ["train", "val"].map(|name| &splits.get(name).expect(name).episodes);
            let families = parts.map(|part| {
                let families = part.iter().map(|&e| family_of(e as usize));
                families.collect::<std::collections::BTreeSet<_>>()
            });
            assert!(families[0].is_disjoint(&families[1]), "{families:?}");
            assert_eq!((families[0].len(), families[1].len()), (3, 2));
            assert_eq!(parts[0].len() + parts[1].len(), 12);
            divisions.insert(families[1].clone());
        }
        assert!(divisions.len() > 5, "seeds make different splits");
    }

    #[test]
    fn the_rule_of_families_survives_its_text_and_needs_states() {
        let rule = SplitRule::Family {
            tolerance: 0.25,
            fraction: 0.8,
            seed: 7,
        };
        assert_eq!(
            rule.to_string().parse::<SplitRule>().ok(),
            Some(rule.clone())
        );
        let short = "family:1".parse::<SplitRule>().expect("a rule");
        assert_eq!(short.to_string(), "family:1:0.9:234");
        for bad in [
            "family",
            "family:-1",
            "family:inf",
            "family:1:2",
            "family:1:0.5:x",
        ] {
            assert!(bad.parse::<SplitRule>().is_err(), "{bad}");
        }
        let member = Member {
            source_index: 3,
            source_hash: "",
            task: "",
            start: &[],
        };
        let error = Splits::new(&rule, 4, &[member]).expect_err("no states");
        assert!(
            error.to_string().contains("episode 3 has no state"),
            "{error}"
        );
    }

    #[test]
    fn at_least_one_episode_is_held_out_and_one_is_left() {
        assert_eq!(hold_out(206, 0.02, 42).1, [18, 90, 134, 157]);
        assert_eq!(hold_out(1, 0.02, 42), (vec![0], vec![]));
        assert_eq!(hold_out(2, 0.9, 42).0.len(), 1);
        assert_eq!(hold_out(3, 0.0, 42), (vec![0, 1, 2], vec![]));
    }
}
