//! Renaming a directory among notes: everything in it is published under its new path.

use std::ffi::OsStr;

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobKind, Folder, Timestamp};
use crate::plaintext::Plaintext;
use crate::vault::{Audience, DocKey, Head, Publication};
use crate::view::file::Target;
use crate::view::open::{check_path, no_files_here, writable_version};
use crate::view::place::join;
use crate::view::rename::Spot;
use crate::view::tree::{Ino, Role, Tree};
use crate::view::{View, not_found};

impl View {
    /// Renames a directory among notes: everything in it is published under its new path.
    pub(super) fn rename_directory(&self, ino: Ino, to: &Spot, victim: Option<Ino>) -> Result<()> {
        let old_path = match self.tree().dir(ino).map(|dir| dir.role.clone()) {
            Some(Role::Sub(_, path)) => path,
            Some(_) => return Err(Error::new(Kind::Busy, "this directory always exists")),
            None => return Err(not_found()),
        };
        if to.folder == Folder::Messages {
            return Err(no_files_here(&Role::Audience(
                to.folder,
                to.audience.clone(),
            )));
        }
        if let Some(victim) = victim {
            if self.tree().dir(victim).is_none() {
                return Err(Error::new(Kind::NotDirectory, "a file has that name"));
            }
            self.rmdir_quietly(to.parent, OsStr::new(&to.name))?;
        }
        self.vault.check_audience(&to.audience)?;
        let inside = self.tree().below(ino);
        self.check_movable(&inside)?;
        let new_path = to.path();
        let mut moved = Vec::new();
        let mut failure = None;
        for node in inside {
            match self.republish_below(node, &old_path, &new_path, &to.audience) {
                Ok(keys) => moved.extend(keys.into_iter().map(|key| (node, key))),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let mut tree = self.tree();
        match failure {
            None => {
                tree.relocate(ino, to.parent, OsStr::new(&to.name));
                tree.change_paths(ino, &old_path, &new_path);
                Ok(())
            }
            Some(error) => {
                // What was already published stands where its blob says.
                let people = self.vault.people();
                for (node, key) in moved {
                    if tree.file(node).is_some() {
                        tree.detach(node);
                    }
                    let document = self.vault.document(&key);
                    tree.apply(vec![(key, document)], &people);
                }
                Err(error.context("only a part of the directory was moved"))
            }
        }
    }

    /// Checks that everything in a directory may be published anew.
    fn check_movable(&self, inside: &[Ino]) -> Result<()> {
        let tree = self.tree();
        for ino in inside {
            let shown = tree.shown(*ino).and_then(|shown| shown.head.as_ref());
            let markers = tree.dir(*ino).into_iter().flat_map(|dir| &dir.markers);
            for head in shown.into_iter().chain(markers.map(|(_, head)| head)) {
                writable_version(&head.version)?;
            }
        }
        Ok(())
    }

    /// Publishes one file or a directory's markers under the path below the renamed directory.
    /// Returns the documents of which there was something to publish.
    fn republish_below(
        &self,
        ino: Ino,
        old: &str,
        new: &str,
        audience: &Audience,
    ) -> Result<Vec<DocKey>> {
        let changed = |path: &str| format!("{new}{}", path.strip_prefix(old).unwrap_or_default());
        let (markers, shown, own) = {
            let tree = self.tree();
            let markers = tree.dir(ino).and_then(|dir| {
                let Role::Sub(_, path) = &dir.role else {
                    return None;
                };
                Some((dir.markers.clone(), changed(path)))
            });
            let directory = tree
                .get(ino)
                .and_then(|node| match &tree.dir(node.parent)?.role {
                    Role::Sub(_, path) => Some(changed(path)),
                    _ => None,
                });
            let name = tree
                .get(ino)
                .map(|node| node.name.to_string_lossy().into_owned());
            let own = directory.zip(name).map(|(dir, name)| join(&dir, &name));
            (markers, tree.shown(ino).cloned(), own)
        };
        if let Some((markers, path)) = markers {
            let again = markers
                .iter()
                .map(|(key, head)| self.republish_marker(ino, key, head, &path, audience));
            return again.collect();
        }
        let (Some(_), Some(path)) = (shown, own) else {
            return Ok(Vec::new());
        };
        check_path(&path)?;
        let file = self.hold(ino)?;
        let published = file.and_then(|file| {
            let mut body = file.lock();
            let Target::Document {
                kind,
                audience,
                doc,
                base,
                path: before,
            } = &body.target
            else {
                return Ok(Vec::new());
            };
            // A remark on the name shown, as on a conflict copy's, is no part of the path.
            let own = before
                .strip_prefix(old)
                .filter(|rest| rest.starts_with('/'));
            let target = Target::Document {
                kind: *kind,
                audience: audience.clone(),
                path: own.map_or(path, |rest| format!("{new}{rest}")),
                doc: *doc,
                base: base.clone(),
            };
            body.set_target(target);
            if self.nothing_to_move(ino) {
                // Still being written, also where it continues a backup.
                body.accept_target();
                return Ok(Vec::new());
            }
            self.publish_moved(ino, &mut body, None)?;
            drop(body);
            let tree = self.tree();
            let shown = tree.shown(ino).into_iter();
            Ok(shown.map(|shown| shown.key.clone()).collect())
        });
        self.let_go(ino);
        published
    }

    fn republish_marker(
        &self,
        ino: Ino,
        key: &DocKey,
        head: &Head,
        path: &str,
        audience: &Audience,
    ) -> Result<DocKey> {
        let doc = match key {
            DocKey::Placed { doc, .. } => *doc,
            DocKey::Single(..) => self.vault.new_doc_id(),
        };
        let replaces: Vec<_> = head.blobs().cloned().collect();
        let published = self.vault.publish(&Publication {
            kind: BlobKind::Directory,
            audience,
            path,
            doc,
            replaces: &replaces,
            content: &Plaintext::new(),
            mtime: Timestamp::now(),
            mode: None,
        })?;
        let mut tree = self.tree();
        tree.unindex(key, ino);
        let old = key.clone();
        let head = published.head();
        let key = head.version.key.clone();
        tree.by_document.entry(key.clone()).or_default().push(ino);
        if let Some(dir) = tree.dir_mut(ino) {
            dir.markers.retain(|(known, _)| *known != old);
            dir.markers.push((key.clone(), head));
        }
        Ok(key)
    }
}

impl Tree {
    /// Lists all nodes below a directory, directories before what is in them, itself first.
    pub(super) fn below(&self, ino: Ino) -> Vec<Ino> {
        let mut all = vec![ino];
        let mut next = 0;
        while let Some(ino) = all.get(next).copied() {
            next += 1;
            if let Some(dir) = self.dir(ino) {
                all.extend(dir.children.values());
            }
        }
        all
    }

    /// Tells a directory and those below it their new paths.
    fn change_paths(&mut self, ino: Ino, old: &str, new: &str) {
        for node in self.below(ino) {
            if let Some(dir) = self.dir_mut(node) {
                if let Role::Sub(_, path) = &mut dir.role {
                    *path = format!("{new}{}", path.strip_prefix(old).unwrap_or_default());
                }
            }
        }
    }
}
