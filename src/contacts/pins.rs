//! The pins on disk: `contacts.toml`, `certificates/<FINGERPRINT>.pgp`, and `mine/` with copies of
//! my own certificates.
//!
//! The one place of `contacts` that touches the disk. A file is replaced at once or not at all:
//! temporary file, fsync, rename, fsync of the directory.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::Contact;
use super::names::{ContactName, is_address};
use super::pinning::Book;
use crate::error::{Error, Kind, Result, printable};
use crate::ids::Fingerprint;

const PINS: &str = "contacts.toml";
const CERTIFICATES: &str = "certificates";
/// Copies of my own certificates.
const MINE: &str = "mine";
/// Copies that are kept of certificates whose owner is no contact any more.
const MOST_FORMER: usize = 512;
/// Bytes of the largest file that is read here.
const LIMIT: u64 = 16 << 20;

const HEADER: &str = "\
# Contacts of DDS: which certificate has which local name, pinned when it was first seen.
# You may edit this file (also while DDS runs), but comments of your own are not kept.
#
#   verified  you compared the fingerprint with its owner
#   frozen    another certificate had the address of this one before, or came together with it:
#             nothing is sent until you decide which is right and set this to false
#   used      something was written to it or accepted from it; if not, it may make room for others
#   past      former certificates: they still verify, and never receive
#   since     when the contact was pinned, in seconds since 1970
#   certified_by  the key pinned for the same address that signed this one as its successor
";

/// The directory of the pins.
pub(super) struct Pins {
    dir: PathBuf,
    /// Text of `contacts.toml` as it was last read or written here.
    known: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    contact: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    name: Spanned<String>,
    fingerprint: Spanned<String>,
    #[serde(default)]
    past: Vec<Spanned<String>>,
    #[serde(default)]
    since: u64,
    #[serde(default)]
    verified: bool,
    #[serde(default)]
    frozen: bool,
    /// Missing in the files of earlier versions, which did not note it.
    #[serde(default = "yes")]
    used: bool,
    #[serde(default)]
    addresses: Vec<Spanned<String>>,
    /// Missing where no key signed this one.
    certified_by: Option<String>,
}

fn yes() -> bool {
    true
}

impl Pins {
    pub(super) fn new(dir: &Path) -> Self {
        Pins {
            dir: dir.to_owned(),
            known: None,
        }
    }

    /// Reads everything; `None` if there are no pins.
    pub(super) fn read(&mut self) -> Result<Option<Book>> {
        let Some(text) = self.read_text()? else {
            return Ok(None);
        };
        let mut book = parse(&text).map_err(|(line, message)| {
            let path = printable(&self.dir.join(PINS).to_string_lossy());
            let sentence = format!("{path}, line {line}: {}", printable(&message));
            Error::new(Kind::BadConfig, sentence)
        })?;
        for contact in book.contacts.values() {
            for fingerprint in contact.past.iter().chain([&contact.fingerprint]) {
                if let Some(bytes) = self.certificate_bytes(fingerprint)? {
                    let bytes = Arc::from(bytes);
                    book.certificates.insert(fingerprint.clone(), bytes);
                }
            }
        }
        self.known = Some(text);
        Ok(Some(book))
    }

    /// Reads everything if somebody else changed `contacts.toml`; not if it was removed.
    pub(super) fn read_if_changed(&mut self) -> Result<Option<Book>> {
        let text = self.read_text()?;
        if text.is_none() || text == self.known {
            return Ok(None);
        }
        self.read()
    }

    /// Writes the differences between two books, certificates before the pins that need them.
    pub(super) fn write(&mut self, old: &Book, new: &Book) -> Result<()> {
        let certificates = self.make(CERTIFICATES)?;
        let mut written = false;
        for (fingerprint, bytes) in &new.certificates {
            if old.certificates.get(fingerprint) != Some(bytes) {
                replace(&self.certificate(fingerprint), bytes)?;
                written = true;
            }
        }
        if written {
            sync_directory(&certificates)?;
        }
        if old.contacts.len() > new.contacts.len() || written {
            // A copy that stays too long takes room and does no harm.
            let _ = forget_former(&certificates, new);
        }
        let text = render(new);
        if self.known.as_ref() != Some(&text) {
            replace(&self.dir.join(PINS), text.as_bytes())?;
            self.known = Some(text);
        }
        sync_directory(&self.dir)
    }

