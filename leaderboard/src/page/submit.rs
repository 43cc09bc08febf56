//! How to submit, with the commands.

use maud::{Markup, html};
use serde_json::{Value, json};

use super::Site;
use super::chrome::page as chrome;
use super::csv::Csv;
use super::place::Place;

/// The steps: what for, and the command.
const STEPS: [(&str, &str); 5] = [
    (
        "Make a key, once. The first bundle with a name binds the name to the key; there are no accounts.",
        "jepa-bench key new --name you",
    ),
    (
        "Evaluate on all episodes of the task.",
        "jepa-bench eval --model runs/train/mine --task wall --out runs",
    ),
    (
        "See which level the run reaches, and what is missing.",
        "jepa-bench submit runs/wall@1/mine/RUN --check",
    ),
    (
        "Sign it and send it.",
        "jepa-bench submit runs/wall@1/mine/RUN --to URL",
    ),
    (
        "Or write the bundle to a file, check it as this board would, and hand it over in any way.",
        "jepa-bench submit runs/wall@1/mine/RUN --to mine.jbs\njepa-bench verify mine.jbs",
    ),
];

/// What each level means.
const LEVELS: [(&str, &str); 5] = [
    (
        "V0",
        "The bundle parses, every limit holds, the signature is that of the submitter's key.",
    ),
    (
        "V1",
        "Every number is recomputed from the episodes; they are the episodes of the task, and none is there twice.",
    ),
    (
        "V2",
        "Every episode is simulated again from its actions; each state and outcome is reproduced.",
    ),
    ("V3", "A maintainer ran the weights on the same episodes."),
    (
        "V4",
        "A maintainer ran the weights on seeds drawn after the hash of the weights was known.",
    ),
];

/// The page.
pub(super) fn page(site: &Site<'_>) -> Markup {
    let body = html! {
        h1 { "How to submit" }
        p.lead { "A submission is one file, signed, of at most 64 MB: the record of a run, its episodes with every action, and a note on the method. Nothing in it is executed." }
        ol {
            @for (says, command) in STEPS { li { p { (says) } pre tabindex="0" { code { (command) } } } }
        }
        @if !site.links.is_export() {
            p { "Without the program: " code { "curl --data-binary @mine.jbs URL/api/v1/submissions" } ". The answer is JSON: identity, level, every check, address of the page." }
        }
        h2 { "What is checked" }
        dl.facts { @for (level, says) in LEVELS { div { dt { (level) } dd { (says) } } } }
        p {
            "A run at V2 did happen: these actions, in this simulator, lead to these states. That a model which sees only pixels chose them is "
            "the submitter's word until V4. Runs are never edited: a wrong one is struck out and stays."
        }
        h2 { "What a board like this asks of you" }
        ul {
            li { "All episodes of the task, with the seeds that the task names." }
            li { "The data track is decided by the record of the training run: " code { "standard" } " for the released data and split, " code { "reduced" } " for less of it, " code { "external" } " for more or other." }
            li { "Several training seeds, if you can: the mean stands in a table of its own, with each seed as a dot." }
        }
    };
    chrome(site, &Place::Submit, "How to submit", &body)
}

/// The same as JSON.
pub(super) fn json() -> Value {
    let steps: Vec<Value> = STEPS
        .iter()
        .map(|(says, command)| json!({ "says": says, "command": command }))
        .collect();
    let levels: Vec<Value> = LEVELS
        .iter()
        .map(|(level, says)| json!({ "level": level, "says": says }))
        .collect();
    json!({ "steps": steps, "levels": levels, "post": "/api/v1/submissions", "limit_bytes": 64_u64 << 20 })
}

/// The same as CSV.
pub(super) fn csv() -> Csv {
    let mut csv = Csv::new(&["step", "command"]);
    for (says, command) in STEPS {
        csv.line([says.to_string(), command.to_string()]);
    }
    csv
}
