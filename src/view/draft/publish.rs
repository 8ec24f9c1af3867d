//! Saves drafts where they belong, and shows the published versions.

use std::ffi::OsStr;
use std::sync::Arc;

use crate::error::Result;
use crate::ids::{BlobKind, Timestamp};
use crate::plaintext::Plaintext;
use crate::vault::{DocKey, Head, KEY_FILE_LIMIT, Publication, Version};
use crate::view::View;
use crate::view::draft::open_file::{Locked, Target};
use crate::view::rules::document_mode;
use crate::view::spot::Spot;
use crate::view::tree::{FileRole, Ino, Shown};

/// The place to which a file is renamed, and the node that has the name there.
pub(in crate::view) struct Destination<'a> {
    pub(in crate::view) spot: &'a Spot,
    pub(in crate::view) victim: Option<Ino>,
}

/// A publication at another place.
struct Moving<'a> {
    to: &'a Destination<'a>,
    /// The version that is published instead of the draft.
    version: Option<MovedVersion>,
}

/// A version that is published anew.
struct MovedVersion {
    content: Arc<Plaintext>,
    mtime: Timestamp,
    mode: u32,
}

impl View {
    /// Saves an open file where it belongs. The file is locked, so that two closes make one version
    /// each, in order.
    pub(in crate::view) fn publish(&self, ino: Ino, body: &mut Locked<'_>) -> Result<()> {
        if body.is_unlinked() {
            body.note_missed();
            return Ok(());
        }
        if body.is_held() {
            return Ok(()); // It stays a draft.
        }
        let saved = match body.target() {
            Target::Scratch | Target::Nowhere => Ok(()),
            Target::Key(name) => {
                // One byte more than is allowed, so that it is refused and not cut.
                let bytes = body.content().read_at(0, KEY_FILE_LIMIT as usize + 1);
                let stored = bytes.and_then(|bytes| self.vault.put_key(name, &bytes));
                stored.map(|stored| {
                    self.show_stored_key(ino, &stored);
                    body.set_target(Target::Key(stored));
                })
            }
            Target::Document { .. } => self.publish_document(ino, body, None),
        };
        match saved {
            Ok(()) => {
                body.note_saved();
                self.show_changes();
                Ok(())
            }
            Err(error) => {
                body.note_failed(error.kind());
                Err(error)
            }
        }
    }

    /// Publishes a file at the place to which its target was changed. Its node moves there at the
    /// moment of publication. If that fails, the target is as it was before.
    ///
    /// A file that is still being written stays a draft: the version that was published moves, and the
    /// draft is published when it is closed.
    pub(in crate::view) fn publish_moved(
        &self,
        ino: Ino,
        body: &mut Locked<'_>,
        to: &Destination<'_>,
        before: Target,
    ) -> Result<()> {
        if body.is_unlinked() {
            body.note_missed();
            return Ok(());
        }
        let published = self.version_to_move(ino, body).and_then(|version| {
            let unfinished = version.is_some();
            let moving = Moving { to, version };
            self.publish_document(ino, body, Some(&moving))?;
            if !unfinished {
                body.note_saved();
            }
            self.show_changes();
            Ok(())
        });
        if published.is_err() {
            body.set_target(before);
            body.set_settles(Vec::new());
        }
        published
    }

    fn publish_document(
        &self,
        ino: Ino,
        body: &mut Locked<'_>,
        moving: Option<&Moving<'_>>,
    ) -> Result<()> {
        let Target::Document {
            kind,
            audience,
            path,
            doc,
            base,
        } = body.target()
        else {
            return Ok(());
        };
        let version = moving.and_then(|moving| moving.version.as_ref());
        let own = version.is_none().then(|| body.content());
        let (content, mtime, mode): (&Plaintext, _, _) = match (version, &own) {
            (Some(version), _) => (&version.content, version.mtime, version.mode),
            (None, Some(own)) => (own, body.mtime(), body.mode()),
            (None, None) => unreachable!("it is the draft unless it is a version"),
        };
        let digest = content.digest()?;
        let unchanged = self.is_saved(base, digest);
        let touched = body.has_new_attributes() && *kind == BlobKind::Note;
        let never = self.tree().is_never_published(ino);
        let nothing_new = unchanged && !touched && !body.has_new_place() && moving.is_none();
        if nothing_new && (!never || self.continue_backup(ino, base, path, mode)) {
            // A version that arrived while it was a draft takes its place now.
            if let Some(shown) = self.tree().shown(ino) {
                self.show_again(&shown.key);
            }
            return Ok(());
        }
        // Only a change of a conflict copy settles the conflict, and that of its own document.
        let key = self.vault.doc_key(*kind, audience, *doc);
        let settles = body.settles().iter().filter(|_| !unchanged);
        let settles = settles.filter(|other| other.key == key);
        let settles = settles.filter(|other| base.iter().all(|own| own.id != other.id));
        let replaces: Vec<_> = base.iter().chain(settles).cloned().collect();
        let published = self.vault.publish(&Publication {
            kind: *kind,
            audience,
            path,
            doc: *doc,
            replaces: &replaces,
            content,
            mtime,
            mode: (*kind == BlobKind::Note && mode != 0o6).then_some(mode),
        })?;
        drop(own);
        self.note_content_published(digest, audience, published.versions());
        let head = published.head();
        let to = moving.map(|moving| moving.to);
        let before = self.show_published(ino, head, to, !unchanged);
        for key in before {
            self.show_again(&key);
        }
        self.note_publication(ino, published.versions(), &replaces);
        self.note_made_here(published.versions(), &replaces);
        let versions = published.versions().to_vec();
        body.set_settles(Vec::new());
        body.update_target(|_, _, base| *base = versions);
        Ok(())
    }

