//! What people and their programs do with files.

use dds::ids::BlobName;

use super::act::{Did, May, REFUSALS, refused};
use super::device::{Device, Slot, writing};
use super::run::{Different, Place, World};
use super::steps::{Step, Trunc};
use crate::support::rig::{Done, Rig as _};

impl World<'_> {
    /// Saves under a path. What was not refused must be in the store.
    fn save(
        &mut self,
        device: usize,
        group: u32,
        place: &Place,
        path: &str,
        save: impl FnOnce(&Device) -> Done<()>,
    ) -> Result<Did, Different> {
        let may = May {
            place: Some(place.clone()),
            replace: self.may_replace(device, group, path),
            ..May::default()
        };
        let did = self.act(device, may, |device| save(device))?;
        self.published(device, group, path, &did.new);
        Ok(did)
    }

    fn write(
        &mut self,
        device: usize,
        group: u32,
        place: &Place,
        path: &str,
    ) -> Result<(), Different> {
        self.make_parent(device, place, path)?;
        let content = self.content();
        let did = self.save(device, group, place, path, |device| {
            device.save(group, path, writing(true, false), &content)
        })?;
        self.check_saved(&did, place, path, &content)
    }

    fn check_saved(
        &self,
        did: &Did,
        place: &Place,
        path: &str,
        content: &[u8],
    ) -> Result<(), Different> {
        let copies = match place.folder {
            "messages" => place.members.len() - 1,
            _ => 1,
        };
        let same = |blob: &BlobName| self.oracle.records[blob].content.as_bytes() == content;
        let saved = did.new.len() == copies && did.new.iter().all(same);
        match did.done.is_err() || saved {
            true => Ok(()),
            false => Err(format!("{path} was saved, but as {:?}", did.new)),
        }
    }

    fn make_parent(&mut self, device: usize, place: &Place, path: &str) -> Result<(), Different> {
        let (parent, _) = path.rsplit_once('/').unwrap();
        if parent == place.dir || self.devices[device].rig().stat(parent).is_ok() {
            return Ok(());
        }
        let may = May {
            place: Some(place.clone()),
            ..May::default()
        };
        let did = self.act(device, may, |device| device.rig().mkdir(parent));
        did.map(drop)
    }

    fn read(&mut self, device: usize, group: u32, path: &str) -> Result<(), Different> {
        let one = &mut self.devices[device];
        let Ok(read) = one.read(group, path) else {
            return Ok(());
        };
        let Some(blob) = one.blob_at(path) else {
            return Ok(());
        };
        one.seen.insert((group, path.to_owned()), blob);
        let drafts = one.open.values().any(|slot| slot.path == path);
        match self.oracle.records.get(&blob) {
            Some(record) if drafts || record.content.as_bytes() == read => Ok(()),
            record => Err(format!("{path} reads {read:?} and shows {record:?}")),
        }
    }

    pub fn work(
        &mut self,
        device: usize,
        group: u32,
        place: &Place,
        path: &str,
        step: Step,
    ) -> Result<(), Different> {
        if path.ends_with('~') && !matches!(step, Step::Rename(..) | Step::Remove(..)) {
            return Ok(());
        }
        match step {
            Step::Read(..) => self.read(device, group, path),
            Step::Write(..) => self.write(device, group, place, path),
            Step::Edit(..) => {
                self.read(device, group, path)?;
                self.write(device, group, place, path)
            }
            Step::Append(..) => {
                self.make_parent(device, place, path)?;
                let content = self.content();
                // Who appends has what is there before his eyes.
                let mut may = self.may_replace(device, group, path);
                may.extend(self.devices[device].blob_at(path));
                let may = May {
                    place: Some(place.clone()),
                    replace: may,
                    ..May::default()
                };
                let did = self.act(device, may, |device| {
                    device.save(group, path, writing(false, true), &content)
                })?;
                self.published(device, group, path, &did.new);
                Ok(())
            }
            Step::WriteSame(..) => {
                self.make_parent(device, place, path)?;
                let content = match place.folder {
                    "notes" => b"the same".to_vec(),
                    // What was removed once does not come back: no two messages are alike.
                    _ => self.content(),
                };
                let saved = self.save(device, group, place, path, |device| {
                    device.save(group, path, writing(true, false), &content)
                });
                saved.map(drop)
            }
            Step::Replace(..) => {
                self.make_parent(device, place, path)?;
                let (parent, _) = path.rsplit_once('/').unwrap();
                let scratch = format!("{parent}/.goutputstream-Q1W2E3");
                let content = self.content();
                // Scratch is not there yet, and who looks for a name looks at the store: what has
                // arrived is shown before it is renamed over.
                self.refresh(device)?;
                let did = self.save(device, group, place, path, |device| {
                    device.save(group, &scratch, writing(true, false), &content)?;
                    device.rename(group, &scratch, path)
                })?;
                self.check_saved(&did, place, path, &content)
            }
            Step::Vim(_, _, parts) => self.vim(device, group, place, path, parts),
            Step::Rename(_, _, to) => {
                let to = self.path_of(place, to);
                self.rename(device, group, place, path, &to)
            }
            Step::Remove(..) => self.remove(device, path),
            Step::Open(_, _, trunc) => self.open(device, group, place, path, trunc),
            _ => unreachable!("steps of other kinds are taken elsewhere"),
        }
    }

    fn vim(
        &mut self,
        device: usize,
        group: u32,
        place: &Place,
        path: &str,
        parts: usize,
    ) -> Result<(), Different> {
        self.read(device, group, path)?;
        let replace = self.may_replace(device, group, path);
        let backup = format!("{path}~");
        let may = May {
            place: Some(place.clone()),
            replace: replace.clone(),
            ..May::default()
        };
        let shown = self.devices[device].blob_at(path);
        let did = self.act(device, may, |device| device.rename(group, path, &backup))?;
        if did.done.is_err() {
            return Ok(());
        }
        let one = &mut self.devices[device];
        one.backups.insert(path.to_owned(), replace);
        for slot in one.open.values_mut().filter(|slot| slot.path == path) {
            slot.path.clone_from(&backup);
        }
        one.renamed_away
            .extend(shown.map(|shown| (backup.clone(), shown)));
        if parts > 1 {
            self.write(device, group, place, path)?;
        }
        if parts > 2 {
            self.remove(device, &backup)?;
        }
        Ok(())
    }

    fn rename(
        &mut self,
        device: usize,
        group: u32,
        place: &Place,
        from: &str,
        to: &str,
    ) -> Result<(), Different> {
        self.make_parent(device, place, to)?;
        if !self.devices[device]
            .seen
            .contains_key(&(group, to.to_owned()))
        {
            // A program that never read it replaces what is there, also what is found only now.
            self.refresh(device)?;
        }
        let mut replace = self.may_replace(device, group, from);
        replace.extend(self.may_replace(device, group, to));
        let one = &self.devices[device];
        // A directory takes along what is in it, whoever wrote it.
        for path in one.below(from) {
            replace.extend(one.blob_at(&path));
            let slots = one.open.values().filter(|slot| slot.path == path);
            replace.extend(slots.flat_map(|slot| &slot.may_replace));
        }
        replace.extend(one.blob_at(from));
        replace.extend(one.renamed_away.get(from));
        let may = May {
            place: Some(place.clone()),
            replace: replace.clone(),
            ..May::default()
        };
        let did = self.act(device, may, |device| device.rename(group, from, to))?;
        if did.done.is_ok() && from != to {
            let one = &mut self.devices[device];
            for slot in one.open.values_mut() {
                if slot.path == to {
                    slot.path = String::new();
                }
                let below = slot.path.strip_prefix(from);
                if let Some(below) = below.filter(|rest| rest.is_empty() || rest.starts_with('/')) {
                    slot.path = format!("{to}{below}");
                    slot.may_replace.extend(&replace);
                    slot.may_replace.extend(&did.new);
                }
            }
            self.published(device, group, to, &did.new);
        }
        Ok(())
    }

    fn remove(&mut self, device: usize, path: &str) -> Result<(), Different> {
        let may = May {
            remove: self.devices[device].blob_at(path),
            backup: self.devices[device].renamed_away.get(path).copied(),
            ..May::default()
        };
        let did = self.act(device, may, |device| device.rig().remove(path))?;
        if did.done.is_ok() {
            for slot in self.devices[device].open.values_mut() {
                if slot.path == path {
                    slot.path = String::new();
                }
            }
        }
        Ok(())
    }

    fn open(
        &mut self,
        device: usize,
        group: u32,
        place: &Place,
        path: &str,
        trunc: Trunc,
    ) -> Result<(), Different> {
        if self.devices[device].open.contains_key(&group) {
            return Ok(());
        }
        self.make_parent(device, place, path)?;
        let mut may_replace = self.may_replace(device, group, path);
        let one = &mut self.devices[device];
        if trunc == Trunc::Keeps {
            may_replace.extend(one.blob_at(path));
        }
        let access = writing(trunc == Trunc::Empties, trunc == Trunc::Keeps);
        match one.open_file(group, path, access) {
            Ok(handle) => {
                let path = path.to_owned();
                let slot = Slot {
                    handle,
                    path,
                    may_replace,
                };
                one.open.insert(group, slot);
                Ok(())
            }
            Err(errno) if REFUSALS.contains(&errno) => Ok(()),
            Err(errno) => Err(refused(errno)),
        }
    }

    pub fn close(&mut self, device: usize, group: u32) -> Result<(), Different> {
        let Some(slot) = self.devices[device].open.remove(&group) else {
            return Ok(());
        };
        let may = May {
            replace: slot.may_replace,
            ..May::default()
        };
        let did = self.act(device, may, |device| device.close(group, slot.handle))?;
        self.published(device, group, &slot.path, &did.new);
        Ok(())
    }
}
