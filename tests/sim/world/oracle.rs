//! The facts of every blob that ever was: its writer, its content, its readers, and the reasons why
//! it may be gone.

use std::collections::{BTreeSet, HashMap};

use dds::ids::{BlobKind, BlobName, DocId, Fingerprint};
use dds::openpgp::{self, Facts, Keyring, Limits, Outcome};

use super::people::Cast;
use super::run::Different;
use super::syncer::FileId;

/// The people of an area, by name.
pub type Members = BTreeSet<&'static str>;

/// One blob.
#[derive(Clone, Debug)]
pub struct Record {
    pub content: String,
    pub kind: BlobKind,
    /// Whom the signature names.
    pub members: Members,
    pub path: String,
    pub doc: Option<DocId>,
    pub signer: &'static str,
    /// Messages: whose copy it is.
    pub reader: Option<&'static str>,
    pub replaces: Vec<BlobName>,
    /// Its signature proves where it stands. What is not proven stands nowhere but in
    /// `unverified/`.
    pub proven: bool,
    /// Why it may be gone, or not be shown.
    pub excuse: Option<String>,
}

impl Record {
    pub fn is_alike(&self, other: &Record) -> bool {
        let head = |one: &Record| {
            let message = one.kind == BlobKind::Message;
            let signer = message.then_some(one.signer);
            (one.kind, signer, one.members.clone(), one.path.clone())
        };
        self.content == other.content && head(self) == head(other)
    }

    pub fn folder(&self) -> &'static str {
        self.kind.folder().name()
    }
}

/// All blobs and files that ever were.
#[derive(Default)]
pub struct Oracle {
    pub records: HashMap<BlobName, Record>,
    /// The bytes of each file, in the order in which they came to be.
    files: Vec<(FileId, Vec<u8>)>,
    by_name: HashMap<FileId, usize>,
}

impl Oracle {
    pub fn add_file(&mut self, file: FileId, bytes: Vec<u8>) {
        if !self.by_name.contains_key(&file) {
            self.by_name.insert(file.clone(), self.files.len());
            self.files.push((file, bytes));
        }
    }

    pub fn bytes(&self, file: &str) -> &[u8] {
        &self.files[self.by_name[file]].1
    }

    /// The nth of all files, counted round.
    pub fn nth_file(&self, nth: usize) -> Option<&(FileId, Vec<u8>)> {
        self.files.get(nth.checked_rem(self.files.len())?)
    }

    pub fn blob_of(&self, file: &str) -> BlobName {
        BlobName::of(self.bytes(file))
    }

    /// Opens a blob that somebody's DDS published.
    pub fn describe(cast: &Cast, owner: &'static str, bytes: &[u8]) -> Result<Record, Different> {
        let keyring = Keyring {
            identities: std::slice::from_ref(&cast.of(owner).identity),
            certificates: &cast.certificates,
        };
        let Outcome::Opened(opened) = openpgp::open(bytes, &keyring, &Limits::default(), None)
        else {
            return Err("a blob that its writer cannot open".to_owned());
        };
        let content = opened.content.read_at(0, usize::MAX).unwrap();
        let content = String::from_utf8_lossy(&content).into_owned();
        Self::read(cast, &opened.facts, content)
    }

    fn read(cast: &Cast, facts: &Facts, content: String) -> Result<Record, Different> {
        let signature = &facts.signatures[0];
        let name = |key: &Fingerprint| cast.name(key).ok_or("a key of nobody");
        let said = &signature.notations;
        let signer = signature.signer.as_ref().ok_or("nobody signed")?;
        let members: Result<Members, _> = signature.intended.iter().map(name).collect();
        Ok(Record {
            content,
            kind: said.kind.ok_or("no kind")?,
            members: members?,
            path: said.path.clone().ok_or("no path")?,
            doc: said.doc,
            signer: name(signer)?,
            reader: said.copy.as_ref().map(name).transpose()?,
            replaces: said.replaces.clone(),
            proven: true,
            excuse: None,
        })
    }

    /// The blobs that are one head with this one: the same content under the same path.
    pub fn alike(&self, blob: BlobName) -> Vec<BlobName> {
        let Some(record) = self.records.get(&blob) else {
            return Vec::new();
        };
        let all = self.records.iter();
        all.filter(|(_, other)| other.is_alike(record))
            .map(|(name, _)| *name)
            .collect()
    }

    pub fn excuse(&mut self, blob: BlobName, why: &str) {
        if let Some(record) = self.records.get_mut(&blob) {
            record.excuse.get_or_insert_with(|| why.to_owned());
        }
    }
}
