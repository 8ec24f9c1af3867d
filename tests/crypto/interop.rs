//! Live exchange with the installed gpg and sq, in both directions.
//!
//! A missing program is skipped, and said so.

// The versions belong to the result.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod hidden;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use dds::openpgp::*;
use dds::plaintext::{Passphrase, Plaintext};

mod armor;

/// The first line that a program prints as its version; `None` (and a word) without it.
fn version(program: &str) -> Option<String> {
    match Command::new(program).arg("--version").output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            let line = text.lines().next().unwrap_or_default().to_owned();
            println!("interop with {line}");
            Some(line)
        }
        Err(why) => {
            eprintln!("SKIPPED: {program} cannot be run: {why}");
            None
        }
    }
}

/// A gpg home of its own, with its agent stopped at the end.
struct Gpg(tempfile::TempDir);

impl Gpg {
    fn new() -> Option<Gpg> {
        version("gpg")?;
        // Sockets need a short path.
        let home = tempfile::Builder::new()
            .prefix("g")
            .tempdir_in("/tmp")
            .unwrap();
        Some(Gpg(home))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(self.0.path());
        command.args([
            "--batch",
            "--yes",
            "--trust-model",
            "always",
            "--pinentry-mode",
            "loopback",
        ]);
        command.env_remove("GNUPGHOME").env("LC_ALL", "C");
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Output {
        let output = self
            .command()
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "gpg {args:?}: {told}");
        output
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let home = self.0.path();
        let _ = Command::new("gpgconf")
            .arg("--homedir")
            .arg(home)
            .args(["--kill", "gpg-agent"])
            .status();
    }
}

const PASSPHRASE: &str = "correct horse";

fn person(name: &str, passphrase: bool) -> (NewIdentity, Identity) {
    let passphrase = passphrase.then(|| Passphrase::of(PASSPHRASE.as_bytes()).unwrap());
    let user_id = format!("{name} <{name}@example.org>");
    let made = generate(&user_id, passphrase.as_ref(), Profile::Compatible).unwrap();
    let identity = Identity::unlock(&made.secret, passphrase.as_ref()).unwrap();
    (made, identity)
}

fn seal(from: &Identity, to: &[&Identity], content: &[u8], named: bool) -> Vec<u8> {
    let recipients: Vec<_> = to.iter().map(|to| to.certificate().clone()).collect();
    let intended: Vec<_> = to.iter().map(|to| to.fingerprint()).collect();
    let content = Plaintext::from(content);
    let notations = Notations {
        version: Some(1),
        path: Some("a/b".into()),
        ..Notations::default()
    };
    let sealed = Sealed::prepare(SealRequest {
        signer: from,
        co_signers: &[],
        recipients: &recipients,
        intended: &intended,
        named,
        name: "lunch.txt",
        notations: &notations,
        content: &content,
        created: None,
    });
    let mut bytes = Vec::new();
    sealed.unwrap().write_to(&mut bytes).unwrap();
    bytes
}

fn open_with(bytes: &[u8], mine: &[Identity], known: &[Certificate]) -> Option<Opened> {
    let certificates = CertIndex::new(known.iter().cloned());
    let keyring = Keyring {
        identities: mine,
        certificates: &certificates,
    };
    match open(bytes, &keyring, &Limits::default(), None) {
        Outcome::Opened(opened) => Some(*opened),
        _ => None,
    }
}

fn text(opened: &Opened) -> Vec<u8> {
    opened.content.read_at(0, usize::MAX).unwrap().to_vec()
}

