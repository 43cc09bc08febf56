//! The board of one task.

use maud::{Markup, html};
use serde_json::{Value, json};

use super::chrome::{badge, page as chrome, scroll};
use super::csv::{Csv, foreign, optional};
use super::format::{count, day, interval, number, p_value, percent, points};
use super::place::Place;
use super::query::{COLUMNS, Column, PAGE_ROWS, Query};
use super::snapshot::{Row, TaskView};
use super::svg::{self, Scale};
use super::{Site, format};
use crate::published::PAPER;
use crate::record::ModelKind;
use crate::seed_mean::SeedMean;

/// How published rows are marked.
pub(super) const REPORTED: &str = "reported by the authors, not verified here";

/// The page.
pub(super) fn page(site: &Site<'_>, task: &TaskView, query: &str) -> Markup {
    let query = Query::parse(query);
    let place = Place::Board(task.slug.clone());
    let rules = site.details.rules(&task.task, task.data.as_deref());
    let body = html! {
        p.crumbs { a href=(site.links.to(&Place::Index)) { "Tasks" } " / " (task.task.id()) }
        h1 { (task.task.id()) }
        @if let Some(rules) = &rules { p.lead { (rules.summary) } }
        p {
            "Task hash " (super::chrome::hash(&task.task.hash)) ". "
            a href=(site.links.to(&Place::Rules(task.slug.clone()))) { "Rules, floors and errata" } "."
        }
        (detectable(task))
        (filter(site, task, &query, &place))
        (table(site, task, &query, &place))
        (legend())
        (means(site, task))
        (published(task))
        (imported(task))
    };
    chrome(site, &place, &task.task.id(), &body)
}

/// The smallest difference that the number of episodes can show, at the first model that leaves room for one.
fn detectable(task: &TaskView) -> Markup {
    let mut trained = task.rows.iter().filter(|row| row.ranked.rank.is_some());
    let Some((row, difference)) = trained.find_map(|row| Some((row, row.ranked.detectable?)))
    else {
        return html! {};
    };
    html! {
        p {
            "With " (row.ranked.episodes) " episodes, a model that is run on other episodes has to be better than one at "
            (percent(row.ranked.success_rate)) " by " strong { (format!("{:.1} points", 100.0 * difference)) }
            " before a test at the 5% level finds it four times out of five. Rows here share their episodes, which helps; rows that share a letter cannot be told apart."
        }
    }
}

/// The rows of the page that is asked for, all rows that fit the question, and the number of pages.
fn chosen<'a>(site: &Site<'_>, task: &'a TaskView, query: &Query) -> (Vec<&'a Row>, usize, usize) {
    let selected = query.select(&task.rows);
    let fitting = selected.len();
    if site.links.is_export() {
        return (selected, fitting, 1);
    }
    let pages = fitting.div_ceil(PAGE_ROWS).max(1);
    let first = (query.page.min(pages) - 1) * PAGE_ROWS;
    let shown = selected.into_iter().skip(first).take(PAGE_ROWS).collect();
    (shown, fitting, pages)
}

fn filter(site: &Site<'_>, task: &TaskView, query: &Query, place: &Place) -> Markup {
    let mut tracks: Vec<&str> = task
        .rows
        .iter()
        .map(Row::track)
        .filter(|track| !track.is_empty())
        .collect();
    tracks.sort_unstable();
    tracks.dedup();
    let sort = query.link();
    let keeps_order = sort.contains("sort=") || query.is_descending;
    html! {
        form.filter method="get" action=(site.links.to(place)) role="search" {
            label { "Find" input type="search" name="q" value=(query.text) autocomplete="off"; }
            label { "Track"
                select name="track" {
                    option value="" { "all" }
                    @for track in tracks { option value=(track) selected[query.track == track] { (track) } }
                }
            }
            label { "Verified at least to"
                select name="level" {
                    option value="" { "any level" }
                    @for level in 0..=4_u8 { option value=(level) selected[query.level == Some(level)] { "V" (level) } }
                }
            }
            @if keeps_order {
                @for (column, name, _, _) in COLUMNS { @if column == query.sort { input type="hidden" name="sort" value=(name); } }
                @if query.is_descending { input type="hidden" name="desc" value="1"; }
            }
            button type="submit" { "Show" }
            @if !query.text.is_empty() || !query.track.is_empty() || query.level.is_some() {
                a href=(site.links.to(place)) { "Clear" }
            }
        }
    }
}

