//! Old versions of notes, by the names that they had.
//!
//! A note is a document here: it is found by every name that it ever had.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobName, Folder, Timestamp, VersionId};
use crate::vault::{DocKey, Head, PastVersion, People, Version, Vouched};
use crate::view::View;
use crate::view::tree::Ino;
use crate::view::tree::audiences::{UNVERIFIED, canonical_name, resolve};
use crate::view::tree::names::{is_safe, safe_path};

/// A note with its versions, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldNote {
    /// Where it is in the view, or was last.
    pub path: String,
    /// It is there now.
    pub present: bool,
    /// All versions that are known, also those in the store.
    pub versions: Vec<OldVersion>,
}

/// A version of a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldVersion {
    /// By which it can be restored, counted over all notes that had the path that was asked for.
    pub number: Option<usize>,
    /// The blob's name.
    pub version: BlobName,
    /// Where it was in the view.
    pub path: String,
    /// When it was signed.
    pub signed: Timestamp,
    /// Name of the signer.
    pub by: String,
    /// Whether that is proven.
    pub signature: Vouched,
    /// Bytes of content.
    pub size: u64,
    /// Whether it is current, and if not, why.
    pub state: OldState,
    /// When it left the store, or when that was noticed.
    pub went: Option<Timestamp>,
}

/// Whether a version is current, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldState {
    /// It is shown.
    Current,
    /// A newer version took its place.
    Replaced,
    /// It was removed, here or elsewhere.
    Removed,
    /// I removed it here.
    RemovedByMe,
}

/// A document as the store and the history know it.
pub(in crate::view) struct NoteHistory {
    pub(in crate::view) key: DocKey,
    /// Its node, if it is shown.
    pub(in crate::view) shown: Option<(Ino, Head)>,
    /// Where it is shown, or was last.
    pub(in crate::view) at: String,
    /// Newest first.
    pub(in crate::view) versions: Vec<NoteVersion>,
}

pub(in crate::view) struct NoteVersion {
    pub(in crate::view) version: Arc<Version>,
    /// `None` if it is in the store.
    pub(in crate::view) past: Option<PastVersion>,
    pub(in crate::view) path: String,
    /// The names of its blobs, in the store or when they were there.
    pub(in crate::view) names: Vec<BlobName>,
}

impl View {
    /// Lists the versions of the notes that have or had a path, or, for a directory, of all notes
    /// below it of which old versions are kept. The empty path is all notes.
    ///
    /// # Errors
    /// `Unsupported` for anything but notes; `NotFound` if nothing is known by that path; `Io` if
    /// the store cannot be read.
    pub fn history(&self, path: &str) -> Result<Vec<OldNote>> {
        let people = self.vault.people();
        let (path, found) = self.find_old(path, &people)?;
        if found.is_empty() {
            let (_, below) = self.find_below(&path, &people);
            return match below.is_empty() && !self.is_directory(&path) {
                true => Err(unknown(&path)),
                false => Ok(self.tell_old(&below, &people, false)),
            };
        }
        Ok(self.tell_old(&found, &people, true))
    }

    /// Drops the old versions of the notes that have or had a path, or that are below it. Returns
    /// how many those were.
    ///
    /// # Errors
    /// As [`View::history`]; errors of the state's disk.
    pub fn forget_history(&self, path: &str) -> Result<usize> {
        let people = self.vault.people();
        let (path, mut found) = self.find_old(path, &people)?;
        if found.is_empty() {
            found = self.find_below(&path, &people).1;
        }
        let past = found.iter().flat_map(|document| &document.versions);
        let past: Vec<_> = past.filter_map(|one| one.past.as_ref()).collect();
        if past.is_empty() {
            return Err(unknown(&path));
        }
        // Try every one and report the first error.
        let forgotten = past.iter().map(|past| self.vault.forget_past(past));
        forgotten.fold(Ok(()), Result::and)?;
        Ok(past.len())
    }

    /// Finds the notes that have or had a path, that which has it first. Returns the path as it is
    /// spelled here, too.
    pub(in crate::view) fn find_old(
        &self,
        path: &str,
        people: &People,
    ) -> Result<(String, Vec<NoteHistory>)> {
        let path = canonical(path, people)?;
        self.look()?;
        self.vault.note_gone();
        let here = self.node_at(&path);
        let mut found: Vec<_> = self
            .documents(people)
            .into_iter()
            .filter(|one| one.has(&path, here.as_ref()))
            .collect();
        if let Some((ino, key, head)) = here {
            match found.iter_mut().find(|found| found.key == key) {
                Some(found) => {
                    found.shown = Some((ino, head));
                    found.at.clone_from(&path);
                }
                None => found.push(self.document_with(key, Vec::new(), people)),
            }
            found.sort_by_key(|found| found.shown.as_ref().is_none_or(|(at, _)| *at != ino));
        }
        Ok((path, found))
    }

