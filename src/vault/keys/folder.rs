//! The contents of the files of `keys/`, read with bounded work whatever lies there.
//!
//! Of certificates of contacts and of mine everything is taken that their keys vouch for. Of
//! strangers' certificates only as many are read as could become contacts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::error::{Error, Kind, Result, printable};
use crate::ids::{BlobId, Fingerprint};
use crate::openpgp::{
    Certificate, Endorsements, Endorsers, RawCertificate, Ring, holds_secret_key,
};
use crate::store::{self, FileName, Stamp, Store};

/// Bytes of the largest file in `keys/` that is read.
pub const KEY_FILE_LIMIT: u64 = 1 << 20;
/// Bytes of files that one look reads; the next look continues.
const READ_AT_ONCE: u64 = 64 << 20;
/// The cost of a file besides its bytes.
const COST_OF_A_FILE: u64 = 4096;
/// Certificates of strangers that are read of one file.
const MOST_STRANGERS: usize = 256;
/// Bytes of strangers' certificates that are kept, of all files.
const STRANGERS_KEPT: usize = 16 << 20;
/// Bytes of contacts' signatures in certificates, as far as they seem to be theirs, that are kept of
/// all files.
const ENDORSEMENTS_KEPT: usize = 4 << 20;
/// Files with a problem that are listed.
const MOST_TOLD: usize = 16;

/// The contents of the files of `keys/` at the last look.
#[derive(Default)]
pub(in crate::vault) struct KeyFolder {
    files: HashMap<FileName, KeyFile>,
    /// It was listed, and no stamp was forgotten since.
    pub(in crate::vault) listed: bool,
    /// The fault in the pins' file, if it was damaged while we run.
    pub(in crate::vault) damaged_pins: Option<String>,
    /// Pins were derived from these files at least once.
    pub(in crate::vault) applied: bool,
    /// There are files that were not read yet.
    unread: usize,
    /// Copies of contacts' certificates as they are kept, read once.
    pub(in crate::vault) kept: HashMap<Fingerprint, Certificate>,
    /// Digests of the states of my own certificates that were written already.
    pub(in crate::vault) published: HashSet<BlobId>,
    /// The people whose signatures in others' certificates were kept when the files were read.
    endorsers: Endorsers,
    /// Sentences about the last look at which files had changed.
    pub(in crate::vault) events: Vec<String>,
}

struct KeyFile {
    stamp: Stamp,
    /// It must be read again, for more than it was read for.
    again: bool,
    /// The known people whose certificates are in it.
    known: BTreeSet<Fingerprint>,
    /// Copies of my own certificates.
    mine: Vec<Certificate>,
    /// It holds nothing but one certificate.
    single: bool,
    strangers: BTreeMap<Fingerprint, Stranger>,
    /// Signatures in certificates that seem to be contacts'.
    endorsements: BTreeMap<Fingerprint, Endorsements>,
    /// Number of strangers' certificates that were not read.
    left_out: usize,
    problems: Vec<String>,
}

/// The certificate of somebody unknown.
struct Stranger {
    certificate: Certificate,
    length: usize,
}

/// The news in new and changed files.
#[derive(Default)]
pub(in crate::vault) struct Arrived {
    /// Certificates of known people, and mine.
    pub(in crate::vault) of_known: Vec<Certificate>,
    /// Files arrived, changed or vanished.
    pub(in crate::vault) changed: bool,
    /// Files were read, for whatever reason.
    pub(in crate::vault) read: bool,
}

impl KeyFolder {
    /// Reads new and changed files, small ones first. The certificates of `known` people matter in
    /// any case; `mine` are my own.
    pub(in crate::vault) fn reread(
        &mut self,
        store: &dyn Store,
        listed: Vec<store::KeyFile>,
        known: &BTreeSet<Fingerprint>,
        mine: &[Fingerprint],
        stopped: impl Fn() -> bool,
    ) -> Arrived {
        self.listed = true;
        let mut arrived = Arrived::default();
        let names: BTreeSet<&FileName> = listed.iter().map(|file| &file.name).collect();
        let before = self.files.len();
        self.files.retain(|name, _| names.contains(name));
        arrived.changed = self.files.len() != before;
        let same = |file: &store::KeyFile| {
            let known = self.files.get(&file.name);
            known.is_some_and(|known| known.stamp == file.stamp && !known.again)
        };
        let mut unread: Vec<_> = listed.into_iter().filter(|file| !same(file)).collect();
        // An enemy who wants to keep other files from being read would use large ones.
        unread.sort_by(|a, b| (a.stamp.size, &a.name).cmp(&(b.stamp.size, &b.name)));
        let mut cost = 0;
        let mut left = unread.len();
        for file in unread {
            if cost > READ_AT_ONCE || stopped() {
                break;
            }
            cost += file.stamp.size.min(KEY_FILE_LIMIT) + COST_OF_A_FILE;
            left -= 1;
            let read = self.read(store, &file, known, mine, &mut arrived.of_known);
            let before = self.files.insert(file.name, read);
            arrived.changed |= before.is_none_or(|before| before.stamp != file.stamp);
            arrived.read = true;
        }
        self.unread = left;
        arrived
    }

