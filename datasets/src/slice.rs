//! Trajectory slices: `W + 1` frames `frameskip` apart, with the actions between them.
//!
//! Slices are enumerated arithmetically. An index keeps one running count per episode and, for the
//! released order, one permutation; it never keeps a list of slices. Definitions and orders are those
//! of datasets.md section 2.3.

use serde::Serialize;

use crate::episode::Pixels;
use crate::mt19937::{RANDPERM_LIMIT, numpy_random_state, torch_randperm};
use crate::{Error, Result};

/// The order in which slices are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The permuted order of the reference loaders, from the split's seed.
    #[default]
    Released,
    /// Episode by episode in the split's order, start by start.
    Sequential,
}

/// Which slices to cut.
#[derive(Debug, Clone, PartialEq)]
pub struct SliceSpec {
    /// `W`: frames the predictor sees. A slice has `W + 1` frames.
    pub context: usize,
    /// Native steps from one frame to the next.
    pub frameskip: usize,
    /// `train`, `val` or `all`.
    pub split: String,
    /// How slices are numbered.
    pub order: Order,
    /// `true`, the reference: the last frame has an action block too, so a slice covers
    /// `(W + 1) * frameskip` rows. `false`: `W` blocks, and `W * frameskip + 1` rows.
    pub last_block: bool,
    /// Which camera; the first one when not given.
    pub camera: Option<String>,
}

impl SliceSpec {
    /// Slices of the reference loaders: released order, an action block for every frame.
    pub fn new(context: usize, frameskip: usize, split: &str) -> Self {
        Self {
            context,
            frameskip,
            split: split.into(),
            order: Order::Released,
            last_block: true,
            camera: None,
        }
    }

    /// Frames of a slice, `W + 1`.
    pub fn frames(&self) -> usize {
        self.context + 1
    }

    /// Action blocks of a slice.
    pub fn blocks(&self) -> usize {
        if self.last_block {
            self.context + 1
        } else {
            self.context
        }
    }

    /// Rows a slice covers.
    pub fn rows(&self) -> usize {
        if self.last_block {
            self.frames() * self.frameskip
        } else {
            self.context * self.frameskip + 1
        }
    }

    /// Slices in an episode of `length` rows: `max(0, length - rows + 1)`, for starts 0, 1, 2, ...
    pub fn windows(&self, length: u64) -> u64 {
        length.saturating_add(1).saturating_sub(self.rows() as u64)
    }

    /// Rows and frames of the slice: `start, start + f, ..., start + W f`.
    pub fn rows_of(&self, start: usize) -> impl Iterator<Item = usize> + Clone + use<> {
        let frameskip = self.frameskip;
        (0..self.frames()).map(move |i| start + i * frameskip)
    }

    /// Refuses a context or frameskip of 0 and sizes that overflow.
    pub fn check(&self) -> Result<()> {
        if self.context == 0 {
            return Err(Error::invalid(
                "context",
                0,
                "a slice needs at least one frame to predict from",
            ));
        }
        if self.frameskip == 0 {
            return Err(Error::invalid(
                "frameskip",
                0,
                "frames are at least one step apart",
            ));
        }
        let rows = self
            .context
            .checked_add(1)
            .and_then(|n| n.checked_mul(self.frameskip));
        match rows.map(u32::try_from) {
            Some(Ok(_)) => Ok(()),
            _ => Err(Error::invalid(
                "context",
                self.context,
                "slices of that length do not exist",
            )),
        }
    }
}

/// Where a slice starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct SliceRef {
    /// Episode index in the dataset.
    pub episode: u64,
    /// First row.
    pub start: usize,
}

