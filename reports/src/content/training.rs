//! The training runs behind the models.

use jepa_leaderboard::ModelRef;

use crate::document::{
    Block, Figure, Section, Table, Tone, cell, code_cell, number, paragraph, plain, slug,
};
use crate::error::Result;
use crate::figure::training_curves;
use crate::input::{Input, TaskFacts};
use crate::text::{NONE, count, seconds, short_hash};
use crate::training::TrainingRun;

/// Training of all models; `None` if nothing was trained.
pub(super) fn section(input: &Input, tasks: &[TaskFacts]) -> Result<Option<Section>> {
    let models = trained(tasks);
    if models.is_empty() && input.training.is_empty() {
        return Ok(None);
    }
    let mut section = Section::new("Training");
    if !models.is_empty() {
        section.blocks.push(Block::Table(table(&models)));
    }
    for (k, run) in input.training.iter().enumerate() {
        section.blocks.push(Block::Figure(curves(k, run)?));
    }
    if input.training.is_empty() {
        let text =
            "The folders of these training runs were not at hand, so their curves are not drawn.";
        section.blocks.push(paragraph(vec![plain(text)]));
    }
    Ok(Some(section))
}

/// Trained models with their labels, each set of weights once.
fn trained(tasks: &[TaskFacts]) -> Vec<(&str, &ModelRef)> {
    let mut models: Vec<(&str, &ModelRef)> = Vec::new();
    for facts in tasks.iter().flat_map(|task| &task.runs) {
        let model = &facts.run.record.model;
        let is_known = models
            .iter()
            .any(|(_, other)| other.weights_hash == model.weights_hash);
        if model.training.is_some() && !is_known {
            models.push((&facts.label, model));
        }
    }
    models
}

fn table(models: &[(&str, &ModelRef)]) -> Table {
    let headings = [
        "model",
        "#parameters",
        "#steps",
        "#time",
        "#seed",
        "track",
        "weights",
        "dataset",
        "train split",
    ];
    let mut table = Table::new("Training runs", &headings);
    for (label, model) in models {
        let Some(training) = &model.training else {
            continue;
        };
        let parameters = model
            .parameters
            .map_or_else(|| cell(NONE), |n| number(count(n), n as f64));
        table.push(
            Tone::Plain,
            vec![
                cell(*label),
                parameters,
                number(count(training.steps), training.steps as f64),
                number(seconds(training.seconds), training.seconds),
                number(training.seed.to_string(), training.seed as f64),
                cell(training.track.clone()),
                code_cell(
                    model
                        .weights_hash
                        .as_deref()
                        .map_or_else(|| NONE.into(), short_hash),
                ),
                code_cell(short_hash(&training.dataset_hash)),
                code_cell(short_hash(&training.train_split_hash)),
            ],
        );
    }
    table.with_note(
        "track: standard if trained on the released data and split, reduced on less of it or on data made here, \
         external on other data; hashes: first twelve digits",
    )
}

fn curves(k: usize, run: &TrainingRun) -> Result<Figure> {
    let name = format!("training-{}-{}", k + 1, slug(&run.model));
    Ok(Figure {
        svg: training_curves(&name, run)?,
        alt: format!("Training curves of {}", run.model),
        caption: format!(
            "Training of {}: loss and its parts; learning rate; error of the predicted visual latents on validation \
             episodes after unrolling the model for H steps.",
            run.model
        ),
        name,
    })
}
