//! How to run it again: commands, hashes, settings, machine.

use crate::document::{Block, Section, Table, Tone, cell, code, code_cell, paragraph, plain};
use crate::input::{Input, RunFacts, TaskFacts, value_text};
use crate::text::{NONE, listed, seconds};

/// Commands, identities and environment of every run.
pub(super) fn section(input: &Input, tasks: &[TaskFacts]) -> Section {
    let runs: Vec<&RunFacts> = tasks.iter().flat_map(|task| &task.runs).collect();
    let mut section = Section::new("Reproduction");
    section.blocks.push(paragraph(vec![plain(
        "The same command gives the same episodes, bit for bit, at any number of threads. These made the runs:",
    )]));
    section.blocks.push(Block::Code {
        text: commands(&runs),
    });
    section.blocks.push(Block::Table(identities(tasks)));
    section.blocks.push(Block::Table(settings(&runs)));
    section.blocks.push(Block::Table(machines(&runs)));
    section
        .blocks
        .extend(libraries(&runs).map(|text| paragraph(vec![plain(text)])));
    if let Some(head) = &input.board_head {
        section.blocks.push(paragraph(vec![
            plain("Head of the leaderboard's event chain: "),
            code(head.clone()),
        ]));
    }
    section
}

fn commands(runs: &[&RunFacts]) -> String {
    let lines = runs.iter().map(|facts| {
        let words = facts
            .run
            .record
            .provenance
            .command
            .iter()
            .map(|word| quoted(word));
        words.collect::<Vec<_>>().join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "-_./:@=,+%".contains(c);
    if !word.is_empty() && word.chars().all(is_safe) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn identities(tasks: &[TaskFacts]) -> Table {
    let mut table = Table::new("Identities (blake3)", &["what", "hash"]);
    let mut push =
        |what: String, hash: String| table.push(Tone::Plain, vec![cell(what), code_cell(hash)]);
    for task in tasks {
        push(format!("task {}", task.task.id()), task.task.hash.clone());
        for facts in &task.runs {
            let record = &facts.run.record;
            if let Some(hash) = &record.model.weights_hash {
                push(format!("{}: weights", facts.label), hash.clone());
            }
            for file in ["config.toml", "episodes.parquet"] {
                if let Some(hash) = record.files.get(file) {
                    push(format!("{}: {file}", facts.label), hash.clone());
                }
            }
        }
    }
    table
}

/// Planner and objective as resolved.
fn settings(runs: &[&RunFacts]) -> Table {
    let mut table = Table::new("Resolved settings", &["run", "planner", "objective"]);
    for facts in runs {
        let record = &facts.run.record;
        let planner = pairs(
            record
                .planner
                .settings
                .iter()
                .map(|(name, value)| (name.as_str(), value_text(value))),
        );
        let objective = pairs(
            record
                .objective
                .iter()
                .map(|(name, value)| (name.as_str(), value_text(value))),
        );
        table.push(
            Tone::Plain,
            vec![cell(facts.label.clone()), cell(planner), cell(objective)],
        );
    }
    table
}

fn pairs<'a>(settings: impl Iterator<Item = (&'a str, String)>) -> String {
    let pairs: Vec<String> = settings
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    if pairs.is_empty() {
        NONE.into()
    } else {
        pairs.join(", ")
    }
}

fn machines(runs: &[&RunFacts]) -> Table {
    let headings = [
        "run",
        "started",
        "#time",
        "commit",
        "version",
        "system",
        "processor",
        "#threads",
        "device",
    ];
    let mut table = Table::new("Environment", &headings);
    for facts in runs {
        let provenance = &facts.run.record.provenance;
        table.push(
            Tone::Plain,
            vec![
                cell(facts.label.clone()),
                cell(provenance.started_utc.replace(['T', 'Z'], " ").trim()),
                cell(seconds(provenance.wall_seconds)),
                code_cell(short_commit(&provenance.commit)),
                cell(provenance.version.clone()),
                cell(provenance.os.clone()),
                cell(provenance.cpu.clone()),
                cell(provenance.threads.to_string()),
                cell(provenance.device.clone()),
            ],
        );
    }
    table
}

/// Versions of the libraries, once for runs that agree; `None` if no run names any.
fn libraries(runs: &[&RunFacts]) -> Option<String> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for facts in runs {
        let versions = facts.run.record.provenance.dependencies.iter();
        let versions: Vec<String> = versions
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        match groups
            .iter_mut()
            .find(|(known, _)| *known == versions.join(", "))
        {
            Some((_, labels)) => labels.push(facts.label.clone()),
            None => groups.push((versions.join(", "), vec![facts.label.clone()])),
        }
    }
    groups.retain(|(versions, _)| !versions.is_empty());
    let sentences: Vec<String> = match groups.as_slice() {
        [(versions, _)] => vec![format!("Libraries that can move a number: {versions}.")],
        groups => groups
            .iter()
            .map(|(versions, labels)| format!("{}: {versions}.", listed(labels)))
            .collect(),
    };
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

/// The first twelve digits of a commit, keeping a `-dirty` at its end.
fn short_commit(commit: &str) -> String {
    let dirty = if commit.ends_with("-dirty") {
        "-dirty"
    } else {
        ""
    };
    let digits: String = commit.trim_end_matches("-dirty").chars().take(12).collect();
    format!("{digits}{dirty}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_can_be_pasted_into_a_shell() {
        assert_eq!(quoted("--model=floor:random"), "--model=floor:random");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn local_changes_stay_visible() {
        assert_eq!(short_commit("0123456789abcdef-dirty"), "0123456789ab-dirty");
        assert_eq!(short_commit("unknown"), "unknown");
    }
}
