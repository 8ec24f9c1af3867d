//! Saves drafts where they belong, and shows what was published.

use std::ffi::OsStr;
use std::sync::Arc;

use crate::error::Result;
use crate::ids::BlobKind;
use crate::vault::{DocKey, Head, KEY_FILE_LIMIT, Publication, Version};
use crate::view::draft::state::{Body, Stat, Target, Unfinished};
use crate::view::rules::document_mode;
use crate::view::spot::Spot;
use crate::view::tree::{FileRole, Ino, Shown};
use crate::view::{View, lock};

impl View {
    /// Saves an open file where it belongs. The body's lock is held, so that two closes make one
    /// version each, in order.
    pub(in crate::view) fn publish(&self, ino: Ino, body: &mut Body) -> Result<()> {
        self.publish_placed(ino, body, None)
    }

    /// As [`View::publish`]; the node moves to its new name at the moment it is published.
    pub(in crate::view) fn publish_placed(
        &self,
        ino: Ino,
        body: &mut Body,
        place: Option<(&Spot, Option<Ino>)>,
    ) -> Result<()> {
        if body.unlinked {
            body.miss_save();
            return Ok(());
        }
        if place.is_none() && body.is_held() {
            return Ok(()); // It stays a draft.
        }
        let saved = match &body.target {
            Target::Scratch | Target::Nowhere => Ok(()),
            Target::Key(name) => {
                // One byte more than is allowed, so that it is refused and not cut.
                let bytes = body.read(0, KEY_FILE_LIMIT as usize + 1);
                let stored = bytes.and_then(|bytes| self.vault.put_key(name, &bytes));
                stored.map(|stored| {
                    self.show_stored_key(ino, &stored);
                    body.target = Target::Key(stored);
                })
            }
            Target::Document { .. } => self.publish_document(ino, body, place),
        };
        match saved {
            Ok(()) => {
                body.saved();
                if let Some(file) = self.tree().file_mut(ino) {
                    file.draft = false;
                }
                self.show_changes();
                Ok(())
            }
            Err(error) => {
                body.failed = Some(error.kind());
                Err(error)
            }
        }
    }

    fn publish_document(
        &self,
        ino: Ino,
        body: &mut Body,
        place: Option<(&Spot, Option<Ino>)>,
    ) -> Result<()> {
        let Target::Document {
            kind,
            audience,
            path,
            doc,
            base,
        } = &body.target
        else {
            return Ok(());
        };
        let digest = body.content().digest()?;
        let unchanged = self.is_saved(base, digest);
        let touched = body.touched && *kind == BlobKind::Note;
        let never = self.tree().is_never_published(ino);
        let nothing_new = unchanged && !touched && !body.moved;
        if nothing_new && (!never || self.continue_backup(ino, base, path, body.mode)) {
            // What arrived while it was a draft takes its place now.
            if let Some(shown) = self.tree().shown(ino) {
                self.show_again(&shown.key);
            }
            return Ok(());
        }
        // Only a change of a conflict copy settles the conflict, and that of its own document.
        let key = self.vault.doc_key(*kind, audience, *doc);
        let settles = body.settles.iter().filter(|_| !unchanged);
        let settles = settles.filter(|other| other.key == key);
        let settles = settles.filter(|other| base.iter().all(|own| own.id != other.id));
        let replaces: Vec<_> = base.iter().chain(settles).cloned().collect();
        let published = self.vault.publish(&Publication {
            kind: *kind,
            audience,
            path,
            doc: *doc,
            replaces: &replaces,
            content: body.content(),
            mtime: body.mtime,
            mode: (*kind == BlobKind::Note && body.mode != 0o6).then_some(body.mode),
        })?;
        lock(&self.published)
            .entry(digest)
            .or_default()
            .push(audience.clone());
        let head = published.head();
        let before = self.show_published(ino, head, place, !unchanged);
        for key in before {
            self.show_again(&key);
        }
        self.note_publication(ino, published.versions(), &replaces);
        self.note_made_here(published.versions(), &replaces);
        body.settles.clear();
        if let Target::Document { base, .. } = &mut body.target {
            *base = published.versions().to_vec();
        }
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
        let backup = tree.files().find_map(|(ino, file)| match &file.role {
            FileRole::Backup(shown, _) => {
                let head = shown.head.as_ref()?;
                let is_base = base.iter().any(|one| one.id == head.version.id);
                (is_base && shown.key == first.key).then(|| (ino, shown.clone()))
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
        place: Option<(&Spot, Option<Ino>)>,
        changed: bool,
    ) -> Vec<DocKey> {
        let people = self.vault.people();
        let mut tree = self.tree();
        let is_conflict = match place {
            None => tree.shown(ino).is_some_and(|shown| shown.is_conflict),
            // What takes over a conflict copy keeps the document's path.
            Some((spot, _)) => head.version.path.as_deref() != Some(spot.path().as_bytes()),
        };
        if let Some((spot, victim)) = place {
            if let Some(victim) = victim {
                tree.drop_draft(victim);
                tree.detach(victim);
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
        // Something took its place, whether it replaces it or not.
        let name = tree.get(ino).map(|node| (node.parent, node.name.clone()));
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

    /// Publishes a file whose target was changed. What somebody is still writing to it does not
    /// go with it: the version that was published moves, and the draft is published when it is
    /// closed.
    pub(in crate::view) fn publish_moved(
        &self,
        ino: Ino,
        body: &mut Body,
        place: Option<(&Spot, Option<Ino>)>,
    ) -> Result<()> {
        let unfinished = self.set_aside_unfinished(ino, body);
        let published = unfinished.and_then(|unfinished| {
            let published = self.publish_placed(ino, body, place);
            if let Some(unfinished) = unfinished {
                body.take_up(unfinished);
                if let Some(file) = self.tree().file_mut(ino) {
                    file.draft = true;
                }
            }
            published
        });
        match &published {
            Ok(()) => body.accept_target(),
            Err(_) => body.revert_target(),
        }
        published
    }

    /// Tells whether there is no version that could move: never published, or gone meanwhile.
    pub(in crate::view) fn nothing_to_move(&self, ino: Ino) -> bool {
        let shown = self.tree().shown(ino).cloned();
        shown.is_some_and(|shown| {
            let head = shown.head.as_ref();
            !head.is_some_and(|head| head.blobs().any(|blob| self.vault.has(blob)))
        })
    }

    fn set_aside_unfinished(&self, ino: Ino, body: &mut Body) -> Result<Option<Unfinished>> {
        let head = {
            let tree = self.tree();
            tree.shown(ino).and_then(|shown| shown.head.clone())
        };
        let unsaved = body.written || body.fresh || body.touched;
        let Some(head) = head.filter(|_| unsaved && self.has_writer(ino)) else {
            return Ok(None);
        };
        let content = self.vault.content(&head.version)?;
        let stat = Stat {
            size: content.len(),
            mtime: head.version.mtime,
            mode: document_mode(&head.version),
        };
        Ok(Some(body.set_aside(content, stat)))
    }
}
