//! Restoring old versions of notes.
//!
//! An old version is published anew, as a save by me is, in the place of the version that is there
//! now.

use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobKind, BlobName};
use crate::plaintext::Plaintext;
use crate::vault::{Audience, Publication, Version};
use crate::view::View;
use crate::view::history::list::{NoteHistory, NoteVersion, old_path, own_path, unknown};

/// The outcome of restoring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Where it is shown.
    pub path: String,
    /// The version that was restored.
    pub version: BlobName,
    /// `false` if the note is just so already, and nothing was published.
    pub changed: bool,
}

impl View {
    /// Restores a version of the note that has or had a path: the one of that number in
    /// [`View::history`], or of that blob name, of which 8 digits or more will do. Without: of a
    /// note that is gone the last one, else the one before the present one.
    ///
    /// # Errors
    /// `NotFound`; `Forbidden` if nobody vouches for it or a newer program made it; as
    /// [`crate::vault::Vault::publish`] for its readers. If it is for its readers, the sentence
    /// names the file in the history.
    pub fn restore(&self, path: &str, which: Option<&str>) -> Result<Restored> {
        let _use = self.last_use.begin();
        let people = self.vault.people();
        let (path, found) = self.find_old(path, &people)?;
        let (document, one) = match which {
            Some(which) => choose(&found, which)?,
            None => choose_last(&found, &path)?,
        };
        self.restore_one(&found, document, one)
            .map_err(|error| self.with_way_out(error, &one.version))
    }

    /// Names the file of a version that cannot be published: its reader has the key to open it.
    fn with_way_out(&self, error: Error, version: &Version) -> Error {
        use Kind::{Forbidden, KeyExpired, KeyRejected, KeyRevoked, NoKey};
        let about_people = matches!(
            error.kind(),
            Forbidden | NoKey | KeyExpired | KeyRevoked | KeyRejected
        );
        match self.vault.past_file(version).filter(|_| about_people) {
            Some(file) => {
                let sentence = format!("{error}; gpg -d opens what it was: {file}");
                Error::new(error.kind(), sentence)
            }
            None => error,
        }
    }

    fn restore_one(
        &self,
        found: &[NoteHistory],
        document: &NoteHistory,
        one: &NoteVersion,
    ) -> Result<Restored> {
        let version = &one.version;
        let Some(audience) = version.audience().cloned() else {
            let nobody = "nobody known vouches for this version, so there is nobody to restore it \
                          for";
            return Err(Error::new(Kind::Forbidden, nobody));
        };
        if version.newer_format {
            let newer = "this version was made by a newer program";
            return Err(Error::new(Kind::Forbidden, newer));
        }
        let target = target_of(found, document, version);
        let done = |path: String, changed| Restored {
            path,
            version: version.blob,
            changed,
        };
        if let Some((ino, head)) = &target.shown {
            let same = version.digest.is_some() && head.version.digest == version.digest;
            if same && head.version.audience() == Some(&audience) {
                return Ok(done(self.tree().path(*ino), false));
            }
        }
        let content = match one.past {
            Some(_) => Arc::new(self.vault.past_content(version)?),
            None => self.vault.content(version)?,
        };
        let path = self.publish_old(target, version, &audience, &content)?;
        for old in document.versions.iter().filter(|one| one.past.is_some()) {
            self.vault.take_back_removal(&old.version)?;
        }
        Ok(done(path, true))
    }

    /// Publishes an old version anew and returns where it is shown.
    fn publish_old(
        &self,
        target: &NoteHistory,
        version: &Version,
        audience: &Audience,
        content: &Plaintext,
    ) -> Result<String> {
        let doc = self.doc_of(&target.key);
        let key = self.vault.doc_key(BlobKind::Note, audience, doc);
        let path = match &target.shown {
            Some((ino, head)) => self.saved_path(*ino, &head.version),
            None => own_path(version),
        };
        let shown = target.shown.iter().flat_map(|(_, head)| head.blobs());
        let mut replaces: Vec<_> = shown.cloned().collect();
        if target.shown.is_none() {
            // Should a peer that was away bring one of them back, it is superseded.
            let past = target.versions.iter().map(|one| &one.version);
            replaces.extend(past.filter(|old| old.key == key).cloned());
        }
        let published = self.vault.publish(&Publication {
            kind: BlobKind::Note,
            audience,
            path: &path,
            doc,
            replaces: &replaces,
            content,
            mtime: version.mtime,
            mode: version.mode,
        })?;
        let restored = published.head().version;
        if let Some(digest) = version.digest {
            self.note_content_published(digest, audience, published.versions());
        }
        drop(published);
        self.show_changes();
        let tree = self.tree();
        let shown = tree.shown_by(&restored).map(|ino| tree.path(ino));
        drop(tree);
        Ok(shown.unwrap_or_else(|| old_path(version, &self.vault.people())))
    }
}

