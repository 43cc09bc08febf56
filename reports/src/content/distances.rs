//! How episodes go: distance to the goal per step, distance at the end, and the paths themselves.

use super::{Scope, ink};
use crate::document::{Block, Figure, Section};
use crate::error::Result;
use crate::figure::{Distances, Path, Paths, distance_to_goal, trajectories};
use crate::input::RunFacts;

/// Runs drawn in one figure at most: more lines cannot be told apart.
const MOST: usize = 8;

/// Distances and paths of one task.
pub(super) fn section(scope: &Scope<'_>) -> Result<Section> {
    let mut section = scope.section("Distance to the goal");
    section.blocks.push(Block::Figure(curves(scope)?));
    section.blocks.extend(paths(scope)?.map(Block::Figure));
    Ok(section)
}

fn curves(scope: &Scope<'_>) -> Result<Figure> {
    let name = scope.figure_name("distance");
    let runs = scope
        .task
        .runs
        .iter()
        .enumerate()
        .take(MOST)
        .map(|(k, facts)| Distances {
            label: facts.label.clone(),
            ink: ink(scope.task, k),
            curve: facts.distances.clone(),
            last: facts
                .run
                .episodes
                .iter()
                .map(|row| row.final_distance)
                .collect(),
        });
    let runs: Vec<Distances> = runs.collect();
    let ends = runs
        .iter()
        .filter_map(|run| Some(format!("{} {:.1}", run.label, run.curve.last()?.median)));
    Ok(Figure {
        svg: distance_to_goal(&name, &runs)?,
        alt: format!("Median distance after the last step: {}", ends.collect::<Vec<_>>().join(", ")),
        caption: "Left: distance to the goal after each environment step, median and quartiles over episodes. Right: \
                  share of episodes whose last state is within a distance of the goal; the success threshold is one \
                  point of this curve. Distances are in the task's units."
            .into(),
        name,
    })
}

/// Paths in the plane, for tasks whose state is two coordinates.
fn paths(scope: &Scope<'_>) -> Result<Option<Figure>> {
    let runs: Vec<Paths> = scope
        .task
        .runs
        .iter()
        .take(MOST)
        .filter_map(paths_of)
        .collect();
    if runs.is_empty() {
        return Ok(None);
    }
    let name = scope.figure_name("paths");
    let figure = Figure {
        svg: trajectories(&name, &runs)?,
        alt: "Paths of all episodes in the plane, one panel per run".into(),
        caption: "The path of every episode. The second coordinate grows downwards, as in the rendered frames.".into(),
        name,
    };
    Ok(Some(figure))
}

fn paths_of(facts: &RunFacts) -> Option<Paths> {
    let paths = facts.run.episodes.iter().map(|row| {
        let goal = <[f64; 2]>::try_from(row.goal.as_slice()).ok()?;
        let states = row
            .states
            .chunks_exact(2)
            .map(|pair| (pair[0], pair[1]))
            .collect();
        Some(Path {
            states,
            goal: goal.into(),
            success: row.success,
        })
    });
    Some(Paths {
        title: facts.label.clone(),
        paths: paths.collect::<Option<Vec<Path>>>()?,
    })
}
