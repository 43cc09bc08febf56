//! The log of events and the keys.

use maud::{Markup, html};
use serde_json::{Value, json};

use super::Site;
use super::chrome::{page as chrome, scroll};
use super::csv::{Csv, foreign};
use super::place::Place;
use crate::store::{Event, PinnedKey};

/// Events that the page shows; the rest is in the JSON and the CSV.
const MOST: usize = 1_000;

/// The log.
pub(super) fn page(site: &Site<'_>) -> Markup {
    let events = &site.snapshot.events;
    let body = html! {
        h1 { "Log" }
        p {
            "Nothing on the board changes without an event, and each event holds the hash of the one before. Whoever wrote down the head "
            "below, or on a printed report, can tell later whether anything was rewritten."
        }
        p { "Head: " code.hash { (site.snapshot.head) } }
        @if events.len() > MOST { p { "The newest " (MOST) " of " (events.len()) "; JSON and CSV have all." } }
        (scroll("Events", &html! {
            table {
                caption { span { "Events, newest first" } }
                thead { tr {
                    th.number scope="col" { "number" } th scope="col" { "time" } th scope="col" { "what" }
                    th scope="col" { "about" } th scope="col" { "hash" }
                } }
                tbody { @for event in events.iter().rev().take(MOST) { (row(site, event)) } }
            }
        }))
    };
    chrome(site, &Place::Log, "Log", &body)
}

fn row(site: &Site<'_>, event: &Event) -> Markup {
    let place = Place::Run(event.subject.clone());
    let is_run = site.snapshot.run(&event.subject).is_some() && site.links.has(&place);
    html! {
        tr id={ "event-" (event.number) } {
            th.number scope="row" { (event.number) }
            td { (event.utc) }
            td { (event.kind) }
            td { @if is_run { a href=(site.links.to(&place)) { (super::chrome::hash(&event.subject)) } } @else { (super::chrome::hash(&event.subject)) } }
            td { (super::chrome::hash(&event.hash)) }
        }
    }
}

/// The log as JSON.
pub(super) fn json(site: &Site<'_>) -> Value {
    json!({ "head": site.snapshot.head, "events": site.snapshot.events })
}

/// The log as CSV.
pub(super) fn csv(site: &Site<'_>) -> Csv {
    let mut csv = Csv::new(&[
        "number", "utc", "kind", "subject", "detail", "previous", "hash",
    ]);
    for event in &site.snapshot.events {
        csv.line([
            event.number.to_string(),
            event.utc.clone(),
            event.kind.clone(),
            foreign(&event.subject),
            foreign(&event.detail),
            event.previous.clone(),
            event.hash.clone(),
        ]);
    }
    csv
}

/// The keys.
pub(super) fn keys_page(site: &Site<'_>) -> Markup {
    let keys = &site.snapshot.keys;
    let body = html! {
        h1 { "Keys" }
        p { "The first bundle with a name binds the name to the key that signed it. A revoked key signs nothing more; what it signed before is struck out and stays." }
        @if keys.is_empty() { p { "None yet: nothing was submitted to this board." } }
        @else {
            (scroll("Keys", &html! {
                table data-sortable {
                    caption { span { "Names and their keys (ed25519)" } }
                    thead { tr { th scope="col" data-sort="text" { "name" } th scope="col" { "key" } th scope="col" data-sort="text" { "since" } th.number scope="col" data-sort="number" { "runs" } th scope="col" data-sort="text" { "state" } } }
                    tbody {
                        @for key in keys {
                            tr {
                                th scope="row" { (key.name) }
                                td { code.hash { (key.key) } }
                                td { (key.since_utc) }
                                td.number { (key.submissions) }
                                td.wrap { (state(key)) }
                            }
                        }
                    }
                }
            }))
        }
    };
    chrome(site, &Place::Keys, "Keys", &body)
}

/// `valid`, or why a key is no longer trusted.
fn state(key: &PinnedKey) -> String {
    key.revoked.as_ref().map_or_else(
        || "valid".to_string(),
        |revocation| format!("revoked by its {}: {}", revocation.by, revocation.reason),
    )
}

/// The keys as JSON.
pub(super) fn keys_json(site: &Site<'_>) -> Value {
    json!({ "keys": site.snapshot.keys })
}

/// The keys as CSV.
pub(super) fn keys_csv(site: &Site<'_>) -> Csv {
    let mut csv = Csv::new(&["name", "key", "since_utc", "submissions", "state"]);
    for key in &site.snapshot.keys {
        csv.line([
            foreign(&key.name),
            key.key.to_string(),
            key.since_utc.clone(),
            key.submissions.to_string(),
            foreign(&state(key)),
        ]);
    }
    csv
}
