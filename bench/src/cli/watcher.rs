//! The terminal's view of a running evaluation.

use std::path::Path;

use indicatif::ProgressBar;
use jepa_leaderboard::EpisodeRow;

use super::Context;
use crate::Error;
use crate::runner::Observer;

/// Shows the progress of a run and passes Ctrl-C on; the bar goes when the watcher does.
pub(super) struct Watcher<'a> {
    ctx: &'a Context,
    bar: ProgressBar,
    asked_to_resume: bool,
}

impl<'a> Watcher<'a> {
    /// A watcher whose bar has that name.
    pub(super) fn new(ctx: &'a Context, name: &str) -> Self {
        Self {
            ctx,
            bar: ctx.progress(0, name),
            asked_to_resume: false,
        }
    }

    /// Says so if there was nothing to continue, where the user asked for it.
    pub(super) fn asked_to_resume(mut self, asked_to_resume: bool) -> Self {
        self.asked_to_resume = asked_to_resume;
        self
    }
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Observer for Watcher<'_> {
    fn opened(&self, folder: &Path, done: usize, total: usize) {
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
        // Earlier episodes must not count towards the rate.
        self.bar.reset_eta();
        if done > 0 {
            self.ctx.say(&format!(
                "continuing {} after {done} of {total} episodes",
                folder.display()
            ));
        } else if self.asked_to_resume {
            self.ctx.say(&format!(
                "nothing to continue; starting {}",
                folder.display()
            ));
        }
    }

    fn finished(&self, _row: &EpisodeRow) {
        self.bar.inc(1);
    }

    fn failed(&self, episode: u32, error: &Error) {
        let reason = error.to_string();
        let first = reason.lines().next().unwrap_or_default();
        self.bar.suspend(|| {
            self.ctx.say(&format!(
                "episode {episode} failed, the others go on: {first}"
            ));
        });
    }

    fn interrupted(&self) -> bool {
        self.ctx.interrupted()
    }
}
