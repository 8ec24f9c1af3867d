//! Renaming: editors' backups and replacements, files and directory trees within an audience.
//!
//! A document keeps its id under its new name. A file that is renamed over a document takes over
//! that document's id and place, and one new blob replaces both. A document renamed to a scratch name
//! is a backup: its blob stays until a replacement is published, and it comes back if none is.

use std::ffi::OsStr;

use crate::error::{Error, Kind, Result};
use crate::ids::BlobKind;
use crate::vault::DocKey;
use crate::view::draft::open_file::{Body, Locked, Target};
use crate::view::draft::publish::Destination;
use crate::view::draft::scratch::{Hold, is_scratch};
use crate::view::draft::takeover::Takeover;
use crate::view::error_log::About;
use crate::view::rules::{
    check_new_name, check_path, exists, file_kind, not_found, writable_version,
};
use crate::view::spot::Spot;
use crate::view::tree::{FileRole, Ino, NodeData, Shown};
use crate::view::{Caller, View};

/// How `renameat2(2)` is asked to treat an existing target.
#[derive(Clone, Copy, Debug, Default)]
pub struct RenameMode {
    /// It must not exist (RENAME_NOREPLACE).
    pub no_replace: bool,
    /// The two change places (RENAME_EXCHANGE), or anything else that is not offered.
    pub exotic: bool,
}

impl View {
    /// Renames a file or directory.
    ///
    /// # Errors
    /// `CrossAudience` between audiences, where copying encrypts anew; `ReadOnlyFile` for
    /// received messages; `Exists`; `Invalid` for an exchange; errors of publishing.
    pub fn rename(
        &self,
        parent: Ino,
        name: &OsStr,
        new_parent: Ino,
        new_name: &OsStr,
        mode: RenameMode,
        caller: Caller,
    ) -> Result<()> {
        self.reporting(About::Name(parent, name), || {
            if parent == new_parent && self.respell_key(parent, name, new_name)? {
                return Ok(());
            }
            self.rename_node(parent, name, new_parent, new_name, mode, caller)
        })
    }

    fn rename_node(
        &self,
        parent: Ino,
        name: &OsStr,
        new_parent: Ino,
        new_name: &OsStr,
        mode: RenameMode,
        caller: Caller,
    ) -> Result<()> {
        if mode.exotic {
            return Err(Error::new(
                Kind::Invalid,
                "two files cannot change places here",
            ));
        }
        let ino = self.tree().child(parent, name).ok_or_else(not_found)?;
        let from = self.spot(parent, name)?;
        let to = self.spot(new_parent, new_name)?;
        if !from.same_audience(&to) {
            let rule = "another audience: copy and remove instead, which encrypts anew";
            return Err(Error::new(Kind::CrossAudience, rule));
        }
        check_new_name(new_name)?;
        check_path(&to.path())?;
        let victim = self.tree().child(new_parent, new_name);
        if victim == Some(ino) {
            return Ok(());
        }
        if victim.is_none() {
            self.check_unlike(new_parent, new_name, Some(ino))?;
        }
        if victim.is_some() && mode.no_replace {
            return Err(exists());
        }
        let (held_back, renamed_over) = {
            let tree = self.tree();
            let both = [Some(ino), victim].into_iter().flatten();
            let held_back: Vec<DocKey> = both.filter_map(|ino| tree.held_back(ino)).collect();
            let victim = victim.and_then(|victim| tree.shown(victim));
            (held_back, victim.map(|shown| shown.key.clone()))
        };
        let is_dir = self.tree().dir(ino).is_some();
        if is_dir && self.tree().is_at_or_below(new_parent, ino) {
            let rule = "a directory is not moved into itself";
            return Err(Error::new(Kind::Invalid, rule));
        }
        if is_dir {
            self.tree().note_directory_renamed(true);
            let renamed = self.rename_directory(ino, &to, victim);
            self.tree().note_directory_renamed(false);
            renamed?;
        } else {
            self.check_victim(victim)?;
            // Programs that have it open go on, and nothing of it is published any more.
            let replaced = victim.and_then(|victim| self.hold_open(victim));
            if let Some(replaced) = &replaced {
                replaced.lock().begin_renaming_over();
            }
            let renamed = self.rename_file(ino, &from, &to, victim, caller);
            if let Some(replaced) = &replaced {
                match &renamed {
                    Ok(()) => replaced.lock().remove(),
                    Err(_) => replaced.lock().keep(),
                }
            }
            drop(replaced);
            renamed?;
            self.note_written(caller.reader, ino);
        }
        let people = self.vault.people();
        let mut tree = self.tree();
        self.keep_emptied(&mut tree, parent);
        tree.note_freed();
        // A document comes back whose backup, coming replacement or place is gone.
        for key in held_back {
            let document = self.vault.document(&key);
            tree.apply(vec![(key, document)], &people);
        }
        drop(tree);
        // A victim is not replaced if its writer saw another document there: show it again.
        if let Some(key) = renamed_over {
            self.show_again(&key);
        }
        self.show_changes();
        Ok(())
    }

