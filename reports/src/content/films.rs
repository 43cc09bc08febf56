//! Film strips of episodes that went well and of episodes that did not.

use super::Scope;
use crate::document::{Block, Gallery, Picture, Section, slug};
use crate::film::Film;
use crate::input::RunFacts;

/// Pictures of each kind shown at most per run.
const MOST: usize = 4;

/// The film strips of one task; `None` if no run has any.
pub(super) fn section(scope: &Scope<'_>) -> Option<Section> {
    let mut section = scope.section("Episodes in pictures");
    for facts in &scope.task.runs {
        section
            .blocks
            .extend(gallery(scope, facts).map(Block::Gallery));
    }
    (!section.blocks.is_empty()).then_some(section)
}

fn gallery(scope: &Scope<'_>, facts: &RunFacts) -> Option<Gallery> {
    let of = |success: bool| {
        facts
            .films
            .iter()
            .filter(move |film| film.success == success)
            .take(MOST)
    };
    let pictures: Vec<Picture> = of(true)
        .chain(of(false))
        .map(|film| picture(scope, facts, film))
        .collect();
    if pictures.is_empty() {
        return None;
    }
    let failures = facts.aggregate.episodes - facts.aggregate.successes;
    let caption = format!(
        "{}: episodes that reach the goal, then episodes that do not ({failures} of {} do not). The last picture of \
         a strip is the goal.",
        facts.label, facts.aggregate.episodes
    );
    Some(Gallery { caption, pictures })
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
