//! How fast frames are stored: a bar on a terminal, a line now and then in a log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use jepa_ingest::Tick;

use super::Context;

/// Time between two lines of a log.
const EVERY: Duration = Duration::from_secs(30);

/// Shows the progress of an ingestion; its bar goes when the meter does.
pub(super) struct Meter<'a> {
    ctx: &'a Context,
    label: &'static str,
    bar: ProgressBar,
    started: Instant,
    last_line: Mutex<Instant>,
}

impl<'a> Meter<'a> {
    /// A meter for `total` episodes.
    pub(super) fn new(ctx: &'a Context, total: u64, label: &'static str) -> Self {
        Self {
            ctx,
            label,
            bar: ctx.progress(total, label),
            started: Instant::now(),
            last_line: Mutex::new(Instant::now()),
        }
    }

    /// Shows where the work stands.
    pub(super) fn tick(&self, tick: Tick) {
        let elapsed = self.started.elapsed();
        self.bar.set_length(tick.total);
        if tick.done_now == 1 {
            // Episodes of earlier runs must not count towards the rate.
            self.bar.set_position(tick.done - 1);
            self.bar.reset_eta();
        }
        self.bar.set_position(tick.done);
        self.bar.set_message(rate(tick.frames, elapsed));
        let mut last = self
            .last_line
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if self.bar.is_hidden() && self.ctx.wants_progress() && last.elapsed() >= EVERY {
            *last = Instant::now();
            self.ctx.say(&line(self.label, tick, elapsed));
        }
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// `3400 frames/s`; nothing for a source without frames.
fn rate(frames: u64, elapsed: Duration) -> String {
    if frames == 0 {
        return String::new();
    }
    let seconds = elapsed.as_secs_f64().max(1e-3);
    format!("{:.0} frames/s", frames as f64 / seconds)
}

/// A line of a log.
fn line(label: &str, tick: Tick, elapsed: Duration) -> String {
    let Tick {
        done,
        total,
        done_now,
        frames,
    } = tick;
    let left = total.saturating_sub(done) as f64 / done_now.max(1) as f64;
    let left = duration(elapsed.as_secs_f64() * left);
    let parts = [rate(frames, elapsed), format!("about {left} left")];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    format!("{label}: {done} of {total} episodes, {}", parts.join(", "))
}

/// Seconds as people say them: `40 s`, `12 min`, `3.5 h`.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 90.0 * 60.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_told_from_the_pace_of_this_run() {
        let tick = Tick {
            done: 60,
            total: 100,
            done_now: 10,
            frames: 3000,
        };
        let text = line("ingest", tick, Duration::from_mins(1));
        let expected = "ingest: 60 of 100 episodes, 50 frames/s, about 4 min left";
        assert_eq!(text, expected);
        let blind = line("ingest", Tick { frames: 0, ..tick }, Duration::from_mins(1));
        assert_eq!(blind, "ingest: 60 of 100 episodes, about 4 min left");
    }

    #[test]
    fn durations_are_in_the_unit_that_people_use() {
        assert_eq!(duration(0.4), "0 s");
        assert_eq!(duration(89.0), "89 s");
        assert_eq!(duration(120.0), "2 min");
        assert_eq!(duration(3.5 * 3600.0), "3.5 h");
    }
}
