//! A store of people who have only GnuPG, and their reading of files written through the mount.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use crate::support::gnupg::{Gnupg, installed, piped, sq_decrypt};
use crate::support::mount::{Home, Mount, wait_for};
use crate::support::people::{blobs, deliver};
use crate::support::programs::full;
use crate::support::tree::files_below;
use dds::ids::{BlobName, Folder};

/// Where `dds-mount` finds the passphrase.
#[derive(Clone, Copy)]
enum Asked {
    Descriptor,
    Command,
    Never,
}

/// Somebody who has used GnuPG so far, and now mounts the store too.
struct Member {
    name: &'static str,
    gnupg: Arc<Gnupg>,
    asked: Asked,
    /// Where the mount's configuration lives.
    home: Home,
}

impl Member {
    fn new(name: &'static str, gnupg: &Arc<Gnupg>, asked: Asked) -> Member {
        Member {
            name,
            gnupg: Arc::clone(gnupg),
            asked,
            home: Home::new(),
        }
    }

    /// Mounts a store with the exported secret key.
    fn mount(&self, store: &Path) -> Mount {
        self.mount_with(store, &[])
    }

    fn mount_with(&self, store: &Path, options: &[&str]) -> Mount {
        let key = self.home.path("secret.asc");
        std::fs::write(&key, self.gnupg.secret_key(self.name)).unwrap();
        let mut command = self.home.dds_mount();
        command.arg("--store").arg(store).arg("--key").arg(&key);
        command.args(options);
        match self.asked {
            Asked::Descriptor => {
                command.args(["--passphrase-fd", "0"]);
                command.stdin(piped(&self.gnupg.passphrase));
            }
            Asked::Command => {
                let file = self.home.path("passphrase");
                std::fs::write(&file, &self.gnupg.passphrase).unwrap();
                let show = format!("cat {}", file.display());
                command.args(["--passphrase-command", &show]);
            }
            Asked::Never => {}
        }
        Mount::start(command, &self.home.path("secure"))
    }
}

fn user_id(name: &str) -> String {
    format!("{name} <{name}@example.org>")
}

const NAMES: [&str; 3] = ["alice", "bob", "carol"];

/// GNUPGHOMEs of Alice, who has RSA, and of Bob and Carol, who have Curve25519. All know each
/// other's certificates.
type Homes = [Arc<Gnupg>; 3];

/// Keys take long to make: tests that run at the same time have them in common.
fn homes() -> Homes {
    static SHARED: Mutex<[Weak<Gnupg>; 3]> = Mutex::new([Weak::new(), Weak::new(), Weak::new()]);
    let mut shared = SHARED.lock().unwrap();
    if let [Some(alice), Some(bob), Some(carol)] = [0, 1, 2].map(|i| shared[i].upgrade()) {
        return [alice, bob, carol];
    }
    let homes = ["correct horse", "battery staple", ""].map(|words| Arc::new(Gnupg::new(words)));
    for (home, name) in homes.iter().zip(NAMES) {
        let algorithm = if name == "alice" {
            "rsa3072"
        } else {
            "future-default"
        };
        home.generate(&user_id(name), algorithm, &[]);
        let certificate = home.certificate(name);
        for other in &homes {
            other.import(&certificate);
        }
    }
    *shared = [0, 1, 2].map(|i| Arc::downgrade(&homes[i]));
    homes
}

/// A store with all certificates, under file names that say nothing.
struct Cast {
    dir: Home,
    store: PathBuf,
    alice: Member,
    bob: Member,
    carol: Member,
}

impl Cast {
    fn new() -> Cast {
        let dir = Home::new();
        let store = dir.path("store");
        for folder in ["keys", "messages", "notes", "software"] {
            std::fs::create_dir_all(store.join(folder)).unwrap();
        }
        let [alice, bob, carol] = homes();
        for (name, file) in NAMES.iter().zip(["DFAD0D40.gpg", "a key.asc", "x.pgp"]) {
            std::fs::write(store.join("keys").join(file), alice.certificate(name)).unwrap();
        }
        Cast {
            dir,
            store,
            alice: Member::new("alice", &alice, Asked::Descriptor),
            bob: Member::new("bob", &bob, Asked::Command),
            carol: Member::new("carol", &carol, Asked::Never),
        }
    }