    /// Checks whether a file may be renamed over the victim.
    fn check_victim(&self, victim: Option<Ino>) -> Result<()> {
        let Some(victim) = victim else {
            return Ok(());
        };
        let tree = self.tree();
        if tree.dir(victim).is_some() {
            return Err(Error::new(Kind::IsDirectory, "a directory has that name"));
        }
        match tree.shown(victim) {
            Some(Shown {
                head: Some(head), ..
            }) => writable_version(&head.version),
            Some(Shown { head: None, .. }) | None => Ok(()),
        }
    }

    fn rename_file(
        &self,
        ino: Ino,
        from: &Spot,
        to: &Spot,
        victim: Option<Ino>,
        caller: Caller,
    ) -> Result<()> {
        let role = match &self.tree().get(ino).ok_or_else(not_found)?.data {
            NodeData::File(file) => Some(file.role.clone()),
            NodeData::Dir(_) | NodeData::Alias(_) => None,
        };
        let scratch = is_scratch(&to.name);
        match role {
            // An editor's lock, which is in memory only.
            None if !scratch => {
                let rule = "only editors' locks may be symbolic links, and they are kept in memory only: \
                            what is renamed here must be a file";
                Err(Error::new(Kind::Forbidden, rule))
            }
            None => {
                self.move_node(ino, to, victim);
                Ok(())
            }
            Some(FileRole::Scratch | FileRole::Backup(..)) if scratch => {
                self.move_node(ino, to, victim);
                Ok(())
            }
            Some(FileRole::Scratch) => self.publish_as(ino, to, victim, caller),
            Some(FileRole::Backup(shown, origin)) => {
                let replaced = victim.is_some_and(|v| self.tree().is_published(v));
                let own = origin.is(to.parent, OsStr::new(&to.name));
                if own && !replaced && self.is_untouched(ino, &shown)? {
                    self.restore_backup(ino, shown, to, victim);
                    Ok(())
                } else {
                    self.publish_as(ino, to, victim, caller)
                }
            }
            Some(FileRole::Document(shown)) => {
                if let Some(head) = &shown.head {
                    writable_version(&head.version)?;
                }
                if !scratch {
                    self.publish_as(ino, to, victim, caller)
                } else if shown.head.is_none() && self.make_scratch(ino, to, victim) {
                    Ok(())
                } else {
                    self.make_backup(ino, from, to, victim)
                }
            }
            Some(
                FileRole::Key(_)
                | FileRole::Software(_)
                | FileRole::Status
                | FileRole::Errors
                | FileRole::Rescued(_),
            ) => Err(not_found()),
        }
    }

    fn move_node(&self, ino: Ino, to: &Spot, victim: Option<Ino>) {
        let mut tree = self.tree();
        if let Some(victim) = victim {
            tree.detach(victim);
        }
        tree.relocate(ino, to.parent, OsStr::new(&to.name));
    }

    /// A file that was never published becomes scratch. Tells whether it is one: a publication
    /// under way, as that of a file just closed, ends first.
    fn make_scratch(&self, ino: Ino, to: &Spot, victim: Option<Ino>) -> bool {
        let open = self.tree().file(ino).and_then(|file| file.open.clone());
        if let Some(open) = open {
            let mut body = open.lock();
            if self.tree().is_published(ino) {
                return false;
            }
            body.set_hold(Hold::No);
            body.set_target(Target::Scratch);
            body.note_saved();
        }
        self.move_node(ino, to, victim);
        let mut tree = self.tree();
        tree.set_role(ino, FileRole::Scratch);
        true
    }

    /// A document is renamed away as a backup: its content stays in RAM under the scratch name,
    /// its blob in the store until a replacement is published.
    fn make_backup(&self, ino: Ino, from: &Spot, to: &Spot, victim: Option<Ino>) -> Result<()> {
        let held = self.hold(ino)?;
        let shown = {
            let mut body = held.lock();
            let shown = self.tree().shown(ino).cloned().ok_or_else(not_found)?;
            body.set_target(Target::Scratch);
            body.note_saved();
            shown
        };
        self.move_node(ino, to, victim);
        // A version that arrived while it was a draft may have replaced it.
        self.show_again(&shown.key);
        let mut tree = self.tree();
        tree.set_backup(ino, shown, from.parent, OsStr::new(&from.name));
        drop(tree);
        Ok(())
    }