    /// Makes a directory among the pins.
    fn make(&self, name: &str) -> Result<PathBuf> {
        let make = |path: &Path| {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(|error| failed("create", path, error))
        };
        if !self.dir.exists() {
            make(&self.dir)?;
            let parent = self.dir.parent();
            let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
            sync_directory(parent.unwrap_or(Path::new(".")))?;
        }
        let path = self.dir.join(name);
        make(&path)?;
        Ok(path)
    }

    /// Reads the copy of a certificate. A copy that is too large is cut off: it is then not taken for
    /// a certificate, and does not prevent the start.
    pub(super) fn certificate_bytes(&self, fingerprint: &Fingerprint) -> Result<Option<Vec<u8>>> {
        read_up_to_limit(&self.certificate(fingerprint))
    }

    pub(super) fn my_certificate(&self, fingerprint: &Fingerprint) -> Result<Option<Vec<u8>>> {
        let path = self.dir.join(MINE).join(format!("{fingerprint}.pgp"));
        read_up_to_limit(&path)
    }

    pub(super) fn keep_my_certificate(
        &self,
        fingerprint: &Fingerprint,
        bytes: &[u8],
    ) -> Result<()> {
        let mine = self.make(MINE)?;
        replace(&mine.join(format!("{fingerprint}.pgp")), bytes)?;
        sync_directory(&mine)
    }

    /// Names the line that says whether a contact is verified, else the one with its name.
    pub(super) fn place_of(&self, name: &ContactName) -> Option<String> {
        let path = printable(&self.dir.join(PINS).to_string_lossy());
        let text = self.known.as_ref()?;
        let document: Document = toml::from_str(text).ok()?;
        let mut records = document.contact.iter();
        let record = records.find(|record| record.name.get_ref() == name.as_str())?;
        let named = record.name.span().start.min(text.len());
        let line = |offset: usize| {
            let before = &text.as_bytes()[..offset];
            1 + before.iter().filter(|byte| **byte == b'\n').count()
        };
        // The record ends where the next one begins.
        let begin = text[..named].rfind("[[").unwrap_or(0);
        let end = text[named..]
            .find("\n[[")
            .map_or(text.len(), |at| named + at);
        let mut offset = begin;
        for one in text[begin..end].split_inclusive('\n') {
            if one.trim_start().starts_with("verified") {
                return Some(format!("{path}, line {}", line(offset)));
            }
            offset += one.len();
        }
        Some(format!("{path}, line {}", line(named)))
    }

    fn read_text(&self) -> Result<Option<String>> {
        let path = self.dir.join(PINS);
        let Some(bytes) = read_file(&path)? else {
            return Ok(None);
        };
        String::from_utf8(bytes).map(Some).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + good.iter().filter(|b| **b == b'\n').count();
            let path = printable(&path.to_string_lossy());
            let sentence = format!("{path}, line {line}: not UTF-8");
            Error::new(Kind::BadConfig, sentence)
        })
    }

    fn certificate(&self, fingerprint: &Fingerprint) -> PathBuf {
        let certificates = self.dir.join(CERTIFICATES);
        certificates.join(format!("{fingerprint}.pgp"))
    }
}