fn table(site: &Site<'_>, task: &TaskView, query: &Query, place: &Place) -> Markup {
    let (rows, fitting, pages) = chosen(site, task, query);
    let is_complete = rows.len() == task.rows.len();
    let scale = Scale {
        floor: task.floor(),
        ceiling: task.ceiling(),
    };
    let compares = !site.links.is_export();
    let shown = scroll(
        "Ranked runs",
        &html! {
            table data-board data-sortable data-complete=[is_complete.then_some("yes")] {
                caption { span { "Runs of " (task.task.id()) ", each recomputed from its episodes" } }
                thead { tr {
                    @if compares { th scope="col" { "pick" } }
                    @for (column, name, title, first) in COLUMNS { (heading(site, query, place, (column, name, title, first))) }
                } }
                tbody { @for row in &rows { (row_of(site, task, row, &scale, compares)) } }
            }
        },
    );
    html! {
        p.muted #shown role="status" { (fitting) " of " (task.rows.len()) " runs" }
        @if compares {
            form #pair method="get" action="/compare" {
                (shown)
                button #compare type="submit" { "Compare two picked runs" }
            }
        } @else { (shown) }
        @if pages > 1 { (page_links(site, query, place, pages)) }
    }
}

fn heading(
    site: &Site<'_>,
    query: &Query,
    place: &Place,
    (column, name, title, first): (Column, &str, &str, bool),
) -> Markup {
    let direction = if query.is_descending {
        "descending"
    } else {
        "ascending"
    };
    let is_text = matches!(
        column,
        Column::Model
            | Column::Submitter
            | Column::Planner
            | Column::Track
            | Column::Group
            | Column::Date
    );
    let link = site.links.to(place) + &query.ordered_by(column).link();
    html! {
        th.number[is_number(column)] scope="col" data-key=(name)
            data-sort=(if is_text { "text" } else { "number" })
            data-first=[first.then_some("desc")]
            aria-sort=[(query.sort == column).then_some(direction)] {
            a href=(link) { (title) }
        }
    }
}

fn is_number(column: Column) -> bool {
    matches!(
        column,
        Column::Rank | Column::Episodes | Column::Distance | Column::Seconds | Column::Steps
    )
}

fn row_of(site: &Site<'_>, task: &TaskView, row: &Row, scale: &Scale, compares: bool) -> Markup {
    let is_reference = row.ranked.kind != ModelKind::Trained;
    let key = |column| {
        row.sort_key(column)
            .map_or_else(String::new, |key| key.attribute())
    };
    let ranked = &row.ranked;
    html! {
        tr.reference[is_reference].struck[row.struck().is_some()] data-text=(row.search_text) data-track=(row.track()) data-level=[row.level()] {
            @if compares {
                td { input type="checkbox" name="run" value=(row.run.id) aria-label={ "pick " (ranked.label) }; }
            }
            td.number data-v=(key(Column::Rank)) { (rank(row)) }
            td.model data-v=(key(Column::Model)) {
                a href=(site.links.to(&Place::Run(row.run.id.clone()))) { (ranked.label) }
                @if let Some(why) = row.struck() { " " span.bad { "struck out: " (why) } }
            }
            td data-v=(key(Column::Submitter)) { (row.submitter().unwrap_or("")) }
            td data-v=(key(Column::Planner)) { (row.planner()) }
            td data-v=(key(Column::Track)) { (row.track()) }
            td data-v=(key(Column::Level)) { (badge(row.level())) }
            td.number { (ranked.episodes) }
            td.success data-v=(key(Column::Success)) {
                (svg::interval(ranked.success_rate, ranked.interval.low, ranked.interval.high, &[], scale)) " "
                strong { (percent(ranked.success_rate)) } " " span.muted { (interval(ranked.interval)) }
            }
            td data-v=(key(Column::Group)) { (ranked.letters) }
            td data-v=(key(Column::OverRandom)) { (row.over_random().map_or_else(String::new, points)) }
            td data-v=(key(Column::ToBest)) { (to_best(site, task, row)) }
            td.number data-v=(key(Column::Distance)) { (number(ranked.final_distance_mean)) }
            td.number data-v=(key(Column::Seconds)) { (row.plan_seconds().map_or_else(String::new, number)) }
            td.number data-v=(key(Column::Steps)) { (row.candidate_steps().map_or_else(String::new, |steps| count(steps as u64))) }
            td data-v=(key(Column::Date)) title=(row.run.added_utc) { (day(&row.run.added_utc)) }
        }
    }
}

/// `3 (2 to 5)`, or the role of what has no rank.
pub(super) fn rank(row: &Row) -> String {
    match (row.ranked.rank, row.ranked.rank_interval) {
        (Some(rank), Some((low, high))) if low < high => format!("{rank} ({low} to {high})"),
        (Some(rank), _) => rank.to_string(),
        (None, _) if row.struck().is_some() => "struck out".into(),
        (None, _) => role(row.ranked.kind).into(),
    }
}

