//! Statistics of episodes that are never in memory together.
//!
//! Moments take one pass. Quantiles are exact: the values at the wanted ranks are found digit by digit, as a
//! radix sort would find them, in one counting pass over the data per digit. Both give the same bits
//! whatever the number of threads, and need memory for a few episodes and the counts only.

use rayon::prelude::*;

use crate::normalizer::{FieldStats, Moments, QUANTILES, Statistics, Stats, quantile_between};
use crate::{Column, Dtype, Field, Result};

/// Episodes in memory at a time.
const WAVE: usize = 64;
/// Bits of a value that one counting pass finds.
const DIGIT: u32 = 11;

/// Statistics of every field over the training split and over everything.
///
/// `read` gives the columns of an episode in the order of `fields`, and is called several times for each;
/// `train` says which episodes the training split holds.
///
/// # Errors
/// Those of `read`.
pub(crate) fn statistics(
    fields: &[Field],
    train: &[bool],
    read: impl Fn(usize) -> Result<Vec<Column>> + Sync,
) -> Result<Stats> {
    let moments = moments(fields, train, &read)?;
    let mut searches: Vec<Search> = fields
        .iter()
        .enumerate()
        .flat_map(|(field, declared)| {
            let over = [moments[field].train.count(), moments[field].all.count()];
            let search = move |dim| Search {
                field,
                dim,
                ranks: over.map(|count| Ranks::new(count, key_bits(declared.dtype))),
            };
            (0..declared.width()).map(search)
        })
        .collect();
    while searches.iter().any(Search::is_open) {
        in_waves(train.len(), &read, |first, episodes| {
            searches
                .par_iter_mut()
                .for_each(|search| search.count(episodes, &train[first..]));
        })?;
        searches.iter_mut().for_each(Search::narrow);
    }
    let field = |(field, declared): (usize, &Field)| {
        let dims: Vec<&Search> = searches.iter().filter(|s| s.field == field).collect();
        let of = |population: usize, moments: &Moments| {
            Statistics::with(moments, |q| {
                let value = |search: &&Search| search.ranks[population].quantile(q, declared.dtype);
                dims.iter().filter_map(value).collect()
            })
        };
        let stats = FieldStats {
            train: of(0, &moments[field].train),
            all: of(1, &moments[field].all),
        };
        (declared.name.clone(), stats)
    };
    Ok(Stats {
        fields: fields.iter().enumerate().map(field).collect(),
    })
}

/// Moments of one field.
struct Both {
    train: Moments,
    all: Moments,
}

fn moments(
    fields: &[Field],
    train: &[bool],
    read: &(impl Fn(usize) -> Result<Vec<Column>> + Sync),
) -> Result<Vec<Both>> {
    let nothing = |field: &Field| Both {
        train: Moments::new(field.width()),
        all: Moments::new(field.width()),
    };
    let mut sums: Vec<Both> = fields.iter().map(nothing).collect();
    in_waves(train.len(), read, |first, episodes| {
        let of = |column: &Column| Moments::of(&column.to_f64(), column.width());
        let of_episode = |columns: &Vec<Column>| columns.iter().map(of).collect::<Vec<_>>();
        let wave: Vec<Vec<Moments>> = episodes.par_iter().map(of_episode).collect();
        for (moments, &is_train) in wave.iter().zip(&train[first..]) {
            for (sum, moments) in sums.iter_mut().zip(moments) {
                sum.all.merge(moments);
                if is_train {
                    sum.train.merge(moments);
                }
            }
        }
    })?;
    Ok(sums)
}

/// Reads all episodes in order, a few at a time; `see` is given the number of the first of them.
fn in_waves(
    episodes: usize,
    read: &(impl Fn(usize) -> Result<Vec<Column>> + Sync),
    mut see: impl FnMut(usize, &[Vec<Column>]),
) -> Result<()> {
    for first in (0..episodes).step_by(WAVE) {
        let wave = first..episodes.min(first + WAVE);
        let columns: Result<Vec<Vec<Column>>> = wave.into_par_iter().map(read).collect();
        see(first, &columns?);
    }
    Ok(())
}

/// The search for the quantiles of one dimension, over the training split and over everything.
struct Search {
    field: usize,
    dim: usize,
    ranks: [Ranks; 2],
}

impl Search {
    fn is_open(&self) -> bool {
        self.ranks.iter().any(Ranks::is_open)
    }