/// Reads pins; an error is a line number and the fault there.
fn parse(text: &str) -> std::result::Result<Book, (usize, String)> {
    let line = |offset: usize| {
        let before = &text.as_bytes()[..offset.min(text.len())];
        1 + before.iter().filter(|b| **b == b'\n').count()
    };
    let document: Document = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(text.len(), |span| span.start);
        (line(offset), error.message().to_owned())
    })?;
    let mut book = Book::default();
    let mut fingerprints = BTreeSet::new();
    let mut fingerprint = |text: &Spanned<String>| {
        let at = |message: String| (line(text.span().start), message);
        // gpg prints fingerprints in groups.
        let plain: String = text.get_ref().split(' ').collect();
        let value: Fingerprint = plain
            .parse()
            .map_err(|error: Error| at(error.to_string()))?;
        if !fingerprints.insert(value.clone()) {
            return Err(at(format!("the fingerprint {value} is here twice")));
        }
        Ok(value)
    };
    let address = |text: &Spanned<String>| {
        let value = text.get_ref();
        let at = || (line(text.span().start), "not an e-mail address".to_owned());
        is_address(value)
            .then(|| value.to_ascii_lowercase())
            .ok_or_else(at)
    };
    for record in &document.contact {
        let at = |message: String| (line(record.name.span().start), message);
        let name: std::result::Result<ContactName, Error> = record.name.get_ref().parse();
        let name = name.map_err(|error| at(error.to_string()))?;
        if book.contacts.keys().any(|other| other.resembles(&name)) {
            return Err(at(format!("a second contact is called {name}")));
        }
        let current = fingerprint(&record.fingerprint)?;
        let past = record.past.iter().map(&mut fingerprint);
        let past: BTreeSet<_> = past.collect::<std::result::Result<_, _>>()?;
        let certified_by = record.certified_by.as_deref().map(str::parse);
        let certified_by = certified_by.transpose();
        let certified_by = certified_by.map_err(|error: Error| at(error.to_string()))?;
        let addresses = record.addresses.iter().map(address);
        let addresses: BTreeSet<_> = addresses.collect::<std::result::Result<_, _>>()?;
        let contact = Contact {
            name: name.clone(),
            fingerprint: current,
            past: past.into_iter().collect(),
            since: record.since,
            verified: record.verified,
            frozen: record.frozen,
            used: record.used,
            addresses: addresses.into_iter().collect(),
            certified_by,
        };
        book.contacts.insert(name, contact);
    }
    Ok(book)
}

/// Writes pins as text, the same text for the same pins.
fn render(book: &Book) -> String {
    // Nothing here needs escaping: names, fingerprints and addresses have no quotes or
    // backslashes.
    let list = |items: &mut dyn Iterator<Item = String>| {
        let items: Vec<String> = items.map(|item| format!("\"{item}\"")).collect();
        format!("[{}]", items.join(", "))
    };
    let mut text = HEADER.to_owned();
    for contact in book.contacts.values() {
        let past = list(&mut contact.past.iter().map(Fingerprint::to_string));
        let addresses = list(&mut contact.addresses.iter().cloned());
        write!(
            text,
            "\n[[contact]]\nname = \"{}\"\nfingerprint = \"{}\"\npast = {past}\nsince = {}\n\
             verified = {}\nfrozen = {}\nused = {}\naddresses = {addresses}\n",
            contact.name,
            contact.fingerprint,
            contact.since.min(i64::MAX as u64),
            contact.verified,
            contact.frozen,
            contact.used
        )
        .expect("writing to a string cannot fail");
        if let Some(by) = &contact.certified_by {
            writeln!(text, "certified_by = \"{by}\"").expect("writing to a string cannot fail");
        }
    }
    text
}

fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    let path = printable(&path.to_string_lossy());
    Error::io(&format!("cannot {doing} {path}"), error)
}

/// Reads a file; `None` if there is none.
fn read_file(path: &Path) -> Result<Option<Vec<u8>>> {
    match read_up_to_limit(path)? {
        Some(bytes) if bytes.len() as u64 > LIMIT => {
            let path = printable(&path.to_string_lossy());
            let sentence = format!("{path} is larger than {LIMIT} bytes");
            Err(Error::new(Kind::BadConfig, sentence))
        }
        bytes => Ok(bytes),
    }
}

/// Reads a file up to one byte more than the limit; `None` if there is none.
fn read_up_to_limit(path: &Path) -> Result<Option<Vec<u8>>> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::open(path)?;
        file.take(LIMIT + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path, error)),
    }
}

/// Removes the oldest copies of certificates whose owners are no contacts any more. The others
/// stay, so that a revocation is remembered if the owner comes back.
fn forget_former(certificates: &Path, book: &Book) -> io::Result<()> {
    let mut former = Vec::new();
    for entry in fs::read_dir(certificates)? {
        let entry = entry?;
        let name = entry.file_name();
        let fingerprint = name.to_str().and_then(|name| name.strip_suffix(".pgp"));
        let fingerprint = fingerprint.and_then(|text| text.parse::<Fingerprint>().ok());
        if fingerprint.is_some_and(|fingerprint| book.by_fingerprint(&fingerprint).is_none()) {
            former.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    former.sort();
    let too_many = former.len().saturating_sub(MOST_FORMER);
    for (_, path) in &former[..too_many] {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Replaces a file at once or not at all; the directory is not synced yet.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    let write = || {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        failed("write", path, error)
    })
}

fn sync_directory(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| failed("sync", path, error))
}