    /// Tells whether a backup still holds the published content.
    fn is_untouched(&self, ino: Ino, shown: &Shown) -> Result<bool> {
        let open = self.tree().file(ino).and_then(|file| file.open.clone());
        let Some((open, head)) = open.zip(shown.head.as_ref()) else {
            return Ok(true);
        };
        let body = open.lock();
        let same_mode = head.version.kind == BlobKind::Message
            || head.version.mode.unwrap_or(0o6) == body.mode();
        Ok(same_mode && head.version.digest == Some(body.content().digest()?))
    }

    /// A backup comes back under its own name: nothing was published in its place.
    fn restore_backup(&self, ino: Ino, shown: Shown, to: &Spot, victim: Option<Ino>) {
        self.move_node(ino, to, victim);
        let open = {
            let mut tree = self.tree();
            tree.set_role(ino, FileRole::Document(shown.clone()));
            tree.file(ino).and_then(|file| file.open.clone())
        };
        let target = shown
            .head
            .as_ref()
            .map(|head| self.target(ino, &shown.key, head));
        if let (Some(open), Some(target)) = (open, target) {
            let mut body = open.lock();
            body.note_saved();
            body.set_target(target);
        }
        self.drop_if_idle(ino);
    }

    /// Publishes a file under another name, taking over the document that has it.
    pub(in crate::view) fn publish_as(
        &self,
        ino: Ino,
        to: &Spot,
        victim: Option<Ino>,
        caller: Caller,
    ) -> Result<()> {
        let takeover = self.takeover(to, victim, caller);
        let backup = self.unreplaced(ino);
        let file = self.hold(ino)?;
        let mut body = file.lock();
        let splits = takeover.is_none() && self.is_one_of_several(ino);
        let before = self.retarget(&mut body, to, takeover, backup, splits);
        let hold = Hold::under(&to.name);
        let is_held = hold != Hold::No && victim.is_none() && !self.tree().is_published(ino);
        // A program goes on a moment before its close has ended here.
        let closed = body.is_held() && body.left().is_some();
        if is_held || (self.has_writer(ino) && self.nothing_to_move(ino) && !closed) {
            // Still being written, or not under its last name yet: it is published under its new
            // name when it is closed.
            body.note_moved();
            body.set_hold(hold);
            body.note_left();
            self.retarget_node(ino, to, victim, &body);
            return Ok(());
        }
        let to = Destination { spot: to, victim };
        self.publish_moved(ino, &mut body, &to, before)?;
        body.set_hold(Hold::No);
        Ok(())
    }

    /// Tells whether a file is a conflict copy, and not the only version that is left.
    fn is_one_of_several(&self, ino: Ino) -> bool {
        let key = match self.tree().file(ino).map(|file| &file.role) {
            Some(FileRole::Document(shown) | FileRole::Backup(shown, _)) if shown.is_conflict => {
                shown.key.clone()
            }
            _ => return false,
        };
        let document = self.vault.document(&key);
        document.is_some_and(|document| document.heads().len() > 1)
    }

    /// Points an open file at its new place. Returns where it pointed.
    fn retarget(
        &self,
        body: &mut Locked<'_>,
        to: &Spot,
        takeover: Option<Takeover>,
        backup: Option<Takeover>,
        splits: bool,
    ) -> Target {
        let kind = file_kind(to.folder);
        let (own_doc, mut base) = match (body.target(), backup) {
            (Target::Document { doc, base, .. }, _) => (Some(*doc), base.clone()),
            (_, Some(backup)) => (Some(backup.doc), backup.base),
            (Target::Scratch | Target::Key(_) | Target::Nowhere, None) => (None, Vec::new()),
        };
        // A conflict copy under a name of its own is a document of its own.
        let own_doc = own_doc.filter(|_| !splits);
        let mut doc = own_doc.unwrap_or_else(|| self.vault.new_doc_id());
        let (mut path, mut settles) = (to.path(), Vec::new());
        if let Some(takeover) = takeover {
            doc = takeover.doc;
            // The replaced document first: its bytes decide whether anything changed.
            base = takeover.base.into_iter().chain(base).collect();
            path = takeover.path.unwrap_or(path);
            settles = takeover.settles;
        }
        let before = body.set_target(Target::Document {
            kind,
            audience: to.audience.clone(),
            path,
            doc,
            base,
        });
        body.set_settles(settles);
        before
    }

    fn retarget_node(&self, ino: Ino, to: &Spot, victim: Option<Ino>, body: &Body) {
        let (key, hides) = match body.target() {
            Target::Document {
                kind,
                audience,
                doc,
                base,
                ..
            } => (
                self.vault.doc_key(*kind, audience, *doc),
                base.iter().map(|version| version.id).collect(),
            ),
            Target::Scratch | Target::Key(_) | Target::Nowhere => return,
        };
        self.move_node(ino, to, victim);
        let shown = Shown {
            key,
            head: None,
            is_conflict: false,
            hides,
        };
        self.tree().set_role(ino, FileRole::Document(shown));
    }
}
