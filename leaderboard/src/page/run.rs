//! The page of a run: what it is, what was checked, every episode, where it failed.

use maud::{Markup, html};
use serde_json::{Value, json};

use super::board::rank;
use super::chrome::{badge, fact, hash, page as chrome, scroll};
use super::csv::{Csv, foreign};
use super::episode::{self, Outcome};
use super::format::{count, interval, number, p_value, percent, points};
use super::place::Place;
use super::snapshot::{Row, TaskView};
use super::svg::{self, Scale};
use super::{Site, markdown};
use crate::record::{EpisodeRow, ModelKind, RunRecord};

/// Failures that are drawn.
const GALLERY: usize = 6;
/// Episodes that the table lists; the rest is in the CSV.
const TABLE_ROWS: usize = 2_000;

/// The page.
pub(super) fn page(site: &Site<'_>, id: &str) -> Option<Markup> {
    let (task, row) = site.snapshot.run(id)?;
    let kept = site.details.episodes(id);
    let outcomes = episode::outcomes(row, kept.as_deref());
    let board = Place::Board(task.slug.clone());
    let label = &row.ranked.label;
    let body = html! {
        p.crumbs {
            a href=(site.links.to(&Place::Index)) { "Tasks" } " / "
            a href=(site.links.to(&board)) { (task.task.id()) } " / run"
        }
        h1 { (label) }
        p {
            "On " (task.task.id()) ": " strong { @if row.ranked.rank.is_some() { "rank " } (rank(row)) } " " (badge(row.level()))
            @if let Some(submitter) = row.submitter() { " submitted by " strong { (submitter) } }
            @else { " added on the machine of the board" }
            ", " (row.run.added_utc)
        }
        @if let Some(why) = row.struck() {
            p.notice { strong { "Struck out: " } (why) ". The row stays on the board; it is never edited." }
        }
        (numbers(task, row))
        (checks(site, row))
        (facts(row))
        @if let Some(text) = site.details.method(row) { h2 { "Method, in the words of the submitter" } (markdown::render(&text)) }
        (relatives(site, task, row))
        (gallery(site, task, row, kept.as_deref()))
        (videos(site, row))
        (episodes(site, row, &outcomes))
    };
    Some(chrome(site, &Place::Run(id.into()), label, &body))
}

fn numbers(task: &TaskView, row: &Row) -> Markup {
    let (ranked, summary) = (&row.ranked, &row.run.record.summary);
    let scale = Scale {
        floor: task.floor(),
        ceiling: task.ceiling(),
    };
    html! {
        dl.facts {
            (fact("success", &html! {
                span.figure { (percent(ranked.success_rate)) } br;
                (svg::interval(ranked.success_rate, ranked.interval.low, ranked.interval.high, &[], &scale))
                " " (interval(ranked.interval)) " (95%)"
            }))
            (fact("episodes", &html! { span.figure { (ranked.episodes) } br; (ranked.successes) " at the goal at the end, " (summary.success_any) " at any time" }))
            @if let Some(over) = row.over_random() { (fact("over the random floor, points", &html! { (points(over)) })) }
            @if let Some(pair) = &ranked.to_best {
                (fact("to the best, points", &html! { (format!("{:+.1}", -100.0 * pair.success.mean)) ", p " (p_value(pair.p_holm)) " after Holm" }))
            }
            (fact("final distance", &html! { (number(summary.final_distance_mean)) " mean, " (number(summary.final_distance_median)) " median" }))
            @if let Some(seconds) = row.plan_seconds() {
                (fact("planning per episode", &html! { (number(seconds)) " s median, " (number(summary.plan_seconds_p95)) " s 95th percentile" }))
            }
            @if let Some(steps) = row.candidate_steps() {
                (fact("imagined per episode", &html! { (count(steps as u64)) " model steps of candidates" }))
            }
            @if let Some(detectable) = ranked.detectable.filter(|_| ranked.kind == ModelKind::Trained) {
                (fact("smallest detectable difference", &html! { (format!("{:.1} points", 100.0 * detectable)) " (80% power, other episodes)" }))
            }
        }
    }
}

/// What was checked, one by one.
fn checks(site: &Site<'_>, row: &Row) -> Markup {
    let checks = row.checks();
    html! {
        h2 { "What was checked" }
        @if checks.is_empty() {
            p { "The owner of this board added the run from its folder. Every number was recomputed from the episodes; nothing was signed and nothing replayed." }
        } @else {
            (scroll("Checks", &html! {
                table {
                    thead { tr { th scope="col" { "level" } th scope="col" { "check" } th scope="col" { "outcome" } th scope="col" { "found" } } }
                    tbody {
                        @for check in &checks {
                            tr {
                                td { (check.level) }
                                th scope="row" { (check.name) }
                                td { span.good[check.outcome == "passed"].bad[check.outcome == "failed"] { (check.outcome) } }
                                td.wrap { (check.detail) }
                            }
                        }
                    }
                }
            }))
        }
        p.note {
            "What V2 does not prove: that a model which sees only what the task lets it see chose these actions. "
            "V4, a run of the weights on seeds drawn after their hash was known, closes that."
        }
        @if row.run.submission.is_some() {
            @let place = Place::Bundle(row.run.id.clone());
            p {
                a href=(site.links.to(&place)) download { "Download the signed bundle" }
                ", and check it yourself: " code { "jepa-bench verify bundle.jbs" }
            }
        }
    }
}

