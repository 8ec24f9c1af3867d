//! What other programs do with hidden recipients, as the manual says, and that the remedy in the
//! manual is one: `recipients = "named"` opens the same content in all of them.
//!
//! What the manual says is said of versions. Of another version the remedy alone is tested, and
//! what it does with hidden recipients is printed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use dds::openpgp::*;

use super::{Gpg, person, seal, version};

/// What a program does with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Opens,
    /// It prints the content, and ends with a status that says that it failed.
    OpensAndFails,
    Refuses,
}
use Does::{Opens, OpensAndFails, Refuses};

/// Which reader opens which file.
#[derive(Clone, Copy, Debug)]
enum Case {
    /// The reader's Curve25519 key is the first recipient, another one the last.
    First,
    /// Another Curve25519 key is the first recipient.
    Second,
    /// The reader has two Curve25519 keys, the newer of which is the first recipient.
    SeveralKeys,
    /// The reader's key is of RSA with 2048 bits, and the first recipient's with 3072.
    LongerRsa,
    /// The reader's own keys are on two curves.
    TwoCurves,
}
use Case::{First, LongerRsa, Second, SeveralKeys, TwoCurves};
const CASES: [Case; 5] = [First, Second, SeveralKeys, LongerRsa, TwoCurves];

struct Program {
    name: &'static str,
    /// Prints its version, somewhere in the first line.
    version: &'static [&'static str],
    /// Decrypts; `KEY` and `FILE` stand for paths. The content goes to the standard output.
    decrypt: &'static [&'static str],
    /// What the manual says of these versions, in the order of `CASES`.
    said: &'static [(&'static str, [Does; 5])],
}

const RNP: &[&str] = &["rnp", "--version"];
const PGPY: &str = "import sys, pgpy\n\
    key, _ = pgpy.PGPKey.from_file(sys.argv[1])\n\
    message = key.decrypt(pgpy.PGPMessage.from_file(sys.argv[2]))\n\
    sys.stdout.buffer.write(bytes(message.message))";
const NEVER: [Does; 5] = [Refuses; 5];
/// Of all recipients these look at the first one.
const IF_FIRST: [Does; 5] = [Opens, Refuses, Opens, Refuses, Opens];
const PGPAINLESS: [Does; 5] = [Opens, Opens, Opens, Refuses, Refuses];

const PROGRAMS: &[Program] = &[
    Program {
        name: "rnp",
        version: RNP,
        decrypt: &[
            "rnp",
            "--keyfile",
            "KEY",
            "--notty",
            "--password",
            "",
            "--decrypt",
            "FILE",
            "--output",
            "-",
        ],
        said: &[("0.16.3", NEVER), ("0.17.1", NEVER)],
    },
    Program {
        name: "rnp --allow-hidden",
        version: RNP,
        decrypt: &[
            "rnp",
            "--keyfile",
            "KEY",
            "--notty",
            "--password",
            "",
            "--allow-hidden",
            "--decrypt",
            "FILE",
            "--output",
            "-",
        ],
        said: &[("0.17.1", IF_FIRST)],
    },
    Program {
        name: "PGPy",
        version: &[
            "/usr/bin/python3",
            "-c",
            "import importlib.metadata as m; print(m.version('PGPy'))",
        ],
        decrypt: &[
            "/usr/bin/python3",
            "-W",
            "ignore",
            "-c",
            PGPY,
            "KEY",
            "FILE",
        ],
        said: &[("0.6.0", NEVER)],
    },
    Program {
        name: "sqop",
        version: &["sqop", "version"],
        decrypt: &["sqop", "decrypt", "KEY"],
        said: &[("0.27.3", IF_FIRST), ("0.37.2", IF_FIRST)],
    },
    Program {
        name: "pgpainless-cli",
        version: &["pgpainless-cli", "version"],
        decrypt: &["pgpainless-cli", "decrypt", "KEY"],
        said: &[("1.3.16", PGPAINLESS), ("1.6.9", PGPAINLESS)],
    },
];

