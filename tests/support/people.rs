//! People with keys, and blobs that they put into a store as their own DDS, gpg or sq would.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use dds::ids::{BlobId, BlobKind, BlobName, DocId, Fingerprint, Folder, Timestamp};
use dds::openpgp::{self, Certificate, Identity, Notations, Profile, SealRequest, Sealed};
use dds::plaintext::Plaintext;

/// Somebody with a key.
pub struct Person {
    pub identity: Identity,
    pub secret: Vec<u8>,
}

impl Person {
    pub fn new(name: &str) -> Person {
        Self::with_profile(name, Profile::Compatible)
    }

    pub fn with_profile(name: &str, profile: Profile) -> Person {
        let user_id = format!("{name} <{}@example.org>", name.to_lowercase());
        let new = openpgp::generate(&user_id, None, profile).unwrap();
        Person {
            identity: Identity::unlock(&new.secret, None).unwrap(),
            secret: new.secret.to_vec(),
        }
    }

    /// Writes the secret key where a mount looks for it: one that others can read is refused.
    pub fn install_identity(&self, configuration: &Path) {
        let identity = configuration.join("identity.asc");
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(identity);
        file.unwrap().write_all(&self.secret).unwrap();
    }

    pub fn fingerprint(&self) -> Fingerprint {
        self.identity.fingerprint()
    }

    pub fn certificate(&self) -> Certificate {
        self.identity.certificate().clone()
    }
}

/// A blob that is put into the store, and how it is made.
pub struct Blob<'a> {
    pub from: &'a Person,
    /// Whose keys open it.
    pub to: Vec<&'a Person>,
    /// The readers whom the signature names. It names none if this is empty, as gpg writes it.
    pub intended: Vec<Fingerprint>,
    pub notations: Notations,
    pub name: &'a str,
    pub content: &'a [u8],
    pub created: Option<SystemTime>,
}

impl<'a> Blob<'a> {
    /// The blob that the writer's own DDS would make.
    pub fn new(kind: BlobKind, from: &'a Person, to: &[&'a Person], path: &'a str) -> Blob<'a> {
        let doc = DocId::from_random(
            BlobId::of(path.as_bytes()).as_bytes()[..16]
                .try_into()
                .unwrap(),
        );
        Blob {
            from,
            to: to.to_vec(),
            intended: to.iter().map(|person| person.fingerprint()).collect(),
            notations: Notations {
                version: Some(Notations::VERSION),
                kind: Some(kind),
                path: Some(path.to_owned()),
                doc: Some(doc),
                mtime: Some(Timestamp::new(1_700_000_000, 123_456_789).unwrap()),
                ..Notations::default()
            },
            name: path.rsplit('/').next().unwrap(),
            content: b"",
            created: None,
        }
    }

    pub fn content(mut self, content: &'a [u8]) -> Self {
        self.content = content;
        self
    }

    pub fn seal(&self) -> Vec<u8> {
        let recipients: Vec<_> = self.to.iter().map(|person| person.certificate()).collect();
        let content = Plaintext::from(self.content);
        let sealed = Sealed::prepare(SealRequest {
            signer: &self.from.identity,
            co_signers: &[],
            recipients: &recipients,
            intended: &self.intended,
            named: false,
            name: self.name,
            notations: &self.notations,
            content: &content,
            created: self.created,
        });
        let mut bytes = Vec::new();
        sealed.unwrap().write_to(&mut bytes).unwrap();
        bytes
    }

    /// Puts it into a store as a syncer does: whole, by renaming. Returns its name.
    pub fn deliver(&self, store: &Path, folder: Folder) -> BlobName {
        deliver(store, folder, &self.seal())
    }
}

/// Puts bytes into a store under their own name.
pub fn deliver(store: &Path, folder: Folder, bytes: &[u8]) -> BlobName {
    let name = BlobName::of(bytes);
    let dir = store.join(folder.name());
    let temporary = dir.join(".syncthing.test.tmp");
    std::fs::write(&temporary, bytes).unwrap();
    std::fs::rename(temporary, dir.join(name.file_name())).unwrap();
    name
}

