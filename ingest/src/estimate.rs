//! What an ingestion would cost, from a few of its episodes.

use std::time::{Duration, Instant};

use jepa_datasets::{Codec, Episode, SizeMeter};
use serde::Serialize;

use crate::run::Broken;
use crate::source::Source;

/// Episodes that are tried at most.
const MOST: usize = 8;
/// No further episode is tried after this time.
const LONG_ENOUGH: Duration = Duration::from_secs(3);

/// What the episodes that were tried say about all of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// Episodes tried, spread evenly over those asked for.
    pub tried: u64,
    /// Those of them that cannot be used.
    pub broken: Vec<Broken>,
    /// Usable episodes, at the share found.
    pub episodes: u64,
    /// Rows.
    pub rows: u64,
    /// Frames of all cameras.
    pub frames: u64,
    /// Bytes of rows, before compression, and of encoded frames.
    pub bytes: u64,
    /// Seconds of reading and encoding on one thread; writing comes on top where the disk is slower.
    pub thread_seconds: f64,
}

/// Reads and encodes some of the episodes asked for and writes nothing.
pub fn estimate(source: &dyn Source, episodes: &[u64], codec: Codec) -> Estimate {
    let asked = episodes.len();
    let count = asked.min(MOST);
    let started = Instant::now();
    let mut sums = Sums::default();
    for k in 0..count {
        // The middle of each of `count` equal parts.
        sums.add(source, episodes[(2 * k + 1) * asked / (2 * count)], codec);
        if started.elapsed() > LONG_ENOUGH {
            break;
        }
    }
    sums.over(asked, started.elapsed())
}

#[derive(Default)]
struct Sums {
    tried: u64,
    rows: u64,
    frames: u64,
    bytes: u64,
    broken: Vec<Broken>,
}

impl Sums {
    fn add(&mut self, source: &dyn Source, index: u64, codec: Codec) {
        self.tried += 1;
        let mut meter = SizeMeter::new(codec);
        match source.read_into(index, &mut meter) {
            Ok(episode) => {
                self.rows += episode.length as u64;
                self.frames += meter.frames();
                self.bytes += meter.bytes() + row_bytes(&episode);
            }
            Err(fault) => self.broken.push(Broken::new(source, index, &fault)),
        }
    }

    fn over(self, asked: usize, elapsed: Duration) -> Estimate {
        let factor = asked as f64 / self.tried.max(1) as f64;
        let scaled = |sum: u64| (sum as f64 * factor).round() as u64;
        Estimate {
            tried: self.tried,
            episodes: scaled(self.tried - self.broken.len() as u64),
            rows: scaled(self.rows),
            frames: scaled(self.frames),
            bytes: scaled(self.bytes),
            thread_seconds: elapsed.as_secs_f64() * factor,
            broken: self.broken,
        }
    }
}

fn row_bytes(episode: &Episode) -> u64 {
    let columns = episode.columns.values();
    columns.map(|c| (c.len() * c.dtype().bytes()) as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_some_episodes_cost_is_scaled_to_all_of_them() {
        let broken = Broken {
            episode: 3,
            path: "episode_3".into(),
            code: "decode_error".into(),
            detail: "cut short".into(),
        };
        let sums = Sums {
            tried: 4,
            rows: 30,
            frames: 60,
            bytes: 1000,
            broken: vec![broken],
        };
        let estimate = sums.over(100, Duration::from_secs(2));
        assert_eq!((estimate.tried, estimate.episodes), (4, 75));
        assert_eq!((estimate.rows, estimate.frames), (750, 1500));
        assert_eq!(estimate.bytes, 25_000);
        assert!((estimate.thread_seconds - 50.0).abs() < 1e-9);
    }
}