/// The version that a program prints, `None` (and a word) without it.
fn printed_version(program: &Program) -> Option<String> {
    let [command, args @ ..] = program.version else {
        unreachable!("each has a command")
    };
    let output = Command::new(command).args(args).output();
    match output {
        Ok(output) if output.status.success() => {
            let line = String::from_utf8_lossy(&output.stdout);
            let line = line.lines().next().unwrap_or_default().to_owned();
            println!("interop with {} {line}", program.name);
            Some(line)
        }
        _ => {
            eprintln!("SKIPPED: {} cannot be run", program.name);
            None
        }
    }
}

fn judge(content: &[u8], wanted: &[u8], success: bool) -> Does {
    match (content == wanted, success) {
        (true, true) => Opens,
        (true, false) => OpensAndFails,
        (false, _) => {
            assert!(!success, "succeeds with other content");
            Refuses
        }
    }
}

/// What a program does with a file and a key that are in `dir`.
fn run(program: &Program, dir: &Path, key: &Path, file: &Path) -> Does {
    let words = program.decrypt.iter().map(|word| match *word {
        "KEY" => key.to_str().unwrap(),
        "FILE" => file.to_str().unwrap(),
        word => word,
    });
    let words: Vec<_> = words.collect();
    let output = Command::new(words[0])
        .args(&words[1..])
        .env("HOME", dir)
        .stdin(Stdio::from(fs::File::open(file).unwrap()))
        .output()
        .unwrap();
    judge(&output.stdout, CONTENT, output.status.success())
}

/// A reader and the files for them.
struct Scene {
    case: Case,
    /// The reader's key, armored.
    key: Vec<u8>,
    writer: Certificate,
    hidden: Vec<u8>,
    named: Vec<u8>,
}

const CONTENT: &[u8] = b"at noon\n";

/// A key made by gpg with these encryption keys, the last one the newest; armored.
fn key_by_gpg(gpg: &Gpg, signing: &str, encryption: &[&str]) -> Vec<u8> {
    let run = |day: usize, args: &[&str]| {
        let when = format!("202001{day:02}T000000");
        let first = ["--passphrase", "", "--faked-system-time", &when];
        gpg.run(&[&first[..], args].concat()).stdout
    };
    let user = format!("{signing}-{}@example.org", encryption.join("-"));
    run(1, &["--quick-gen-key", &user, signing, "sign", "never"]);
    let listed = String::from_utf8(run(1, &["--with-colons", "--list-keys", &user])).unwrap();
    let fingerprint = listed.lines().find(|line| line.starts_with("fpr:"));
    let fingerprint = fingerprint.unwrap().split(':').nth(9).unwrap();
    for (number, algorithm) in encryption.iter().enumerate() {
        let add = ["--quick-add-key", fingerprint, algorithm, "encr", "never"];
        run(2 + number, &add);
    }
    run(20, &["--armor", "--export-secret-keys", fingerprint])
}

/// The scenes in the order of `CASES`. The writer is the last recipient, as DDS has it.
fn scenes(gpg: &Gpg) -> Vec<Scene> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let long_rsa = fs::read(corpus.join("bob.key.asc")).unwrap();
    let long_rsa = Identity::unlock(&long_rsa, None).unwrap();
    let (_, writer) = person("alice", false);
    let (_, other) = person("carol", false);
    let one_key = key_by_gpg(gpg, "ed25519", &["cv25519"]);
    let scene = |case| {
        let (key, earlier) = match case {
            First => (one_key.clone(), None),
            Second => (one_key.clone(), Some(&other)),
            SeveralKeys => (key_by_gpg(gpg, "ed25519", &["cv25519", "cv25519"]), None),
            LongerRsa => (key_by_gpg(gpg, "rsa2048", &["rsa2048"]), Some(&long_rsa)),
            TwoCurves => (key_by_gpg(gpg, "ed25519", &["nistp256", "cv25519"]), None),
        };
        let reader = Identity::unlock(&key, None).unwrap();
        let to: Vec<_> = earlier.into_iter().chain([&reader, &writer]).collect();
        Scene {
            case,
            writer: writer.certificate().clone(),
            hidden: seal(&writer, &to, CONTENT, false),
            named: seal(&writer, &to, CONTENT, true),
            key,
        }
    };
    CASES.into_iter().map(scene).collect()
}