/// One slice in memory, raw values.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// `[W + 1, height, width, 3]`, RGB, 0 to 255; empty when the dataset has no cameras.
    pub frames: Pixels,
    /// Pixels, top to bottom.
    pub height: usize,
    /// Pixels, left to right.
    pub width: usize,
    /// `[blocks, f * d]`: the native actions of each block, concatenated in time.
    pub action: Vec<f32>,
    /// `[W + 1, p]`; empty when the dataset has no proprioception.
    pub proprio: Vec<f32>,
    /// `[W + 1, s]`; empty when the dataset has no state.
    pub state: Vec<f64>,
    /// `[W + 1]`; zeros when the dataset has no reward.
    pub reward: Vec<f32>,
    /// Row of every frame within its episode.
    pub rows: Vec<u64>,
    /// Which slice it is.
    pub at: SliceRef,
}

/// Why episodes yield no slices (datasets.md section 2.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Fewer rows than frames: `T < W + 1`.
    pub too_short: u64,
    /// Enough rows for the frames, too few for the actions: `W + 1 <= T < rows of a slice`.
    pub no_window: u64,
}

/// Every slice of a split, by number.
#[derive(Debug, Clone)]
pub struct SliceIndex {
    episodes: Vec<u64>,
    /// Number of slices before each episode, and the total at the end.
    before: Vec<u64>,
    permutation: Option<Vec<u32>>,
    dropped: Dropped,
}

/// Which permutation the released order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shuffle {
    None,
    /// JEPA-WMs: `torch.randperm` of a fresh generator per split.
    Torch {
        seed: u64,
    },
    /// DINO-WM: NumPy's global generator seeded with 0, train drawn first, then val.
    NumpyAfter {
        drawn: u64,
    },
}

impl SliceIndex {
    /// Index over episodes of given lengths, in split order.
    pub(crate) fn new(spec: &SliceSpec, episodes: &[(u64, u64)], shuffle: Shuffle) -> Result<Self> {
        spec.check()?;
        let mut before = Vec::with_capacity(episodes.len() + 1);
        let mut dropped = Dropped::default();
        let mut total = 0;
        before.push(0);
        for &(_, length) in episodes {
            let windows = spec.windows(length);
            if length < spec.frames() as u64 {
                dropped.too_short += 1;
            } else if windows == 0 {
                dropped.no_window += 1;
            }
            total += windows;
            before.push(total);
        }
        let permutation = permutation(shuffle, total)?;
        Ok(Self {
            episodes: episodes.iter().map(|e| e.0).collect(),
            before,
            permutation,
            dropped,
        })
    }

    /// Number of slices.
    pub fn len(&self) -> usize {
        self.before.last().map_or(0, |&total| total as usize)
    }

    /// Whether there is no slice.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slice of number `k`, in the chosen order.
    ///
    /// # Panics
    /// When `k` is not below [`len`](Self::len).
    pub fn get(&self, k: usize) -> SliceRef {
        assert!(k < self.len(), "slice {k} of {}", self.len());
        let position = self
            .permutation
            .as_ref()
            .map_or(k as u64, |order| u64::from(order[k]));
        let episode = self.before.partition_point(|&before| before <= position) - 1;
        SliceRef {
            episode: self.episodes[episode],
            start: (position - self.before[episode]) as usize,
        }
    }

    /// Number of slices of every episode, in split order.
    pub fn per_episode(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.episodes
            .iter()
            .zip(self.before.windows(2))
            .map(|(&episode, w)| (episode, w[1] - w[0]))
    }

    /// Episodes that yield no slices, by reason.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }
}

fn permutation(shuffle: Shuffle, total: u64) -> Result<Option<Vec<u32>>> {
    if shuffle == Shuffle::None {
        return Ok(None);
    }
    let n = u32::try_from(total)
        .ok()
        .filter(|_| total < RANDPERM_LIMIT)
        .ok_or_else(|| {
            Error::invalid(
                "slice order",
                "released",
                format!("{total} slices are too many; use the sequential order"),
            )
        })?;
    Ok(match shuffle {
        Shuffle::None => None,
        Shuffle::Torch { seed } => Some(torch_randperm(n, seed)),
        Shuffle::NumpyAfter { drawn } => {
            let mut random = numpy_random_state(0);
            if let Ok(drawn) = u32::try_from(drawn) {
                random.permutation(drawn);
            }
            Some(random.permutation(n))
        }
    })
}