    fn find_below(&self, path: &str, people: &People) -> (String, Vec<NoteHistory>) {
        let prefix = match path {
            "" => "notes/".to_owned(),
            path => format!("{path}/"),
        };
        let mut below: Vec<_> = self
            .documents(people)
            .into_iter()
            .filter(|found| found.at.starts_with(&prefix))
            .collect();
        below.sort_by(|a, b| a.at.cmp(&b.at));
        (prefix, below)
    }

    /// All documents of which old versions are kept, the one that changed last first.
    fn documents(&self, people: &People) -> Vec<NoteHistory> {
        let mut documents: HashMap<DocKey, Vec<PastVersion>> = HashMap::new();
        for past in self.vault.past() {
            let key = past.version.key.clone();
            documents.entry(key).or_default().push(past);
        }
        let mut found: Vec<_> = documents
            .into_iter()
            .map(|(key, past)| self.document_with(key, past, people))
            .collect();
        found.sort_by_key(|found| {
            let newest = found.versions.first();
            Reverse(newest.map(|one| (one.version.signed_at, one.version.blob)))
        });
        found
    }

    fn document_with(&self, key: DocKey, past: Vec<PastVersion>, people: &People) -> NoteHistory {
        let stored = self.vault.versions(&key).into_iter();
        let ids: HashSet<VersionId> = past.iter().map(|past| past.version.id).collect();
        let one = |version: Arc<Version>, past: Option<PastVersion>| NoteVersion {
            path: old_path(&version, people),
            names: match &past {
                Some(past) => past.names.clone(),
                None => self.vault.names_of(&version),
            },
            version,
            past,
        };
        let mut versions: Vec<_> = stored
            .filter(|version| !ids.contains(&version.id))
            .map(|version| one(version, None))
            .collect();
        versions.extend(
            past.into_iter()
                .map(|past| one(Arc::clone(&past.version), Some(past))),
        );
        let versions = newest_first(versions);
        let shown = self.shown_of(&key);
        let at = match (&shown, versions.first()) {
            (Some((ino, _)), _) => self.tree().path(*ino),
            (None, last) => last.map_or_else(String::new, |last| last.path.clone()),
        };
        NoteHistory {
            key,
            shown,
            at,
            versions,
        }
    }

    /// The node that shows a document: the one with its own name, if there are conflict copies.
    fn shown_of(&self, key: &DocKey) -> Option<(Ino, Head)> {
        let tree = self.tree();
        let nodes = tree.by_document.get(key)?;
        let shown = nodes.iter().filter_map(|ino| {
            let shown = tree.shown(*ino)?;
            Some((shown.is_conflict, *ino, shown.head.clone()?))
        });
        let first = shown.min_by_key(|(is_conflict, ino, _)| (*is_conflict, *ino));
        first.map(|(_, ino, head)| (ino, head))
    }

    /// The note at a path.
    fn node_at(&self, path: &str) -> Option<(Ino, DocKey, Head)> {
        let tree = self.tree();
        let at = tree.at(path)?;
        let shown = tree.shown(at)?;
        Some((at, shown.key.clone(), shown.head.clone()?))
    }

    fn is_directory(&self, path: &str) -> bool {
        let tree = self.tree();
        tree.at(path).is_some_and(|at| tree.dir(at).is_some())
    }

    fn tell_old(&self, found: &[NoteHistory], people: &People, numbered: bool) -> Vec<OldNote> {
        let replaced: HashSet<BlobName> = found
            .iter()
            .flat_map(|found| &found.versions)
            .flat_map(|one| one.version.replaces.iter().copied())
            .collect();
        // Also versions that are in the store under a name that no newer version knows.
        let documents = found.iter();
        let documents = documents.filter_map(|found| self.vault.document(&found.key));
        let hidden: HashSet<VersionId> = documents.flat_map(|known| known.replaced()).collect();
        let mut number = 0;
        let mut tell = |one: &NoteVersion| {
            number += 1;
            let version = &one.version;
            let signer = version.signer.as_ref();
            let state = match &one.past {
                _ if one.names.iter().any(|name| replaced.contains(name)) => OldState::Replaced,
                None if hidden.contains(&version.id) => OldState::Replaced,
                None => OldState::Current,
                Some(past) if past.removed_by_me => OldState::RemovedByMe,
                // By one that is not known now, as the folder cannot be read.
                Some(_) if self.vault.was_replaced(version) => OldState::Replaced,
                Some(_) => OldState::Removed,
            };
            OldVersion {
                number: numbered.then_some(number),
                version: version.blob,
                path: one.path.clone(),
                signed: version.signed_at,
                by: signer.map_or_else(|| "nobody".to_owned(), |key| people.name(key)),
                signature: version.vouched,
                size: version.size,
                state,
                went: one.past.as_ref().map(|past| past.departed),
            }
        };
        let notes = found.iter().map(|document| OldNote {
            path: document.at.clone(),
            present: document.shown.is_some(),
            versions: document.versions.iter().map(&mut tell).collect(),
        });
        notes.collect()
    }
}