    fn members(&self) -> [&Member; 3] {
        [&self.alice, &self.bob, &self.carol]
    }
}

/// How gpg makes a message, and which readers can open it.
struct Form {
    /// Recipients as gpg is told.
    to: &'static [&'static str],
    readers: &'static [&'static str],
}

const FORMS: [Form; 8] = [
    Form {
        to: &["-r", "alice"],
        readers: &["alice"],
    },
    Form {
        to: &["-r", "carol", "-r", "alice", "-r", "bob"],
        readers: &["alice", "bob", "carol"],
    },
    Form {
        to: &["-R", "bob"],
        readers: &["bob"],
    },
    Form {
        to: &["--hidden-recipient", "alice"],
        readers: &["alice"],
    },
    Form {
        to: &["-R", "carol", "-R", "alice", "-R", "bob"],
        readers: &["alice", "bob", "carol"],
    },
    Form {
        to: &["--throw-keyids", "-r", "carol", "-r", "bob"],
        readers: &["bob", "carol"],
    },
    Form {
        to: &["-r", "bob"],
        readers: &["bob"],
    },
    Form {
        to: &["-R", "carol"],
        readers: &["carol"],
    },
];

const COMPRESSIONS: [&[&str]; 4] = [
    &[],
    &["--compress-algo", "none"],
    &["--compress-algo", "bzip2"],
    &["--compress-algo", "zlib", "-z", "9"],
];

/// What a reader must find in the view: path, content, whether it is signed.
type Expected = BTreeMap<String, (Vec<u8>, bool)>;

/// Fills `messages/` with everything that gpg can make. Returns the files that each reader must
/// find.
fn fill(cast: &Cast) -> BTreeMap<&'static str, Expected> {
    let mut expected: BTreeMap<_, Expected> = BTreeMap::new();
    let mut made = 0;
    let compressions = if full() { COMPRESSIONS.len() } else { 1 };
    for form in &FORMS {
        for bits in 0..8 {
            for compression in 0..compressions {
                made += 1;
                let (signed, armored, named) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
                // In the short form they take turns.
                let compression = COMPRESSIONS[(compression + made) % COMPRESSIONS.len()];
                // Who writes is not among the readers' directories by accident: never oneself.
                let writer = match form.readers {
                    ["bob"] | ["bob", "carol"] => &cast.alice,
                    ["alice"] => &cast.bob,
                    _ => &cast.carol,
                };
                let content: Vec<u8> = (0..made * 37).map(|i| (i * i / 7) as u8).collect();
                let name = format!("Grüße {made}.txt");
                let mut args = vec!["-u", writer.name, "--encrypt"];
                args.push(if armored { "--armor" } else { "--no-armor" });
                args.extend(signed.then_some("--sign"));
                if named {
                    args.extend(["--set-filename", &name]);
                }
                args.extend(compression);
                args.extend(form.to);
                let blob = writer.gnupg.feed(&args, &content).stdout;
                assert_eq!(blob.starts_with(b"-----BEGIN PGP MESSAGE-----"), armored);
                let short = deliver(&cast.store, Folder::Messages, &blob).short();
                let name = if named { name } else { short };
                for &reader in form.readers {
                    let directory = match (signed, reader == writer.name) {
                        (true, false) => writer.name,
                        // What is mine proves nothing if it names no readers.
                        (false, _) | (true, true) => "unverified",
                    };
                    let path = format!("messages/{directory}/{name}");
                    let there = expected.entry(reader).or_default();
                    assert!(there.insert(path, (content.clone(), signed)).is_none());
                }
            }
        }
    }
    expected
}

