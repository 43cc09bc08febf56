//! What surrounds every page: head, navigation, footer.

use maud::{DOCTYPE, Markup, html};

use super::place::{Form, Place};
use super::{Site, format};

/// A whole page around `body`. `place` is where it stands.
pub(super) fn page(site: &Site<'_>, place: &Place, title: &str, body: &Markup) -> Markup {
    let links = &site.links;
    let here = |other: &Place| (other == place).then_some("page");
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " - jepa-bench" }
                link rel="stylesheet" href=(links.to(&Place::Style));
                link rel="alternate" type="application/atom+xml" title="New results" href=(links.to(&Place::Feed));
                script src=(links.to(&Place::Script)) {}
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                header {
                    a.name href=(links.to(&Place::Index)) { "jepa-bench leaderboard" }
                    nav aria-label="Board" {
                        @for (name, other) in [
                            ("Tasks", Place::Index),
                            ("How to submit", Place::Submit),
                            ("Keys", Place::Keys),
                            ("Log", Place::Log),
                        ] {
                            a href=(links.to(&other)) aria-current=[here(&other)] { (name) }
                        }
                        a href=(links.to(&Place::Feed)) { "Feed" }
                    }
                    button #theme type="button" hidden { "Theme: system" }
                }
                main #content tabindex="-1" { (body) }
                footer {
                    p {
                        "Every number on this page was recomputed from episodes. "
                        (site.snapshot.events.len()) " events; head of the log "
                        code.hash { (site.snapshot.head) }
                    }
                    p.forms {
                        "This page as "
                        a href=(links.as_form(place, Form::Json)) { "JSON" }
                        a href=(links.as_form(place, Form::Csv)) { "CSV" }
                    }
                }
            }
        }
    }
}

/// A table in a box that scrolls by itself when it is wide; the box can be reached with the keyboard.
pub(super) fn scroll(label: &str, table: &Markup) -> Markup {
    html! {
        div.scroll role="region" aria-label=(label) tabindex="0" { (table) }
    }
}

/// One fact of a list.
pub(super) fn fact(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// A hash, shortened, whole on demand.
pub(super) fn hash(hash: &str) -> Markup {
    html! { code.hash title=(hash) { (format::short(hash)) } }
}

/// The badge of a verification level; `None` stands for a run added on the machine of the board.
pub(super) fn badge(level: Option<u8>) -> Markup {
    let says = match level {
        None => {
            "added from a run folder on the machine of the board: numbers recomputed from its episodes, not signed, not replayed"
        }
        Some(0) => "V0: parsed and signed. Not checked: its numbers",
        Some(1) => {
            "V1: every number recomputed from its episodes, which are those of the task. Not checked: that the actions lead to these states"
        }
        Some(2) => {
            "V2: every episode replayed in our simulator from its actions. Not proven: that the model, seeing what it may see, chose these actions; V4 closes that"
        }
        Some(3) => {
            "V3: a maintainer ran the weights on the same episodes. Not excluded: weights fitted to these episodes; V4 closes that"
        }
        Some(_) => "V4: a maintainer ran the weights on seeds drawn after their hash was known",
    };
    let is_low = level.is_none_or(|level| level < 2);
    let name = level.map_or_else(|| "local".to_string(), |level| format!("V{level}"));
    html! { span.badge.low[is_low] title=(says) { (name) } }
}
