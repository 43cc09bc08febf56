//! The board as a web server: pages to read, bundles to submit, a few actions for its maintainers.
//!
//! ```text
//! GET  /..                              pages, JSON, CSV, feed; from a snapshot, cached, compressed, with tags
//! POST /api/v1/submissions              body = a bundle; streamed, verified two at a time, one writer
//! POST /api/v1/revocations              a key called invalid by its owner, who signs that
//! POST /api/v1/admin/..                 with `Authorization: Bearer TOKEN`; off without a token
//! GET  /healthz
//! ```
//!
//! Nothing that is sent is believed or executed. A reader costs what a cached page costs; a writer waits for its turn
//! before its body is read, so memory does not grow with the number of those who wait.

mod admin;
mod answer;
mod cache;
mod connection;
mod limiter;
mod read;
mod state;
#[cfg(test)]
mod tests;
mod upload;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::referee::Referee;
use crate::store::Board;
use crate::submission::Limits;
use connection::Client;
pub use limiter::Rate;
use state::State;

/// Threads that may wait for disks, simulators and databases.
const BLOCKING_THREADS: usize = 64;
/// Connections that wait to be accepted, as far as the system allows.
const BACKLOG: u32 = 4_096;
/// Files that the process needs beside its connections.
const OTHER_FILES: usize = 128;

/// How a server runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens; port 0 for any free one.
    pub address: SocketAddr,
    /// Threads that answer.
    pub workers: usize,
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// Requests per address; `None` for no limit.
    pub requests: Option<Rate>,
    /// Submissions per address; `None` for no limit.
    pub uploads: Option<Rate>,
    /// Bundles verified at once.
    pub verifiers: usize,
    /// Submissions that may wait for that.
    pub waiting: usize,
    /// Limits of a bundle.
    pub limits: Limits,
    /// Time for the head of a request.
    pub head_time: Duration,
    /// Time without a piece of a body, and without a reader taking a piece of an answer.
    pub body_stall: Duration,
    /// Time for a whole body.
    pub body_time: Duration,
    /// Time for requests in hand when the server stops.
    pub grace: Duration,
    /// Bytes of rendered pages that are kept.
    pub cache_bytes: usize,
    /// Token of the maintainers; without one their actions are off.
    pub admin_token: Option<String>,
    /// Whether `x-forwarded-for` is set by a proxy of ours.
    pub is_behind_proxy: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            workers: 2,
            connections: 2_048,
            requests: Some(Rate {
                burst: 400.0,
                per_second: 100.0,
            }),
            uploads: Some(Rate {
                burst: 20.0,
                per_second: 0.1,
            }),
            verifiers: 2,
            waiting: 1_024,
            limits: Limits::default(),
            head_time: Duration::from_secs(10),
            body_stall: Duration::from_secs(20),
            body_time: Duration::from_mins(5),
            grace: Duration::from_secs(10),
            cache_bytes: 32 << 20,
            admin_token: None,
            is_behind_proxy: false,
        }
    }
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server; returns when it accepts connections.
    ///
    /// # Errors
    /// When the board cannot be read or the address is taken.
    pub fn start(board: Board, referee: Arc<dyn Referee>, options: Options) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.workers.max(1))
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("board")
            .enable_io()
            .enable_time()
            .build()
            .map_err(|source| cannot("start threads for", &options, source))?;
        let listener = {
            let _inside = runtime.enter();
            listen(options.address).map_err(|source| cannot("listen on", &options, source))?
        };
        let address = listener
            .local_addr()
            .map_err(|source| cannot("listen on", &options, source))?;
        let limits = connection::Limits {
            connections: affordable(options.connections),
            head: options.head_time,
            stall: options.body_stall,
            grace: options.grace,
        };
        let state = Arc::new(State::new(board, referee, options)?);
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::spawn(move || run(&runtime, listener, &state, limits, stopped));
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more connections, finishes the requests in hand and returns.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// A socket before which many may wait: a short queue would make the system drop them.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn cannot(action: &'static str, options: &Options, source: std::io::Error) -> Error {
    Error::io(
        action,
        std::path::Path::new(&options.address.to_string()),
        source,
    )
}

fn run(
    runtime: &tokio::runtime::Runtime,
    listener: TcpListener,
    state: &Arc<State>,
    limits: connection::Limits,
    stop: watch::Receiver<bool>,
) {
    std::thread::scope(|scope| {
        scope.spawn(|| state.keep_fresh());
        runtime.block_on(connection::serve(listener, router(state), limits, stop));
        state.end();
    });
}

/// As many connections as there may be open files, where the system tells.
fn affordable(connections: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find_map(|line| {
        line.strip_prefix("Max open files")?
            .split_whitespace()
            .next()?
            .parse::<usize>()
            .ok()
    });
    files.map_or(connections, |files| {
        connections.min(files.saturating_sub(OTHER_FILES).max(1))
    })
}

fn router(state: &Arc<State>) -> Router {
    Router::new()
        .route("/healthz", get(read::health))
        .route("/api/v1/submissions", post(upload::submit))
        .route("/api/v1/revocations", post(admin::revoke_own))
        .route("/api/v1/admin/{action}", post(admin::act))
        .fallback(read::read)
        .layer(from_fn_with_state(Arc::clone(state), guard))
        .with_state(Arc::clone(state))
}

/// Before every handler: the rate of the address. After it: the headers that every answer has.
async fn guard(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Client>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |client| client.0);
    let forwarded = request.headers().get("x-forwarded-for");
    let client = state.client(peer, forwarded.and_then(|value| value.to_str().ok()));
    let is_upload = request.uri().path().starts_with("/api/");
    let limiter = if is_upload {
        &state.uploads
    } else {
        &state.requests
    };
    let mut response = match limiter.take(client, Instant::now()) {
        Ok(()) => next.run(request).await,
        Err(wait) => answer::too_many(wait),
    };
    answer::protect(&mut response);
    response
}
