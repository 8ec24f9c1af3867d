//! Drops versions: one that a caller names, and those that [`super::retention`] chooses.

use super::History;
use super::index::{GoneFile, gone_name, spare_name};
use super::retention::{Aged, DAY, Moment, Pruned, surplus};
use crate::error::Result;
use crate::ids::BlobId;
use crate::state::private_dir::PrivateDir;

impl History {
    /// Drops an old version. One that is not kept is no error.
    ///
    /// # Errors
    /// The disk's error.
    pub fn forget(&self, id: BlobId) -> Result<()> {
        let Some(home) = &self.home else {
            return Ok(());
        };
        let mut index = self.index();
        if let Some(past) = index.gone.get(&id) {
            home.remove(&gone_name(past.at, id))?;
            index.gone.remove(&id);
        }
        Ok(())
    }

    pub(super) fn drop_spare(&self, id: BlobId) -> Result<()> {
        let Some(home) = &self.home else {
            return Ok(());
        };
        let mut index = self.index();
        home.remove(&spare_name(id))?;
        index.spares.remove(&id);
        Ok(())
    }

    /// Drops versions that are too old, then the oldest ones over the size limits.
    pub fn prune(&self, now: Moment) -> Pruned {
        let mut pruned = Pruned::default();
        let Some((home, limits)) = self.open_home() else {
            return pruned;
        };
        let room = match home.room() {
            Ok(room) => room,
            Err(error) => {
                pruned.failed = Some(error);
                return pruned;
            }
        };
        pruned.failed = self.correct_times(home, now).err();
        let surplus = surplus(&self.aged(now), limits, room, now.is_sure(self.began));
        for (dropped, count) in [
            (surplus.old, &mut pruned.old),
            (surplus.early, &mut pruned.early),
        ] {
            for id in dropped {
                match self.forget(id) {
                    Ok(()) => *count += 1,
                    Err(error) => pruned.failed = Some(error),
                }
            }
        }
        pruned
    }

    /// Corrects the times of versions that left the store in this mount while the clock was far
    /// behind: the next mount knows nothing else.
    fn correct_times(&self, home: &PrivateDir, now: Moment) -> Result<()> {
        let mut index = self.index();
        let mut result = Ok(());
        for (id, past) in &mut index.gone {
            let Some(since) = past.since else { continue };
            let at = now.before(now.running.saturating_sub(since));
            let behind = at.seconds().saturating_sub(past.at.seconds());
            if u64::try_from(behind).is_ok_and(|behind| behind > DAY) {
                match home.rename(&gone_name(past.at, *id), &gone_name(at, *id)) {
                    Ok(()) => past.at = at,
                    Err(error) => result = Err(error),
                }
            }
        }
        result
    }

    /// The old versions and their ages, the oldest first.
    fn aged(&self, now: Moment) -> Vec<Aged> {
        let index = self.index();
        let age = |past: &GoneFile| match past.since {
            Some(since) => now.running.saturating_sub(since).as_secs(),
            None => {
                let age = now.wall.seconds().saturating_sub(past.at.seconds());
                u64::try_from(age).unwrap_or(0)
            }
        };
        let aged = index.gone.iter().map(|(id, past)| Aged {
            id: *id,
            bytes: past.bytes,
            age: age(past),
        });
        let mut aged: Vec<Aged> = aged.collect();
        aged.sort_by_key(|one| (std::cmp::Reverse(one.age), one.id));
        aged
    }
}
