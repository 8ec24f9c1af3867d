//! Certificates that cannot be written to: the open for writing already fails, with an errno that
//! tells why, nothing is written, and `.dds/errors` names the contact.

use crate::support::gnupg::Gnupg;
use crate::support::mount::{Home, Mount};
use crate::support::people::{Blob, Person, blobs, make_store};
use crate::support::scene::Scene;
use dds::ids::{BlobKind, Folder};

const LONG_AGO: [&str; 2] = ["--faked-system-time", "20200101T000000!"];

/// A store with my certificate, and the keys of others, which gpg makes.
struct Keys {
    scene: Scene,
    gnupg: Gnupg,
    me: Person,
}

impl Keys {
    fn new() -> Keys {
        let home = Home::new();
        let me = Person::new("Alice");
        let store = make_store(home.dir.path(), &[("me", &me)]);
        Keys {
            scene: Scene::of(&me, home, store),
            gnupg: Gnupg::new(""),
            me,
        }
    }

    fn mount(&self) -> Mount {
        self.scene.mount()
    }

    fn mount_as(&self, secret: &[u8]) -> Mount {
        let identity = self.scene.home.path(".config/dds/identity.asc");
        std::fs::write(identity, secret).unwrap();
        self.mount()
    }

    /// What a syncer does when a certificate arrives.
    fn deliver(&self, file: &str, certificate: &[u8]) {
        let keys = self.scene.store.join("keys");
        let temporary = keys.join(".syncthing.test.tmp");
        std::fs::write(&temporary, certificate).unwrap();
        std::fs::rename(&temporary, keys.join(file)).unwrap();
    }

    /// Makes a key pair whose owner is called `name`, and puts its certificate into the store.
    fn contact(&self, name: &str, make: &[&str]) {
        self.gnupg.run(make);
        self.deliver(&format!("{name}.gpg"), &self.gnupg.certificate(name));
    }

    /// Revokes a key in the GNUPGHOME, as its owner does with the certificate made beforehand.
    fn revoke(&self, name: &str) {
        let key = self.gnupg.fingerprint(name);
        let file = self.gnupg.path().join("openpgp-revocs.d");
        let prepared = std::fs::read_to_string(file.join(format!("{key}.rev"))).unwrap();
        // A colon in front of it guards against an accident.
        let revocation = prepared.replace("\n:-----BEGIN", "\n-----BEGIN");
        self.gnupg.import(revocation.as_bytes());
    }

    fn blobs(&self) -> usize {
        let count = |folder| blobs(&self.scene.store, folder).len();
        count(Folder::Messages) + count(Folder::Notes)
    }

    /// Asserts that nothing can be written to an audience, for the reason that `errno` tells.
    #[track_caller]
    fn assert_refused(&self, mount: &Mount, audience: &str, errno: i32, sentence: &str) {
        let before = self.blobs();
        let mut paths = vec![format!("notes/{audience}/new.txt")];
        // Messages to several readers are another matter.
        if !audience.contains(',') {
            paths.push(format!("messages/{audience}/new.txt"));
        }
        for path in paths {
            let opened = std::fs::File::create(mount.path(&path));
            let error = opened.map(drop).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno), "{path}");
            let gone = std::fs::symlink_metadata(mount.path(&path)).unwrap_err();
            assert_eq!(gone.raw_os_error(), Some(libc::ENOENT), "{path}");
            let told = std::fs::read_to_string(mount.path(".dds/errors")).unwrap();
            let line = told.lines().rfind(|line| line.contains(&path));
            let line = line.unwrap_or_else(|| panic!("nothing about {path}: {told}"));
            assert!(line.contains(sentence), "{line}");
        }
        let made = std::fs::create_dir(mount.path(&format!("notes/{audience}/new")));
        assert_eq!(made.unwrap_err().raw_os_error(), Some(errno));
        assert_eq!(self.blobs(), before, "something was written");
    }

    #[track_caller]
    fn assert_accepted(&self, mount: &Mount, audience: &str) {
        let path = mount.path(&format!("notes/{audience}/accepted.txt"));
        let before = self.blobs();
        std::fs::write(&path, "accepted").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"accepted");
        assert_eq!(self.blobs(), before + 1);
    }
}

fn quick<'a>(user_id: &'a str, algorithm: &'a str, usage: &'a str) -> [&'a str; 5] {
    ["--quick-gen-key", user_id, algorithm, usage, "never"]
}

