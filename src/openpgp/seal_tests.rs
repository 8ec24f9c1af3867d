//! Blobs whose packets come in parts, as those of 2 GiB and more do, read by everybody.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::parts::Cut;
use super::*;
use crate::ids::VersionId;
use crate::plaintext::{Budget, Plaintext, SpillArea};

/// Parts of 512 bytes from 1500 on.
const SMALL: Cut = Cut {
    longest: 1500,
    exponent: 9,
};

fn person(profile: Profile) -> (NewIdentity, Identity) {
    let made = generate("Alice <alice@example.org>", None, profile).unwrap();
    let identity = Identity::unlock(&made.secret, None).unwrap();
    (made, identity)
}

fn seal(by: &Identity, content: &Plaintext, cut: Cut, out: &mut (dyn Write + Send + Sync)) {
    let sealed = Sealed::prepare_cut(
        SealRequest {
            signer: by,
            co_signers: &[],
            recipients: &[by.certificate()],
            intended: &[by.fingerprint()],
            named: false,
            name: "long.bin",
            notations: &Notations::default(),
            content,
            created: None,
        },
        cut,
    );
    sealed.unwrap().write_to(out).unwrap();
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[test]
fn parts_are_framed_exactly() {
    for length in (0..6000).step_by(37).chain([1499, 1500, 1501, 2012, 2013]) {
        let frame = SMALL.frame(length);
        let mut parts = frame.begin(packets::tag::LITERAL, Vec::new()).unwrap();
        for piece in bytes(length as usize).chunks(100) {
            parts.write_all(piece).unwrap();
        }
        assert!(parts.write_all(b"x").is_err(), "no more than announced");
        let packet = parts.finish().unwrap();
        assert_eq!(packet.len() as u64, frame.whole());
        let mut found = Vec::new();
        packets::walk(&packet, |step| {
            if let packets::Step::Whole(frame) = step {
                found.push(frame.length);
            }
        })
        .unwrap();
        assert_eq!(found, [length]);
        let short = frame.begin(packets::tag::LITERAL, Vec::new()).unwrap();
        assert_eq!(short.finish().is_err(), length > 0);
    }
}

#[test]
fn packets_with_filler_have_exactly_the_padded_length() {
    for cut in [SMALL, Cut::default()] {
        let lengths = (0..5000).chain([1 << 31, (1 << 31) - 100, 1 << 32, (1 << 36) + 5, 1 << 40]);
        for least in lengths {
            let frame = cut.frame_with_filler(least, padding::padded);
            let headers = frame.whole() - frame.body();
            assert_eq!(frame.whole(), padding::padded(headers + least), "{least}");
            assert!(frame.body() >= least + 20, "{least}");
        }
    }
    let frame = Cut::default().frame_with_filler(1 << 20, padding::padded);
    assert_eq!(frame.whole() - frame.body(), 6, "short ones have no parts");
}

#[test]
fn what_comes_in_parts_is_read_by_us() {
    for profile in [Profile::Compatible, Profile::Modern] {
        let (_, alice) = person(profile);
        let certificates = CertIndex::default();
        let keyring = Keyring {
            identities: std::slice::from_ref(&alice),
            certificates: &certificates,
        };
        for length in [0, 1400, 1480, 1500, 2000, 2047, 2048, 10_000, 300_000] {
            let content = Plaintext::from(&bytes(length)[..]);
            let mut blob = Vec::new();
            seal(&alice, &content, SMALL, &mut blob);
            let Outcome::Opened(opened) = open(&blob, &keyring, &Limits::default(), None) else {
                panic!("{length} bytes are not opened");
            };
            assert!(opened.content.same_bytes(&content).unwrap());
            let status = &opened.facts.signatures[0].status;
            assert_eq!(*status, SignatureStatus::Good, "{length}");
        }
    }
}

/// The ids of the whole inside, and of the first signature's statement.
fn ids(blob: &[u8], keyring: &Keyring<'_>) -> (VersionId, VersionId) {
    let Outcome::Opened(opened) = open(blob, keyring, &Limits::default(), None) else {
        panic!("it is not opened");
    };
    let facts = opened.facts;
    assert_eq!(facts.signatures[0].status, SignatureStatus::Good);
    (facts.inside, facts.signatures[0].version.unwrap())
}

#[test]
fn what_is_sealed_has_the_id_of_what_is_opened() {
    let spill = tempfile::tempdir().unwrap();
    let budget = Budget {
        each: 64 << 10,
        all: 64 << 10,
    };
    let area = SpillArea::open(spill.path(), budget).unwrap();
    for profile in [Profile::Compatible, Profile::Modern] {
        let (_, alice) = person(profile);
        let (_, shared) = person(profile);
        let certificates = CertIndex::new([shared.certificate().clone()]);
        let keyring = Keyring {
            identities: std::slice::from_ref(&alice),
            certificates: &certificates,
        };
        for (length, cut) in [
            (0, SMALL),
            (11, SMALL),
            (70_000, SMALL),
            (3 << 20, Cut::default()),
        ] {
            let mut content = Plaintext::spilling(&area);
            content.append(&bytes(length)).unwrap();
            let request = SealRequest {
                signer: &alice,
                co_signers: &[&shared],
                recipients: &[alice.certificate().clone()],
                intended: &[alice.fingerprint()],
                named: false,
                name: "a name.bin",
                notations: &Notations::default(),
                content: &content,
                created: None,
            };
            let sealed = Sealed::prepare_cut(request, cut).unwrap();
            let mut blob = Vec::new();
            let receipt = sealed.write_to(&mut blob).unwrap();
            let limits = Limits {
                spill: Some(area.clone()),
                ..Limits::default()
            };
            let examined = examine(&mut &blob[..], blob.len() as u64, &keyring, &limits, None);
            let Outcome::Opened(opened) = examined.unwrap().outcome else {
                panic!("{length} bytes are not opened");
            };
            assert_eq!(opened.facts.inside, receipt.inside, "{length}");
            let signatures = opened.facts.signatures.iter();
            let signed: Vec<_> = signatures
                .filter_map(|signature| signature.version)
                .collect();
            assert_eq!(signed, receipt.signed, "{length}");
            assert_eq!(signed.len(), 2);
        }
    }
}

/// Encrypts packets as another reader might.
fn encrypted(to: &Certificate, layers: usize, packets: &[u8]) -> Vec<u8> {
    use pgp::serialize::stream::{Compressor, Encryptor, Message};
    use pgp::types::CompressionAlgorithm;
    let policy = policy();
    let recipients = to
        .cert()
        .keys()
        .with_policy(&policy, None)
        .for_transport_encryption();
    let mut blob = Vec::new();
    let message = Message::new(&mut blob);
    let mut inside = Encryptor::for_recipients(message, recipients)
        .build()
        .unwrap();
    for _ in 0..layers {
        let compressor = Compressor::new(inside).algo(CompressionAlgorithm::Zip);
        inside = compressor.build().unwrap();
    }
    inside.write_all(packets).unwrap();
    inside.finalize().unwrap();
    blob
}

/// Begins the literal among some packets anew, in parts, and puts a marker before it.
fn framed_otherwise(message: &[u8], before: usize) -> Vec<u8> {
    let (before, literal) = message.split_at(before);
    let length = u32::from_be_bytes(literal[2..6].try_into().unwrap()) as usize;
    let (body, after) = literal[6..].split_at(length);
    let frame = SMALL.frame(length as u64);
    let mut parts = frame.begin(packets::tag::LITERAL, Vec::new()).unwrap();
    parts.write_all(body).unwrap();
    let literal = parts.finish().unwrap();
    let marker = [0xC0 | packets::tag::MARKER, 3, b'P', b'G', b'P'];
    [before, &marker, &literal, after].concat()
}

#[test]
fn a_version_is_what_is_inside_whatever_stands_around_it() {
    for profile in [Profile::Compatible, Profile::Modern] {
        let (_, alice) = person(profile);
        let certificates = CertIndex::default();
        let keyring = Keyring {
            identities: std::slice::from_ref(&alice),
            certificates: &certificates,
        };
        let content = Plaintext::from(&bytes(9000)[..]);
        let to = alice.certificate().clone();
        let request = SealRequest {
            signer: &alice,
            co_signers: &[],
            recipients: &[to.clone(), to.clone()],
            intended: &[alice.fingerprint()],
            named: false,
            name: "name",
            notations: &Notations::default(),
            content: &content,
            created: None,
        };
        let sealed = Sealed::prepare(request).unwrap();
        let mut blob = Vec::new();
        let receipt = sealed.write_to(&mut blob).unwrap();
        let mut packets = Vec::new();
        sealed.write_message(&mut packets).unwrap();
        let first = 2 + usize::from(packets[1]);
        let same = [
            encrypted(&to, 0, &packets),
            encrypted(&to, 1, &packets),
            encrypted(&to, 3, &packets),
            encrypted(&to, 1, &framed_otherwise(&packets, first)),
        ];
        for blob in &same {
            assert_eq!(ids(blob, &keyring), (receipt.inside, receipt.signed[0]));
        }
        // No signature protects the literal's name.
        let mut renamed = packets.clone();
        let name = first + 8;
        assert_eq!(&renamed[name..name + 4], b"name");
        renamed[name] = b'f';
        let (inside, signed) = ids(&encrypted(&to, 1, &renamed), &keyring);
        assert!(inside != receipt.inside && signed == receipt.signed[0]);
        // Another statement about the same content.
        let again = Sealed::prepare(SealRequest {
            signer: &alice,
            co_signers: &[],
            recipients: std::slice::from_ref(&to),
            intended: &[],
            named: false,
            name: "name",
            notations: &Notations::default(),
            content: &content,
            created: None,
        });
        let mut other = Vec::new();
        let other = again.unwrap().write_to(&mut other).unwrap();
        assert!(other.inside != receipt.inside && other.signed != receipt.signed);
    }
}

/// Runs a program; `None`, loudly, if it is not installed.
fn run(program: &str, home: &Path, args: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new(program)
        .args(args)
        .env("GNUPGHOME", home)
        .env("HOME", home)
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(why) => {
            writeln!(std::io::stderr(), "SKIPPED: {program}: {why}").unwrap();
            return None;
        }
    };
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {told}");
    Some(output.stdout)
}