    fn count(&mut self, episodes: &[Vec<Column>], train: &[bool]) {
        let [in_train, in_all] = &mut self.ranks;
        for (columns, &is_train) in episodes.iter().zip(train) {
            let column = &columns[self.field];
            for row in 0..column.rows() {
                let key = key(column, row * column.width() + self.dim);
                in_all.count(key);
                if is_train {
                    in_train.count(key);
                }
            }
        }
    }

    fn narrow(&mut self) {
        self.ranks.iter_mut().for_each(Ranks::narrow);
    }
}

/// The values at some ranks of a set of keys, as far as their digits are known.
struct Ranks {
    /// Number of keys in the set.
    keys: u64,
    /// Rank, the digits found so far, and the rank among the keys that begin with them.
    wanted: Vec<Wanted>,
    /// Bits that are not known yet.
    left: u32,
    /// How many keys go on with each digit, by the digits before it.
    counts: Vec<(u64, Vec<u64>)>,
}

#[derive(Debug, Clone, Copy)]
struct Wanted {
    rank: u64,
    prefix: u64,
    rank_within: u64,
}

impl Ranks {
    fn new(keys: u64, bits: u32) -> Self {
        let around = |q| {
            let position = position(keys, q)?;
            Some([position.floor() as u64, position.ceil() as u64])
        };
        let mut ranks: Vec<u64> = QUANTILES
            .iter()
            .filter_map(|&(_, q)| around(q))
            .flatten()
            .collect();
        ranks.sort_unstable();
        ranks.dedup();
        let wanted = |rank| Wanted {
            rank,
            prefix: 0,
            rank_within: rank,
        };
        let mut ranks = Self {
            keys,
            wanted: ranks.into_iter().map(wanted).collect(),
            left: bits,
            counts: Vec::new(),
        };
        ranks.prepare();
        ranks
    }

    fn is_open(&self) -> bool {
        self.left > 0 && !self.wanted.is_empty()
    }

    fn digit_bits(&self) -> u32 {
        self.left.min(DIGIT)
    }

    /// Empty counts for the digits to come.
    fn prepare(&mut self) {
        let mut prefixes: Vec<u64> = self.wanted.iter().map(|wanted| wanted.prefix).collect();
        prefixes.dedup();
        let digits = 1 << self.digit_bits();
        let empty = |prefix| (prefix, vec![0; digits]);
        self.counts = prefixes.into_iter().map(empty).collect();
    }

    fn count(&mut self, key: u64) {
        let prefix = key.checked_shr(self.left).unwrap_or(0);
        let digit = (key >> (self.left - self.digit_bits())) & ((1 << self.digit_bits()) - 1);
        if let Some((_, counts)) = self.counts.iter_mut().find(|(p, _)| *p == prefix) {
            counts[digit as usize] += 1;
        }
    }

    /// Takes the next digit of every wanted value from the counts.
    fn narrow(&mut self) {
        if !self.is_open() {
            return;
        }
        let bits = self.digit_bits();
        for wanted in &mut self.wanted {
            let counts = self.counts.iter().find(|(p, _)| *p == wanted.prefix);
            let digits = counts.map_or(&[][..], |(_, counts)| counts);
            let mut digit = 0;
            for &count in digits {
                if wanted.rank_within < count {
                    break;
                }
                wanted.rank_within -= count;
                digit += 1;
            }
            wanted.prefix = wanted.prefix << bits | digit;
        }
        self.left -= bits;
        self.prepare();
    }

    /// Linearly interpolated between the two values around it; nothing of nothing.
    fn quantile(&self, q: f64, dtype: Dtype) -> Option<f64> {
        let position = position(self.keys, q)?;
        let at = |rank: f64| {
            let found = self.wanted.iter().find(|w| w.rank == rank as u64)?;
            Some(value(found.prefix, dtype))
        };
        let (below, above) = (at(position.floor())?, at(position.ceil())?);
        Some(quantile_between(below, above, position))
    }
}

/// Where a quantile lies in sorted values.
fn position(keys: u64, q: f64) -> Option<f64> {
    Some(q * keys.checked_sub(1)? as f64)
}

/// Bits of the keys of a number type.
fn key_bits(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::F32 => u32::BITS,
        Dtype::F64 | Dtype::I64 => u64::BITS,
    }
}

