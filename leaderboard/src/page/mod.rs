//! The pages of the board: pure functions from a [`Snapshot`] to markup, JSON and CSV.
//!
//! The server and the static export draw the same pages; only [`Links`] differ. Text of strangers goes
//! through maud, which escapes it; there is no inline script or style, so that the pages can be served
//! under a policy that allows neither.

mod board;
mod chrome;
mod compare;
pub(crate) mod csv;
mod episode;
mod feed;
mod format;
mod index;
mod log;
mod markdown;
pub(crate) mod place;
pub(crate) mod query;
mod rules;
mod run;
mod shelf;
pub(crate) mod snapshot;
mod submit;
mod svg;
#[cfg(test)]
mod tests;

use maud::{DOCTYPE, Markup, html};

pub(crate) use episode::FILM_FRAMES;
pub(crate) use place::{Form, Links, Place};
pub(crate) use shelf::Shelf;
pub(crate) use snapshot::{Details, Snapshot};

/// The style sheet.
pub(crate) const STYLE: &str = include_str!("style.css");
/// The script.
pub(crate) const SCRIPT: &str = include_str!("board.js");

/// Everything that a page is drawn from.
pub(crate) struct Site<'a> {
    /// The board.
    pub(crate) snapshot: &'a Snapshot,
    /// What is too large for a snapshot.
    pub(crate) details: &'a dyn Details,
    /// How places are addressed.
    pub(crate) links: Links,
}

/// A page, or the same content in another form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// Type of the content, for the header.
    pub(crate) content_type: &'static str,
    /// The content.
    pub(crate) body: Vec<u8>,
}

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const CSV: &str = "text/csv; charset=utf-8";

/// What a reader sees at an address where there is nothing.
pub(crate) fn missing() -> Markup {
    let links = Links::server();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Not found - jepa-bench" }
                link rel="stylesheet" href=(links.to(&Place::Style));
            }
            body { main { h1 { "There is nothing here" } p { a href=(links.to(&Place::Index)) { "The tasks of the board" } } } }
        }
    }
}

impl Site<'_> {
    /// Renders a place; `query` is what follows the `?` of a request. `None` where there is nothing.
    pub(crate) fn render(&mut self, place: &Place, form: Form, query: &str) -> Option<Rendered> {
        self.links.move_to(place);
        let body = match form {
            Form::Page => return self.page(place, query),
            Form::Json => {
                let mut text = serde_json::to_vec_pretty(&self.json(place, query)?).ok()?;
                text.push(b'\n');
                text
            }
            Form::Csv => self.csv(place, query)?.into_bytes(),
        };
        let content_type = if form == Form::Json { JSON } else { CSV };
        Some(Rendered { content_type, body })
    }

    fn page(&self, place: &Place, query: &str) -> Option<Rendered> {
        let plain = |content_type, text: &str| {
            let body = text.as_bytes().to_vec();
            Some(Rendered { content_type, body })
        };
        match place {
            Place::Style => return plain("text/css; charset=utf-8", STYLE),
            Place::Script => return plain("text/javascript; charset=utf-8", SCRIPT),
            Place::Feed => return plain("application/atom+xml; charset=utf-8", &feed::atom(self)),
            _ => {}
        }
        let body = self.markup(place, query)?.into_string().into_bytes();
        let content_type = HTML;
        Some(Rendered { content_type, body })
    }

    fn markup(&self, place: &Place, query: &str) -> Option<Markup> {
        match place {
            Place::Index => Some(index::page(self)),
            Place::Board(task) => Some(board::page(self, self.snapshot.task(task)?, query)),
            Place::Rules(task) => Some(rules::page(self, self.snapshot.task(task)?)),
            Place::Run(id) => Some(run::page(self, id)?),
            Place::Episode(id, episode) => episode::page(self, id, *episode),
            Place::Compare(first, second) => compare::page(self, first, second),
            Place::Submit => Some(submit::page(self)),
            Place::Keys => Some(log::keys_page(self)),
            Place::Log => Some(log::page(self)),
            _ => None,
        }
    }

    fn json(&self, place: &Place, query: &str) -> Option<serde_json::Value> {
        match place {
            Place::Index => Some(index::json(self)),
            Place::Board(task) => Some(board::json(self, self.snapshot.task(task)?, query)),
            Place::Rules(task) => Some(rules::json(self, self.snapshot.task(task)?)),
            Place::Run(id) => run::json(self, id),
            Place::Episode(id, episode) => episode::json(self, id, *episode),
            Place::Compare(first, second) => compare::json(self, first, second),
            Place::Submit => Some(submit::json()),
            Place::Keys => Some(log::keys_json(self)),
            Place::Log => Some(log::json(self)),
            _ => None,
        }
    }

    fn csv(&self, place: &Place, query: &str) -> Option<csv::Csv> {
        match place {
            Place::Index => Some(index::csv(self)),
            Place::Board(task) => Some(board::csv(self.snapshot.task(task)?, query)),
            Place::Rules(task) => Some(rules::csv(self, self.snapshot.task(task)?)),
            Place::Run(id) => run::csv(self, id),
            Place::Episode(id, episode) => episode::csv(self, id, *episode),
            Place::Compare(first, second) => compare::csv(self, first, second),
            Place::Submit => Some(submit::csv()),
            Place::Keys => Some(log::keys_csv(self)),
            Place::Log => Some(log::csv(self)),
            _ => None,
        }
    }
}
