//! Contents that this mount published, with their audiences: a note that has wider readers by now
//! may be removed, though notes are kept.
//!
//! `mv` between audiences copies everything first and removes it afterwards.

use std::collections::HashMap;
use std::sync::Arc;

use crate::vault::{Audience, Version};
use crate::view::View;

/// Contents below which nothing is forgotten.
const FEW: usize = 1024;

/// Versions that this mount published, by the digests of their contents.
#[derive(Default)]
pub(in crate::view) struct PublishedContents {
    by_digest: HashMap<[u8; 32], Vec<(Audience, Arc<Version>)>>,
    /// How many digests there may be before those are looked for that are out of use.
    enough: usize,
}

impl PublishedContents {
    /// Forgets versions that are not in the store any more, once there are many.
    fn prune(&mut self, is_stored: impl Fn(&Version) -> bool) {
        if self.by_digest.len() <= self.enough.max(FEW) {
            return;
        }
        self.by_digest.retain(|_, versions| {
            versions.retain(|(_, version)| is_stored(version));
            !versions.is_empty()
        });
        // Each look is paid for by as many publications.
        self.enough = self.by_digest.len() * 2;
    }
}

impl View {
    /// Remembers a publication.
    pub(in crate::view) fn note_content_published(
        &self,
        digest: [u8; 32],
        audience: &Audience,
        versions: &[Arc<Version>],
    ) {
        let Some(version) = versions.first() else {
            return;
        };
        let mut published = self.published.lock();
        published.prune(|version| self.vault.has(version));
        let same = published.by_digest.entry(digest).or_default();
        // Of one audience the last one is enough.
        same.retain(|(known, _)| known != audience);
        same.push((audience.clone(), Arc::clone(version)));
    }

    /// Tells whether this mount published a content to an audience and more people.
    pub(in crate::view) fn is_published_wider(
        &self,
        digest: [u8; 32],
        audience: &Audience,
    ) -> bool {
        let published = self.published.lock();
        let versions = published.by_digest.get(&digest).into_iter().flatten();
        let mut audiences = versions.map(|(to, _)| to);
        audiences.any(|to| to != audience && to.includes(audience))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_stored_any_more_is_forgotten_once_there_is_much() {
        let mut published = PublishedContents::default();
        let add = |published: &mut PublishedContents, n: usize| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&n.to_le_bytes());
            published.by_digest.insert(digest, Vec::new());
        };
        (0..=FEW).for_each(|n| add(&mut published, n));
        published.prune(|_| false);
        assert!(published.by_digest.is_empty());
        (0..FEW).for_each(|n| add(&mut published, n));
        published.prune(|_| false);
        assert_eq!(published.by_digest.len(), FEW, "a few are kept");
    }
}