fn files(mount: &Mount, top: &str) -> BTreeSet<String> {
    let files = files_below(&mount.path(top)).into_iter();
    let files = files.map(|path| {
        let path = path.strip_prefix(&mount.mountpoint).unwrap();
        path.to_str().unwrap().to_owned()
    });
    files.collect()
}

fn xattr(path: &Path, name: &str) -> String {
    let mut value = vec![0; 4096];
    let size = rustix::fs::getxattr(path, name, &mut value[..]).unwrap();
    value.truncate(size);
    String::from_utf8(value).unwrap()
}

#[test]
fn a_store_made_by_gpg_alone_is_listed_and_read_completely() {
    needs!(mount, "gpg");
    let cast = Cast::new();
    let expected = fill(&cast);
    let before = blobs(&cast.store, Folder::Messages);
    for reader in cast.members() {
        let mount = reader.mount(&cast.store);
        let expected = &expected[reader.name];
        let found = files(&mount, "messages");
        let wanted: BTreeSet<_> = expected.keys().cloned().collect();
        assert_eq!(found, wanted, "as {} sees it", reader.name);
        for (path, (content, signed)) in expected {
            let path = mount.path(path);
            let listed = std::fs::metadata(&path).unwrap();
            assert_eq!(listed.len(), content.len() as u64, "{}", path.display());
            assert!(
                std::fs::read(&path).unwrap() == *content,
                "{}",
                path.display()
            );
            if !path.starts_with(mount.path("messages/unverified")) {
                assert_eq!(xattr(&path, "user.dds.signature"), "good-unverified");
                assert_eq!(xattr(&path, "user.dds.addressee"), "unproven");
            } else if !signed {
                assert_eq!(xattr(&path, "user.dds.signature"), "unsigned");
            }
        }
        assert_eq!(mount.unmount(), (Some(0), String::new()));
    }
    assert_eq!(
        blobs(&cast.store, Folder::Messages),
        before,
        "reading changed the store"
    );
}

#[test]
fn notes_made_by_gpg_stand_under_their_signer() {
    needs!(mount, "gpg");
    let cast = Cast::new();
    let bob = &cast.bob.gnupg;
    let group = ["-r", "alice", "-r", "bob", "-r", "carol"];
    let signed = ["-se", "--armor", "-u", "bob", "--set-filename", "plan.md"];
    let signed = bob.feed(&[&signed[..], &group].concat(), b"signed").stdout;
    let unsigned = ["-e", "--armor", "--set-filename", "rumour.md"];
    let unsigned = bob
        .feed(&[&unsigned[..], &group].concat(), b"unsigned")
        .stdout;
    let others = [
        "-se",
        "-u",
        "bob",
        "-r",
        "carol",
        "--set-filename",
        "secret",
    ];
    let others = bob.feed(&others, b"not for alice").stdout;
    for blob in [&signed, &unsigned, &others] {
        deliver(&cast.store, Folder::Notes, blob);
    }
    let mount = cast.alice.mount(&cast.store);
    let found = files(&mount, "notes");
    let wanted = ["notes/bob/plan.md", "notes/unverified/rumour.md"];
    assert_eq!(found, BTreeSet::from(wanted.map(str::to_owned)));
    assert_eq!(
        std::fs::read(mount.path("notes/bob/plan.md")).unwrap(),
        b"signed"
    );
    mount.unmount();
}

/// The one blob that is in a folder of the store and was not before. An empty file is published
/// when the kernel has released it, which is after close.
fn new_blob(store: &Path, folder: Folder, before: &[String]) -> PathBuf {
    let mut new = Vec::new();
    wait_for("a new blob", || {
        new = blobs(store, folder);
        new.retain(|name| !before.contains(name));
        !new.is_empty()
    });
    assert_eq!(new.len(), 1, "{new:?}");
    store.join(folder.name()).join(&new[0])
}

/// Key ids of the recipients, as gpg lists them.
fn recipients(packets: &str) -> Vec<&str> {
    packets
        .lines()
        .filter(|line| line.starts_with(":pubkey enc packet:"))
        .map(|line| line.rsplit_once("keyid ").unwrap().1)
        .collect()
}

