//! Submissions: streamed to a file, verified a few at a time, written one by one.

use std::fs::File;
use std::io::{Seek, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, LOCATION, RETRY_AFTER};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::answer;
use super::state::State;
use crate::error::{Error, Refusal};
use crate::page::snapshot::CheckView;
use crate::page::{Links, Place};
use crate::submission::Bundle;
use crate::verification::{Level, verify};

/// Pieces between the connection and the file.
const PIECES: usize = 4;

/// What came of a submission: a status and a document.
type Answer = (StatusCode, Value);

/// Answers a submission. Its body is not read before its turn has come.
pub(super) async fn submit(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    let limit = state.options.limits.compressed;
    let announced = request.headers().get(CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > limit) {
        return too_large(limit);
    }
    let Ok(_place) = state.waiting.try_acquire() else {
        return busy();
    };
    let Ok(_turn) = state.verifiers.acquire().await else {
        return busy();
    };
    let file = match receive(
        request.into_body(),
        limit,
        state.options.body_stall,
        state.options.body_time,
    )
    .await
    {
        Ok(file) => file,
        Err(response) => return *response,
    };
    let work = {
        let state = Arc::clone(&state);
        move || judge(&state, file)
    };
    let Ok((status, document)) = tokio::task::spawn_blocking(work).await else {
        return answer::problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the bundle could not be verified",
            None,
        );
    };
    if status == StatusCode::CREATED {
        state.changed();
    }
    let mut response = answer::json(status, &document);
    if let Some(url) = document.get("url").and_then(Value::as_str) {
        answer::set(&mut response, LOCATION, url);
    }
    response
}

fn too_large(limit: u64) -> Response {
    let says = format!("a bundle has at most {} MB", limit >> 20);
    answer::problem(
        StatusCode::PAYLOAD_TOO_LARGE,
        &says,
        Some("leave videos out, or submit fewer"),
    )
}

fn busy() -> Response {
    let mut response = answer::problem(
        StatusCode::SERVICE_UNAVAILABLE,
        "too many submissions are waiting",
        Some("try again in a minute"),
    );
    answer::set(&mut response, RETRY_AFTER, "60");
    response
}

/// Writes a body to a file that has no name, piece by piece.
async fn receive(
    mut body: Body,
    limit: u64,
    stall: Duration,
    time: Duration,
) -> Result<File, Box<Response>> {
    let (sender, receiver) = mpsc::channel(PIECES);
    let writer = tokio::task::spawn_blocking(move || write(receiver));
    let read = async {
        let mut left = limit;
        loop {
            let Ok(piece) = tokio::time::timeout(stall, body.frame()).await else {
                return Err(slow());
            };
            let Some(piece) = piece else { return Ok(()) };
            let Ok(piece) = piece else {
                return Err(answer::problem(
                    StatusCode::BAD_REQUEST,
                    "the bundle ended too early",
                    None,
                ));
            };
            let Ok(bytes) = piece.into_data() else {
                continue;
            };
            let Some(rest) = left.checked_sub(bytes.len() as u64) else {
                return Err(too_large(limit));
            };
            left = rest;
            if sender.send(bytes).await.is_err() {
                // The writer says why.
                return Ok(());
            }
        }
    };
    let read = tokio::time::timeout(time, read).await;
    drop(sender);
    let written = writer.await;
    match read {
        Err(_) => return Err(Box::new(slow())),
        Ok(Err(response)) => return Err(Box::new(response)),
        Ok(Ok(())) => {}
    }
    match written {
        Ok(Ok(file)) => Ok(file),
        _ => Err(Box::new(answer::problem(
            StatusCode::INSUFFICIENT_STORAGE,
            "the bundle could not be stored here",
            Some("try again later"),
        ))),
    }
}

fn slow() -> Response {
    answer::problem(
        StatusCode::REQUEST_TIMEOUT,
        "the bundle came too slowly",
        Some("try again"),
    )
}

fn write(mut pieces: mpsc::Receiver<Bytes>) -> std::io::Result<File> {
    let mut file = tempfile::tempfile()?;
    while let Some(piece) = pieces.blocking_recv() {
        file.write_all(&piece)?;
    }
    file.rewind()?;
    Ok(file)
}

/// Reads, verifies and stores a bundle.
fn judge(state: &State, file: File) -> Answer {
    let bundle = match Bundle::read(std::io::BufReader::new(file), &state.options.limits) {
        Ok(bundle) => bundle,
        Err(error) => return refused(StatusCode::UNPROCESSABLE_ENTITY, &error),
    };
    let verified = match verify(&bundle, state.shelf.referee()) {
        Ok(verified) => verified,
        Err(error) => return refused(StatusCode::INTERNAL_SERVER_ERROR, &error),
    };
    let verdict = &verified.verdict;
    let level = verdict.level.map(Level::as_str);
    let checks: Vec<CheckView> = verdict.checks.iter().map(CheckView::of).collect();
    if let Some((name, why)) = verdict.failure() {
        let document = json!({
            "error": format!("the check `{name}` failed: {why}"),
            "hint": "check the bundle with `jepa-bench verify`",
            "id": bundle.id, "level": level, "checks": checks,
        });
        return (StatusCode::UNPROCESSABLE_ENTITY, document);
    }
    let added = match state.board().submit(&bundle, &verified) {
        Ok(added) => added,
        Err(error) => return refused(status_of(&error), &error),
    };
    let status = if added.is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let url = Links::server().to(&Place::Run(added.id.clone()));
    let document = json!({
        "id": bundle.id, "run": added.id, "is_new": added.is_new, "level": level, "checks": checks,
        "url": url, "head": added.head,
    });
    (status, document)
}

/// Who is at fault when a bundle is not stored.
fn status_of(error: &Error) -> StatusCode {
    match error {
        Error::Bundle { .. }
        | Error::Refused {
            reason: Refusal::Check,
            ..
        } => StatusCode::UNPROCESSABLE_ENTITY,
        Error::Refused { .. } | Error::TaskChanged { .. } => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What is wrong, for the submitter. What is wrong with this machine is not told to strangers.
fn refused(status: StatusCode, error: &Error) -> Answer {
    let says = if status == StatusCode::INTERNAL_SERVER_ERROR {
        "the bundle could not be verified or stored here".to_string()
    } else {
        error.to_string()
    };
    (
        status,
        json!({ "error": says, "hint": error.hint(), "level": null, "checks": [] }),
    )
}