fn role(kind: ModelKind) -> &'static str {
    match kind {
        ModelKind::Trained => "",
        ModelKind::Oracle => "ceiling",
        ModelKind::Floor => "floor",
    }
}

/// Difference to the best with its p-value, as a link to the comparison.
fn to_best(site: &Site<'_>, task: &TaskView, row: &Row) -> Markup {
    let (Some(pair), Some(best)) = (&row.ranked.to_best, task.best()) else {
        return html! { @if row.ranked.rank == Some(1) { "best" } };
    };
    let place = Place::Compare(best.run.id.clone(), row.run.id.clone());
    let text = format!(
        "{:+.1}, p {}",
        -100.0 * pair.success.mean,
        p_value(pair.p_holm)
    );
    html! {
        @if site.links.has(&place) { a href=(site.links.to(&place)) { (text) } } @else { (text) }
    }
}

fn page_links(site: &Site<'_>, query: &Query, place: &Place, pages: usize) -> Markup {
    let now = query.page.min(pages);
    html! {
        nav.pages aria-label="Pages of the table" {
            @for number in 1..=pages {
                @let link = Query { page: number, ..query.clone() }.link();
                a href={ (site.links.to(place)) (link) } aria-current=[(number == now).then_some("page")] {
                    "Rows " ((number - 1) * PAGE_ROWS + 1) " on"
                }
            }
        }
    }
}

fn legend() -> Markup {
    html! {
        p.note {
            "Bars: Wilson 95% interval of the success rate, between 0 and 100%; dashed lines are the random floor and the ceiling. "
            "Rank in parentheses: 95% interval when episodes are drawn again. "
            "Over random: difference to the random floor on the same episodes, in points (Newcombe's paired interval). "
            "To the best: difference in points, exact McNemar test, corrected after Holm for all pairs. "
            "Distance: mean at the end, in the task's units. Plan s: median seconds of planning per episode. Steps: model steps imagined per episode."
        }
    }
}

fn means(site: &Site<'_>, task: &TaskView) -> Markup {
    if task.means.is_empty() {
        return html! {};
    }
    let scale = Scale {
        floor: task.floor(),
        ceiling: task.ceiling(),
    };
    html! {
        h2 { "Means over training seeds" }
        (scroll("Means over training seeds", &html! {
            table data-sortable {
                caption { span { "Each dot is one training seed; the bar is the interval for the draw of the episodes. A recipe is as good as its mean, not as its best seed." } }
                thead { tr {
                    th scope="col" data-sort="text" { "recipe" }
                    th scope="col" { "training seeds" }
                    th.number scope="col" data-sort="number" data-first="desc" { "n" }
                    th scope="col" data-sort="number" data-first="desc" { "success, 95% interval" }
                    th.number scope="col" data-sort="number" { "std over seeds" }
                    th.number scope="col" data-sort="number" { "distance" }
                } }
                tbody { @for mean in &task.means { (mean_row(site, task, mean, &scale)) } }
            }
        }))
    }
}

fn mean_row(site: &Site<'_>, task: &TaskView, mean: &SeedMean, scale: &Scale) -> Markup {
    let members: Vec<&Row> = mean
        .members
        .iter()
        .filter_map(|&k| task.rows.get(k))
        .collect();
    let dots: Vec<f64> = members.iter().map(|row| row.ranked.success_rate).collect();
    let seed = |row: &Row| {
        let training = row.run.record.model.training.as_ref();
        training.map_or_else(String::new, |training| training.seed.to_string())
    };
    html! {
        tr {
            th.model scope="row" { (mean.label) }
            td { @for row in &members { a href=(site.links.to(&Place::Run(row.run.id.clone()))) { (seed(row)) } " " } }
            td.number { (mean.episodes) }
            td data-v=(mean.success_rate) {
                (svg::interval(mean.success_rate, mean.interval.low, mean.interval.high, &dots, scale)) " "
                strong { (percent(mean.success_rate)) } " " span.muted { (interval(mean.interval)) }
            }
            td.number { (format!("{:.1}", 100.0 * mean.standard_deviation)) }
            td.number { (format::number(mean.final_distance_mean)) }
        }
    }
}

fn published(task: &TaskView) -> Markup {
    if task.published.is_empty() {
        return html! {};
    }
    html! {
        h2 { "Reported elsewhere" }
        (scroll("Reported by the authors of the paper", &html! {
            table {
                caption { span { strong { (REPORTED) } ": " (PAPER) ". The deviation is over training seeds and epochs; it is no interval of a success rate." } }
                thead { tr {
                    th scope="col" { "model" } th scope="col" { "planner" }
                    th.number scope="col" { "success" } th.number scope="col" { "std" } th scope="col" { "where" }
                } }
                tbody {
                    @for (row, score) in &task.published {
                        tr.reference {
                            th.model scope="row" { (row.model) }
                            td { (row.planner) " " (row.distance) }
                            td.number { (format!("{:.1}%", score.mean)) }
                            td.number { (format!("{:.1}", score.std)) }
                            td { (row.source()) }
                        }
                    }
                }
            }
        }))
    }
}