/// A number whose order is that of the values ([`f64::total_cmp`]).
fn key(column: &Column, at: usize) -> u64 {
    let of_f64 = |value: f64| {
        let bits = value.to_bits();
        bits ^ ((bits as i64 >> 63) as u64 | 1 << 63)
    };
    match column {
        Column::F32 { values, .. } => {
            let bits = values[at].to_bits();
            u64::from(bits ^ ((bits as i32 >> 31) as u32 | 1 << 31))
        }
        Column::F64 { values, .. } => of_f64(values[at]),
        Column::I64(values) => of_f64(values[at] as f64),
    }
}

/// The value of a key.
fn value(key: u64, dtype: Dtype) -> f64 {
    if dtype == Dtype::F32 {
        let key = key as u32;
        let mask = if key >> 31 == 1 { 1 << 31 } else { u32::MAX };
        return f64::from(f32::from_bits(key ^ mask));
    }
    let mask = if key >> 63 == 1 { 1 << 63 } else { u64::MAX };
    f64::from_bits(key ^ mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Alignment, Stream};

    const WIDTH: usize = 3;

    fn field(name: &str, dtype: Dtype, width: usize) -> Field {
        Field::new(name, dtype, width, "unitless", "", Alignment::AtRow)
    }

    /// Episodes of several lengths with repeated, negative, tiny, huge and integer values.
    fn episodes(count: usize) -> Vec<Vec<Column>> {
        let mut stream = Stream::new(11, &["statistics"]);
        let mut episode = |k: usize| {
            let rows = 1 + (k * 7) % 23;
            let mut values = |scale: f64| -> Vec<f64> {
                let draw = |_| match stream.below(6) {
                    0 => 0.0,
                    1 => -0.0,
                    2 => scale,
                    3 => stream.normal() * 1e-30,
                    4 => stream.normal() * 1e9,
                    _ => stream.normal() * scale,
                };
                (0..rows * WIDTH).map(draw).collect()
            };
            let narrow = values(2.0).into_iter().map(|v| v as f32).collect();
            let wide = values(3.0);
            let whole = values(1.0)[..rows].iter().map(|&v| v as i64).collect();
            vec![
                Column::F32 {
                    width: WIDTH,
                    values: narrow,
                },
                Column::F64 {
                    width: WIDTH,
                    values: wide,
                },
                Column::I64(whole),
            ]
        };
        (0..count).map(&mut episode).collect()
    }

    /// What sorting all values of one dimension gives.
    fn sorted(episodes: &[Vec<Column>], field: usize) -> Option<Statistics> {
        let width = episodes.first().map_or(1, |columns| columns[field].width());
        let mut moments = Moments::new(width);
        let mut dimensions = vec![Vec::new(); width];
        for columns in episodes {
            let values = columns[field].to_f64();
            moments.merge(&Moments::of(&values, width));
            for (d, dimension) in dimensions.iter_mut().enumerate() {
                dimension.extend(values.iter().skip(d).step_by(width));
            }
        }
        Statistics::new(&moments, &mut dimensions)
    }

    #[test]
    fn passes_over_the_data_find_what_sorting_finds() {
        let fields = [
            field("narrow", Dtype::F32, WIDTH),
            field("wide", Dtype::F64, WIDTH),
            field("whole", Dtype::I64, 1),
        ];
        for count in [1, 2, WAVE, WAVE + 1, 3 * WAVE + 5] {
            let all = episodes(count);
            let train: Vec<bool> = (0..count).map(|k| k % 3 != 1).collect();
            let stats = statistics(&fields, &train, |e| Ok(all[e].clone())).expect("statistics");
            let chosen: Vec<Vec<Column>> = all
                .iter()
                .zip(&train)
                .filter(|(_, is_train)| **is_train)
                .map(|(columns, _)| columns.clone())
                .collect();
            for (position, field) in fields.iter().enumerate() {
                let found = &stats.fields[&field.name];
                let text = |stats: &Option<Statistics>| format!("{stats:?}");
                assert_eq!(text(&found.all), text(&sorted(&all, position)));
                assert_eq!(text(&found.train), text(&sorted(&chosen, position)));
            }
        }
    }

    #[test]
    fn a_population_without_rows_has_no_statistics() {
        let fields = [field("narrow", Dtype::F32, WIDTH)];
        let one = &episodes(1)[0];
        let stats = statistics(&fields, &[false], |_| Ok(one[..1].to_vec())).expect("statistics");
        let found = &stats.fields["narrow"];
        assert!(found.train.is_none() && found.all.is_some());
    }
}