#[test]
fn everything_written_through_the_mount_is_read_by_gpg_and_sq() {
    needs!(mount, "gpg");
    let sq = installed("sq");
    let cast = Cast::new();
    let names = ["hello.txt", "a longer name.md", "Grüße aus Köln.txt"];
    let sizes = [0, 1, 600, 100 << 10];
    for writer in [&cast.alice, &cast.bob] {
        let signer = user_id(writer.name);
        let mount = writer.mount(&cast.store);
        let other = if writer.name == "alice" {
            &cast.bob
        } else {
            &cast.alice
        };
        let both = match writer.name {
            "alice" => "notes/bob,carol",
            _ => "notes/alice,carol",
        };
        let places: [(Folder, String, Vec<&Member>); 4] = [
            (
                Folder::Messages,
                format!("messages/{}", other.name),
                vec![other, writer],
            ),
            (
                Folder::Messages,
                "messages/carol".to_owned(),
                vec![&cast.carol, writer],
            ),
            (
                Folder::Notes,
                both.to_owned(),
                vec![other, &cast.carol, writer],
            ),
            (Folder::Notes, "notes/me".to_owned(), vec![writer]),
        ];
        for (place, (folder, directory, readers)) in places.iter().enumerate() {
            for (turn, size) in sizes.into_iter().enumerate() {
                let name = format!("{} {turn} {}", writer.name, names[(turn + place) % 3]);
                let content: Vec<u8> = (0..size).map(|i| (i * 11 / 3 + place) as u8).collect();
                let before = blobs(&cast.store, *folder);
                std::fs::write(mount.path(&format!("{directory}/{name}")), &content).unwrap();
                let blob = new_blob(&cast.store, *folder, &before);
                let shown = format!("{directory}/{name}, {size} bytes");
                let hex = Command::new("sha1sum").arg(&blob).output().unwrap().stdout;
                let hex = String::from_utf8(hex).unwrap();
                let (hex, _) = hex.split_once(' ').unwrap();
                let file = blob.file_name().unwrap().to_str().unwrap();
                assert_eq!(file, format!("{hex}.asc"), "{shown}");
                for reader in readers {
                    let (read, tried_another) = reader.gnupg.decrypt(&blob, &signer);
                    assert!(read == content, "{shown}: read by {}", reader.name);
                    // Whom a message is for comes first, and gpg ends with 0 for him.
                    let first = *folder == Folder::Messages && reader.name == readers[0].name;
                    assert!(!(first && tried_another), "{shown}");
                }
                let packets = writer.gnupg.packets(&blob);
                let hidden = vec!["0000000000000000"; readers.len()];
                assert_eq!(recipients(&packets), hidden, "{shown}: {packets}");
                assert!(packets.contains("mdc_method: 2"), "{shown}: {packets}");
                if sq && readers.iter().any(|reader| reader.name == "carol") {
                    let (key, certificate) = (cast.dir.path("key"), cast.dir.path("signer"));
                    std::fs::write(&key, cast.carol.gnupg.secret_key("carol")).unwrap();
                    std::fs::write(&certificate, writer.gnupg.certificate(writer.name)).unwrap();
                    let read = sq_decrypt(cast.dir.dir.path(), &key, &certificate, &blob);
                    assert!(read == content, "{shown}: read by sq");
                }
            }
        }
        assert_eq!(mount.unmount(), (Some(0), String::new()));
    }
    // The other's own mount shows it where it was written.
    let mount = cast.bob.mount(&cast.store);
    for (turn, size) in sizes.into_iter().enumerate() {
        let name = format!("messages/alice/alice {turn} {}", names[turn % 3]);
        let there = std::fs::metadata(mount.path(&name)).unwrap();
        assert_eq!(there.len(), size as u64, "{name}");
    }
    assert_eq!(
        std::fs::read_dir(mount.path("notes/alice,carol"))
            .unwrap()
            .count(),
        8
    );
    mount.unmount();
}