#[test]
fn gpg_reads_what_is_sealed() {
    let Some(gpg) = Gpg::new() else { return };
    let (_, alice) = person("alice", false);
    let (bob_made, bob) = person("bob", true);
    let alice_file = gpg.file("alice.asc", &alice.certificate().to_armored());
    let bob_file = gpg.file("bob.asc", &bob_made.secret);
    gpg.run(&["--import", &alice_file]);
    gpg.run(&["--passphrase", PASSPHRASE, "--import", &bob_file]);
    for length in [0, 1, 1000, 2100, 65_600, 300_000] {
        let content: Vec<u8> = (0..length).map(|i| (i * 7 / 3) as u8).collect();
        for named in [false, true] {
            let blob = seal(&alice, &[&bob, &alice], &content, named);
            let blob = gpg.file("blob.asc", &blob);
            let out = gpg.run(&["--passphrase", PASSPHRASE, "--decrypt", &blob]);
            let told = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(out.stdout == content, "{length} bytes: {told}");
            assert!(
                told.contains("Good signature from \"alice <alice@example.org>\""),
                "{told}"
            );

            let packets = gpg.run(&["--passphrase", PASSPHRASE, "--list-packets", &blob]);
            let packets = String::from_utf8_lossy(&packets.stdout).into_owned();
            let pkesks = packets
                .lines()
                .filter(|line| line.starts_with(":pubkey enc packet"));
            let hidden: Vec<bool> = pkesks
                .map(|line| line.contains("keyid 0000000000000000"))
                .collect();
            assert_eq!(hidden, [!named; 2], "{packets}");
            assert!(packets.contains("name=\"lunch.txt\""), "{packets}");
        }
    }
}

#[test]
fn gpg_reads_what_is_sealed_for_rsa() {
    let Some(gpg) = Gpg::new() else { return };
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let bob = fs::read(corpus.join("bob.key.asc")).unwrap();
    let bob_file = gpg.file("bob.asc", &bob);
    gpg.run(&["--import", &bob_file]);
    let bob = Identity::unlock(&bob, None).unwrap();
    let (_, alice) = person("alice", false);
    // Signed by RSA, and for RSA and Curve25519.
    let blob = seal(&bob, &[&bob, &alice], b"at noon\n", false);
    let opened = open_with(&blob, &[alice], &[bob.certificate().clone()]);
    let opened = opened.expect("opened");
    assert_eq!(opened.facts.signatures[0].status, SignatureStatus::Good);
    let blob = gpg.file("blob.asc", &blob);
    let out = gpg.run(&["--decrypt", &blob]);
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.stdout, b"at noon\n", "{told}");
    assert!(
        told.contains("Good signature from \"bob <bob@example.org>\""),
        "{told}"
    );
}

