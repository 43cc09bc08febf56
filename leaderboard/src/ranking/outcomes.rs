//! Outcomes of many runs as bits, and the tests of all pairs of them.

use std::collections::HashMap;

use crate::compare::{Scored, check_pair};
use crate::error::Result;
use crate::record::CONFIDENCE;
use crate::statistics::{PairedOutcomes, mcnemar_exact};

/// Outcomes by run and episode. Bit `k` of a row is episode `k` of the list of all seeds.
pub(super) struct Outcomes {
    /// Words of 64 episodes per row.
    words: usize,
    rows: usize,
    /// The run has the episode, `rows x words`.
    present: Vec<u64>,
    /// The run has the episode and reached the goal, `rows x words`.
    success: Vec<u64>,
    /// The run has the episode and its distance is not finite, `rows x words`: pairs that share one are not compared.
    unusable: Vec<u64>,
}

/// The tests of all pairs that share episodes, after Holm's correction for their number.
pub(super) struct Tests {
    /// Corrected p-value by the two discordant counts, smaller first.
    adjusted: HashMap<(u64, u64), f64>,
}

impl Outcomes {
    /// # Errors
    /// When two runs belong to different tasks or disagree about an episode: that of the first such pair.
    pub(super) fn new(runs: &[&Scored]) -> Result<Self> {
        let mut seeds: Vec<u64> = runs
            .iter()
            .flat_map(|run| run.scores.keys().copied())
            .collect();
        seeds.sort_unstable();
        seeds.dedup();
        check(runs, &seeds)?;
        let (words, rows) = (seeds.len().div_ceil(64), runs.len());
        let empty = vec![0; words * rows];
        let (mut present, mut success, mut unusable) = (empty.clone(), empty.clone(), empty);
        for (row, run) in runs.iter().enumerate() {
            for (column, score) in columns(&seeds, run) {
                let (word, bit) = (row * words + column / 64, 1 << (column % 64));
                present[word] |= bit;
                success[word] |= if score.success { bit } else { 0 };
                unusable[word] |= if score.final_distance.is_finite() {
                    0
                } else {
                    bit
                };
            }
        }
        Ok(Self {
            words,
            rows,
            present,
            success,
            unusable,
        })
    }

    /// Tests every pair that can be compared.
    pub(super) fn tests(&self) -> Tests {
        let mut pairs: HashMap<(u64, u64), u64> = HashMap::new();
        for first in 0..self.rows {
            for second in first + 1..self.rows {
                if let Some(discordant) = self.discordant(first, second) {
                    *pairs.entry(discordant).or_default() += 1;
                }
            }
        }
        Tests::new(&pairs)
    }

    /// By row, the first later row that differs from it; the number of rows where none does.
    pub(super) fn first_differing(&self, tests: &Tests) -> Vec<usize> {
        let differ = |first, second| {
            let discordant = self.discordant(first, second);
            discordant.is_some_and(|key| tests.is_significant(key))
        };
        (0..self.rows)
            .map(|row| {
                let mut later = row + 1..self.rows;
                later.find(|&other| differ(row, other)).unwrap_or(self.rows)
            })
            .collect()
    }

    /// Episodes on which just one of the two succeeded, smaller count first; `None` for a pair that is not compared.
    fn discordant(&self, first: usize, second: usize) -> Option<(u64, u64)> {
        let word = |bits: &[u64], row: usize, k: usize| bits[row * self.words + k];
        let (mut shared, mut only_first, mut only_second, mut unusable) = (0, 0, 0, 0);
        for k in 0..self.words {
            let both = word(&self.present, first, k) & word(&self.present, second, k);
            let (a, b) = (
                word(&self.success, first, k),
                word(&self.success, second, k),
            );
            shared |= both;
            unusable |= both & (word(&self.unusable, first, k) | word(&self.unusable, second, k));
            only_first += u64::from((both & a & !b).count_ones());
            only_second += u64::from((both & b & !a).count_ones());
        }
        (shared != 0 && unusable == 0).then(|| ordered(only_first, only_second))
    }
}

impl Tests {
    /// Holm's correction from the number of pairs by their counts. Equal p-values have equal corrected ones (the factor
    /// only falls along them), so one sort of the distinct counts does for all pairs.
    fn new(pairs: &HashMap<(u64, u64), u64>) -> Self {
        let mut sorted: Vec<((u64, u64), u64, f64)> = pairs
            .iter()
            .map(|(&key, &count)| (key, count, mcnemar_exact(key.0, key.1)))
            .collect();
        sorted.sort_by(|a, b| a.2.total_cmp(&b.2).then(a.0.cmp(&b.0)));
        let mut left: u64 = pairs.values().sum();
        let mut floor = 0.0_f64;
        let mut adjusted = HashMap::with_capacity(sorted.len());
        for (key, count, p_value) in sorted {
            floor = floor.max((p_value * left as f64).min(1.0));
            adjusted.insert(key, floor);
            left -= count;
        }
        Self { adjusted }
    }

    /// Corrected p-value of a pair of the board; 1 for counts that no pair has.
    pub(super) fn holm(&self, outcomes: PairedOutcomes) -> f64 {
        let key = ordered(outcomes.only_first, outcomes.only_second);
        self.adjusted.get(&key).copied().unwrap_or(1.0)
    }

    fn is_significant(&self, key: (u64, u64)) -> bool {
        let adjusted = self.adjusted.get(&key);
        adjusted.is_some_and(|&p_holm| p_holm < 1.0 - CONFIDENCE)
    }
}

fn ordered(a: u64, b: u64) -> (u64, u64) {
    (a.min(b), a.max(b))
}

/// The episodes of a run with their places in `seeds`, both rising.
fn columns<'a>(
    seeds: &[u64],
    run: &'a Scored,
) -> impl Iterator<Item = (usize, &'a crate::compare::Score)> {
    run.scores
        .iter()
        .filter_map(|(seed, score)| Some((seeds.binary_search(seed).ok()?, score)))
}

/// Looks at every run once; only where something is wrong at every pair, to name the first.
fn check(runs: &[&Scored], seeds: &[u64]) -> Result<()> {
    let mut starts: Vec<Option<&str>> = vec![None; seeds.len()];
    let mut agree = runs.windows(2).all(|pair| pair[0].task == pair[1].task);
    for run in runs {
        for (column, score) in columns(seeds, run) {
            let start = *starts[column].get_or_insert(&score.start_hash);
            agree &= start == score.start_hash;
        }
    }
    if agree {
        return Ok(());
    }
    for (k, first) in runs.iter().enumerate() {
        for second in &runs[k + 1..] {
            check_pair(first, second)?;
        }
    }
    Ok(())
}
