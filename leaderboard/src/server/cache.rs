//! Rendered pages, kept compressed and uncompressed; those that were not asked for longest go first.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::page::Rendered;

/// Content from this size on is compressed.
const WORTH_COMPRESSING: usize = 512;
/// What an entry takes beside its content, about.
const OVERHEAD: usize = 512;

/// A page that is ready to be sent.
#[derive(Debug)]
pub(super) struct Ready {
    /// Type of the content.
    pub(super) content_type: &'static str,
    /// The content.
    pub(super) plain: Bytes,
    /// The content in gzip, where that is shorter.
    pub(super) gzip: Option<Bytes>,
    /// Hash of the content, 32 digits.
    pub(super) tag: String,
}

impl Ready {
    /// Compresses and hashes content.
    pub(super) fn new(rendered: Rendered) -> Self {
        let hash = blake3::hash(&rendered.body).to_hex();
        Self {
            content_type: rendered.content_type,
            gzip: compress(&rendered.body, rendered.content_type).map(Bytes::from),
            plain: Bytes::from(rendered.body),
            tag: hash[..32].to_string(),
        }
    }

    fn size(&self) -> usize {
        OVERHEAD + self.plain.len() + self.gzip.as_ref().map_or(0, Bytes::len)
    }
}

fn compress(body: &[u8], content_type: &str) -> Option<Vec<u8>> {
    let is_text = content_type.starts_with("text/") || content_type.starts_with("application/");
    if body.len() < WORTH_COMPRESSING || !is_text {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).ok()?;
    let compressed = encoder.finish().ok()?;
    (compressed.len() < body.len()).then_some(compressed)
}

/// Pages by address, of a limited size together.
#[derive(Debug)]
pub(super) struct Cache {
    most_bytes: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    pages: HashMap<String, (u64, Arc<Ready>)>,
    /// Addresses by the moment they were last asked for.
    order: BTreeMap<u64, String>,
    now: u64,
    bytes: usize,
}

impl Cache {
    /// An empty cache for so many bytes.
    pub(super) fn new(most_bytes: usize) -> Self {
        Self {
            most_bytes,
            entries: Mutex::default(),
        }
    }

    /// The page at this address, if it is kept.
    pub(super) fn get(&self, address: &str) -> Option<Arc<Ready>> {
        let mut guard = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = &mut *guard;
        let (used, page) = entries.pages.get_mut(address)?;
        entries.now += 1;
        if let Some(address) = entries.order.remove(used) {
            entries.order.insert(entries.now, address);
        }
        *used = entries.now;
        Some(Arc::clone(page))
    }

    /// Keeps a page; others make room for it. One that is too large by itself is not kept.
    pub(super) fn put(&self, address: &str, page: &Arc<Ready>) {
        let size = page.size() + 2 * address.len();
        if size > self.most_bytes / 4 {
            return;
        }
        let mut guard = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = &mut *guard;
        entries.remove(address);
        while entries.bytes + size > self.most_bytes {
            let Some((_, oldest)) = entries.order.pop_first() else {
                break;
            };
            entries.remove(&oldest);
        }
        entries.now += 1;
        entries.bytes += size;
        entries.order.insert(entries.now, address.to_string());
        let entry = (entries.now, Arc::clone(page));
        entries.pages.insert(address.to_string(), entry);
    }
}

impl Entries {
    fn remove(&mut self, address: &str) {
        if let Some((used, page)) = self.pages.remove(address) {
            self.order.remove(&used);
            self.bytes -= page.size() + 2 * address.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(bytes: usize) -> Arc<Ready> {
        // Content that does not compress.
        let body: Vec<u8> = (0..bytes as u64)
            .map(|k| blake3::hash(&k.to_le_bytes()).as_bytes()[0])
            .collect();
        Arc::new(Ready::new(Rendered {
            content_type: "image/png",
            body,
        }))
    }

    #[test]
    fn the_page_not_asked_for_longest_makes_room() {
        let cache = Cache::new(10_100);
        for name in ["a", "b", "c", "d"] {
            cache.put(name, &page(2_000));
        }
        assert!(cache.get("a").is_some());
        cache.put("e", &page(2_000));
        assert!(cache.get("b").is_none(), "b was not asked for longest");
        assert!(
            ["a", "c", "d", "e"]
                .iter()
                .all(|name| cache.get(name).is_some())
        );
    }

    #[test]
    fn a_page_that_is_too_large_is_not_kept_and_the_rest_stays() {
        let cache = Cache::new(10_000);
        cache.put("a", &page(1_000));
        cache.put("huge", &page(9_000));
        assert!(cache.get("a").is_some() && cache.get("huge").is_none());
    }

    #[test]
    fn a_page_put_again_is_counted_once() {
        let cache = Cache::new(10_000);
        for _ in 0..100 {
            cache.put("a", &page(1_000));
        }
        let entries = cache.entries.lock().unwrap();
        assert_eq!((entries.pages.len(), entries.order.len()), (1, 1));
        assert_eq!(entries.bytes, 1_000 + OVERHEAD + 2);
    }

    #[test]
    fn text_is_compressed_and_pictures_are_not() {
        let text = Ready::new(Rendered {
            content_type: "text/html; charset=utf-8",
            body: b"row ".repeat(1_000),
        });
        assert!(text.gzip.as_ref().unwrap().len() < 200);
        assert!(page(4_000).gzip.is_none());
    }
}