    /// Tells whether the store holds a content as the version that a draft is based on. One
    /// reader's copy of a message is enough: another reader may have removed theirs.
    fn is_saved(&self, base: &[Arc<Version>], digest: [u8; 32]) -> bool {
        base.first().is_some_and(|first| {
            let alike = |one: &Version| {
                one.key == first.key && one.path == first.path && one.digest == Some(digest)
            };
            base.iter().any(|one| alike(one) && self.vault.has(one))
        })
    }

    /// Lets a new file that holds the same as the backup of its name be the document again, so
    /// that nothing need be published. Tells whether it could.
    fn continue_backup(&self, ino: Ino, base: &[Arc<Version>], path: &str, mode: u32) -> bool {
        let first = &base[0];
        let same = first.path.as_deref() == Some(path.as_bytes())
            && (first.kind == BlobKind::Message || first.mode.unwrap_or(0o6) == mode);
        let mut tree = self.tree();
        let mut nodes = tree.by_document.get(&first.key).into_iter().flatten();
        let backup = nodes.find_map(|ino| match &tree.file(*ino)?.role {
            FileRole::Backup(shown, _) => {
                let head = shown.head.as_ref()?;
                let is_base = base.iter().any(|one| one.id == head.version.id);
                is_base.then(|| (*ino, shown.clone()))
            }
            _ => None,
        });
        let Some((backup, shown)) = backup.filter(|_| same) else {
            return false;
        };
        tree.set_role(backup, FileRole::Scratch);
        tree.set_role(ino, FileRole::Document(shown));
        true
    }

    /// Lets the node that was saved show the new version under its own number and name. Returns
    /// the documents that it showed or held back until now.
    pub(in crate::view) fn show_published(
        &self,
        ino: Ino,
        head: Head,
        to: Option<&Destination<'_>>,
        changed: bool,
    ) -> Vec<DocKey> {
        let people = self.vault.people();
        let mut tree = self.tree();
        let is_conflict = match to {
            None => tree.shown(ino).is_some_and(|shown| shown.is_conflict),
            // A file that takes over a conflict copy keeps the document's path.
            Some(to) => head.version.path.as_deref() != Some(to.spot.path().as_bytes()),
        };
        if let Some(Destination { spot, victim }) = to {
            if let Some(victim) = victim {
                tree.detach(*victim);
            }
            tree.relocate(ino, spot.parent, OsStr::new(&spot.name));
        }
        let mut before: Vec<_> = tree
            .shown(ino)
            .map(|shown| shown.key.clone())
            .into_iter()
            .collect();
        let shown = Shown {
            key: head.version.key.clone(),
            head: Some(head),
            is_conflict,
            hides: Vec::new(),
        };
        tree.set_role(ino, FileRole::Document(shown));
        // The file took the place of a backup, whether it replaces it or not; a file without a name
        // any more took none.
        let named = tree.get(ino).filter(|_| tree.is_attached(ino));
        let name = named.map(|node| (node.parent, node.name.clone()));
        let backup = name.and_then(|(parent, name)| tree.backup_of(parent, &name));
        if let Some((backup, shown)) = backup {
            tree.set_role(backup, FileRole::Scratch);
            before.push(shown.key);
        }
        if changed {
            self.name_settled(&mut tree, ino, &people);
        }
        before
    }

    /// Tells whether there is no version that could move: never published, or gone meanwhile.
    pub(in crate::view) fn nothing_to_move(&self, ino: Ino) -> bool {
        let shown = self.tree().shown(ino).cloned();
        shown.is_some_and(|shown| {
            let head = shown.head.as_ref();
            !head.is_some_and(|head| head.blobs().any(|blob| self.vault.has(blob)))
        })
    }

    /// The version that was published, if somebody is still writing the file.
    fn version_to_move(&self, ino: Ino, body: &Locked<'_>) -> Result<Option<MovedVersion>> {
        let head = {
            let tree = self.tree();
            tree.shown(ino).and_then(|shown| shown.head.clone())
        };
        let Some(head) = head.filter(|_| body.has_unsaved_content() && self.has_writer(ino)) else {
            return Ok(None);
        };
        Ok(Some(MovedVersion {
            content: self.vault.content(&head.version)?,
            mtime: head.version.mtime,
            mode: document_mode(&head.version),
        }))
    }
}
