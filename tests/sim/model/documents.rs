//! The reference for the store: its versions, which of them are heads, and which are removed.

use std::collections::BTreeSet;

use dds::ids::{BlobName, DocId};

/// Index of a version among all that ever were.
pub type Vid = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    Me,
    Bob,
}

/// A document: `area` is `notes/bob` and the like.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub area: String,
    /// An empty directory, not a file.
    pub marker: bool,
    pub doc: usize,
    /// Messages: the writer.
    pub signer: Option<Who>,
}

impl Key {
    pub fn is_message(&self) -> bool {
        self.area.starts_with("messages/")
    }

    /// Number of blobs that one version of mine has.
    pub fn copies(&self) -> usize {
        match self.is_message() {
            true => self.area.split(',').count(),
            false => 1,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Version {
    pub key: Key,
    /// Below the area.
    pub path: String,
    pub bytes: Vec<u8>,
    pub mode: u32,
    /// Parents first, then all older ones.
    pub replaces: Vec<Vid>,
    /// In the store, as far as the model knows.
    pub present: bool,
    /// Known once the store was looked at.
    pub blobs: Vec<BlobName>,
    pub created: i64,
}

/// Versions with the same bytes and path count as one; the first is shown.
pub type Head = Vec<Vid>;

#[derive(Default)]
pub struct Documents {
    pub all: Vec<Version>,
    /// Real ids of the documents that were seen in blobs.
    pub docs: Vec<Option<DocId>>,
    /// Mine that are not yet found in the store.
    pub pending: Vec<Vid>,
    /// Replaced, and perhaps still in the store.
    pub unsettled: BTreeSet<Vid>,
    /// Messages that I removed, and the older versions of each.
    pub ledger: BTreeSet<Vid>,
}

impl Documents {
    pub fn new_doc(&mut self) -> usize {
        self.docs.push(None);
        self.docs.len() - 1
    }

    pub fn present(&self) -> impl Iterator<Item = (Vid, &Version)> {
        self.all.iter().enumerate().filter(|(_, v)| v.present)
    }

    /// Parents and all that they replaced.
    pub fn ancestry(&self, parents: &[Vid]) -> Vec<Vid> {
        let mut all = Vec::new();
        let older = parents.iter().flat_map(|p| &self.all[*p].replaces);
        for vid in parents.iter().chain(older) {
            if !all.contains(vid) {
                all.push(*vid);
            }
        }
        all
    }

    /// Adds a version of mine; its parents go, and older versions of their documents.
    pub fn publish(&mut self, parents: &[Vid], mut version: Version) -> Vid {
        let vid = self.all.len();
        version.replaces = self.ancestry(parents);
        let keys: BTreeSet<Key> = parents.iter().map(|p| self.all[*p].key.clone()).collect();
        for old in &version.replaces {
            let known = keys.contains(&self.all[*old].key);
            if known && std::mem::replace(&mut self.all[*old].present, false) {
                self.unsettled.insert(*old);
            }
        }
        if keys.iter().any(|key| *key != version.key) {
            // Nothing else tells that another document is gone.
            self.settle(version.key.is_message());
        }
        self.all.push(version);
        self.pending.push(vid);
        vid
    }

    /// The versions that no other of the document replaces, the one that keeps the name first.
    pub fn heads(&self, key: &Key) -> Vec<Head> {
        let versions = || self.present().filter(|(_, v)| v.key == *key);
        let replaced = |vid: Vid| versions().any(|(_, v)| v.replaces.contains(&vid));
        let mut tips: Vec<Vid> = versions()
            .map(|(vid, _)| vid)
            .filter(|v| !replaced(*v))
            .collect();
        tips.sort_by_key(|vid| {
            let v = &self.all[*vid];
            // The newest first; a version just published is not older than the known ones.
            (
                std::cmp::Reverse(v.created),
                v.blobs.iter().min().map(ToString::to_string),
            )
        });
        let mut heads: Vec<Head> = Vec::new();
        for tip in tips {
            let same = |head: &&mut Head| {
                let (a, b) = (&self.all[head[0]], &self.all[tip]);
                a.bytes == b.bytes && a.path == b.path
            };
            match heads.iter_mut().find(same) {
                Some(head) => head.push(tip),
                None => heads.push(vec![tip]),
            }
        }
        heads
    }

    /// Removes a head and the versions that it replaced, as I do.
    pub fn remove(&mut self, head: &Head) {
        let key = self.all[head[0]].key.clone();
        self.settle(key.is_message());
        let older = self.ancestry(head);
        for vid in older.iter().chain(head) {
            if self.all[*vid].key == key {
                self.all[*vid].present = false;
                if key.is_message() {
                    self.ledger.insert(*vid);
                }
            }
        }
    }

    /// What was replaced in a folder is unlinked.
    pub fn settle(&mut self, messages: bool) {
        let all = &self.all;
        self.unsettled
            .retain(|vid| all[*vid].key.is_message() != messages);
    }

    pub fn settle_all(&mut self) {
        self.unsettled.clear();
    }
}
