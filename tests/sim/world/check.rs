//! Everything arrives everywhere; then the views of all devices are compared.

use std::collections::{BTreeMap, BTreeSet};

use dds::ids::{BlobKind, BlobName};

use super::device::Device;
use super::oracle::Members;
use super::people::NAMES;
use super::run::{Different, World};
use super::steps::Links;
use super::syncer::files;
use crate::support::fresh;
use crate::support::rig::Rig as _;

/// Rounds after which the syncers must have nothing to do any more.
const ROUNDS: usize = 30;

/// `notes` or `messages`, and who reads it; nobody: `unverified/`.
type Area = (String, Members);

/// What a device shows in an area: paths and contents. A directory has none.
type Shown = BTreeMap<Area, BTreeSet<(String, What)>>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Directory,
    File(String),
    Scratch,
}

impl World<'_> {
    pub fn finish(&mut self) -> Result<(), Different> {
        let at_end = |why: Different| format!("at the end: {why}");
        for device in 0..self.people() {
            for group in 0..2 {
                self.close(device, group).map_err(at_end)?;
            }
        }
        self.give_up_parts();
        self.converge().map_err(at_end)?;
        for device in 0..self.people() {
            self.compare_with_fresh(device).map_err(at_end)?;
        }
        let live = self.all_shown().map_err(at_end)?;
        let away = self.renamed_away();
        for device in 0..self.people() {
            self.remount(device).map_err(at_end)?;
        }
        self.converge().map_err(at_end)?;
        let fresh = self.all_shown().map_err(at_end)?;
        for device in 0..self.people() {
            let (live, fresh) = (contents(&live[device]), contents(&fresh[device]));
            let mut gone = &live - &fresh;
            gone.retain(|(area, content)| !self.is_misplaced_note(area, content));
            // A document that was renamed away, and never replaced, is back.
            let new = &(&fresh - &live) - &away[device];
            if !gone.is_empty() || !new.is_empty() {
                return Err(format!(
                    "device {device} showed {} before and {} after a remount",
                    text(&gone),
                    text(&new)
                ));
            }
        }
        self.check_nothing_lost(&fresh)?;
        self.check_same(&fresh)?;
        self.check_removed()
    }

    /// In a quiet moment, a device shows the same as a new mount of its store would.
    pub fn compare_with_fresh(&self, device: usize) -> Result<(), Different> {
        let one = &self.devices[device];
        let mut running = fresh::shows(one.rig());
        let is_scratch = |shown: &fresh::Shown| shown.blob.is_empty();
        let is_away = running.iter().any(|(path, shown)| {
            shown.as_ref().is_some_and(is_scratch) && one.renamed_away.contains_key(path)
        });
        if !one.open.is_empty() || is_away {
            return Ok(());
        }
        running.retain(|_, shown| !shown.as_ref().is_some_and(is_scratch));
        let mut new = fresh::shows(&fresh::fresh(one.rig()));
        let unverified = ("messages".to_owned(), Members::new());
        // A misplaced note may go at any look, and what has its name meanwhile is called otherwise.
        let is_unverified = |path: &String| path.starts_with("messages/unverified/");
        let misplaced = running.iter().chain(&new).any(|(path, shown)| {
            let content = shown.as_ref().and_then(|shown| shown.content.as_ref().ok());
            let text = content.map(|content| String::from_utf8_lossy(content));
            let misplaced = text.is_some_and(|text| self.is_misplaced_note(&unverified, &text));
            is_unverified(path) && misplaced
        });
        if misplaced {
            running.retain(|path, _| !is_unverified(path));
            new.retain(|path, _| !is_unverified(path));
        }
        let origin = |blob: &str| {
            let record = self.oracle.records.get(&blob.parse().ok()?)?;
            let key = (record.folder(), &record.members, record.doc?);
            let signer = (record.kind == BlobKind::Message).then_some(record.signer);
            record.proven.then(|| fresh::Origin {
                document: format!("{key:?} {signer:?}"),
                path: record.path.clone(),
            })
        };
        fresh::check(&running, &new, origin).map_err(|why| format!("device {device}: {why}"))
    }

    /// A note, or a note's directory, that somebody copied into `messages/`. If it was removed where it
    /// belongs, the copy goes when it is looked at the next time.
    fn is_misplaced_note(&self, (folder, members): &Area, content: &str) -> bool {
        let mut records = self.oracle.records.values();
        folder == "messages"
            && members.is_empty()
            && records.any(|one| one.kind != BlobKind::Message && one.content == content)
    }

    /// Lets all changes go over until there is nothing left to do.
    fn converge(&mut self) -> Result<(), Different> {
        let count = self.devices.len();
        let pairs: Vec<_> = (0..count)
            .flat_map(|one| (0..count).map(move |other| (one, other)))
            .filter(|(one, other)| match self.links {
                Links::Mesh => one != other,
                Links::Star => (*one == count - 1) != (*other == count - 1),
            })
            .collect();
        for _ in 0..ROUNDS {
            let before: Vec<_> = self.stores();
            for device in 0..self.people() {
                self.settle(device)?;
                self.refresh(device)?;
            }
            let mut moved = 0;
            for (from, to) in &pairs {
                moved += self.sync(*from, *to, usize::MAX, 1);
            }
            let after = self.stores();
            let same = after.iter().all(|store| *store == after[0]);
            if moved == 0 && same && before == after {
                return Ok(());
            }
        }
        Err(format!("it does not end: {:?}", self.stores()))
    }

    /// What each device's programs renamed away as backups.
    fn renamed_away(&self) -> Vec<BTreeSet<(Area, String)>> {
        let of = |one: &Device| {
            let records = one
                .renamed_away
                .values()
                .map(|blob| &self.oracle.records[blob]);
            let contents = records.map(|record| {
                let area = (record.folder().to_owned(), record.members.clone());
                (area, record.content.clone())
            });
            contents.collect()
        };
        self.devices.iter().map(of).collect()
    }

    fn stores(&self) -> Vec<BTreeSet<String>> {
        self.devices.iter().map(|one| files(&one.store)).collect()
    }

    fn all_shown(&self) -> Result<Vec<Shown>, Different> {
        (0..self.people())
            .map(|device| self.shown(device))
            .collect()
    }

    /// What a device shows. Every file is in the right place.
    fn shown(&self, device: usize) -> Result<Shown, Different> {
        let one = &self.devices[device];
        let owner = one.owner.unwrap();
        let mut shown = Shown::new();
        for folder in ["messages", "notes"] {
            for path in one.below(folder) {
                let mut parts = path.splitn(3, '/');
                let (_, dir, below) = (parts.next(), parts.next().unwrap(), parts.next());
                let Some(below) = below.filter(|below| !below.is_empty()) else {
                    continue;
                };
                let members: Members = match dir {
                    "unverified" => Members::new(),
                    dir => {
                        let others = NAMES
                            .into_iter()
                            .filter(|n| dir.split(',').any(|d| d == *n));
                        others.chain([owner]).collect()
                    }
                };
                let area = (folder.to_owned(), members.clone());
                let there = shown.entry(area).or_default();
                if below.ends_with('/') {
                    there.insert((below.to_owned(), What::Directory));
                    continue;
                }
                let content = match one.rig().read(&path) {
                    Ok(content) => String::from_utf8_lossy(&content).into_owned(),
                    Err(libc::EBADMSG) if members.is_empty() => "damaged".to_owned(),
                    Err(errno) => {
                        let why = std::io::Error::from_raw_os_error(errno);
                        return Err(format!("device {device}, {path}: {why}"));
                    }
                };
                let Some(blob) = one.blob_at(&path) else {
                    there.insert((below.to_owned(), What::Scratch));
                    continue;
                };
                one.check_removed(&path)?;
                self.check_place(folder, &members, blob, &content)
                    .map_err(|why| format!("device {device}, {path}: {why}"))?;
                there.insert((below.to_owned(), What::File(content)));
            }
        }
        Ok(shown)
    }

    fn check_place(
        &self,
        folder: &str,
        members: &Members,
        blob: BlobName,
        content: &str,
    ) -> Result<(), Different> {
        let record = self.oracle.records.get(&blob);
        let proven = record.filter(|record| record.proven && record.folder() == folder);
        let right = match proven {
            Some(record) => record.members == *members && record.content == content,
            None => members.is_empty(),
        };
        match right {
            true => Ok(()),
            false => Err(format!("shows {blob}, which is {record:?}")),
        }
    }

    /// What was published, and neither replaced nor removed, is there for everybody.
    fn check_nothing_lost(&self, shown: &[Shown]) -> Result<(), Different> {
        let records = self.oracle.records.iter();
        let wanted = records.filter(|(_, record)| {
            record.proven && record.excuse.is_none() && record.kind != BlobKind::Directory
        });
        for (blob, record) in wanted {
            for (device, one) in self.devices.iter().enumerate() {
                let reads = one.owner.is_some_and(|owner| match record.reader {
                    Some(reader) => owner == reader || owner == record.signer,
                    None => record.members.contains(owner),
                });
                if !reads {
                    continue;
                }
                let area = (record.folder().to_owned(), record.members.clone());
                let mut files = shown[device].get(&area).into_iter().flatten();
                if !files.any(|(_, what)| *what == What::File(record.content.clone())) {
                    return Err(format!(
                        "device {device} does not show {blob}, which is {record:?}, but {:?}",
                        shown[device].get(&area)
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whoever has the same blobs sees the same.
    fn check_same(&self, shown: &[Shown]) -> Result<(), Different> {
        let areas: BTreeSet<&Area> = shown.iter().flat_map(BTreeMap::keys).collect();
        for area @ (folder, members) in areas {
            let nothing = BTreeSet::new();
            let readers = self.devices.iter().enumerate().filter_map(|(device, one)| {
                let owner = one.owner?;
                let reads = members.contains(owner) || members.is_empty();
                reads.then(|| (owner, shown[device].get(area).unwrap_or(&nothing)))
            });
            let readers: Vec<_> = readers.collect();
            for (n, (owner, one)) in readers.iter().enumerate() {
                for (other_owner, other) in &readers[n + 1..] {
                    // Others have other copies of a message to several, and other keys.
                    let alike = folder == "notes" || members.len() == 2;
                    let comparable = owner == other_owner || (alike && !members.is_empty());
                    if comparable && one != other {
                        return Err(format!(
                            "in {folder} of {members:?} {owner} sees {one:?} and \
                             {other_owner} {other:?}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Messages that were removed are gone from all stores.
    fn check_removed(&self) -> Result<(), Different> {
        let stores = self.stores();
        let left: BTreeSet<_> = stores.iter().flatten().collect();
        for (device, one) in self.devices.iter().enumerate() {
            for file in &left {
                let blob = self.oracle.blob_of(file);
                let misplaced = !file.starts_with("messages/");
                if !misplaced && one.removed.contains(&blob) {
                    return Err(format!(
                        "{file} was removed on device {device} and is there: {:?}",
                        self.oracle.records.get(&blob)
                    ));
                }
            }
        }
        Ok(())
    }
}

/// All that is shown, whatever its name.
fn contents(shown: &Shown) -> BTreeSet<(Area, String)> {
    let all = shown.iter().flat_map(|(area, files)| {
        let contents = files.iter().filter_map(|(_, what)| match what {
            What::File(content) => Some(content.clone()),
            What::Scratch | What::Directory => None,
        });
        contents.map(|content| (area.clone(), content))
    });
    all.collect()
}

fn text(all: &BTreeSet<(Area, String)>) -> String {
    let all = all
        .iter()
        .map(|((folder, members), content)| format!("{folder} {members:?} {content:?}"));
    all.collect::<Vec<_>>().join(", ")
}
