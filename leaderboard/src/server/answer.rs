//! Answers: pages with their tags, JSON, and the headers that every answer has.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, REFERRER_POLICY, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};
use std::time::Duration;

use super::cache::Ready;

/// What a page may load and do: its own style, script, pictures and forms. No inline script or style, no other
/// hosts, no frames.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; \
     base-uri 'none'; frame-ancestors 'none'";
/// What a file of a stranger may load and do: nothing.
pub(super) const SANDBOX: &str = "default-src 'none'; sandbox";
/// The content is the same for ever under this address.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// The content may change with the board: ask, and get nothing if it has not.
const ASK: &str = "no-cache";

/// A page, or that it has not changed since the reader got it.
pub(super) fn page(page: &Ready, headers: &HeaderMap, is_for_ever: bool) -> Response {
    let gzip = page.gzip.as_ref().filter(|_| accepts_gzip(headers));
    let tag = match gzip {
        Some(_) => format!("\"{}-gzip\"", page.tag),
        None => format!("\"{}\"", page.tag),
    };
    let is_known = knows(headers, &page.tag);
    let mut response = Response::new(Body::empty());
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = Body::from(gzip.unwrap_or(&page.plain).clone());
        set(&mut response, CONTENT_TYPE, page.content_type);
        if gzip.is_some() {
            set(&mut response, CONTENT_ENCODING, "gzip");
        }
    }
    set(&mut response, ETAG, &tag);
    set(&mut response, VARY, "accept-encoding");
    set(
        &mut response,
        CACHE_CONTROL,
        if is_for_ever { FOR_EVER } else { ASK },
    );
    response
}

/// Whether `if-none-match` names the content, in either encoding.
fn knows(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter();
    let mut tags = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tags.any(|given| {
        let given = given.trim();
        let given = given.strip_prefix("W/").unwrap_or(given).trim_matches('"');
        given == "*" || given == tag || given.strip_suffix("-gzip") == Some(tag)
    })
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    let mut codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let quality = parts.find_map(|part| part.strip_prefix("q="));
        is_gzip
            && quality
                .and_then(|q| q.parse::<f64>().ok())
                .is_none_or(|q| q > 0.0)
    })
}

/// One JSON document.
pub(super) fn json(status: StatusCode, document: &Value) -> Response {
    let mut text = document.to_string();
    text.push('\n');
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    set(&mut response, CONTENT_TYPE, "application/json");
    set(&mut response, CACHE_CONTROL, "no-store");
    response
}

/// That something went wrong, and what to try.
pub(super) fn problem(status: StatusCode, error: &str, hint: Option<&str>) -> Response {
    json(status, &json!({ "error": error, "hint": hint }))
}

/// That an address asked for too much.
pub(super) fn too_many(wait: Duration) -> Response {
    let seconds = wait.as_secs_f64().ceil().max(1.0);
    let mut response = problem(
        StatusCode::TOO_MANY_REQUESTS,
        "too many requests from this address",
        Some(&format!("try again in {seconds} s")),
    );
    set(&mut response, RETRY_AFTER, &seconds.to_string());
    response
}

/// Bytes that do not change under their address.
pub(super) fn bytes(content_type: &str, body: Body) -> Response {
    let mut response = Response::new(body);
    set(&mut response, CONTENT_TYPE, content_type);
    set(&mut response, CACHE_CONTROL, FOR_EVER);
    response
}

/// Sets a header; a value that is none is left out.
pub(super) fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// The headers that every answer has.
pub(super) fn protect(response: &mut Response) {
    if !response.headers().contains_key(CONTENT_SECURITY_POLICY) {
        set(response, CONTENT_SECURITY_POLICY, POLICY);
    }
    set(response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(response, X_FRAME_OPTIONS, "DENY");
    set(response, REFERRER_POLICY, "no-referrer");
    for name in ["cross-origin-opener-policy", "cross-origin-resource-policy"] {
        set(response, HeaderName::from_static(name), "same-origin");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn encodings_are_chosen_as_asked() {
        for (asked, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5, br", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("identity", false),
            ("xgzip", false),
            ("", false),
        ] {
            assert_eq!(
                accepts_gzip(&headers(ACCEPT_ENCODING, asked)),
                expected,
                "{asked}"
            );
        }
    }

    #[test]
    fn a_tag_is_known_in_either_encoding() {
        for (given, expected) in [
            ("\"abc\"", true),
            ("\"abc-gzip\"", true),
            ("W/\"abc\"", true),
            ("\"x\", \"abc\"", true),
            ("*", true),
            ("\"abcd\"", false),
            ("\"x\"", false),
        ] {
            assert_eq!(
                knows(&headers(IF_NONE_MATCH, given), "abc"),
                expected,
                "{given}"
            );
        }
    }
}