    fn read(
        &self,
        store: &dyn Store,
        file: &store::KeyFile,
        known: &BTreeSet<Fingerprint>,
        mine: &[Fingerprint],
        of_known: &mut Vec<Certificate>,
    ) -> KeyFile {
        let mut read = KeyFile {
            stamp: file.stamp,
            again: false,
            known: BTreeSet::new(),
            mine: Vec::new(),
            single: false,
            strangers: BTreeMap::new(),
            endorsements: BTreeMap::new(),
            left_out: 0,
            problems: Vec::new(),
        };
        let shown = printable(&file.name.as_os_str().to_string_lossy());
        let ring = match read_ring(store, &file.name, &self.endorsers) {
            Ok(ring) => ring,
            Err(error) => {
                read.problems.push(format!("keys/{shown}: {error}"));
                return read;
            }
        };
        let problem = |fault: &String| format!("keys/{shown}: {fault}");
        read.problems.extend(ring.faults.iter().map(problem));
        let elsewhere = self.files.iter().filter(|(name, _)| **name != file.name);
        let strangers = elsewhere.flat_map(|(_, file)| file.strangers.values());
        let mut kept: usize = strangers.map(|stranger| stranger.length).sum();
        let endorsements = self.files.iter().filter(|(name, _)| **name != file.name);
        let endorsements = endorsements.flat_map(|(_, file)| file.endorsements.values());
        let mut endorsed: usize = endorsements.map(Endorsements::length).sum();
        read.single = ring.certificates.len() == 1 && ring.faults.is_empty();
        let mut looked_at = 0;
        for raw in &ring.certificates {
            let key = raw.fingerprint();
            if !raw.endorsements().is_empty() && endorsed < ENDORSEMENTS_KEPT {
                endorsed += raw.endorsements().length();
                let said = read.endorsements.entry(key.clone()).or_default();
                said.extend(raw.endorsements());
            }
            if known.contains(key) {
                match raw.read() {
                    Ok(certificate) => {
                        read.known.insert(key.clone());
                        if mine.contains(key) {
                            read.mine.push(certificate.clone());
                        }
                        of_known.push(certificate);
                    }
                    Err(error) => read.problems.push(format!("keys/{shown}: {error}")),
                }
            } else if raw.may_name_somebody() {
                looked_at += 1;
                if looked_at > MOST_STRANGERS || kept > STRANGERS_KEPT {
                    read.left_out += 1;
                } else if let Some(fault) = raw.unsupported() {
                    if read.problems.len() < MOST_TOLD {
                        read.problems.push(format!("keys/{shown}: {fault}"));
                    }
                } else {
                    kept += read.add_stranger(raw);
                }
            }
        }
        if read.strangers.is_empty() && read.known.is_empty() && read.problems.is_empty() {
            let why =
                "no key in it vouches for a name; ask its owner for an export of the whole key";
            read.problems.push(format!("keys/{shown}: {why}"));
        }
        read
    }

    /// Makes the next look read all files again, since other people are known now.
    pub(in crate::vault) fn forget_stamps(&mut self) {
        self.files.clear();
        self.listed = false;
    }

    /// Sets the people whose signatures in others' certificates are kept. Where there are more than
    /// before, all files are read again.
    pub(in crate::vault) fn ask_for(&mut self, endorsers: Endorsers) {
        if !endorsers.are_among(&self.endorsers) {
            self.files.values_mut().for_each(|file| file.again = true);
        }
        self.endorsers = endorsers;
    }