#[test]
fn expired_revoked_and_missing_keys_fail_the_open() {
    needs!(mount, "gpg");
    let keys = Keys::new();
    let default = ["future-default", "default"];
    keys.contact(
        "bob",
        &quick("bob <bob@example.org>", default[0], default[1]),
    );
    let mut expiring = LONG_AGO.to_vec();
    expiring.extend(&quick("erin <erin@example.org>", default[0], default[1])[..4]);
    expiring.push("1y");
    keys.contact("erin", &expiring);
    let signs = quick("sybil <sybil@example.org>", "ed25519", "sign");
    keys.contact("sybil", &signs);
    let revoked = quick("rita <rita@example.org>", default[0], default[1]);
    keys.gnupg.run(&revoked);
    keys.revoke("rita");
    keys.deliver("rita.gpg", &keys.gnupg.certificate("rita"));
    // The primary key is good, and its one key for encryption is not.
    let subkeys = quick("stan <stan@example.org>", "ed25519", "sign");
    keys.gnupg.run(&[&LONG_AGO[..], &subkeys].concat());
    let stan = keys.gnupg.fingerprint("stan");
    let add = ["--quick-add-key", &stan, "cv25519", "encr", "1y"];
    keys.contact("stan", &[&LONG_AGO[..], &add].concat());

    let mount = keys.mount();
    keys.assert_accepted(&mount, "bob");
    for (contact, errno) in [
        ("erin", libc::EKEYEXPIRED),
        ("sybil", libc::ENOKEY),
        ("rita", libc::EKEYREVOKED),
        ("stan", libc::EKEYEXPIRED),
    ] {
        keys.assert_refused(&mount, contact, errno, contact);
        // One who cannot be written to is not left out: the whole audience is refused.
        let mut audience = ["bob", contact];
        audience.sort_unstable();
        keys.assert_refused(&mount, &audience.join(","), errno, contact);
    }
    // Nobody else is affected.
    std::fs::write(mount.path("messages/bob/still.txt"), "works").unwrap();
    std::fs::write(mount.path("notes/me/still.txt"), "works").unwrap();
    assert_eq!(mount.unmount(), (Some(0), String::new()));
}

#[test]
fn a_key_that_is_revoked_later_stays_so_and_its_notes_can_be_read() {
    needs!(mount, "gpg");
    let keys = Keys::new();
    keys.contact(
        "bob",
        &quick("bob <bob@example.org>", "future-default", "default"),
    );
    let mount = keys.mount();
    keys.assert_accepted(&mount, "bob");
    let before = keys.gnupg.certificate("bob");
    keys.revoke("bob");
    keys.deliver("bob.gpg", &keys.gnupg.certificate("bob"));
    keys.assert_refused(&mount, "bob", libc::EKEYREVOKED, "bob");
    let note = mount.path("notes/bob/accepted.txt");
    assert_eq!(std::fs::read(&note).unwrap(), b"accepted");
    for truncate in [false, true] {
        let mut options = std::fs::File::options();
        let opened = options.write(true).truncate(truncate).open(&note);
        let error = opened.map(drop).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EKEYREVOKED));
    }
    assert_eq!(std::fs::read(&note).unwrap(), b"accepted");
    // A stale peer brings the unrevoked certificate back, or takes it away.
    keys.deliver("bob.gpg", &before);
    keys.assert_refused(&mount, "bob", libc::EKEYREVOKED, "bob");
    std::fs::remove_file(keys.scene.store.join("keys/bob.gpg")).unwrap();
    keys.assert_refused(&mount, "bob", libc::EKEYREVOKED, "bob");
    mount.unmount();
    let mount = keys.mount();
    keys.assert_refused(&mount, "bob", libc::EKEYREVOKED, "bob");
    mount.unmount();
}

