//! Pages, films, videos and bundles: everything that is read.

use std::io::Read;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::http::header::{
    ALLOW, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, LOCATION,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Frame;
use serde_json::json;
use tokio::sync::mpsc;

use super::answer;
use super::cache::Ready;
use super::state::{Published, State};
use crate::page::query::{Query, pairs};
use crate::page::{FILM_FRAMES, Form, Links, Place, Rendered, Site};

/// Bytes of a file that are read at once.
const PIECE: usize = 64 * 1024;

/// Answers a request for a page or a file.
pub(super) async fn read(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = answer::problem(
            StatusCode::METHOD_NOT_ALLOWED,
            "this can only be read",
            None,
        );
        answer::set(&mut response, ALLOW, "GET, HEAD");
        return response;
    }
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or(""));
    if path == "/favicon.ico" {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return response;
    }
    if path == "/compare" {
        return chosen_pair(query);
    }
    let Some((place, form)) = Place::parse(path) else {
        return missing();
    };
    let form = asked_form(query)
        .filter(|_| place.is_page())
        .unwrap_or(form);
    match place {
        Place::Frame(run, episode, frame) => film(state, run, episode, frame).await,
        Place::Video(run, name) => video(state, run, name).await,
        Place::Bundle(run) => bundle(state, &run).await,
        place => page(state, place, form, query, request.headers()).await,
    }
}

/// `?format=json` and `?format=csv`.
fn asked_form(query: &str) -> Option<Form> {
    pairs(query)
        .iter()
        .find_map(|(name, value)| match (name.as_str(), value.as_str()) {
            ("format", "json") => Some(Form::Json),
            ("format", "csv") => Some(Form::Csv),
            _ => None,
        })
}

/// Two picked runs of a form, as the address of their comparison.
fn chosen_pair(query: &str) -> Response {
    let runs: Vec<String> = pairs(query)
        .into_iter()
        .filter(|(name, value)| name == "run" && value.bytes().all(|b| b.is_ascii_hexdigit()))
        .map(|(_, value)| value)
        .collect();
    match runs.as_slice() {
        [first, second, ..] if !first.is_empty() && !second.is_empty() => {
            let place = Place::Compare(first.clone(), second.clone());
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SEE_OTHER;
            answer::set(&mut response, LOCATION, &Links::server().to(&place));
            response
        }
        _ => answer::problem(
            StatusCode::BAD_REQUEST,
            "a comparison needs two runs",
            Some("go back and pick two"),
        ),
    }
}

/// There is nothing at this address.
fn missing() -> Response {
    let mut response = answer::problem(
        StatusCode::NOT_FOUND,
        "there is nothing at this address",
        None,
    );
    let page = crate::page::missing().into_string();
    *response.body_mut() = Body::from(page);
    answer::set(
        &mut response,
        axum::http::header::CONTENT_TYPE,
        "text/html; charset=utf-8",
    );
    response
}

async fn page(
    state: Arc<State>,
    place: Place,
    form: Form,
    query: &str,
    headers: &HeaderMap,
) -> Response {
    let is_for_ever = matches!(place, Place::Style | Place::Script);
    // Only a board looks at its question; any other page is the same whatever is asked.
    let query = match place {
        Place::Board(_) => Query::parse(query).link(),
        _ => String::new(),
    };
    let address = place.file(form) + &query;
    let published = state.published();
    let mut found = rendered(&state, &published, &place, form, &query, &address).await;
    if found.is_none() {
        // What was accepted a moment ago may be in the next snapshot.
        state.caught_up().await;
        let newer = state.published();
        if !Arc::ptr_eq(&published, &newer) {
            found = rendered(&state, &newer, &place, form, &query, &address).await;
        }
    }
    found.map_or_else(missing, |page| answer::page(&page, headers, is_for_ever))
}

/// A page from the cache, or rendered now.
async fn rendered(
    state: &Arc<State>,
    published: &Arc<Published>,
    place: &Place,
    form: Form,
    query: &str,
    address: &str,
) -> Option<Arc<Ready>> {
    if let Some(page) = published.pages.get(address) {
        return Some(page);
    }
    let _permit = state.renderers.acquire().await.ok()?;
    // Others may have waited for the same page.
    if let Some(page) = published.pages.get(address) {
        return Some(page);
    }
    let work = {
        let (state, published, place) = (Arc::clone(state), Arc::clone(published), place.clone());
        let query = query.trim_start_matches('?').to_string();
        move || render(&state, &published, &place, form, &query)
    };
    let page = Arc::new(tokio::task::spawn_blocking(work).await.ok()??);
    published.pages.put(address, &page);
    Some(page)
}