    /// The signatures in a certificate that seem to be contacts', of all files.
    pub(in crate::vault) fn endorsements(&self, key: &Fingerprint) -> Endorsements {
        let files = self.files.values();
        let mut all = Endorsements::default();
        files
            .filter_map(|file| file.endorsements.get(key))
            .for_each(|said| all.extend(said));
        all
    }

    /// Certificates of strangers, each once.
    pub(in crate::vault) fn strangers(&self, known: &BTreeSet<Fingerprint>) -> Vec<Certificate> {
        let mut merged: BTreeMap<&Fingerprint, Certificate> = BTreeMap::new();
        let all = self.files.values().flat_map(|file| &file.strangers);
        for (key, Stranger { certificate, .. }) in all.filter(|(key, _)| !known.contains(key)) {
            let together = match merged.get(key) {
                Some(other) => other.grown(certificate).unwrap_or_else(|_| other.clone()),
                None => certificate.clone(),
            };
            merged.insert(key, together);
        }
        merged.into_values().collect()
    }

    /// Tells whether a certificate is in a file that could be read.
    pub(in crate::vault) fn has(&self, key: &Fingerprint) -> bool {
        let mut files = self.files.values();
        files.any(|file| file.known.contains(key) || file.strangers.contains_key(key))
    }

    /// All files were read.
    pub(in crate::vault) fn is_complete(&self) -> bool {
        self.listed && self.unread == 0
    }

    /// Joins all copies of a certificate of mine, and names a file that holds nothing else.
    pub(in crate::vault) fn mine(
        &self,
        key: &Fingerprint,
    ) -> Option<(Certificate, Option<FileName>)> {
        let mut names: Vec<_> = self.files.iter().collect();
        names.sort_by_key(|(name, _)| *name);
        let mut found: Option<Certificate> = None;
        let mut single = None;
        for (name, file) in names {
            for copy in file.mine.iter().filter(|copy| copy.fingerprint() == *key) {
                found = Some(match &found {
                    Some(known) => known.grown(copy).unwrap_or_else(|_| known.clone()),
                    None => copy.clone(),
                });
                if file.single {
                    single.get_or_insert_with(|| name.clone());
                }
            }
        }
        found.map(|found| (found, single))
    }

    /// Sentences about files with wrong contents, or too many of them.
    pub(in crate::vault) fn problems(&self) -> Vec<String> {
        let all = self.files.values().flat_map(|file| &file.problems);
        let mut all: Vec<String> = all.cloned().collect();
        // Secret keys above all.
        all.sort_by_key(|sentence| (!sentence.contains(SECRET), sentence.clone()));
        all.dedup();
        if all.len() > MOST_TOLD {
            let more = all.len() - MOST_TOLD;
            all.truncate(MOST_TOLD);
            all.push(format!(
                "{more} more files in keys/ cannot be used: `dds verify` lists them"
            ));
        }
        let left_out: usize = self.files.values().map(|file| file.left_out).sum();
        if left_out > 0 {
            all.push(format!(
                "{left_out} certificates in keys/ are not looked at, because there are so many: \
                 take those out that nobody needs"
            ));
        }
        if self.unread > 0 {
            all.push(format!(
                "{} files in keys/ are not read yet, because there are so many: take those out \
                 that nobody needs",
                self.unread
            ));
        }
        all
    }
}

impl KeyFile {
    /// Adds a stranger's certificate if it names its owner; returns its length.
    fn add_stranger(&mut self, raw: &RawCertificate) -> usize {
        let Ok(certificate) = raw.read() else {
            return 0;
        };
        if certificate.user_ids().is_empty() {
            return 0;
        }
        let together = match self.strangers.get(raw.fingerprint()) {
            Some(other) => other.certificate.grown(&certificate).unwrap_or(certificate),
            None => certificate,
        };
        let stranger = Stranger {
            certificate: together,
            length: raw.length(),
        };
        self.strangers.insert(raw.fingerprint().clone(), stranger);
        raw.length()
    }
}

const SECRET: &str = "HOLDS A SECRET KEY";

fn read_ring(store: &dyn Store, name: &FileName, endorsers: &Endorsers) -> Result<Ring> {
    let bytes = store.read_key(name, KEY_FILE_LIMIT)?;
    if holds_secret_key(&bytes) {
        let loud = format!(
            "{SECRET}: whoever has this folder has that key; remove the file and revoke the key"
        );
        return Err(Error::new(Kind::Invalid, loud));
    }
    Ring::split_for(&bytes, endorsers)
}
