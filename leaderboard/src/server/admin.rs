//! What only maintainers may do, with the token of this server.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Path, Request, State as Shared};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer;
use super::state::State;
use crate::error::{Error, Result};
use crate::key::PublicKey;
use crate::store::{Erratum, Rerun};

/// Bytes of an order.
const MOST_BYTES: usize = 16 * 1024;

/// Answers an order of a maintainer.
pub(super) async fn act(
    Shared(state): Shared<Arc<State>>,
    Path(action): Path<String>,
    request: Request,
) -> Response {
    let Some(token) = &state.options.admin_token else {
        return answer::problem(
            StatusCode::NOT_FOUND,
            "this server takes no orders",
            Some("start it with a token file"),
        );
    };
    let given = request.headers().get(AUTHORIZATION);
    let given = given.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if !given.is_some_and(|given| are_equal(given, token.as_bytes())) {
        let mut response = answer::problem(
            StatusCode::UNAUTHORIZED,
            "the token is missing or wrong",
            None,
        );
        answer::set(&mut response, WWW_AUTHENTICATE, "Bearer");
        return response;
    }
    let body = tokio::time::timeout(
        state.options.body_stall,
        to_bytes(request.into_body(), MOST_BYTES),
    )
    .await;
    let Ok(Ok(body)) = body else {
        return answer::problem(StatusCode::BAD_REQUEST, "the order could not be read", None);
    };
    let work = {
        let state = Arc::clone(&state);
        move || obey(&state, &action, &body)
    };
    let Ok((status, document)) = tokio::task::spawn_blocking(work).await else {
        return answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "the order failed", None);
    };
    if status == StatusCode::OK {
        state.changed();
    }
    answer::json(status, &document)
}

/// Equality in a time that tells nothing: hashes are compared, and by blake3's own comparison.
fn are_equal(given: &[u8], token: &[u8]) -> bool {
    blake3::hash(given) == blake3::hash(token)
}

/// A key to be revoked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    key: PublicKey,
    reason: String,
    /// Of the key over the reason, where its owner revokes it.
    #[serde(default)]
    signature: Option<String>,
}

/// What a maintainer found who ran the weights of a submission.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Found {
    submission: String,
    rerun: Rerun,
}

/// A submission that fresh episodes are to be drawn for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Draw {
    submission: String,
}

fn obey(state: &State, action: &str, body: &[u8]) -> (StatusCode, Value) {
    match action {
        "revoke" => with(body, |order: Revoke| {
            let signature = order.signature.as_deref();
            state.board().revoke(&order.key, &order.reason, signature)?;
            Ok(json!({ "revoked": order.key }))
        }),
        "erratum" => with(body, |erratum: Erratum| {
            state.board().add_erratum(&erratum)?;
            Ok(json!({ "erratum": erratum }))
        }),
        "rerun" => with(body, |found: Found| {
            state.board().add_rerun(&found.submission, &found.rerun)?;
            Ok(json!({ "rerun": found.rerun }))
        }),
        "challenge" => with(body, |order: Draw| {
            let challenge = state.board().challenge(&order.submission)?;
            Ok(json!({ "first_seed": challenge.first_seed(), "challenge": challenge }))
        }),
        _ => {
            let known = "there are revoke, erratum, rerun and challenge";
            let document = json!({ "error": "there is no such order", "hint": known });
            (StatusCode::NOT_FOUND, document)
        }
    }
}

/// Reads an order and carries it out.
fn with<T: for<'a> Deserialize<'a>>(
    body: &[u8],
    act: impl FnOnce(T) -> Result<Value>,
) -> (StatusCode, Value) {
    let order = match serde_json::from_slice(body) {
        Ok(order) => order,
        Err(error) => {
            let document = json!({ "error": format!("the order is not understood: {error}") });
            return (StatusCode::UNPROCESSABLE_ENTITY, document);
        }
    };
    match act(order) {
        Ok(document) => (StatusCode::OK, document),
        Err(error) => {
            let is_ours = matches!(error, Error::Database { .. } | Error::Io { .. });
            let status = if is_ours {
                StatusCode::INTERNAL_SERVER_ERROR
            } else {
                StatusCode::UNPROCESSABLE_ENTITY
            };
            (
                status,
                json!({ "error": error.to_string(), "hint": error.hint() }),
            )
        }
    }
}

/// An owner revokes a key: anyone may send that, the signature says whether it counts.
pub(super) async fn revoke_own(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    let body = tokio::time::timeout(
        state.options.body_stall,
        to_bytes(request.into_body(), MOST_BYTES),
    )
    .await;
    let Ok(Ok(body)) = body else {
        return answer::problem(
            StatusCode::BAD_REQUEST,
            "the revocation could not be read",
            None,
        );
    };
    let work = {
        let state = Arc::clone(&state);
        move || {
            with(&body, |order: Revoke| {
                let signature = order.signature.as_deref().unwrap_or_default();
                state
                    .board()
                    .revoke(&order.key, &order.reason, Some(signature))?;
                Ok(json!({ "revoked": order.key }))
            })
        }
    };
    let Ok((status, document)) = tokio::task::spawn_blocking(work).await else {
        return answer::problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the revocation failed",
            None,
        );
    };
    if status == StatusCode::OK {
        state.changed();
    }
    answer::json(status, &document)
}