fn render(
    state: &State,
    published: &Published,
    place: &Place,
    form: Form,
    query: &str,
) -> Option<Ready> {
    let mut site = Site {
        snapshot: &published.snapshot,
        details: &state.shelf,
        links: Links::server(),
    };
    site.render(place, form, query).map(Ready::new)
}

/// A frame of a film. The whole film is drawn once and its frames kept.
async fn film(state: Arc<State>, run: String, episode: u32, frame: u32) -> Response {
    if frame > FILM_FRAMES {
        return missing();
    }
    let address = |frame: u32| format!("{run}/{episode}/{frame}");
    let send = |page: &Ready| answer::bytes(page.content_type, Body::from(page.plain.clone()));
    if let Some(kept) = state.films.get(&address(frame)) {
        return send(&kept);
    }
    let Ok(_permit) = state.projectors.acquire().await else {
        return missing();
    };
    if let Some(kept) = state.films.get(&address(frame)) {
        return send(&kept);
    }
    let work = {
        let (state, run) = (Arc::clone(&state), run.clone());
        move || state.shelf.film(&state.published().snapshot, &run, episode)
    };
    let Ok(Some(pictures)) = tokio::task::spawn_blocking(work).await else {
        return missing();
    };
    let mut wanted = None;
    for (number, body) in (0..).zip(pictures) {
        let content_type = "image/png";
        let ready = Arc::new(Ready::new(Rendered { content_type, body }));
        state.films.put(&address(number), &ready);
        if number == frame {
            wanted = Some(ready);
        }
    }
    wanted.map_or_else(missing, |ready| send(&ready))
}

/// A video of a bundle: its type is told by its name alone, and it may do nothing.
async fn video(state: Arc<State>, run: String, name: String) -> Response {
    let content_type = match name.rsplit_once('.') {
        Some((_, "mp4")) => "video/mp4",
        Some((_, "gif")) => "image/gif",
        Some((_, "png")) => "image/png",
        _ => return missing(),
    };
    // Unpacking takes memory: one at a time.
    let Ok(_permit) = state.projectors.acquire().await else {
        return missing();
    };
    let work = {
        let state = Arc::clone(&state);
        move || state.shelf.video(&state.published().snapshot, &run, &name)
    };
    let Ok(Some(bytes)) = tokio::task::spawn_blocking(work).await else {
        return missing();
    };
    let mut response = answer::bytes(content_type, Body::from(bytes));
    answer::set(&mut response, CONTENT_SECURITY_POLICY, answer::SANDBOX);
    response
}

/// The bundle of a run, as it was sent.
async fn bundle(state: Arc<State>, run: &str) -> Response {
    let path = state.shelf.bundle_path(&state.published().snapshot, run);
    let Some((path, length)) = path.and_then(|path| {
        let length = std::fs::metadata(&path).ok()?.len();
        Some((path, length))
    }) else {
        return missing();
    };
    let Ok(permit) = Arc::clone(&state.downloads).acquire_owned().await else {
        return missing();
    };
    let (sender, receiver) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        send_file(&path, &sender);
        drop(permit);
    });
    let mut response = answer::bytes("application/octet-stream", Body::new(Pieces(receiver)));
    answer::set(&mut response, CONTENT_LENGTH, &length.to_string());
    let name = format!("attachment; filename=\"{}.jbs\"", &run[..run.len().min(12)]);
    answer::set(&mut response, CONTENT_DISPOSITION, &name);
    answer::set(&mut response, CONTENT_SECURITY_POLICY, answer::SANDBOX);
    response
}

/// Sends a file piece by piece, as fast as the reader takes it.
fn send_file(path: &PathBuf, sender: &mpsc::Sender<std::io::Result<Bytes>>) {
    let send = || -> std::io::Result<()> {
        let mut file = std::fs::File::open(path)?;
        let mut buffer = vec![0; PIECE];
        loop {
            let read = file.read(&mut buffer)?;
            // A reader that is gone wants nothing more.
            if read == 0
                || sender
                    .blocking_send(Ok(Bytes::copy_from_slice(&buffer[..read])))
                    .is_err()
            {
                return Ok(());
            }
        }
    };
    if let Err(error) = send() {
        let _ = sender.blocking_send(Err(error));
    }
}

/// A body whose pieces come from another thread.
struct Pieces(mpsc::Receiver<std::io::Result<Bytes>>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0
            .poll_recv(context)
            .map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// Whether the server is well.
pub(super) async fn health(Shared(state): Shared<Arc<State>>) -> Response {
    let published = state.published();
    let (head, runs) = (&published.snapshot.head, published.snapshot.runs());
    answer::json(
        StatusCode::OK,
        &json!({ "status": "ok", "head": head, "runs": runs }),
    )
}
