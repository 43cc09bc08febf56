//! Filmstrips of episodes: the frames of every model step in a row, then the goal.

use std::path::{Path, PathBuf};

use jepa_leaderboard::EpisodeRow;
use serde::{Deserialize, Serialize};

use super::folder::{io, write_atomically};
use super::tape::Tape;
use super::{Evaluation, Line};
use crate::env::{Env, Image, Size};
use crate::protocol::RunConfig;
use crate::{Error, Result};

/// Folder of the films in a run folder.
const FILMS: &str = "films";
/// Side length of a frame in a strip, in pixels.
pub(super) const FRAME: usize = 130;
/// Pixels between two frames of a strip.
pub(super) const GAP: usize = 4;
/// Pixels between the last frame and the goal.
const GOAL_GAP: usize = 16;
/// Colour between frames.
const PAPER: [u8; 3] = [128, 128, 128];

/// One line of `films/index.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Film {
    seed: u64,
    success: bool,
    file: String,
    caption: String,
}

/// Draws the chosen episodes of a finished evaluation.
pub(super) fn write(evaluation: &Evaluation, folder: &Path, lines: &[Line]) -> Result<()> {
    let rows: Vec<&EpisodeRow> = lines.iter().map(|line| &line.row).collect();
    let chosen = choose(&rows, evaluation.films);
    if chosen.is_empty() {
        return Ok(());
    }
    let films = folder.join(FILMS);
    std::fs::create_dir_all(&films).map_err(|source| io("create", &films, source))?;
    let mut index = Vec::with_capacity(chosen.len());
    for row in chosen {
        let film = describe(evaluation.config(), row);
        let frames = replay(evaluation, row)?;
        let strip = filmstrip(&frames);
        write_atomically(&films.join(&film.file), &strip.to_png()?)?;
        index.push(film);
    }
    write_index(&films, &index)
}

/// Collects the films of shards.
pub(super) fn join(out: &Path, shards: &[PathBuf]) -> Result<()> {
    let mut index: Vec<Film> = Vec::new();
    let films = out.join(FILMS);
    for folder in shards.iter().map(|shard| shard.join(FILMS)) {
        let path = folder.join("index.json");
        let Ok(text) = std::fs::read(&path) else {
            continue;
        };
        let found: Vec<Film> = serde_json::from_slice(&text).map_err(|error| Error::Config {
            what: format!("`{}`", path.display()),
            detail: error.to_string(),
            hint: None,
        })?;
        std::fs::create_dir_all(&films).map_err(|source| io("create", &films, source))?;
        for film in found {
            let (from, to) = (folder.join(&film.file), films.join(&film.file));
            std::fs::copy(&from, to).map_err(|source| io("copy", &from, source))?;
            index.push(film);
        }
    }
    index.sort_by_key(|film| film.seed);
    if index.is_empty() {
        Ok(())
    } else {
        write_index(&films, &index)
    }
}

fn write_index(films: &Path, index: &[Film]) -> Result<()> {
    let text = serde_json::to_string_pretty(index).map_err(|error| Error::Invalid {
        what: "index of the films".into(),
        detail: error.to_string(),
    })?;
    write_atomically(&films.join("index.json"), (text + "\n").as_bytes())
}

/// Up to `count` episodes in order: failures and successes half and half, as far as there are any.
fn choose<'a>(rows: &[&'a EpisodeRow], count: usize) -> Vec<&'a EpisodeRow> {
    let (successes, failures): (Vec<&EpisodeRow>, Vec<&EpisodeRow>) =
        rows.iter().copied().partition(|row| row.success);
    let most_failures = count - (count / 2).min(successes.len());
    let mut chosen: Vec<&EpisodeRow> = failures.into_iter().take(most_failures).collect();
    let left = count - chosen.len();
    chosen.extend(successes.into_iter().take(left));
    chosen.sort_by_key(|row| row.episode);
    chosen
}

fn describe(config: &RunConfig, row: &EpisodeRow) -> Film {
    let verdict = if row.success {
        "reached the goal"
    } else {
        "missed the goal"
    };
    let steps = config.protocol.frameskip;
    Film {
        seed: row.seed,
        success: row.success,
        file: format!("episode-{}.png", row.seed),
        caption: format!(
            "seed {}: {verdict}, final distance {:.1}; start, every {steps} steps, goal",
            row.seed, row.final_distance
        ),
    }
}

