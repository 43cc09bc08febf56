//! The dataset card.

use crate::dataset::{DatasetCard, FieldRow};
use crate::document::{Block, Section, Table, Tone, cell, code_cell, number, paragraph, plain};
use crate::input::Input;
use crate::text::{count, short};

/// The datasets behind the models; `None` if none is at hand.
pub(super) fn section(input: &Input) -> Option<Section> {
    if input.datasets.is_empty() {
        return None;
    }
    let mut section = Section::new("Dataset card");
    for card in &input.datasets {
        section.blocks.push(Block::Table(facts(card)));
        if !card.fields.is_empty() {
            section.blocks.push(Block::Table(fields(card)));
        }
        section.blocks.push(rejects(card));
    }
    Some(section)
}

fn facts(card: &DatasetCard) -> Table {
    let mut table = Table::new(&card.name, &["property", "value"]);
    for (name, value) in &card.facts {
        table.push(Tone::Plain, vec![cell(name.clone()), cell(value.clone())]);
    }
    table
}

fn fields(card: &DatasetCard) -> Table {
    let headings = ["field", "shape", "meaning", "#mean", "#std", "#min", "#max"];
    let mut table = Table::new("Fields, statistics of the training split", &headings);
    for field in &card.fields {
        let FieldRow {
            name,
            shape,
            meaning,
            mean,
            std,
            min,
            max,
        } = field;
        let columns = [mean, std, min, max].map(|values| cell(numbers(values)));
        let names = [
            code_cell(name.clone()),
            code_cell(shape.clone()),
            cell(meaning.clone()),
        ];
        table.push(Tone::Plain, names.into_iter().chain(columns).collect());
    }
    table
}

/// The first few numbers of a vector.
fn numbers(values: &[f64]) -> String {
    const MOST: usize = 4;
    let mut texts: Vec<String> = values
        .iter()
        .take(MOST)
        .map(|&value| short(value))
        .collect();
    if values.len() > MOST {
        texts.push("…".into());
    }
    texts.join(", ")
}

fn rejects(card: &DatasetCard) -> Block {
    if card.rejects.is_empty() {
        return paragraph(vec![plain("No source episode was rejected or skipped.")]);
    }
    let mut table = Table::new("Source episodes left out", &["reason", "#episodes"]);
    for (reason, episodes) in &card.rejects {
        table.push(
            Tone::Plain,
            vec![
                code_cell(reason.clone()),
                number(count(*episodes), *episodes as f64),
            ],
        );
    }
    Block::Table(table)
}