#[test]
fn two_certificates_with_one_address_are_frozen_from_the_start() {
    needs!(mount, "gpg");
    let keys = Keys::new();
    let twins = [
        "Bob Baker <bob@example.org>",
        "Bob Miller <bob@example.org>",
    ];
    for twin in twins {
        keys.gnupg.run(&quick(twin, "future-default", "default"));
    }
    let [one, two] = twins.map(|twin| keys.gnupg.fingerprint(&format!("={twin}")));
    for key in [&one, &two] {
        keys.deliver(&format!("{key}.gpg"), &keys.gnupg.certificate(key));
    }
    let mount = keys.mount();
    let mut listed: Vec<_> = std::fs::read_dir(mount.path("messages"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    listed.sort();
    listed.retain(|name| name != "unverified");
    assert_eq!(listed.len(), 2, "{listed:?}");
    for name in &listed {
        assert!(name.starts_with("bob"), "{name}");
        keys.assert_refused(&mount, name, libc::EKEYREJECTED, name);
    }
    let status = std::fs::read_to_string(mount.path(".dds/status")).unwrap();
    assert!(status.contains("in dispute"), "{status}");
    // The address now names nobody, and neither fingerprint gets around it.
    assert!(std::fs::symlink_metadata(mount.path("messages/bob@example.org")).is_err());
    for key in [&one, &two] {
        let path = mount.path(&format!("notes/{key}/x"));
        let error = std::fs::write(path, "x").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EKEYREJECTED));
    }
    mount.unmount();
}

#[test]
fn a_second_certificate_with_a_contact_s_address_waits_and_changes_nothing() {
    needs!(mount, "gpg");
    let keys = Keys::new();
    let bob = Person::new("Bob");
    keys.deliver("bob.gpg", &bob.certificate().to_bytes());
    let mount = keys.mount();
    keys.assert_accepted(&mount, "bob");
    Blob::new(BlobKind::Message, &bob, &[&keys.me, &bob], "early.txt")
        .deliver(&keys.scene.store, Folder::Messages);
    assert!(mount.path("messages/bob/early.txt").exists());
    let again = quick("Bob <bob@example.org>", "future-default", "default");
    keys.gnupg.run(&again);
    let newcomer = keys.gnupg.fingerprint("bob")[..8].to_lowercase();
    let newcomer = format!("bob-{newcomer}");
    keys.deliver("later.gpg", &keys.gnupg.certificate("bob"));
    keys.assert_refused(&mount, &newcomer, libc::EKEYREJECTED, &newcomer);
    Blob::new(BlobKind::Message, &bob, &[&keys.me, &bob], "late.txt")
        .deliver(&keys.scene.store, Folder::Messages);
    let bob_stays = |mount: &Mount, note: &str| {
        for name in ["early.txt", "late.txt"] {
            assert!(mount.path("messages/bob").join(name).exists(), "{name}");
        }
        // The address is the contact's, too.
        std::fs::write(mount.path(&format!("notes/bob@example.org/{note}")), "x").unwrap();
        assert!(mount.path("notes/bob").join(note).exists());
        let status = std::fs::read_to_string(mount.path(".dds/status")).unwrap();
        let told = |line: &str| line.starts_with("problem: ") && line.contains(&newcomer);
        assert!(status.lines().any(told), "{status}");
    };
    bob_stays(&mount, "first.txt");
    mount.unmount();
    let mount = keys.mount();
    bob_stays(&mount, "second.txt");
    keys.assert_refused(&mount, &newcomer, libc::EKEYREJECTED, &newcomer);
    mount.unmount();
}

#[test]
fn with_an_expired_key_of_mine_everything_is_read_and_nothing_written() {
    needs!(mount, "gpg");
    let keys = Keys::new();
    let mut expiring = LONG_AGO.to_vec();
    expiring.extend(["--quick-gen-key", "old <old@example.org>"]);
    expiring.extend(["future-default", "default", "1y"]);
    keys.contact("old", &expiring);
    let mut args = LONG_AGO.to_vec();
    args.extend(["--armor", "--encrypt", "-r", "old"]);
    args.extend(["--set-filename", "then.txt"]);
    let blob = keys.gnupg.feed(&args, b"then").stdout;
    crate::support::people::deliver(&keys.scene.store, Folder::Notes, &blob);
    let mount = keys.mount_as(&keys.gnupg.secret_key("old"));
    let then = mount.path("notes/unverified/then.txt");
    assert_eq!(std::fs::read(then).unwrap(), b"then");
    let before = keys.blobs();
    for path in ["notes/me/x", "notes/alice/x", "messages/alice/x"] {
        let error = std::fs::write(mount.path(path), "x").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EKEYEXPIRED), "{path}");
        assert!(!mount.path(path).exists());
    }
    assert_eq!(keys.blobs(), before);
    mount.unmount();
}