#[test]
fn gpg_imports_the_revocation() {
    let Some(gpg) = Gpg::new() else { return };
    let (made, _) = person("alice", false);
    let certificate = gpg.file("alice.asc", &made.certificate.to_armored());
    let revocation = gpg.file("revoke.asc", &made.revocation);
    gpg.run(&["--import", &certificate]);
    gpg.run(&["--import", &revocation]);
    let listed = gpg.run(&["--with-colons", "--list-keys"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(
        listed.lines().any(|line| line.starts_with("pub:r:")),
        "{listed}"
    );
}

#[test]
fn what_gpg_makes_is_opened() {
    let Some(gpg) = Gpg::new() else { return };
    let (alice_made, alice) = person("alice", false);
    let mine = [alice];
    let alice_file = gpg.file("alice.asc", &alice_made.certificate.to_armored());
    gpg.run(&["--import", &alice_file]);
    let content = gpg.file("lunch.txt", b"at noon\n");
    for algorithm in ["ed25519", "rsa3072"] {
        let user = format!("bob-{algorithm}@example.org");
        gpg.run(&[
            "--passphrase",
            "",
            "--quick-gen-key",
            &user,
            algorithm,
            "default",
            "never",
        ]);
        let bob = gpg.run(&["--export", &user]).stdout;
        let bob = Certificate::parse_all(&bob).unwrap();
        for to in ["--recipient", "--hidden-recipient"] {
            for armor in ["--armor", "--no-armor"] {
                let args = [
                    armor,
                    "-u",
                    &user,
                    "--sign",
                    "--encrypt",
                    to,
                    "alice",
                    "-o",
                    "-",
                ];
                let blob = gpg.run(&[&args[..], &[&content]].concat()).stdout;
                let opened = open_with(&blob, &mine, &bob).expect("opened");
                assert_eq!(text(&opened), b"at noon\n");
                assert_eq!(opened.facts.name.as_deref(), Some(&b"lunch.txt"[..]));
                let signature = &opened.facts.signatures[0];
                assert_eq!(signature.status, SignatureStatus::Good);
                assert_eq!(signature.signer, Some(bob[0].fingerprint()));
                assert!(signature.intended.is_empty());
            }
        }
        let text_mode = [
            "--textmode",
            "-u",
            &user,
            "--sign",
            "--encrypt",
            "-r",
            "alice",
            "-o",
            "-",
        ];
        let blob = gpg.run(&[&text_mode[..], &[&content]].concat()).stdout;
        let opened = open_with(&blob, &mine, &bob).expect("opened");
        assert_eq!(opened.facts.signatures[0].status, SignatureStatus::Good);
        // It has CRLF inside, and gpg gives it out as it was written.
        assert_eq!(text(&opened), b"at noon\n");
        assert_eq!(opened.facts.size, 8);
    }
}

/// What gpg can generate, for signing and for encryption. Elgamal and secp256k1 are not read.
const ALGORITHMS: &[(&str, &str)] = &[
    ("rsa2048", "rsa2048"),
    ("dsa2048", "rsa2048"),
    ("ed25519", "cv25519"),
    ("nistp256", "nistp256"),
    ("nistp384", "nistp384"),
    ("nistp521", "nistp521"),
    ("brainpoolP256r1", "brainpoolP256r1"),
    ("brainpoolP384r1", "brainpoolP384r1"),
    ("brainpoolP512r1", "brainpoolP512r1"),
];

#[test]
fn gpg_and_we_read_each_other_with_every_algorithm() {
    let Some(gpg) = Gpg::new() else { return };
    let content = gpg.file("lunch.txt", b"at noon\n");
    for (signing, encryption) in ALGORITHMS {
        let user = format!("{signing} <{signing}@example.org>");
        gpg.run(&[
            "--passphrase",
            "",
            "--quick-gen-key",
            &user,
            signing,
            "sign",
            "never",
        ]);
        let listed = gpg.run(&["--with-colons", "--list-keys", &user]).stdout;
        let listed = String::from_utf8(listed).unwrap();
        let fingerprint = listed
            .lines()
            .find(|line| line.starts_with("fpr:"))
            .unwrap();
        let fingerprint = fingerprint.split(':').nth(9).unwrap();
        gpg.run(&[
            "--passphrase",
            "",
            "--quick-add-key",
            fingerprint,
            encryption,
            "encr",
            "never",
        ]);
        let secret = gpg
            .run(&["--passphrase", "", "--export-secret-keys", fingerprint])
            .stdout;
        let me = Identity::unlock(&secret, None).unwrap();

        let blob = seal(&me, &[&me], b"at one\n", true);
        let blob = gpg.file("blob.asc", &blob);
        let out = gpg.run(&["--decrypt", &blob]);
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.stdout, b"at one\n", "{signing}: {told}");
        let good = format!("Good signature from \"{user}\"");
        assert!(told.contains(&good), "{signing}: {told}");

        let make = [
            "-u",
            fingerprint,
            "-r",
            fingerprint,
            "--sign",
            "--encrypt",
            "-o",
            "-",
        ];
        let blob = gpg.run(&[&make[..], &[&content]].concat()).stdout;
        let opened = open_with(&blob, &[me], &[]).unwrap_or_else(|| panic!("{signing}"));
        assert_eq!(text(&opened), b"at noon\n", "{signing}");
        let signature = &opened.facts.signatures[0];
        assert_eq!(signature.status, SignatureStatus::Good, "{signing}");
    }
}

/// Elgamal was gpg's default for encryption until 2009, and is still offered. A stub stands for a
/// secret that is elsewhere.
#[test]
fn what_my_key_cannot_do_is_said_with_what_helps() {
    let Some(gpg) = Gpg::new() else { return };
    let parameters = "%no-protection\nKey-Type: RSA\nKey-Length: 2048\nSubkey-Type: ELG-E\n\
        Subkey-Length: 1024\nName-Email: elg@example.org\nExpire-Date: 0\n%commit\n";
    let parameters = gpg.file("parameters", parameters.as_bytes());
    gpg.run(&["--gen-key", &parameters]);
    let secret = [
        "--passphrase",
        "",
        "--export-secret-keys",
        "elg@example.org",
    ];
    let me = Identity::unlock(&gpg.run(&secret).stdout, None).unwrap();
    let said = me.shortcomings().join("\n");
    assert!(
        said.contains("is Elgamal") && said.contains("--quick-add-key"),
        "{said}"
    );
    let content = gpg.file("lunch.txt", b"at noon\n");
    let blob = gpg
        .run(&["-r", "elg@example.org", "-o", "-", "--encrypt", &content])
        .stdout;
    let certificates = CertIndex::default();
    let keyring = Keyring {
        identities: &[me],
        certificates: &certificates,
    };
    let outcome = open(&blob, &keyring, &Limits::default(), None);
    assert!(matches!(
        outcome,
        Outcome::Refused(Refusal::KeyAlgorithm("Elgamal"))
    ));

    let bob = |more: &[&str]| gpg.run(&[&["--passphrase", ""][..], more].concat()).stdout;
    bob(&[
        "--quick-gen-key",
        "bob@example.org",
        "rsa2048",
        "cert,sign",
        "never",
    ]);
    let listed = String::from_utf8(bob(&["--with-colons", "-k", "bob@example.org"])).unwrap();
    let fingerprint = listed
        .lines()
        .find(|line| line.starts_with("fpr:"))
        .unwrap();
    let fingerprint = fingerprint.split(':').nth(9).unwrap();
    bob(&["--quick-add-key", fingerprint, "rsa2048", "encr", "never"]);
    let whole = bob(&["--export-secret-keys", fingerprint]);
    assert!(
        Identity::unlock(&whole, None)
            .unwrap()
            .shortcomings()
            .is_empty()
    );
    // Without the primary key, which is the one that signs.
    let offline = bob(&["--export-secret-subkeys", fingerprint]);
    let offline = Identity::unlock(&offline, None).unwrap();
    let said = offline.shortcomings().join("\n");
    assert!(
        said.contains("signing key") && said.contains("is offline"),
        "{said}"
    );
    let content = Plaintext::from(&b"x"[..]);
    let sealed = Sealed::prepare(SealRequest {
        signer: &offline,
        co_signers: &[],
        recipients: &[offline.certificate().clone()],
        intended: &[],
        named: false,
        name: "x",
        notations: &Notations::default(),
        content: &content,
        created: None,
    });
    let why = sealed.err().expect("not signed").to_string();
    assert!(why.contains("is offline"), "{why}");
}

/// The secret of my newest encryption key is on another device: my own files open here, too.
#[test]
fn what_i_write_opens_by_a_key_that_is_here() {
    let Some(gpg) = Gpg::new() else { return };
    let make = |when: &str, more: &[&str]| {
        let first = ["--passphrase", "", "--faked-system-time", when];
        gpg.run(&[&first[..], more].concat()).stdout
    };
    make(
        "20200101T000000",
        &[
            "--quick-gen-key",
            "bob@example.org",
            "ed25519",
            "cert,sign",
            "never",
        ],
    );
    let listed = make(
        "20200101T000001",
        &["--with-colons", "-k", "bob@example.org"],
    );
    let listed = String::from_utf8(listed).unwrap();
    let fingerprint = listed
        .lines()
        .find(|line| line.starts_with("fpr:"))
        .unwrap();
    let fingerprint = fingerprint.split(':').nth(9).unwrap();
    make(
        "20200101T000100",
        &["--quick-add-key", fingerprint, "cv25519", "encr", "never"],
    );
    make(
        "20220101T000100",
        &["--quick-add-key", fingerprint, "rsa2048", "encr", "never"],
    );
    let export = |which: &str| make("20230101T000000", &["--export-secret-keys", which]);
    let full = Identity::unlock(&export(fingerprint), None).unwrap();
    assert!(full.shortcomings().is_empty(), "{:?}", full.shortcomings());
    // As on the device that has only the older one.
    let listed = make(
        "20230101T000000",
        &["--with-colons", "--with-keygrip", "-K"],
    );
    let listed = String::from_utf8(listed).unwrap();
    let grip = listed
        .lines()
        .rfind(|line| line.starts_with("grp:"))
        .unwrap();
    let grip = grip.split(':').nth(9).unwrap();
    fs::remove_file(gpg.0.path().join(format!("private-keys-v1.d/{grip}.key"))).unwrap();
    let part = Identity::unlock(&export(fingerprint), None).unwrap();
    let said = part.shortcomings().join("\n");
    assert!(said.contains("newest encryption key"), "{said}");

    let written = seal(&part, &[&part], b"note\n", false);
    for me in [part, full] {
        let opened = open_with(&written, &[me], &[]).expect("opened");
        assert_eq!(text(&opened), b"note\n");
    }
}

#[test]
fn sq_and_we_read_each_other() {
    if version("sq").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let put = |name: &str, bytes: &[u8]| fs::write(file(name), bytes).unwrap();
    let (alice_made, alice) = person("alice", false);
    let (bob_made, bob) = person("bob", false);
    put("alice.cert", &alice_made.certificate.to_armored());
    put("bob.cert", &bob_made.certificate.to_armored());
    put("bob.key", &bob_made.secret);
    put("lunch.txt", b"at noon\n");

    put(
        "blob.asc",
        &seal(&alice, &[&bob, &alice], b"at noon\n", false),
    );
    let (key, signer, blob, out) = (
        file("bob.key"),
        file("alice.cert"),
        file("blob.asc"),
        file("out"),
    );
    sq(
        &[
            "decrypt",
            "--recipient-key",
            &key,
            "--signer-cert",
            &signer,
            "--signatures",
            "1",
            "--output",
            &out,
            &blob,
        ],
        dir.path(),
    );
    assert_eq!(fs::read(&out).unwrap(), b"at noon\n");

    let (to, by, content, made) = (
        file("alice.cert"),
        file("bob.key"),
        file("lunch.txt"),
        file("made.asc"),
    );
    sq(
        &[
            "encrypt",
            "--recipient-cert",
            &to,
            "--signer-key",
            &by,
            "--output",
            &made,
            &content,
        ],
        dir.path(),
    );
    let opened = open_with(&fs::read(&made).unwrap(), &[alice], &[bob_made.certificate]);
    let opened = opened.expect("opened");
    assert_eq!(text(&opened), b"at noon\n");
    assert_eq!(opened.facts.signatures[0].status, SignatureStatus::Good);
    assert_eq!(
        opened.facts.signatures[0].intended,
        [alice_made.certificate.fingerprint()]
    );
}

#[track_caller]
fn sq(args: &[&str], home: &Path) {
    // Since 0.27 the option names have changed.
    let newer = args.iter().map(|arg| match *arg {
        "--recipient-cert" => "--for-file",
        "--recipient-key" => "--recipient-file",
        "--signer-cert" | "--signer-key" => "--signer-file",
        arg => arg,
    });
    let run = |args: Vec<&str>| {
        Command::new("sq")
            .env("SEQUOIA_HOME", home)
            .args(args)
            .output()
            .unwrap()
    };
    let first = run(args.to_vec());
    if !first.status.success() {
        let second = run(newer.collect());
        let told = [first.stderr, second.stderr].concat();
        assert!(
            second.status.success(),
            "sq {args:?}: {}",
            String::from_utf8_lossy(&told)
        );
    }
}