/// The document that a version is restored into: its own, unless it is gone and another one was
/// made from it, as when a note by gpg was saved here.
fn target_of<'a>(
    found: &'a [NoteHistory],
    document: &'a NoteHistory,
    version: &Version,
) -> &'a NoteHistory {
    let made_from_it = |found: &&NoteHistory| {
        let shown = found.shown.as_ref();
        shown.is_some_and(|(_, head)| {
            let mut blobs = head.blobs();
            blobs.any(|blob| blob.replaces.contains(&version.blob))
                && head.version.place == version.place
        })
    };
    match document.shown {
        Some(_) => document,
        None => found.iter().find(made_from_it).unwrap_or(document),
    }
}

/// All versions of all documents, in the order of the list.
fn all(found: &[NoteHistory]) -> impl Iterator<Item = (&NoteHistory, &NoteVersion)> {
    fn versions(document: &NoteHistory) -> impl Iterator<Item = (&NoteHistory, &NoteVersion)> {
        document.versions.iter().map(move |one| (document, one))
    }
    found.iter().flat_map(versions)
}

/// Finds the version of a number or a name.
fn choose<'a>(found: &'a [NoteHistory], which: &str) -> Result<(&'a NoteHistory, &'a NoteVersion)> {
    let missing = || {
        let sentence = format!("no version {which} of it is kept");
        Error::new(Kind::NotFound, sentence)
    };
    if which.len() < 8 {
        let number: usize = which.parse().map_err(|_| {
            let sentence = "a version is a number of the list, or 8 digits or more of its name";
            Error::new(Kind::Invalid, sentence)
        })?;
        let index = number.checked_sub(1).ok_or_else(missing)?;
        return all(found).nth(index).ok_or_else(missing);
    }
    let which = which.to_ascii_lowercase();
    let mut named = all(found).filter(|(_, one)| one.version.blob.to_string().starts_with(&which));
    match (named.next(), named.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(missing()),
        (Some(_), Some(_)) => {
            let sentence = format!("several versions begin with {which}");
            Err(Error::new(Kind::Invalid, sentence))
        }
    }
}

/// Finds the version before the present one, or the last one of a note that is gone.
fn choose_last<'a>(
    found: &'a [NoteHistory],
    path: &str,
) -> Result<(&'a NoteHistory, &'a NoteVersion)> {
    let first = found.first().ok_or_else(|| unknown(path))?;
    if let Some((_, head)) = first.shown.as_ref().filter(|_| first.at == path) {
        let blobs = || head.blobs().flat_map(|blob| &blob.replaces);
        let called = |name| all(found).find(|(_, one)| one.names.contains(name));
        let parent = blobs().find_map(called);
        let older = || {
            let mut old = first.versions.iter();
            old.find(|one| one.past.is_some() && !first.is_current(&one.version))
        };
        let older = parent.or_else(|| older().map(|one| (first, one)));
        return older.ok_or_else(|| {
            let sentence = format!("no older version of {path} is kept");
            Error::new(Kind::NotFound, sentence)
        });
    }
    let mut gone = found.iter().filter(|found| found.shown.is_none());
    let gone = gone.find_map(|found| {
        let mut versions = found.versions.iter();
        let last = versions.find(|one| one.past.is_some())?;
        (last.path == path).then_some((found, last))
    });
    gone.ok_or_else(|| {
        let sentence = format!("{path} was renamed: name the version that you want");
        Error::new(Kind::NotFound, sentence)
    })
}