/// Compares the behaviour of a program with the manual's words about its version.
fn compare(name: &str, version: &str, said: &[(&str, [Does; 5])], does: &[Does]) {
    let is_this = |wanted: &str| {
        let mut words = version.split([' ', '-']);
        words.any(|word| word == wanted)
    };
    match said.iter().find(|(wanted, _)| is_this(wanted)) {
        Some((_, said)) => assert_eq!(does, said, "{name} {version}: {CASES:?}"),
        None => println!("not in the manual: {name} {version}: {CASES:?}: {does:?}"),
    }
}

#[test]
fn programs_that_cannot_open_hidden_recipients_open_named_ones() {
    let Some(gpg) = Gpg::new() else { return };
    let scenes = scenes(&gpg);
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    for program in PROGRAMS {
        let Some(version) = printed_version(program) else {
            continue;
        };
        let is_known = |(known, _): &&(&str, _)| version.contains(known);
        if program.name.contains("--") && !program.said.iter().any(|said| is_known(&said)) {
            // An option that not every version has.
            continue;
        }
        let mut does = Vec::new();
        for scene in &scenes {
            let key = put("key.asc", &scene.key);
            let hidden = put("hidden.asc", &scene.hidden);
            does.push(run(program, dir.path(), &key, &hidden));
            let named = put("named.asc", &scene.named);
            let remedy = run(program, dir.path(), &key, &named);
            assert_eq!(
                remedy, Opens,
                "{} {version}: {:?}",
                program.name, scene.case
            );
        }
        compare(program.name, &version, program.said, &does);
    }
}

/// gpg opens all of them, and its status is that of its worst attempt.
const GPG: &[(&str, [Does; 5])] = &[
    (
        "2.2.40",
        [Opens, OpensAndFails, OpensAndFails, Opens, Opens],
    ),
    (
        "2.4.7",
        [
            OpensAndFails,
            OpensAndFails,
            OpensAndFails,
            Opens,
            OpensAndFails,
        ],
    ),
];

#[test]
fn gpg_opens_hidden_recipients_whatever_its_status() {
    let Some(maker) = Gpg::new() else { return };
    let mut does = Vec::new();
    for scene in scenes(&maker) {
        let reader = Gpg::new().expect("there is one");
        reader.run(&["--import", &reader.file("key.asc", &scene.key)]);
        let writer = scene.writer.to_armored();
        reader.run(&["--import", &reader.file("writer.asc", &writer)]);
        let decrypt = |name: &str, bytes: &[u8]| {
            let file = reader.file(name, bytes);
            let args = ["--status-fd", "2", "--decrypt", &file];
            let output = reader.command().args(args).output().unwrap();
            // What the manual tells scripts to go by.
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("[GNUPG:] DECRYPTION_OKAY"), "{said}");
            assert!(said.contains("[GNUPG:] GOODSIG "), "{said}");
            judge(&output.stdout, CONTENT, output.status.success())
        };
        does.push(decrypt("hidden.asc", &scene.hidden));
        assert!(does.iter().all(|does| *does != Refuses), "{:?}", scene.case);
        assert_eq!(
            decrypt("named.asc", &scene.named),
            Opens,
            "{:?}",
            scene.case
        );
    }
    compare("gpg", &version("gpg").expect("there is one"), GPG, &does);
}