/// Rows of other boards: shown, never ranked.
fn imported(task: &TaskView) -> Markup {
    if task.imported.is_empty() {
        return html! {};
    }
    let text = |row: &Value, name: &str| match row.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(ends)) => {
            let ends =
                ["low", "high"].map(|end| ends.get(end).map_or_else(String::new, Value::to_string));
            ends.join(" to ")
        }
        Some(other) => other.to_string(),
    };
    html! {
        h2 { "Imported from other boards" }
        (scroll("Imported from other boards", &html! {
            table {
                caption { span { strong { "Unverified" } ": numbers of other boards as they stood there. No episodes of them were seen here, so they have no rank." } }
                thead { tr { @for name in IMPORTED { th scope="col" { (name) } } } }
                tbody { @for row in &task.imported { tr.reference { @for name in IMPORTED { td.wrap { (text(row, name)) } } } } }
            }
        }))
    }
}

/// Columns of an imported row.
const IMPORTED: [&str; 8] = [
    "source", "model", "metric", "value", "n", "interval", "date", "url",
];

/// The same as JSON: every row that fits the question, in its order.
pub(super) fn json(site: &Site<'_>, task: &TaskView, query: &str) -> Value {
    let rows = Query::parse(query).select(&task.rows);
    let published: Vec<Value> = task
        .published
        .iter()
        .map(|(row, score)| {
            json!({
                "model": row.model, "planner": row.planner, "distance": row.distance, "mean": score.mean,
                "std": score.std, "source": row.source(), "status": REPORTED,
            })
        })
        .collect();
    json!({
        "task": task.task,
        "head": site.snapshot.head,
        "rows": rows.iter().map(|row| row.json()).collect::<Vec<Value>>(),
        "seed_means": task.means,
        "published": published,
        "imported": task.imported,
    })
}

/// The same as CSV.
pub(super) fn csv(task: &TaskView, query: &str) -> Csv {
    let mut csv = Csv::new(&[
        "task",
        "rank",
        "rank_low",
        "rank_high",
        "model",
        "kind",
        "submitter",
        "planner",
        "track",
        "level",
        "n",
        "successes",
        "success_rate",
        "low",
        "high",
        "group",
        "over_random",
        "over_random_low",
        "over_random_high",
        "to_best",
        "to_best_p_holm",
        "final_distance_mean",
        "plan_seconds_p50",
        "candidate_steps_per_episode",
        "added_utc",
        "run",
        "status",
    ]);
    for row in Query::parse(query).select(&task.rows) {
        csv.line(cells(task, row));
    }
    for (row, score) in &task.published {
        let mut cells = [(); 27].map(|()| String::new());
        cells[0] = foreign(&task.task.id());
        (cells[4], cells[5]) = (row.model.into(), "published".into());
        cells[7] = format!("{} {}", row.planner, row.distance);
        (cells[12], cells[26]) = ((score.mean / 100.0).to_string(), REPORTED.into());
        csv.line(cells);
    }
    csv
}

fn cells(task: &TaskView, row: &Row) -> [String; 27] {
    let ranked = &row.ranked;
    let over = row.over_random();
    let best = ranked.to_best.as_ref();
    let status = row.struck().map_or_else(
        || "recomputed from episodes".to_string(),
        |why| format!("struck out: {why}"),
    );
    [
        foreign(&task.task.id()),
        optional(ranked.rank),
        optional(ranked.rank_interval.map(|(low, _)| low)),
        optional(ranked.rank_interval.map(|(_, high)| high)),
        foreign(&ranked.label),
        ranked.kind.as_str().into(),
        foreign(row.submitter().unwrap_or("")),
        foreign(&row.planner()),
        foreign(row.track()),
        row.level()
            .map_or_else(|| "local".into(), |level| format!("V{level}")),
        ranked.episodes.to_string(),
        ranked.successes.to_string(),
        ranked.success_rate.to_string(),
        ranked.interval.low.to_string(),
        ranked.interval.high.to_string(),
        ranked.letters.clone(),
        optional(over.map(|over| over.mean)),
        optional(over.map(|over| over.interval.low)),
        optional(over.map(|over| over.interval.high)),
        optional(best.map(|pair| -pair.success.mean)),
        optional(best.map(|pair| pair.p_holm)),
        ranked.final_distance_mean.to_string(),
        optional(row.plan_seconds()),
        optional(row.candidate_steps()),
        row.run.added_utc.clone(),
        row.run.id.clone(),
        foreign(&status),
    ]
}