fn facts(row: &Row) -> Markup {
    let record = &row.run.record;
    let provenance = &record.provenance;
    html! {
        h2 { "Facts" }
        dl.facts {
            (fact("model", &html! { (record.model.name) }))
            @if let Some(parameters) = record.model.parameters { (fact("parameters", &html! { (count(parameters)) })) }
            @if let Some(weights) = &record.model.weights_hash { (fact("weights", &hash(weights))) }
            (training(record))
            (fact("planner", &html! { (row.planner()) }))
            (fact("episodes", &html! { "first seed " (record.first_seed) ", stride " (record.seed_stride) }))
            (fact("run", &hash(&row.run.id)))
            (fact("code", &html! { code.hash { (provenance.commit) } " version " (provenance.version) }))
            (fact("machine", &html! { (provenance.cpu) ", " (provenance.threads) " threads, " (provenance.device) ", " (provenance.os) }))
            (fact("started", &html! { (provenance.started_utc) ", " (number(provenance.wall_seconds)) " s" }))
            (submission_facts(row))
        }
        details {
            summary { "Every setting, and the command" }
            pre tabindex="0" { code {
                (provenance.command.join(" ")) "\n"
                @for (name, value) in row.settings() { "\n" (name) " = " (value) }
                @for (name, version) in &provenance.dependencies { "\n" (name) " " (version) }
            } }
        }
    }
}

fn training(record: &RunRecord) -> Markup {
    let Some(training) = &record.model.training else {
        return html! {};
    };
    html! {
        (fact("training", &html! { "seed " (training.seed) ", " (count(training.steps)) " steps, " (number(training.seconds)) " s" }))
        (fact("data track", &html! { (training.track) }))
        (fact("dataset", &hash(&training.dataset_hash)))
        (fact("training split", &hash(&training.train_split_hash)))
        @if let Some(config) = &training.config_hash { (fact("training configuration", &hash(config))) }
    }
}

fn submission_facts(row: &Row) -> Markup {
    let Some(taken) = &row.run.submission else {
        return html! {};
    };
    let claims = &taken.submission;
    html! {
        (fact("submission", &hash(&taken.id)))
        (fact("key", &html! { code.hash { (claims.key) } }))
        (fact("made", &html! { (claims.created_utc) }))
        (fact("licence", &html! { (claims.licence) }))
        (fact("contact", &html! { (claims.contact) }))
        @for (name, url) in [("code at", &claims.code_url), ("weights at", &claims.weights_url)] {
            @if let Some(url) = url { (fact(name, &html! { a href=(url) rel="nofollow noopener noreferrer" { (url) } })) }
        }
    }
}

/// The same weights on other tasks, and other training seeds of the same recipe.
fn relatives(site: &Site<'_>, task: &TaskView, row: &Row) -> Markup {
    let mut others: Vec<(&TaskView, &Row, &str)> = Vec::new();
    for other_task in &site.snapshot.tasks {
        for other in &other_task.rows {
            if other.run.id != row.run.id
                && let Some(kinship) = kinship(row, other)
            {
                others.push((other_task, other, kinship));
            }
        }
    }
    others.truncate(100);
    if others.is_empty() {
        return html! {};
    }
    html! {
        h2 { "The same model elsewhere" }
        (scroll("The same model on other tasks and with other training seeds", &html! {
            table data-sortable {
                caption { span { "Runs of the same weights, and of the same recipe with other training seeds" } }
                thead { tr {
                    th scope="col" data-sort="text" { "task" } th scope="col" data-sort="text" { "run" } th scope="col" data-sort="text" { "shares" }
                    th.number scope="col" data-sort="number" { "training seed" } th scope="col" data-sort="text" { "planner" }
                    th.number scope="col" data-sort="number" { "success" } th scope="col" { "95% interval" } th scope="col" { "level" }
                } }
                tbody {
                    @for (other_task, other, kinship) in &others {
                        @let place = Place::Compare(row.run.id.clone(), other.run.id.clone());
                        tr {
                            td { (other_task.task.id()) }
                            th.model scope="row" {
                                a href=(site.links.to(&Place::Run(other.run.id.clone()))) { (other.ranked.label) }
                                @if other_task.slug == task.slug && site.links.has(&place) { " (" a href=(site.links.to(&place)) { "compare" } ")" }
                            }
                            td { (kinship) }
                            td.number { (other.run.record.model.training.as_ref().map_or_else(String::new, |t| t.seed.to_string())) }
                            td { (other.planner()) }
                            td.number { (percent(other.ranked.success_rate)) }
                            td { (interval(other.ranked.interval)) }
                            td { (badge(other.level())) }
                        }
                    }
                }
            }
        }))
    }
}

