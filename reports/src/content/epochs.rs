//! Models of several epochs and seeds: their average, and how success went along training.

use super::Scope;
use super::results::planner_of;
use crate::document::{Block, Cell, Figure, Section, Table, Tone, cell, number};
use crate::error::Result;
use crate::figure::{EpochLine, EpochPanel, success_over_epochs};
use crate::input::RecipeFacts;
use crate::text::{NONE, decimal, percent, percent_interval};

/// The epochs of one task; `None` if no recipe has models of several.
pub(super) fn section(scope: &Scope<'_>) -> Result<Option<Section>> {
    let recipes = &scope.task.recipes_over_epochs;
    if recipes.is_empty() {
        return Ok(None);
    }
    let mut section = scope.section("Epochs of training");
    section.blocks.push(Block::Table(averages(recipes)));
    section.blocks.push(Block::Figure(figure(scope, recipes)?));
    Ok(Some(section))
}

fn averages(recipes: &[RecipeFacts]) -> Table {
    let headings = [
        "recipe",
        "planner",
        "#seeds",
        "#values",
        "#pooled (std)",
        "#over seeds",
        "#std error",
        "#95% interval, all attempts",
    ];
    let mut table = Table::new("Averages over the last epochs", &headings);
    for recipe in recipes {
        table.push(Tone::Plain, row(recipe));
    }
    table.with_note(
        "pooled: the paper's rule, mean and population standard deviation of the last epochs of all seeds; over seeds: each seed \
         is one number, the mean of its last epochs; the interval takes every attempt for an episode of its own, while epochs \
         and seeds share theirs, and is too narrow",
    )
}

fn row(recipe: &RecipeFacts) -> Vec<Cell> {
    let (pooled, seeds) = (recipe.average.pooled, recipe.average.over_seeds);
    let error = seeds.standard_error.map_or_else(
        || cell(NONE),
        |error| number(decimal(100.0 * error, 1), error),
    );
    vec![
        cell(recipe.label.clone()),
        cell(planner_of(&recipe.record)),
        number(
            recipe.average.seeds.len().to_string(),
            recipe.average.seeds.len() as f64,
        ),
        number(pooled.values.to_string(), pooled.values as f64),
        number(
            format!(
                "{} ({})",
                percent(pooled.mean),
                decimal(100.0 * pooled.std, 1)
            ),
            pooled.mean,
        ),
        number(percent(seeds.mean), seeds.mean),
        error,
        number(percent_interval(seeds.wilson), seeds.wilson.low),
    ]
}

/// A panel per planning setup, in the order in which they appear.
fn figure(scope: &Scope<'_>, recipes: &[RecipeFacts]) -> Result<Figure> {
    let mut panels: Vec<EpochPanel> = Vec::new();
    for recipe in recipes {
        let title = format!("{}, {}", scope.task.task.id(), planner_of(&recipe.record));
        let lines = recipe.curves.iter().map(|(seed, points)| EpochLine {
            label: format!("{}, seed {seed}", recipe.label),
            points: points.clone(),
        });
        match panels.iter_mut().find(|panel| panel.title == title) {
            Some(panel) => panel.lines.extend(lines),
            None => panels.push(EpochPanel {
                title,
                lines: lines.collect(),
            }),
        }
    }
    let name = scope.figure_name("epochs");
    Ok(Figure {
        svg: success_over_epochs(&name, &panels)?,
        alt: "Success rate over optimizer steps, one panel per planning setup".into(),
        caption: "Success of the models kept along training. Line: exponential moving average with weight 0.2 on the newest \
                  model; shaded: between it and the raw rates."
            .into(),
        name,
    })
}