/// A home for gpg with a secret key, without its agent in the end.
struct GpgHome(tempfile::TempDir);

impl GpgHome {
    fn new(made: &NewIdentity) -> GpgHome {
        // Sockets need a short path.
        let home = tempfile::Builder::new().prefix("g").tempdir_in("/tmp");
        let home = home.unwrap();
        std::fs::write(home.path().join("key"), &made.secret[..]).unwrap();
        GpgHome(home)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for GpgHome {
    fn drop(&mut self) {
        let mut kill = Command::new("gpgconf");
        kill.args(["--kill", "all"]).env("GNUPGHOME", self.0.path());
        let _ = kill.output();
    }
}

#[test]
fn what_comes_in_parts_is_read_by_gpg_and_sq() {
    let (made, alice) = person(Profile::Compatible);
    let home = GpgHome::new(&made);
    let key = home.path("key");
    let content = bytes(100_000);
    let blob = home.path("blob.asc");
    let mut out = std::fs::File::create(&blob).unwrap();
    seal(&alice, &Plaintext::from(&content[..]), SMALL, &mut out);
    let at = home.0.path();
    if run("gpg", at, &["--batch", "--import", &key]).is_some() {
        let args = ["--batch", "--trust-model", "always", "--decrypt", &blob];
        assert!(run("gpg", at, &args) == Some(content.clone()));
    }
    let args = ["decrypt", "--recipient-key", &key, &blob];
    if let Some(read) = run("sq", at, &args) {
        assert!(read == content);
    }
}

/// 5 GiB, which no single length can say. Only with DDS_TEST_FULL.
#[test]
fn more_than_4_gib_is_read_by_gpg_and_by_us() {
    if std::env::var_os("DDS_TEST_FULL").is_none() {
        return;
    }
    const LENGTH: u64 = 5 << 30;
    let (made, alice) = person(Profile::Compatible);
    let home = GpgHome::new(&made);
    let area = SpillArea::open(home.0.path(), Budget::default()).unwrap();
    let mut content = Plaintext::spilling(&area);
    for at in (0..LENGTH).step_by(64 << 20) {
        content.write_at(at, &bytes(5000)).unwrap();
    }
    content.set_len(LENGTH).unwrap();
    let blob = home.path("blob.asc");
    let mut out = std::fs::File::create(&blob).unwrap();
    seal(&alice, &content, Cut::default(), &mut out);
    drop(out);

    let certificates = CertIndex::default();
    let keyring = Keyring {
        identities: std::slice::from_ref(&alice),
        certificates: &certificates,
    };
    let limits = Limits {
        spill: Some(area.clone()),
        ..Limits::default()
    };
    let mut file = std::fs::File::open(&blob).unwrap();
    let length = file.metadata().unwrap().len();
    let examined = examine(&mut file, length, &keyring, &limits, None).unwrap();
    let Outcome::Opened(opened) = examined.outcome else {
        panic!("not opened");
    };
    assert_eq!(opened.content.len(), LENGTH);
    assert_eq!(opened.facts.digest, content.digest().unwrap());
    assert_eq!(opened.facts.signatures[0].status, SignatureStatus::Good);
    assert!(area.used() < 97 << 20);
    drop(opened);

    let key = home.path("key");
    if run("gpg", home.0.path(), &["--batch", "--import", &key]).is_none() {
        return;
    }
    let plain = home.path("plain");
    let args = [
        "--batch",
        "--trust-model",
        "always",
        "--output",
        &plain,
        "--decrypt",
        &blob,
    ];
    run("gpg", home.0.path(), &args);
    let mut digest = sha2::Sha256::default();
    std::io::copy(&mut std::fs::File::open(&plain).unwrap(), &mut digest).unwrap();
    let digest: [u8; 32] = sha2::Digest::finalize(digest).into();
    assert_eq!(digest, content.digest().unwrap());
}