impl NoteHistory {
    fn has(&self, path: &str, here: Option<&(Ino, DocKey, Head)>) -> bool {
        let is_here = here.is_some_and(|(_, key, _)| *key == self.key);
        is_here || self.versions.iter().any(|one| one.path == path)
    }

    pub(in crate::view) fn is_current(&self, version: &Version) -> bool {
        let shown = self.shown.as_ref();
        shown.is_some_and(|(_, head)| head.blobs().any(|blob| blob.id == version.id))
    }
}

/// Puts versions into order: each before those that it replaces, whatever the clocks of their
/// writers said; else the later signature first.
fn newest_first(versions: Vec<NoteVersion>) -> Vec<NoteVersion> {
    let names = versions.iter().enumerate();
    let names = names.flat_map(|(at, one)| one.names.iter().map(move |name| (*name, at)));
    let names: HashMap<BlobName, usize> = names.collect();
    let older = |one: &NoteVersion| -> HashSet<usize> {
        let replaced = one.version.replaces.iter();
        let own = names.get(&one.version.blob).copied();
        replaced
            .filter_map(|name| names.get(name).copied())
            .filter(|at| Some(*at) != own)
            .collect()
    };
    let mut newer = vec![0_usize; versions.len()];
    for one in &versions {
        older(one).into_iter().for_each(|at| newer[at] += 1);
    }
    let time = |at: usize| {
        let version = &versions[at].version;
        (version.signed_at, Reverse(version.blob), at)
    };
    let first = (0..versions.len()).filter(|at| newer[*at] == 0);
    let mut next: BinaryHeap<_> = first.map(time).collect();
    let mut order = Vec::new();
    while let Some((_, _, at)) = next.pop() {
        order.push(at);
        for at in older(&versions[at]) {
            newer[at] -= 1;
            if newer[at] == 0 {
                next.push(time(at));
            }
        }
    }
    // Versions that replace each other in a ring cannot be made honestly.
    let mut place: Vec<usize> = vec![order.len(); versions.len()];
    order
        .iter()
        .enumerate()
        .for_each(|(to, at)| place[*at] = to);
    let mut placed: Vec<_> = place.into_iter().zip(versions).collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, one)| one).collect()
}

/// Spells a path below the view as it is spelled here.
fn canonical(path: &str, people: &People) -> Result<String> {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let Some((folder, rest)) = parts.split_first() else {
        return Ok(String::new());
    };
    if *folder != Folder::Notes.name() || rest.contains(&"..") {
        let sentence = "only notes have a history: messages are gone once they are removed";
        return Err(Error::new(Kind::Unsupported, sentence));
    }
    let Some((audience, rest)) = rest.split_first() else {
        return Ok(String::new());
    };
    let known = resolve(people, Folder::Notes, audience);
    let audience = match known {
        Some(audience) => canonical_name(people, &audience),
        None => (*audience).to_owned(),
    };
    let mut path = vec![Folder::Notes.name(), &audience];
    path.extend(rest);
    Ok(path.join("/"))
}

/// Where a version was in the view, if no other note had its name.
pub(in crate::view) fn old_path(version: &Version, people: &People) -> String {
    let audience = match version.audience() {
        Some(audience) => canonical_name(people, audience),
        None => UNVERIFIED.to_owned(),
    };
    let path = own_path(version);
    format!("{}/{audience}/{path}", Folder::Notes.name())
}

/// A version's own path below its audience, made safe.
pub(in crate::view) fn own_path(version: &Version) -> String {
    let path = version.path.as_deref().unwrap_or_default();
    match std::str::from_utf8(path) {
        Ok(path) if path.split('/').all(is_safe) => path.to_owned(),
        _ => match safe_path(path) {
            parts if parts.is_empty() => version.blob.short(),
            parts => parts.join("/"),
        },
    }
}

pub(in crate::view) fn unknown(path: &str) -> Error {
    let sentence = format!("no note {path} is known, nor any old version of one");
    Error::new(Kind::NotFound, sentence)
}
