//! Compares the view, and the blobs in the store, with the reference.

use std::collections::BTreeSet;
use std::fs;

use dds::ids::{BlobKind, BlobName, Folder, Timestamp};
use dds::openpgp::{self, Facts, Keyring, Limits, Outcome};

use super::documents::Vid;
use super::reference::{Node, Role, split};
use super::world::{Different, World};
use crate::support::fresh;
use crate::support::people::blobs;
use crate::support::rig::Rig as _;

impl World<'_> {
    /// Looks at the store: every new blob is one that the reference expects.
    pub fn bind(&mut self) -> Result<(), Different> {
        for folder in Folder::ALL {
            let mut names: Vec<_> = fs::read_dir(self.rig.store().join(folder.name()))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            names.sort();
            for path in names {
                let name = path.file_name().unwrap().to_str().unwrap();
                let blob = name.strip_suffix(".asc").and_then(|hex| hex.parse().ok());
                let blob: BlobName = blob.ok_or_else(|| format!("{name} is no blob's name"))?;
                if self.archive.contains_key(&blob) {
                    continue;
                }
                let Ok(bytes) = fs::read(&path) else {
                    continue; // Unlinked meanwhile, as what was replaced is.
                };
                if BlobName::of(&bytes) != blob {
                    return Err(format!("{name} does not hold what its name says"));
                }
                self.bind_one(folder, blob, &bytes)?;
                self.archive.insert(blob, bytes);
            }
        }
        let docs = &mut self.model.docs;
        for vid in std::mem::take(&mut docs.pending) {
            let version = &docs.all[vid];
            if version.present && version.blobs.len() != version.key.copies() {
                return Err(format!("not in the store: {version:?}"));
            }
        }
        Ok(())
    }

    fn bind_one(&mut self, folder: Folder, blob: BlobName, bytes: &[u8]) -> Result<(), Different> {
        let (facts, content) = self.open_blob(bytes)?;
        let signature = &facts.signatures[0];
        let said = &signature.notations;
        let mut audience: Vec<&str> = Vec::new();
        for (name, person) in [("bob", &self.cast.bob), ("carol", &self.cast.carol)] {
            let reads = signature.intended.contains(&person.fingerprint());
            audience.extend(reads.then_some(name));
        }
        if audience.is_empty() {
            audience.push("me");
        }
        let area = format!("{}/{}", folder.name(), audience.join(","));
        let docs = &mut self.model.docs;
        let found = docs.pending.iter().copied().find(|vid| {
            let version = &docs.all[*vid];
            version.key.area == area
                && version.key.marker == (said.kind == Some(BlobKind::Directory))
                && Some(&version.path) == said.path.as_ref()
                && version.bytes == content
                && version.blobs.len() < version.key.copies()
                && docs.docs[version.key.doc].is_none_or(|doc| Some(doc) == said.doc)
        });
        let Some(vid) = found else {
            let text = String::from_utf8_lossy(&content);
            return Err(format!(
                "{area}: nobody expects {:?}: {text:?}, expected {:?}",
                said,
                docs.pending
                    .iter()
                    .map(|v| &docs.all[*v])
                    .collect::<Vec<_>>()
            ));
        };
        let created = signature.created.unwrap();
        let parents = docs.all[vid].replaces.clone();
        for old in parents.iter().flat_map(|old| &docs.all[*old].blobs) {
            if !said.replaces.contains(old) && said.replaces.len() < 64 {
                return Err(format!("blob {blob} does not say that it replaces {old}"));
            }
        }
        let version = &mut docs.all[vid];
        version.blobs.push(blob);
        version.created = Timestamp::from(created).seconds();
        docs.docs[version.key.doc] = said.doc;
        self.seen.push((blob, vid));
        Ok(())
    }

    fn open_blob(&self, bytes: &[u8]) -> Result<(Facts, Vec<u8>), Different> {
        let keyring = Keyring {
            identities: std::slice::from_ref(&self.cast.me.identity),
            certificates: &self.certificates,
        };
        match openpgp::open(bytes, &keyring, &Limits::default(), None) {
            Outcome::Opened(opened) => {
                let content = opened.content.read_at(0, usize::MAX).unwrap().to_vec();
                Ok((opened.facts, content))
            }
            _ => Err("a blob that I cannot open".to_owned()),
        }
    }

    pub fn compare(&mut self) -> Result<(), Different> {
        self.bind()?;
        self.model.give_free_names();
        let dirs: Vec<String> = self.model.names.keys().cloned().collect();
        for dir in dirs {
            if self.model.is_dir(&dir) {
                self.compare_dir(&dir)?;
            }
        }
        for unverified in ["notes/unverified", "messages/unverified"] {
            let shown = self.rig.list(unverified).unwrap();
            if !shown.is_empty() {
                return Err(format!("{unverified} shows {shown:?}"));
            }
        }
        for slot in 0..self.handles.len() {
            if let Some((real, handle)) = self.slot(slot) {
                let read = self.rig.view().read(real, 0, usize::MAX).unwrap();
                let expected = &self.model.file(handle.node).bytes;
                if *read != *expected {
                    return Err(format!("slot {slot} reads {}", differ(&read, expected)));
                }
            }
        }
        self.compare_store()
    }

    /// In a quiet moment, the view and a new view of the same store show the same.
    pub fn compare_with_fresh(&self) -> Result<(), Different> {
        let is_quiet = |id| match &self.model.nodes[id] {
            Node::File(file) => {
                matches!(file.role, Role::Document { head: Some(_), .. }) && !file.is_dirty()
            }
            Node::Dir { .. } => true,
        };
        if self.handles.iter().any(Option::is_some) || !self.model.names.values().all(is_quiet) {
            return Ok(());
        }
        let origin = |blob: &str| {
            let mut seen = self.seen.iter();
            let (_, vid) = seen.find(|(known, _)| known.to_string() == blob)?;
            let version = &self.model.docs.all[*vid];
            Some(fresh::Origin {
                document: format!("{:?}", version.key),
                path: version.path.clone(),
            })
        };
        let fresh = fresh::shows(&fresh::fresh(&self.rig));
        fresh::check(&fresh::shows(&self.rig), &fresh, origin)
    }

    fn compare_store(&self) -> Result<(), Different> {
        let docs = &self.model.docs;
        let names = |vids: &mut dyn Iterator<Item = Vid>| -> BTreeSet<String> {
            let all = vids.flat_map(|vid| &docs.all[vid].blobs);
            all.map(BlobName::file_name).collect()
        };
        let must = names(&mut docs.present().map(|(vid, _)| vid));
        let may = names(&mut docs.unsettled.iter().copied());
        let mut found = BTreeSet::new();
        for folder in Folder::ALL {
            found.extend(blobs(self.rig.store(), folder));
        }
        if let Some(blob) = must.difference(&found).next() {
            return Err(format!("blob {blob} is missing"));
        }
        match found
            .iter()
            .find(|blob| !must.contains(*blob) && !may.contains(*blob))
        {
            Some(blob) => Err(format!("blob {blob} is still there")),
            None => Ok(()),
        }
    }

    fn compare_dir(&mut self, dir: &str) -> Result<(), Different> {
        let shown = self
            .rig
            .list(dir)
            .map_err(|e| format!("{dir}: errno {e}"))?;
        for name in &shown {
            let path = format!("{dir}/{name}");
            if !self.model.names.contains_key(&path) {
                self.bind_name(dir, name)?;
            }
        }
        for path in self.model.children(dir) {
            if !shown.iter().any(|name| split(&path).1 == name) {
                return Err(format!("{path} is not shown, but {shown:?}"));
            }
            if !self.model.is_dir(&path) {
                self.compare_file(&path)
                    .map_err(|why| format!("{path}: {why}"))?;
            }
        }
        Ok(())
    }

    /// Learns a name with a remark.
    fn bind_name(&mut self, dir: &str, name: &str) -> Result<(), Different> {
        let path = format!("{dir}/{name}");
        let blob = self.rig.xattr(&path, "user.dds.blob").unwrap_or_default();
        let unexpected = || {
            let known = self
                .seen
                .iter()
                .find(|(known, _)| known.to_string() == blob);
            let version = known.map(|(_, vid)| (vid, &self.model.docs.all[*vid]));
            format!("{path} is shown, which is {version:?}")
        };
        let unbound = self.model.children(dir).into_iter().find(|child| {
            child.rsplit_once('?').is_some_and(|(_, vid)| {
                let vid: Vid = vid.parse().unwrap();
                let blobs = &self.model.docs.all[vid].blobs;
                blobs.iter().any(|known| known.to_string() == blob)
            })
        });
        let unbound = unbound.ok_or_else(unexpected)?;
        let id = self.model.names[&unbound];
        let Role::Document { conflict, .. } = self.model.file(id).role else {
            return Err(unexpected());
        };
        let (plain, _) = split(&unbound).1.rsplit_once('?').unwrap();
        let (stem, extension) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
        let good = name.starts_with(&format!("{stem} ("))
            && name.ends_with(extension)
            && name.contains(" (conflict, ") == conflict;
        if !good {
            return Err(format!(
                "{name} is a bad name for {plain}, conflict: {conflict}"
            ));
        }
        self.model.names.remove(&unbound);
        self.model.names.insert(path, id);
        Ok(())
    }

    fn compare_file(&self, path: &str) -> Result<(), Different> {
        let id = self.model.names[path];
        let file = self.model.file(id);
        let read = self
            .rig
            .read(path)
            .map_err(|e| format!("errno {e} on reading"))?;
        if read != file.bytes {
            return Err(format!("reads {}", differ(&read, &file.bytes)));
        }
        let size = self.rig.size(path);
        if size != Ok(file.bytes.len() as u64) {
            return Err(format!("has size {size:?} instead of {}", file.bytes.len()));
        }
        let (mode, _) = self.rig.stat(path).unwrap();
        if mode != file.mode << 6 {
            return Err(format!("has mode {mode:o} instead of {}00", file.mode));
        }
        let blob = self.rig.xattr(path, "user.dds.blob").ok();
        let said_conflict = self.rig.xattr(path, "user.dds.conflict").is_ok();
        let (heads, conflict) = match &file.role {
            Role::Document {
                head: Some(head),
                conflict,
                ..
            } => (head.as_slice(), *conflict),
            _ => (&[][..], false),
        };
        // A draft goes on from what may be gone.
        let blobs: Vec<String> = self
            .seen
            .iter()
            .filter(|(_, vid)| heads.contains(vid))
            .map(|(blob, _)| blob.to_string())
            .collect();
        let known = match &blob {
            Some(blob) => blobs.contains(blob),
            None => blobs.is_empty(),
        };
        if !known {
            return Err(format!("shows blob {blob:?} instead of one of {blobs:?}"));
        }
        if said_conflict != conflict {
            return Err(format!("conflict: {said_conflict} instead of {conflict}"));
        }
        Ok(())
    }
}

fn differ(read: &[u8], expected: &[u8]) -> String {
    let text = String::from_utf8_lossy;
    format!("{:?} instead of {:?}", text(read), text(expected))
}
