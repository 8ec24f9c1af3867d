//! The log in use: found or made at the start, appended to, rewritten when much of it is void.
//!
//! - A damaged log is set aside, a new one continues with the records that could be read, and
//!   [`crate::state::State::notices`] tells.
//! - When more than half of a log of 64 KiB is void (finished intents, replaced and old removals)
//!   it is rewritten: temporary file, fsync, rename, fsync of the directory. Removals of more than
//!   two years ago are dropped then.
//! - An older copy of the whole file cannot be told from the present one. Removals made since are
//!   forgotten, so those messages show again if a peer brings them back, and intents finished since
//!   count as unfinished: whoever completes them must bear that their staged files are gone.

use std::sync::Arc;

use super::ledger::Ledger;
use super::record::Record;
use crate::error::{Error, Result};
use crate::ids::Timestamp;
use crate::state::key::{self, KEY, Key, KeyWrap};
use crate::state::private_dir::PrivateDir;
use crate::state::sealed_log::{Format, HEADER, SealedLog};

/// The log of removals, departures and intents.
const LOG: Format = Format {
    name: "log",
    words: b"dds state log 1\n",
};

/// Bytes of the smallest log that is worth rewriting.
const SMALLEST: u64 = 64 << 10;

/// The log, its key, and the directory of both.
pub(super) struct Journal {
    dir: PrivateDir,
    key: Arc<Key>,
    log: SealedLog,
    /// Bytes of the log that say nothing any more.
    void: u64,
    /// Length from which rewriting is tried again after it failed.
    retry: u64,
}

impl Journal {
    /// Reads the log into an empty ledger, or starts one if there never was any.
    ///
    /// # Errors
    /// Those of [`crate::state::State::open`]; the error of wrapping a new key, and then nothing
    /// was made.
    pub(super) fn open(
        dir: PrivateDir,
        wrap: &dyn KeyWrap,
        ledger: &mut Ledger,
        notices: &mut Vec<String>,
    ) -> Result<Journal> {
        let Some(key) = Key::read(&dir, wrap, || Ok(!log_is_empty(&dir)?))? else {
            let key = Key::new()?;
            let wrapped = key.wrap(&dir, wrap)?;
            // In this order a log that is missing beside a key was there once.
            let log = SealedLog::create(LOG, &dir, &key, &[])?;
            key::write(&dir, &wrapped)?;
            return Ok(Journal::new(dir, key, log, 0));
        };
        let Some(file) = dir.open(LOG.name, true)? else {
            notices.push(format!(
                "{} is missing though {KEY} is there: what was removed is forgotten",
                dir.shown(LOG.name)
            ));
            let log = SealedLog::create(LOG, &dir, &key, &[])?;
            return Ok(Journal::new(dir, key, log, 0));
        };
        let mut void = 0;
        let found = SealedLog::read(LOG, &dir, &key, file, |record| {
            void += ledger.apply(Record::decode(record));
        })?;
        let log = match found {
            Ok(log) => log,
            Err(damage) => {
                void = 0;
                let (log, notice) = replace(&dir, &key, ledger, &damage)?;
                notices.push(notice);
                log
            }
        };
        void += ledger.old(Timestamp::now());
        Ok(Journal::new(dir, key, log, void))
    }

    fn new(dir: PrivateDir, key: Arc<Key>, log: SealedLog, void: u64) -> Journal {
        Journal {
            dir,
            key,
            log,
            void,
            retry: 0,
        }
    }

    /// Appends a record durably. `ledger` is the sum of all records before it.
    pub(super) fn append(&mut self, record: &Record, ledger: &Ledger) -> Result<()> {
        let bytes = record.encode();
        if !self.log.is_doubtful(&self.dir) {
            return self.log.append(&self.dir, &bytes);
        }
        let records: Vec<_> = ledger.records().chain([bytes]).collect();
        self.log.rewrite(&self.dir, &self.key, &records)?;
        self.void = 0;
        Ok(())
    }

    /// Notes that so many bytes of the log became void.
    pub(super) fn add_void(&mut self, bytes: u64) {
        self.void += bytes;
    }

    /// Tells whether more than half of the log is void, and it is not short.
    pub(super) fn is_worth_rewriting(&self) -> bool {
        let length = self.log.length();
        length >= SMALLEST.max(self.retry) && self.void > length / 2
    }

    /// Writes the ledger in the fewest records, durably, in the place of the log.
    pub(super) fn rewrite(&mut self, ledger: &Ledger) -> Result<()> {
        self.retry = self.log.length() * 2;
        let records: Vec<_> = ledger.records().collect();
        self.log.rewrite(&self.dir, &self.key, &records)?;
        self.void = 0;
        self.retry = 0;
        Ok(())
    }
}

/// Sets a damaged log aside and starts a new one with the records that could be read.
fn replace(
    dir: &PrivateDir,
    key: &Arc<Key>,
    ledger: &Ledger,
    damage: &str,
) -> Result<(SealedLog, String)> {
    let mut number = 1_u32;
    let mut aside = format!("{}.damaged-{number}", LOG.name);
    while dir.has(&aside)? {
        number += 1;
        aside = format!("{}.damaged-{number}", LOG.name);
    }
    dir.set_aside(LOG.name, &aside)?;
    let records: Vec<_> = ledger.records().collect();
    let log = SealedLog::create(LOG, dir, key, &records)?;
    let notice = format!(
        "{} was damaged ({damage}): {} removals and {} unfinished sendings could be read, others \
         are forgotten; the damaged file is now {}",
        dir.shown(LOG.name),
        ledger.removals().count(),
        ledger.intents().count(),
        dir.shown(&aside)
    );
    Ok((log, notice))
}

/// Tells whether nothing was ever sealed: the first start may have died before it wrote the key,
/// which it does last.
fn log_is_empty(dir: &PrivateDir) -> Result<bool> {
    let Some(log) = dir.open(LOG.name, false)? else {
        return Ok(true);
    };
    let found = log
        .metadata()
        .map_err(|error| Error::io(&format!("cannot read {}", dir.shown(LOG.name)), error))?;
    Ok(found.len() <= HEADER as u64)
}