#[test]
fn of_a_message_to_several_each_reader_s_gpg_opens_one_copy() {
    needs!(mount, "gpg");
    let cast = Cast::new();
    let mount = cast.alice.mount(&cast.store);
    std::fs::write(mount.path("messages/bob,carol/plan.txt"), b"for both").unwrap();
    let copies = blobs(&cast.store, Folder::Messages);
    assert_eq!(copies.len(), 2, "{copies:?}");
    for reader in [&cast.bob, &cast.carol] {
        let mut opened = 0;
        for copy in &copies {
            let blob = cast.store.join("messages").join(copy);
            let packets = cast.alice.gnupg.packets(&blob);
            assert_eq!(recipients(&packets), ["0000000000000000"; 2], "{packets}");
            let args = ["--decrypt", blob.to_str().unwrap()];
            if reader.gnupg.attempt(&args, b"").status.success() {
                let read = reader.gnupg.decrypt(&blob, &user_id("alice"));
                assert_eq!(read, (b"for both".to_vec(), false));
                opened += 1;
            }
        }
        assert_eq!(opened, 1, "{}", reader.name);
    }
    assert_eq!(mount.unmount(), (Some(0), String::new()));
    let mount = cast.carol.mount(&cast.store);
    let found = files(&mount, "messages");
    assert_eq!(
        found,
        BTreeSet::from(["messages/alice,bob/plan.txt".to_owned()])
    );
    mount.unmount();
}

#[test]
fn with_named_recipients_gpg_ends_with_0_for_everybody() {
    needs!(mount, "gpg");
    let cast = Cast::new();
    let config = cast.carol.home.path("named.toml");
    std::fs::write(&config, "recipients = \"named\"\n").unwrap();
    let mount = cast
        .carol
        .mount_with(&cast.store, &["--config", config.to_str().unwrap()]);
    std::fs::write(mount.path("notes/alice,bob/plan.md"), b"for all").unwrap();
    mount.unmount();
    let blob = new_blob(&cast.store, Folder::Notes, &[]);
    let packets = cast.carol.gnupg.packets(&blob);
    let named = recipients(&packets);
    assert_eq!(named.len(), 3);
    assert!(!named.contains(&"0000000000000000"), "{packets}");
    for reader in cast.members() {
        let read = reader.gnupg.decrypt(&blob, &user_id("carol"));
        assert_eq!(read, (b"for all".to_vec(), false), "{}", reader.name);
    }
}

/// Padme: lengths keep only as many significant bits as their own bit count has bits.
fn padme(length: u64) -> u64 {
    let e = u64::from(length.ilog2());
    let s = u64::from(e.ilog2()) + 1;
    let mask = (1 << (e - s)) - 1;
    (length + mask) & !mask
}

/// Bytes inside the encryption: what gpg calls the packet's length, less the version, a block and
/// two bytes in front, and the modification detection code.
fn inner_length(packets: &str) -> u64 {
    let lines = packets
        .lines()
        .skip_while(|line| !line.starts_with(":encrypted data packet:"));
    let line = lines.skip(1).find(|line| line.contains("length: "));
    let length: u64 = line
        .unwrap_or_else(|| panic!("no length: {packets}"))
        .trim()
        .strip_prefix("length: ")
        .unwrap()
        .parse()
        .unwrap();
    length - 1 - 18 - 22
}