fn kinship(row: &Row, other: &Row) -> Option<&'static str> {
    let (model, other) = (&row.run.record.model, &other.run.record.model);
    if model.weights_hash.is_some() && model.weights_hash == other.weights_hash {
        return Some("the weights");
    }
    let config = |model: &crate::record::ModelRef| {
        let training = model.training.as_ref()?;
        Some((training.config_hash.clone()?, training.dataset_hash.clone()))
    };
    let same = config(model).is_some_and(|recipe| Some(recipe) == config(other));
    same.then_some("the recipe")
}

fn gallery(site: &Site<'_>, task: &TaskView, row: &Row, kept: Option<&[EpisodeRow]>) -> Markup {
    let Some(kept) = kept else { return html! {} };
    let mut failures: Vec<&EpisodeRow> = kept.iter().filter(|episode| !episode.success).collect();
    failures.sort_by(|a, b| {
        b.final_distance
            .total_cmp(&a.final_distance)
            .then(a.episode.cmp(&b.episode))
    });
    if failures.is_empty() {
        return html! { h2 { "Failures" } p { "None: every episode ended at the goal." } };
    }
    html! {
        h2 { "Failures" }
        p { (failures.len()) " of " (kept.len()) " episodes did not end at the goal. The worst first." }
        ul.gallery {
            @for episode in failures.iter().take(GALLERY) {
                li {
                    h3 { (episode::link(site, &row.run.id, episode.episode)) }
                    p.muted { "seed " (episode.seed) ", ends at distance " (number(episode.final_distance)) }
                    (episode::film_or_path(site, task, &row.run.id, episode))
                }
            }
        }
    }
}

fn videos(site: &Site<'_>, row: &Row) -> Markup {
    let id = &row.run.id;
    let place = |name: &str| Place::Video(id.clone(), name.to_string());
    let shown: Vec<&str> = row
        .videos()
        .filter(|name| site.links.has(&place(name)))
        .collect();
    html! {
        @if !shown.is_empty() {
            h2 { "Videos of the submitter" }
            p.note { "As submitted; a video proves nothing and was not checked." }
            ul { @for name in shown { li { a href=(site.links.to(&place(name))) { (name) } } } }
        }
    }
}

fn episodes(site: &Site<'_>, row: &Row, outcomes: &[Outcome]) -> Markup {
    html! {
        h2 { "Episodes" }
        @if outcomes.len() > TABLE_ROWS { p { "The first " (TABLE_ROWS) " of " (outcomes.len()) "; the CSV has all." } }
        (scroll("Episodes", &html! {
            table data-sortable {
                caption { span { "Every episode of the run" } }
                thead { tr {
                    th.number scope="col" data-sort="number" { "episode" }
                    th.number scope="col" data-sort="number" { "seed" }
                    th scope="col" data-sort="text" { "at the goal" }
                    th.number scope="col" data-sort="number" data-first="desc" { "final distance" }
                    th scope="col" { "start and goal" }
                } }
                tbody {
                    @for outcome in outcomes.iter().take(TABLE_ROWS) {
                        tr {
                            th.number scope="row" data-v=(outcome.episode) { (episode::link(site, &row.run.id, outcome.episode)) }
                            td.number { (outcome.seed) }
                            td { (yes_or_no(outcome.success)) }
                            td.number data-v=(outcome.final_distance) { (number(outcome.final_distance)) }
                            td { (hash(&outcome.start_hash)) }
                        }
                    }
                }
            }
        }))
    }
}

/// A word, and a colour for those who see it.
pub(super) fn yes_or_no(claim: bool) -> Markup {
    html! { @if claim { span.good { "yes" } } @else { span.bad { "no" } } }
}

/// The same as JSON: row, record and checks.
pub(super) fn json(site: &Site<'_>, id: &str) -> Option<Value> {
    let (task, row) = site.snapshot.run(id)?;
    let submission = row
        .run
        .submission
        .as_ref()
        .map(|taken| json!({ "id": taken.id, "claims": taken.submission }));
    Some(json!({
        "task": task.task, "row": row.json(), "checks": row.checks(), "record": row.run.record, "submission": submission,
    }))
}

/// The episodes as CSV.
pub(super) fn csv(site: &Site<'_>, id: &str) -> Option<Csv> {
    let (_, row) = site.snapshot.run(id)?;
    let kept = site.details.episodes(id);
    let mut csv = Csv::new(&[
        "run",
        "model",
        "episode",
        "seed",
        "success",
        "final_distance",
        "start_hash",
    ]);
    for outcome in episode::outcomes(row, kept.as_deref()) {
        csv.line([
            id.to_string(),
            foreign(&row.ranked.label),
            outcome.episode.to_string(),
            outcome.seed.to_string(),
            outcome.success.to_string(),
            outcome.final_distance.to_string(),
            outcome.start_hash,
        ]);
    }
    Some(csv)
}
