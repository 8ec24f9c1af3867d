//! A world, and the meaning of each step in it.

use std::fs;

use super::act::{May, refused};
use super::device::Device;
use super::oracle::{Members, Oracle};
use super::people::{Cast, NAMES};
use super::steps::{At, Attack, By, Forgets, Links, Nth, Plan, State, Step};
use super::syncer::files;
use crate::support::rig::Rig as _;

/// What is wrong, in words.
pub type Different = String;

pub struct World<'a> {
    pub cast: &'a Cast,
    pub links: Links,
    pub areas: Vec<(&'static str, Members)>,
    pub devices: Vec<Device>,
    pub oracle: Oracle,
    /// The syncers' clock.
    pub clock: u64,
    /// Makes contents and names different.
    pub count: usize,
}

/// An area as one device has it.
#[derive(Clone)]
pub struct Place {
    pub folder: &'static str,
    pub members: Members,
    /// `notes/bob`.
    pub dir: String,
}

/// Takes all steps, lets everything arrive everywhere, and compares.
pub fn run(cast: &Cast, plan: &Plan, steps: &[Step]) -> Result<(), Different> {
    let mut world = World::new(cast, plan);
    for (number, step) in steps.iter().enumerate() {
        world.count += 1;
        let taken = world.take(*step);
        taken.map_err(|why| format!("step {number}, {step:?}: {why}"))?;
    }
    world.finish()
}