#[test]
fn lengths_of_blobs_tell_little() {
    needs!(mount, "gpg");
    let cast = Cast::new();
    let mount = cast.bob.mount(&cast.store);
    let write = |name: &str, size: usize| {
        let before = blobs(&cast.store, Folder::Messages);
        let content: Vec<u8> = (0..size).map(|i| (i * i / 3) as u8).collect();
        std::fs::write(mount.path(&format!("messages/carol/{name}")), content).unwrap();
        let blob = new_blob(&cast.store, Folder::Messages, &before);
        let length = std::fs::metadata(&blob).unwrap().len();
        (length, inner_length(&cast.carol.gnupg.packets(&blob)))
    };
    let step = if full() { 1 } else { 31 };
    let sizes = (1..600).step_by(step).chain([600]);
    let small: BTreeSet<_> = sizes
        .map(|size| write(&format!("{size}.txt"), size))
        .collect();
    assert_eq!(small.len(), 1, "{small:?}");
    let (_, inner) = small.first().unwrap();
    assert_eq!(*inner, 2048);
    let mut distinct = BTreeSet::new();
    let sizes = [
        3000, 3001, 4096, 5000, 5001, 10_000, 20_000, 20_010, 65_536, 100_000, 300_000,
    ];
    for size in sizes {
        let (length, inner) = write(&format!("{size}.bin"), size);
        assert_eq!(padme(inner), inner, "{size} bytes");
        assert!(inner > size as u64 && inner < size as u64 * 6 / 5 + 2048);
        distinct.insert((length, inner));
    }
    // Of each pair of neighbours, both have one length.
    assert!(distinct.len() <= sizes.len() - 3, "{distinct:?}");
    mount.unmount();
}

#[test]
fn a_modern_pair_reads_what_the_other_wrote() {
    needs!(mount);
    let (alice, bob) = (Home::new(), Home::new());
    let store = alice.path("store");
    for (home, name) in [(&alice, "alice"), (&bob, "bob")] {
        let done = home
            .dds()
            .args(["init", "--modern", "--no-passphrase", "--user-id"])
            .arg(user_id(name))
            .arg("--store")
            .arg(&store)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{told}");
    }
    let mount = |home: &Home| Mount::start(home.dds_mount(), &home.path("secure"));
    let contents: Vec<Vec<u8>> = [0, 1, 600, 70_000, 1 << 20]
        .into_iter()
        .map(|size| (0..size).map(|i| (i * 13 / 5) as u8).collect())
        .collect();
    for (writer, reader, from, to) in [
        (&alice, &bob, "alice", "bob"),
        (&bob, &alice, "bob", "alice"),
    ] {
        let writing = mount(writer);
        for (turn, content) in contents.iter().enumerate() {
            for folder in ["messages", "notes"] {
                let path = writing.path(&format!("{folder}/{to}/{from} {turn}.txt"));
                std::fs::write(path, content).unwrap();
            }
        }
        assert_eq!(writing.unmount(), (Some(0), String::new()));
        let reading = mount(reader);
        for (turn, content) in contents.iter().enumerate() {
            for folder in ["messages", "notes"] {
                let path = reading.path(&format!("{folder}/{from}/{from} {turn}.txt"));
                assert_eq!(
                    std::fs::metadata(&path).unwrap().len(),
                    content.len() as u64
                );
                assert!(std::fs::read(&path).unwrap() == *content);
                assert_eq!(xattr(&path, "user.dds.signature"), "good-unverified");
                assert_eq!(xattr(&path, "user.dds.addressee"), "proven");
            }
        }
        assert_eq!(reading.unmount(), (Some(0), String::new()));
    }
    for folder in [Folder::Messages, Folder::Notes] {
        for name in blobs(&store, folder) {
            let bytes = std::fs::read(store.join(folder.name()).join(&name)).unwrap();
            assert_eq!(name, BlobName::of(&bytes).file_name());
            assert!(has_seipd_v2(&bytes), "{name} is not SEIPDv2");
        }
    }
}

/// Tells whether an armored blob's container is of version 2.
fn has_seipd_v2(armored: &[u8]) -> bool {
    use pgp::parse::{PacketParser, PacketParserResult, Parse as _};
    use sequoia_openpgp as pgp;
    let mut parser = PacketParser::from_bytes(armored).unwrap();
    while let PacketParserResult::Some(packet) = parser {
        if let pgp::Packet::SEIP(container) = &packet.packet {
            return container.version() == 2;
        }
        parser = packet.next().unwrap().1;
    }
    false
}
