//! Film strips of episodes that went well and of episodes that did not.

use jepa_leaderboard::ModelKind;

use super::Scope;
use crate::document::{Block, Gallery, Picture, Section, slug};
use crate::film::Film;
use crate::input::RunFacts;

/// Runs that are shown at most, best first.
const MOST_RUNS: usize = 6;
/// Pictures of each kind shown at most for a trained model.
const MOST: usize = 4;
/// Pictures of each kind shown at most for a floor or the ceiling.
const FEW: usize = 2;

/// The film strips of one task; `None` if no run has any.
pub(super) fn section(scope: &Scope<'_>) -> Option<Section> {
    let mut section = scope.section("Episodes in pictures");
    let galleries = scope
        .task
        .runs
        .iter()
        .filter_map(|facts| gallery(scope, facts));
    section
        .blocks
        .extend(galleries.take(MOST_RUNS).map(Block::Gallery));
    (!section.blocks.is_empty()).then_some(section)
}

fn gallery(scope: &Scope<'_>, facts: &RunFacts) -> Option<Gallery> {
    let most = if facts.kind() == ModelKind::Trained {
        MOST
    } else {
        FEW
    };
    let of = |success: bool| {
        facts
            .films
            .iter()
            .filter(move |film| film.success == success)
            .take(most)
    };
    let pictures: Vec<Picture> = of(true)
        .chain(of(false))
        .map(|film| picture(scope, facts, film))
        .collect();
    (!pictures.is_empty()).then(|| Gallery {
        caption: caption(facts),
        pictures,
    })
}

fn caption(facts: &RunFacts) -> String {
    let (label, successes, episodes) = (
        &facts.label,
        facts.aggregate.successes,
        facts.aggregate.episodes,
    );
    let outcome = match successes {
        0 => format!("none of {episodes} episodes ends at the goal"),
        all if all == episodes => format!("all {episodes} episodes end at the goal"),
        _ => format!(
            "{successes} of {episodes} episodes end at the goal; some of them, then some that do not"
        ),
    };
    format!("{label}: {outcome}. The last picture of a strip is the goal.")
}

fn picture(scope: &Scope<'_>, facts: &RunFacts, film: &Film) -> Picture {
    let id = format!("{} {}", scope.task.task.id(), facts.label);
    Picture {
        name: format!("{}-seed-{}", slug(&id), film.seed),
        caption: if film.caption.is_empty() {
            format!("seed {}", film.seed)
        } else {
            film.caption.clone()
        },
        mark: if film.success { "success" } else { "failure" }.into(),
        is_success: film.success,
        size: film.size,
        png: film.png.clone(),
    }
}
