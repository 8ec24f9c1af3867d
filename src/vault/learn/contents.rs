//! Recently opened contents, so that looking at a directory and then reading its files does not
//! decrypt them twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::ids::BlobId;
use crate::locks::Ranked;
use crate::plaintext::Plaintext;
use crate::vault::ranks;

/// Bytes of all contents that are kept.
const ROOM: usize = 16 << 20;
/// Bytes of the largest content that is kept.
const LARGEST: usize = 1 << 20;

/// A bounded cache of contents; the least recently used one is dropped first.
pub(super) struct Contents(Ranked<Cache>);

struct Cache {
    /// Each content with the time of its last use.
    contents: LruCache<BlobId, (Arc<Plaintext>, Instant)>,
    bytes: usize,
}

impl Default for Contents {
    fn default() -> Self {
        let cache = Cache {
            contents: LruCache::unbounded(),
            bytes: 0,
        };
        Contents(Ranked::new(ranks::LEAF, cache))
    }
}

impl Contents {
    pub(super) fn get(&self, id: &BlobId) -> Option<Arc<Plaintext>> {
        let mut cache = self.0.lock();
        let (content, used) = cache.contents.get_mut(id)?;
        *used = Instant::now();
        Some(Arc::clone(content))
    }

    /// Keeps a content, unless it is large.
    pub(super) fn put(&self, id: BlobId, content: &Arc<Plaintext>) {
        if size_of(content) > LARGEST {
            return;
        }
        let mut cache = self.0.lock();
        let entry = (Arc::clone(content), Instant::now());
        if cache.contents.put(id, entry).is_none() {
            cache.bytes += size_of(content);
        }
        while cache.bytes > ROOM {
            cache.drop_oldest();
        }
    }

    /// Drops the contents that nobody used for this time.
    pub(super) fn drop_unused(&self, time: Duration) {
        let mut cache = self.0.lock();
        while let Some((_, (_, used))) = cache.contents.peek_lru() {
            if used.elapsed() < time {
                break;
            }
            cache.drop_oldest();
        }
    }
}

impl Cache {
    fn drop_oldest(&mut self) {
        match self.contents.pop_lru() {
            Some((_, (oldest, _))) => self.bytes -= size_of(&oldest),
            None => self.bytes = 0,
        }
    }
}

/// Bytes that a content takes. The limits are small, so it does not matter if a part is on disk.
fn size_of(content: &Plaintext) -> usize {
    usize::try_from(content.allocated()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_bounded_and_the_least_recently_used_one_is_dropped() {
        let contents = Contents::default();
        let id = |number: usize| BlobId::of(&number.to_le_bytes());
        let content = |bytes: usize| Arc::new(Plaintext::from(&vec![7; bytes][..]));
        contents.put(id(0), &content(2 * LARGEST));
        assert!(contents.get(&id(0)).is_none());
        let size = size_of(&content(LARGEST / 2));
        let most = ROOM / size;
        for number in 1..=most {
            contents.put(id(number), &content(LARGEST / 2));
        }
        // It is used again, so the second one is the oldest.
        assert!(contents.get(&id(1)).is_some());
        contents.put(id(most + 1), &content(LARGEST / 2));
        assert!(contents.get(&id(1)).is_some());
        assert!(contents.get(&id(2)).is_none());
        assert!(contents.get(&id(most + 1)).is_some());
        contents.drop_unused(Duration::from_secs(3600));
        assert!(contents.get(&id(1)).is_some());
        contents.drop_unused(Duration::ZERO);
        assert!(contents.get(&id(1)).is_none());
        assert_eq!(contents.0.lock().bytes, 0);
    }
}