/// A store of the given people's certificates.
pub fn make_store(dir: &Path, people: &[(&str, &Person)]) -> PathBuf {
    let store = dir.join("store");
    for folder in ["keys", "messages", "notes", "software"] {
        std::fs::create_dir_all(store.join(folder)).unwrap();
    }
    for (name, person) in people {
        let file = store.join("keys").join(format!("{name}.gpg"));
        std::fs::write(file, person.certificate().to_bytes()).unwrap();
    }
    store
}

/// Names of the blobs in a folder of a store, in order.
pub fn blobs(store: &Path, folder: Folder) -> Vec<String> {
    let entries = std::fs::read_dir(store.join(folder.name())).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A message of zeros for one reader, a thousandth as long as they are.
pub fn zeros(to: &Person, length: usize) -> Vec<u8> {
    use pgp::parse::Parse as _;
    use pgp::serialize::stream::{Compressor, Encryptor, LiteralWriter, Message, Recipient};
    use sequoia_openpgp as pgp;
    use std::collections::BTreeMap;
    use std::io::Write as _;
    use std::sync::{Arc, Mutex, PoisonError};
    static COMPRESSED: Mutex<BTreeMap<usize, Arc<Vec<u8>>>> = Mutex::new(BTreeMap::new());
    let mut made = COMPRESSED.lock().unwrap_or_else(PoisonError::into_inner);
    let compressed = made.entry(length).or_insert_with(|| {
        let mut out = Vec::new();
        let message = Compressor::new(Message::new(&mut out))
            .algo(pgp::types::CompressionAlgorithm::Zlib)
            .build()
            .unwrap();
        let mut message = LiteralWriter::new(message).build().unwrap();
        let zeros = vec![0; 1 << 20];
        for _ in 0..length >> 20 {
            message.write_all(&zeros).unwrap();
        }
        message.finalize().unwrap();
        Arc::new(out)
    });
    let compressed = Arc::clone(compressed);
    drop(made);
    let cert = pgp::Cert::from_bytes(&to.certificate().to_bytes()).unwrap();
    let policy = pgp::policy::StandardPolicy::new();
    let keys = cert
        .keys()
        .with_policy(&policy, None)
        .for_storage_encryption();
    let features = pgp::types::Features::empty().set_seipdv1();
    let recipients = keys.map(|key| Recipient::new(features.clone(), None, key.key()));
    let mut out = Vec::new();
    let mut message = Encryptor::for_recipients(Message::new(&mut out), recipients)
        .build()
        .unwrap();
    message.write_all(&compressed).unwrap();
    message.finalize().unwrap();
    out
}

/// The same message in other forms, which can be made without any key: with other text around it,
/// other armor, other line ends, other session key packets.
pub fn other_forms(armored: &[u8]) -> Vec<Vec<u8>> {
    use sequoia_openpgp::armor::{Kind, Reader, ReaderMode, Writer};
    use std::io::{Read as _, Write as _};
    let mut binary = Vec::new();
    let mode = ReaderMode::Tolerant(Some(Kind::Message));
    let mut reader = Reader::from_bytes(armored, mode);
    reader.read_to_end(&mut binary).unwrap();
    let armor = |headers: Vec<(&str, &str)>, binary: &[u8]| {
        let mut writer = Writer::with_headers(Vec::new(), Kind::Message, headers).unwrap();
        writer.write_all(binary).unwrap();
        writer.finalize().unwrap()
    };
    let text = String::from_utf8(armored.to_vec()).unwrap();
    let before = format!("hello from the server\n{text}");
    // A session key packet for nobody, of RSA.
    let key = [&[0xC1, 140, 3][..], &[0; 8], &[1, 4, 0], &[0x80; 128]].concat();
    let more = [&key[..], &binary].concat();
    vec![
        before.into_bytes(),
        text.replace('\n', "\r\n").into_bytes(),
        armor(vec![("Comment", "new")], &binary),
        armor(vec![], &more),
        [&key[..], &more].concat(),
        binary,
    ]
}