/// Frames of an episode that is played again: the start, after every model step, the end, and the goal.
///
/// # Errors
/// When the episode is not one of this run.
pub fn replay(evaluation: &Evaluation, row: &EpisodeRow) -> Result<Vec<Image>> {
    let mut tape = Tape::play(evaluation, row)?;
    let (frameskip, last) = (evaluation.config.protocol.frameskip, tape.steps());
    let mut frames = Vec::new();
    for step in (0..=last).filter(|step| step % frameskip == 0 || *step == last) {
        frames.push(draw(tape.at(step)?)?);
    }
    frames.push(draw(tape.goal()?)?);
    Ok(frames)
}

fn draw(env: &dyn Env) -> Result<Image> {
    Ok(env.render(Size::Native)?.resized(FRAME))
}

/// Puts frames side by side, the last one (the goal) set apart.
pub fn filmstrip(frames: &[Image]) -> Image {
    let side = frames.first().map_or(0, |frame| frame.height);
    let steps = frames.len().saturating_sub(1);
    let offset = |at: usize| {
        let apart = if at == steps && steps > 0 {
            GOAL_GAP - GAP
        } else {
            0
        };
        GAP + at * (side + GAP) + apart
    };
    let width = offset(steps) + side + GAP;
    let mut strip = Image::filled(side + 2 * GAP, width, PAPER);
    for (at, frame) in frames.iter().enumerate() {
        strip.paste(frame, GAP, offset(at));
    }
    strip
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Policy;
    use crate::protocol::{Choices, resolve};
    use crate::runner::run_episode;

    fn row(episode: u32, success: bool) -> EpisodeRow {
        EpisodeRow {
            episode,
            seed: u64::from(episode) + 1,
            init: vec![10.0, 10.0],
            goal: vec![50.0, 50.0],
            final_state: vec![50.0, 50.0],
            success,
            success_any: success,
            final_distance: 0.0,
            distances: Vec::new(),
            states: vec![10.0; 2 * 13],
            actions: Vec::new(),
            plans: 0,
            world_model_calls: 0,
            candidate_steps: 0,
            cost_best: Vec::new(),
            cost_elite_mean: Vec::new(),
            cost_elite_std: Vec::new(),
        }
    }

    #[test]
    fn failures_and_successes_share_the_films() {
        let rows: Vec<EpisodeRow> = (0..10).map(|k| row(k, k % 5 != 0)).collect();
        let rows: Vec<&EpisodeRow> = rows.iter().collect();
        let seeds = |count| {
            choose(&rows, count)
                .iter()
                .map(|row| row.episode)
                .collect::<Vec<_>>()
        };
        assert_eq!(seeds(4), [0, 1, 2, 5]);
        // Only two failures exist, so successes take their place.
        assert_eq!(seeds(6), [0, 1, 2, 3, 4, 5]);
        assert_eq!(seeds(0), [] as [u32; 0]);
        assert_eq!(seeds(99).len(), 10);
    }

    #[test]
    fn a_strip_shows_every_model_step_and_the_goal() {
        let settings = ["protocol.max_steps=12".to_string()];
        let choices = Choices {
            model: Some("floor:random"),
            task: Some("wall@1"),
            settings: &settings,
            ..Choices::default()
        };
        let evaluation = Evaluation::new(resolve(&choices).unwrap(), Policy::Random).unwrap();
        let row = run_episode(&evaluation, 0, &|| false).unwrap().row;
        // 12 steps: frames at 0, 5, 10 and 12, then the goal.
        let frames = replay(&evaluation, &row).unwrap();
        assert_eq!(frames.len(), 5);
        let strip = filmstrip(&frames);
        assert_eq!((strip.height, strip.width), (138, 5 * 130 + 5 * 4 + 16));
        let pixel = |coordinate: f64| ((coordinate + 0.5) * 130.0 / 65.0) as usize;
        let goal = (
            pixel(row.goal[1]),
            strip.width - GAP - FRAME + pixel(row.goal[0]),
        );
        assert_eq!(strip.pixel(GAP + goal.0, goal.1)[0], 255);
        assert!(strip.pixel(GAP + goal.0, goal.1)[1] < 60);
    }
}
