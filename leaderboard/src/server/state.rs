//! What the handlers share: the board, its last snapshot, limits.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use super::Options;
use super::cache::Cache;
use super::limiter::Limiter;
use crate::error::Result;
use crate::page::snapshot::Content;
use crate::page::{Shelf, Snapshot};
use crate::referee::Referee;
use crate::store::Board;

/// How often a change by another program is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest pause between two snapshots while the board changes all the time.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a reader waits for a snapshot with what was just accepted.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pages rendered at once.
const RENDERERS: usize = 2;
/// Bundles sent at once.
const DOWNLOADS: usize = 16;
/// Bytes of films that are kept.
const FILM_BYTES: usize = 16 << 20;

/// A snapshot with the pages that were rendered from it.
pub(super) struct Published {
    /// The board at one moment.
    pub(super) snapshot: Snapshot,
    /// Its pages.
    pub(super) pages: Cache,
}

/// What the handlers share.
pub(super) struct State {
    /// The board, its files and its simulators.
    pub(super) shelf: Shelf,
    /// What was asked for when the server was started.
    pub(super) options: Options,
    /// Requests per address.
    pub(super) requests: Limiter,
    /// Uploads per address.
    pub(super) uploads: Limiter,
    /// Permits to render a page.
    pub(super) renderers: Semaphore,
    /// Permits to verify a bundle.
    pub(super) verifiers: Semaphore,
    /// Permits to wait for one of those.
    pub(super) waiting: Semaphore,
    /// Permits to run a simulator for a film.
    pub(super) projectors: Semaphore,
    /// Permits to send a bundle, each of which takes a thread.
    pub(super) downloads: Arc<Semaphore>,
    /// Frames of films.
    pub(super) films: Cache,
    published: RwLock<Arc<Published>>,
    /// Number of changes that were made to the board.
    changes: AtomicU64,
    /// Number of changes that the snapshot has.
    seen: watch::Sender<u64>,
    /// Wakes the thread that makes snapshots; the flag ends it.
    ends: Mutex<bool>,
    wake: Condvar,
}

impl State {
    /// Reads the board once.
    ///
    /// # Errors
    /// When the board cannot be read.
    pub(super) fn new(board: Board, referee: Arc<dyn Referee>, options: Options) -> Result<Self> {
        let shelf = Shelf::new(board, referee);
        let published = publish(&shelf, &options)?;
        Ok(Self {
            requests: Limiter::new(options.requests),
            uploads: Limiter::new(options.uploads),
            renderers: Semaphore::new(RENDERERS),
            verifiers: Semaphore::new(options.verifiers),
            waiting: Semaphore::new(options.waiting),
            projectors: Semaphore::new(1),
            downloads: Arc::new(Semaphore::new(DOWNLOADS)),
            films: Cache::new(FILM_BYTES),
            published: RwLock::new(Arc::new(published)),
            changes: AtomicU64::new(0),
            seen: watch::Sender::new(0),
            ends: Mutex::new(false),
            wake: Condvar::new(),
            shelf,
            options,
        })
    }

    /// The last snapshot.
    pub(super) fn published(&self) -> Arc<Published> {
        let published = self.published.read();
        Arc::clone(&published.unwrap_or_else(PoisonError::into_inner))
    }

    /// The board; held for as short as possible.
    pub(super) fn board(&self) -> MutexGuard<'_, Board> {
        self.shelf.board()
    }

    /// Says that the board was changed.
    pub(super) fn changed(&self) {
        // Under the lock, or the thread could miss it between looking and waiting.
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        self.changes.fetch_add(1, Ordering::SeqCst);
        drop(ends);
        self.wake.notify_all();
    }

    /// Waits until the snapshot has every change made so far.
    pub(super) async fn caught_up(&self) {
        let wanted = self.changes.load(Ordering::SeqCst);
        let mut seen = self.seen.subscribe();
        let wait = seen.wait_for(|seen| *seen >= wanted);
        // Whoever has waited for too long gets what there is.
        let _ = tokio::time::timeout(PATIENCE, wait).await;
    }

    /// Makes a new snapshot whenever the board has changed, until [`State::end`].
    pub(super) fn keep_fresh(&self) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        while !*ends {
            drop(ends);
            let began = Instant::now();
            self.refresh();
            // While many bundles come in, half of the time is left for them.
            let took = began.elapsed().min(LONGEST_PAUSE);
            ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
            let is_behind = *self.seen.borrow() < self.changes.load(Ordering::SeqCst);
            if is_behind && !*ends {
                drop(ends);
                std::thread::sleep(took);
                ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
            } else if !*ends {
                let waited = self.wake.wait_timeout(ends, LOOK_EVERY);
                ends = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    fn refresh(&self) {
        let changes = self.changes.load(Ordering::SeqCst);
        let head = self.board().head();
        let is_new = head.is_ok_and(|head| head != self.published().snapshot.head);
        if is_new {
            // A board that cannot be read for a moment keeps its last snapshot.
            if let Ok(published) = publish(&self.shelf, &self.options) {
                *self
                    .published
                    .write()
                    .unwrap_or_else(PoisonError::into_inner) = Arc::new(published);
            }
        }
        self.seen.send_replace(changes);
    }

    /// Ends [`State::keep_fresh`].
    pub(super) fn end(&self) {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_all();
    }

    /// Where a request came from: the other end, or what the proxy before this server says.
    pub(super) fn client(&self, peer: IpAddr, forwarded: Option<&str>) -> IpAddr {
        let said = forwarded
            .filter(|_| self.options.is_behind_proxy)
            .and_then(|list| list.rsplit(',').next())
            .and_then(|last| last.trim().parse().ok());
        said.unwrap_or(peer)
    }
}

fn publish(shelf: &Shelf, options: &Options) -> Result<Published> {
    let content = Content::of(&shelf.board())?;
    Ok(Published {
        snapshot: Snapshot::ranked(content)?,
        pages: Cache::new(options.cache_bytes),
    })
}