impl World<'_> {
    fn new<'a>(cast: &'a Cast, plan: &Plan) -> World<'a> {
        let owners = plan.owners.iter().map(|owner| Some(*owner));
        let relay = (plan.links == Links::Star).then_some(None);
        let devices = owners.chain(relay).map(|owner| Device::new(cast, owner));
        let areas = plan.areas.iter().map(|area| {
            let (folder, members) = area.split_once('/').unwrap();
            let name = |name: &str| *NAMES.iter().find(|known| **known == name).unwrap();
            let folder = match folder {
                "notes" => "notes",
                _ => "messages",
            };
            (folder, members.split(',').map(name).collect())
        });
        World {
            cast,
            links: plan.links,
            areas: areas.collect(),
            devices: devices.collect(),
            oracle: Oracle::default(),
            clock: 0,
            count: 0,
        }
    }

    /// Number of devices with an owner.
    pub fn people(&self) -> usize {
        self.devices
            .iter()
            .filter(|one| one.owner.is_some())
            .count()
    }

    /// The device and the place of an act.
    fn who(&self, By(nth, _, area): By) -> (usize, Place) {
        let (folder, members) = &self.areas[area % self.areas.len()];
        let mine = self.devices.iter().enumerate().filter_map(|(device, one)| {
            let owner = one.owner.filter(|owner| members.contains(owner))?;
            Some((device, owner))
        });
        let mine: Vec<_> = mine.collect();
        let (device, owner) = mine[nth % mine.len()];
        let place = Place {
            folder,
            members: members.clone(),
            dir: format!("{folder}/{}", dir_name(members, owner)),
        };
        (device, place)
    }

    fn path(&self, device: usize, place: &Place, at: At) -> Option<String> {
        match at {
            At::Is(path) => Some(self.path_of(place, path)),
            At::Listed(nth) => {
                let listed = self.devices[device].listed.iter();
                let here = listed.filter(|path| path.starts_with(&format!("{}/", place.dir)));
                let here: Vec<_> = here.collect();
                let path = here.get(nth.checked_rem(here.len())?)?;
                Some((*path).clone())
            }
        }
    }

    pub fn path_of(&self, place: &Place, path: &str) -> String {
        let flat = place.folder == "messages";
        let path = if flat {
            path.rsplit('/').next().unwrap()
        } else {
            path
        };
        format!("{}/{path}", place.dir)
    }

    /// What no other step writes.
    pub fn content(&self) -> Vec<u8> {
        format!("content {}\n", self.count).into_bytes()
    }

    fn take(&mut self, step: Step) -> Result<(), Different> {
        match step {
            Step::Read(by, at)
            | Step::Write(by, at)
            | Step::Edit(by, at)
            | Step::Append(by, at)
            | Step::WriteSame(by, at)
            | Step::Replace(by, at)
            | Step::Vim(by, at, _)
            | Step::Rename(by, at, _)
            | Step::Remove(by, at)
            | Step::Open(by, at, _) => {
                let (device, place) = self.who(by);
                match self.path(device, &place, at) {
                    Some(path) => self.work(device, by.1, &place, &path, step),
                    None => Ok(()),
                }
            }
            Step::Mkdir(by, dir) | Step::Rmdir(by, dir) => {
                let (device, place) = self.who(by);
                let path = self.path_of(&place, dir);
                let may = May {
                    place: Some(place),
                    ..May::default()
                };
                let did = self.act(device, may, |device| match step {
                    Step::Mkdir(..) => device.rig().mkdir(&path),
                    _ => device.rig().rmdir(&path),
                });
                did.map(drop)
            }
            Step::Put(by) => {
                let content = self.content();
                let (device, _) = self.who(by);
                let device = &self.devices[device];
                if let Some(slot) = device.open.get(&by.1) {
                    device.put(slot.handle, &content).map_err(refused)?;
                }
                Ok(())
            }
            Step::Close(by) => self.close(self.who(by).0, by.1),
            Step::Refresh(n) => self.look(n % self.people()),
            Step::Settle(n) => {
                self.settle(n % self.people())?;
                self.compare_with_fresh(n % self.people())
            }
            Step::Remount(n) => self.remount(n % self.people()),
            Step::Crash(n) => {
                let did = self.act(n % self.people(), May::default(), |device| {
                    device.crash(|| ());
                    Ok(())
                });
                did.map(drop)
            }
            Step::Sync(from, to, most, order) => {
                if let Some((from, to)) = self.link(from, to) {
                    self.sync(from, to, most, order);
                }
                Ok(())
            }
            Step::Part(from, to, order) => {
                if let Some((from, to)) = self.link(from, to) {
                    self.part(from, to, order);
                }
                Ok(())
            }
            Step::Forget(_)
            | Step::Copy(_)
            | Step::Restore(..)
            | Step::Lose(..)
            | Step::Return(..)
            | Step::Attack(..) => self.trouble(step),
        }
    }

    fn trouble(&mut self, step: Step) -> Result<(), Different> {
        let count = self.devices.len();
        match step {
            Step::Forget(n) => self.devices[n % count].syncer.forget(),
            Step::Copy(n) => {
                let device = &mut self.devices[n % count];
                let mut copy = files(&device.store);
                copy.retain(|file| !device.syncer.partial.contains(file));
                device.copy = Some(copy);
            }
            Step::Restore(n, forgets) => self.restore(n % count, forgets == Forgets::All),
            Step::Lose(n, state) => self.lose(n % count, state == State::Lost),
            Step::Return(n, nth) => self.bring_back(n % count, nth),
            Step::Attack(n, what, of) => self.attack(n % count, what, of),
            _ => unreachable!("steps of other kinds are taken elsewhere"),
        }
        Ok(())
    }
    /// The view looks at the store.
    pub fn refresh(&mut self, device: usize) -> Result<(), Different> {
        let did = self.act(device, May::default(), |device| {
            device.rig().view().refresh().map_err(|_| libc::EIO)
        });
        did.map(drop)
    }

    /// Somebody looks at everything.
    fn look(&mut self, device: usize) -> Result<(), Different> {
        self.refresh(device)?;
        let one = &self.devices[device];
        let owner = one.owner.unwrap();
        let mine = self.areas.iter().filter(|(_, m)| m.contains(owner));
        let dirs = mine.map(|(folder, m)| format!("{folder}/{}", dir_name(m, owner)));
        let listed: Vec<_> = dirs.flat_map(|dir| one.below(&dir)).collect();
        for path in &listed {
            one.check_removed(path)?;
        }
        // What is left of a refused save is scratch.
        let is_file = |path: &String| !path.ends_with('/') && !path.contains("/.");
        self.devices[device].listed = listed.into_iter().filter(is_file).collect();
        Ok(())
    }

    pub fn remount(&mut self, device: usize) -> Result<(), Different> {
        let slots = self.devices[device].open.values();
        let may = May {
            replace: slots.flat_map(|slot| slot.may_replace.clone()).collect(),
            ..May::default()
        };
        let did = self.act(device, may, |device| {
            device.remount();
            Ok(())
        });
        did.map(drop)
    }

    pub fn settle(&mut self, device: usize) -> Result<(), Different> {
        let did = self.act(device, May::default(), |device| {
            device.rig().settle();
            Ok(())
        });
        did.map(drop)
    }

    fn attack(&mut self, device: usize, what: Attack, nth: Nth) {
        if let Some((file, bytes)) = self.weapon(what, nth) {
            fs::write(self.devices[device].store.join(&file), &bytes).unwrap();
            self.devices[device].syncer.partial.remove(&file);
            self.oracle.add_file(file, bytes);
        }
    }
}

/// What an audience is called by one of its members.
pub fn dir_name(members: &Members, owner: &str) -> String {
    let others: Vec<&str> = members.iter().copied().filter(|m| *m != owner).collect();
    match others.is_empty() {
        true => "me".to_owned(),
        false => others.join(","),
    }
}
