//! The contract of `Store`, one suite for both stores; then files that only a directory can have.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use dds::error::Kind;
use dds::ids::{BlobId, BlobName, Folder};
use dds::openpgp::{Identity, Notations, Profile, SealRequest, Sealed, generate};
use dds::plaintext::Plaintext;
use dds::store::{DirStore, Entry, FileName, MemoryStore, SoftwareKind, Store};

/// A store and the syncer that brings files to it.
trait Rig {
    fn store(&self) -> &dyn Store;
    /// Places a file, making the directories that it needs.
    fn arrive(&self, path: &[&OsStr], bytes: &[u8]);
    /// Makes an empty directory below `software/`.
    fn arrive_directory(&self, path: &[&str]);
}

struct OnDisk {
    store: DirStore,
    _dir: tempfile::TempDir,
}

impl OnDisk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = DirStore::create(&dir.path().join("store")).unwrap();
        OnDisk { store, _dir: dir }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.store.path().join(path)
    }
}

impl Rig for OnDisk {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn arrive(&self, path: &[&OsStr], bytes: &[u8]) {
        let path = self.store.path().join(path.iter().collect::<PathBuf>());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn arrive_directory(&self, path: &[&str]) {
        fs::create_dir_all(self.path("software").join(path.join("/"))).unwrap();
    }
}

impl Rig for MemoryStore {
    fn store(&self) -> &dyn Store {
        self
    }

    fn arrive(&self, path: &[&OsStr], bytes: &[u8]) {
        let names: Vec<FileName> = path.iter().map(|n| FileName::new(n).unwrap()).collect();
        match path[0].to_str() {
            Some("messages") => self.arrive(Folder::Messages, &names[1], bytes),
            Some("notes") => self.arrive(Folder::Notes, &names[1], bytes),
            Some("keys") => self.arrive_key(&names[1], bytes),
            _ => self.arrive_software(&names[1..], bytes),
        }
    }

    fn arrive_directory(&self, path: &[&str]) {
        self.arrive_software_directory(&names(path));
    }
}

fn name(text: impl AsRef<OsStr>) -> FileName {
    FileName::new(text.as_ref()).unwrap()
}

fn names(path: &[&str]) -> Vec<FileName> {
    path.iter().map(name).collect()
}

fn arrive(rig: &dyn Rig, path: &str, bytes: &[u8]) {
    let path: Vec<&OsStr> = path.split('/').map(OsStr::new).collect();
    rig.arrive(&path, bytes);
}

fn listed(rig: &dyn Rig, folder: Folder) -> Vec<FileName> {
    let entries = rig.store().list(folder).unwrap();
    assert!(entries.iter().all(|entry| entry.folder == folder));
    let mut names: Vec<FileName> = entries.into_iter().map(|entry| entry.name).collect();
    names.sort();
    names
}

fn entry(rig: &dyn Rig, folder: Folder, name: &FileName) -> Entry {
    let entries = rig.store().list(folder).unwrap();
    entries.into_iter().find(|e| e.name == *name).unwrap()
}

/// Makes one test a rig from each scenario.
macro_rules! contract {
    ($($scenario:ident)*) => {
        mod on_disk {
            $(#[test] fn $scenario() { super::$scenario(&super::OnDisk::new()); })*
        }
        mod in_memory {
            $(#[test] fn $scenario() { super::$scenario(&super::MemoryStore::new()); })*
        }
    };
}

contract! {
    a_sealed_blob_is_published_under_its_hash
    an_empty_store_has_nothing
    blobs_are_listed_by_folder_and_read_whole
    names_of_syncers_and_other_files_are_not_listed
    any_bytes_may_be_a_file_name
    a_limit_is_exact
    a_replaced_file_has_another_stamp
    a_removed_file_is_gone
    keys_are_replaced_and_removed
    a_certificate_needs_a_name_that_is_seen_again
    software_is_a_tree_of_plain_files
    software_of_syncers_is_hidden
    software_keeps_file_and_directory_apart
}

fn a_sealed_blob_is_published_under_its_hash(rig: &dyn Rig) {
    let me = generate("me", None, Profile::Compatible).unwrap();
    let signer = Identity::unlock(&me.secret, None).unwrap();
    let content = Plaintext::from(&b"lunch at noon"[..]);
    let sealed = Sealed::prepare(SealRequest {
        signer: &signer,
        co_signers: &[],
        recipients: std::slice::from_ref(&me.certificate),
        intended: &[signer.fingerprint()],
        named: false,
        name: "lunch.txt",
        notations: &Notations::default(),
        content: &content,
        created: None,
    })
    .unwrap();
    let store = rig.store();
    for folder in Folder::ALL {
        let (receipt, put) = store.put(folder, &sealed).unwrap();
        store.sync(folder).unwrap();
        assert_eq!(put.name, name(receipt.name.file_name()));
        assert_eq!(put.stamp.size, receipt.length);
        assert_eq!(store.list(folder).unwrap(), std::slice::from_ref(&put));
        let (bytes, stamp) = store.read(&put, receipt.length).unwrap();
        assert_eq!(stamp, put.stamp);
        assert_eq!(BlobName::of(&bytes), receipt.name);
        assert_eq!(BlobId::of(&bytes), receipt.id);
        assert!(bytes.starts_with(b"-----BEGIN PGP MESSAGE-----"));
    }
}

fn an_empty_store_has_nothing(rig: &dyn Rig) {
    let store = rig.store();
    for folder in Folder::ALL {
        assert_eq!(store.list(folder).unwrap(), []);
        store.sync(folder).unwrap();
    }
    assert_eq!(store.keys().unwrap(), []);
    assert_eq!(store.software_list(&[]).unwrap(), []);
    let root = store.software_metadata(&[]).unwrap();
    assert_eq!((root.kind, root.size()), (SoftwareKind::Directory, 0));
}

fn blobs_are_listed_by_folder_and_read_whole(rig: &dyn Rig) {
    arrive(rig, "messages/a.asc", b"a message");
    arrive(rig, "notes/b.gpg", b"a note");
    arrive(rig, "notes/empty.pgp", b"");
    assert_eq!(listed(rig, Folder::Messages), names(&["a.asc"]));
    assert_eq!(listed(rig, Folder::Notes), names(&["b.gpg", "empty.pgp"]));
    for (file, content) in [("b.gpg", &b"a note"[..]), ("empty.pgp", b"")] {
        let entry = entry(rig, Folder::Notes, &name(file));
        assert_eq!(entry.stamp.size, content.len() as u64);
        let read = rig.store().read(&entry, 100).unwrap();
        assert_eq!(read, (content.to_vec(), entry.stamp));
    }
    let mut elsewhere = entry(rig, Folder::Notes, &name("b.gpg"));
    elsewhere.folder = Folder::Messages;
    let missing = rig.store().read(&elsewhere, 100).unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound);
}

fn names_of_syncers_and_other_files_are_not_listed(rig: &dyn Rig) {
    let conflict = "0a.sync-conflict-20261121-160900-ABCDEF7.asc";
    for file in [
        conflict,
        "LETTER.ASC",
        ".syncthing.0a.asc.tmp",
        "~syncthing~0a.asc",
        "0a.asc.!sync",
        "0a.asc.bts",
        "#12.asc",
        "plan.txt",
        ".stignore",
    ] {
        for folder in ["messages", "notes", "keys"] {
            arrive(rig, &format!("{folder}/{file}"), b"x");
        }
    }
    for folder in Folder::ALL {
        assert_eq!(listed(rig, folder), names(&[conflict, "LETTER.ASC"]));
    }
    assert_eq!(rig.store().keys().unwrap().len(), 2);
}

fn any_bytes_may_be_a_file_name(rig: &dyn Rig) {
    let odd: [&[u8]; 5] = [
        b"\xff\xfe.asc",
        b"\n.asc",
        b" .asc",
        b"\xe2\x80\xae.asc",
        b".asc",
    ];
    let mut expected: Vec<FileName> = odd.iter().map(|n| name(OsStr::from_bytes(n))).collect();
    expected.push(name(format!("{}.asc", "x".repeat(251))));
    for file in &expected {
        rig.arrive(&[OsStr::new("notes"), file.as_os_str()], b"odd");
    }
    expected.sort();
    assert_eq!(listed(rig, Folder::Notes), expected);
    for file in &expected {
        let entry = entry(rig, Folder::Notes, file);
        assert_eq!(rig.store().read(&entry, 3).unwrap().0, b"odd");
        rig.store().remove(Folder::Notes, file).unwrap();
    }
    assert_eq!(listed(rig, Folder::Notes), []);
}

fn a_limit_is_exact(rig: &dyn Rig) {
    arrive(rig, "notes/a.asc", &[7; 100]);
    arrive(rig, "keys/a.gpg", &[7; 100]);
    let entry = entry(rig, Folder::Notes, &name("a.asc"));
    assert_eq!(rig.store().read(&entry, 100).unwrap().0.len(), 100);
    assert_eq!(rig.store().read(&entry, u64::MAX).unwrap().0.len(), 100);
    for limit in [99, 0] {
        let large = rig.store().read(&entry, limit).unwrap_err();
        assert_eq!(large.kind(), Kind::TooLarge);
        let large = rig.store().read_key(&name("a.gpg"), limit).unwrap_err();
        assert_eq!(large.kind(), Kind::TooLarge);
    }
    assert_eq!(rig.store().read_key(&name("a.gpg"), 100).unwrap(), [7; 100]);
}

fn a_replaced_file_has_another_stamp(rig: &dyn Rig) {
    arrive(rig, "notes/a.asc", b"one");
    let before = entry(rig, Folder::Notes, &name("a.asc"));
    assert_eq!(entry(rig, Folder::Notes, &name("a.asc")), before);
    arrive(rig, "notes/a.asc", b"three");
    let (bytes, stamp) = rig.store().read(&before, 100).unwrap();
    assert_eq!(bytes, b"three");
    assert_ne!(stamp, before.stamp);
    assert_eq!(entry(rig, Folder::Notes, &name("a.asc")).stamp, stamp);
}

fn a_removed_file_is_gone(rig: &dyn Rig) {
    arrive(rig, "messages/a.asc", b"x");
    arrive(rig, "notes/a.asc", b"x");
    let gone = entry(rig, Folder::Messages, &name("a.asc"));
    rig.store().remove(Folder::Messages, &gone.name).unwrap();
    assert_eq!(listed(rig, Folder::Messages), []);
    assert_eq!(listed(rig, Folder::Notes).len(), 1);
    let again = rig.store().remove(Folder::Messages, &gone.name);
    assert_eq!(again.unwrap_err().kind(), Kind::NotFound);
    let read = rig.store().read(&gone, 100);
    assert_eq!(read.unwrap_err().kind(), Kind::NotFound);
}

fn keys_are_replaced_and_removed(rig: &dyn Rig) {
    let store = rig.store();
    let alice = name("DFAD0D40.gpg");
    store.put_key(&alice, b"one").unwrap();
    let first = store.keys().unwrap();
    store.put_key(&alice, b"three").unwrap();
    let second = store.keys().unwrap();
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!(second[0].name, alice);
    assert_ne!(first[0].stamp, second[0].stamp);
    assert_eq!(store.read_key(&alice, 100).unwrap(), b"three");
    store.remove_key(&alice).unwrap();
    assert_eq!(store.keys().unwrap(), []);
    assert_eq!(store.remove_key(&alice).unwrap_err().kind(), Kind::NotFound);
    let read = store.read_key(&alice, 100);
    assert_eq!(read.unwrap_err().kind(), Kind::NotFound);
}

fn a_certificate_needs_a_name_that_is_seen_again(rig: &dyn Rig) {
    for bad in ["alice", "alice.txt", "#a.gpg", ".syncthing.a.gpg"] {
        let refused = rig.store().put_key(&name(bad), b"x").unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid, "{bad}");
    }
    assert_eq!(rig.store().keys().unwrap(), []);
}

fn software_is_a_tree_of_plain_files(rig: &dyn Rig) {
    let store = rig.store();
    arrive(rig, "software/gpg.exe", b"MZ program");
    arrive(rig, "software/mac/gpg.dmg", &[9; 70_000]);
    rig.arrive_directory(&["empty", "deep"]);
    let root = store.software_list(&[]).unwrap();
    let found: Vec<_> = root.iter().map(|(n, e)| (n.clone(), e.kind)).collect();
    let expected = [
        (name("empty"), SoftwareKind::Directory),
        (name("gpg.exe"), SoftwareKind::File),
        (name("mac"), SoftwareKind::Directory),
    ];
    assert_eq!(found, expected);
    assert_eq!(root[1].1.size(), 10);
    assert_eq!(store.software_list(&names(&["empty", "deep"])).unwrap(), []);
    let image = names(&["mac", "gpg.dmg"]);
    let metadata = store.software_metadata(&image).unwrap();
    assert_eq!(
        (metadata.kind, metadata.size()),
        (SoftwareKind::File, 70_000)
    );
    let file = store.software_open(&image).unwrap();
    assert_eq!(file.metadata().unwrap(), metadata);
    assert_eq!(file.read_at(0, 1 << 30).unwrap(), [9; 70_000]);
    assert_eq!(file.read_at(69_999, 10).unwrap(), [9]);
    assert_eq!(file.read_at(70_000, 10).unwrap(), [0_u8; 0]);
    assert_eq!(file.read_at(u64::MAX, usize::MAX).unwrap(), [0_u8; 0]);
    assert_eq!(file.read_at(5, 0).unwrap(), [0_u8; 0]);
}

fn software_of_syncers_is_hidden(rig: &dyn Rig) {
    arrive(rig, "software/a.bin", b"x");
    arrive(rig, "software/b.bin.!sync", b"x");
    arrive(rig, "software/.syncthing.c.bin.tmp", b"x");
    arrive(rig, "software/.stversions/a.bin", b"x");
    let store = rig.store();
    assert_eq!(store.software_list(&[]).unwrap().len(), 1);
    for path in [
        &["b.bin.!sync"][..],
        &[".stversions"],
        &[".stversions", "a.bin"],
    ] {
        let path = names(path);
        let found = store.software_metadata(&path).unwrap_err();
        assert_eq!(found.kind(), Kind::NotFound);
        assert_eq!(
            store.software_list(&path).unwrap_err().kind(),
            Kind::NotFound
        );
        let open = store.software_open(&path).err().unwrap();
        assert_eq!(open.kind(), Kind::NotFound);
    }
}

fn software_keeps_file_and_directory_apart(rig: &dyn Rig) {
    arrive(rig, "software/a.bin", b"x");
    arrive(rig, "software/dir/b.bin", b"x");
    let store = rig.store();
    let file = names(&["a.bin"]);
    assert_eq!(
        store.software_list(&file).unwrap_err().kind(),
        Kind::NotDirectory
    );
    let below = store.software_metadata(&names(&["a.bin", "x"]));
    assert_eq!(below.unwrap_err().kind(), Kind::NotDirectory);
    for dir in [&["dir"][..], &[]] {
        let open = store.software_open(&names(dir)).err().unwrap();
        assert_eq!(open.kind(), Kind::IsDirectory);
    }
    let missing = store.software_metadata(&names(&["dir", "c.bin"]));
    assert_eq!(missing.unwrap_err().kind(), Kind::NotFound);
}

// Only a directory can have what follows.

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

#[test]
fn a_new_store_is_private_and_an_old_one_is_left_alone() {
    let rig = OnDisk::new();
    for dir in ["", "keys", "messages", "notes", "software"] {
        assert_eq!(mode(&rig.path(dir)), 0o700, "{dir}");
    }
    arrive(&rig, "notes/a.asc", b"x");
    fs::set_permissions(rig.path("notes"), fs::Permissions::from_mode(0o750)).unwrap();
    DirStore::create(rig.store.path()).unwrap();
    assert_eq!(mode(&rig.path("notes")), 0o750);
    assert_eq!(listed(&rig, Folder::Notes), names(&["a.asc"]));
}

#[test]
fn a_store_must_be_a_directory_that_exists() {
    let dir = tempfile::tempdir().unwrap();
    let missing = DirStore::open(&dir.path().join("none")).err().unwrap();
    assert_eq!(missing.kind(), Kind::NotFound);
    fs::write(dir.path().join("file"), "").unwrap();
    let file = DirStore::open(&dir.path().join("file")).err().unwrap();
    assert_eq!(file.kind(), Kind::NotDirectory);
    // The store itself may well be reached through a link.
    DirStore::create(&dir.path().join("real")).unwrap();
    symlink("real", dir.path().join("link")).unwrap();
    let store = DirStore::open(&dir.path().join("link")).unwrap();
    assert_eq!(
        store.path(),
        dir.path().canonicalize().unwrap().join("real")
    );
}

#[test]
fn nothing_but_plain_files_is_listed_opened_or_waited_for() {
    let rig = OnDisk::new();
    let secret = rig._dir.path().join("secret.asc");
    fs::write(&secret, "outside").unwrap();
    for folder in ["messages", "keys", "software"] {
        let path = |file: &str| rig.path(folder).join(file);
        symlink(&secret, path("link.asc")).unwrap();
        symlink("plain.asc", path("inside.asc")).unwrap();
        symlink("none", path("dangling.asc")).unwrap();
        symlink("/dev/zero", path("zero.asc")).unwrap();
        fifo(&path("fifo.asc"));
        std::os::unix::net::UnixListener::bind(path("socket.asc")).unwrap();
        fs::write(path("plain.asc"), "plain").unwrap();
        if folder != "software" {
            fs::create_dir(path("dir.asc")).unwrap();
        }
    }
    assert_eq!(listed(&rig, Folder::Messages), names(&["plain.asc"]));
    let keys = rig.store.keys().unwrap();
    assert_eq!((keys.len(), &keys[0].name), (1, &name("plain.asc")));
    assert_eq!(rig.store.software_list(&[]).unwrap().len(), 1);
    let plain = entry(&rig, Folder::Messages, &name("plain.asc"));
    for file in [
        "link", "inside", "dangling", "zero", "fifo", "socket", "dir",
    ] {
        let odd = Entry {
            name: name(format!("{file}.asc")),
            ..plain.clone()
        };
        let read = rig.store.read(&odd, 1 << 20).unwrap_err();
        assert_eq!(read.kind(), Kind::Invalid, "{file}");
        let read = rig.store.read_key(&odd.name, 1 << 20).unwrap_err();
        assert_eq!(read.kind(), Kind::Invalid, "{file}");
        let path = [odd.name];
        let found = rig.store.software_metadata(&path).unwrap_err();
        assert_eq!(found.kind(), Kind::NotFound, "{file}");
        let open = rig.store.software_open(&path).err().unwrap();
        assert_eq!(open.kind(), Kind::NotFound, "{file}");
    }
    // A link is removed itself.
    let link = name("link.asc");
    rig.store.remove(Folder::Messages, &link).unwrap();
    assert!(secret.exists());
    // Nor is one written through.
    rig.store.put_key(&link, b"certificate").unwrap();
    assert_eq!(fs::read(&secret).unwrap(), b"outside");
    assert_eq!(rig.store.read_key(&link, 100).unwrap(), b"certificate");
}

#[test]
fn no_directory_on_the_way_is_a_link() {
    let rig = OnDisk::new();
    let outside = rig._dir.path().join("outside");
    fs::create_dir_all(outside.join("sub")).unwrap();
    fs::write(outside.join("a.asc"), "x").unwrap();
    symlink(&outside, rig.path("software/link")).unwrap();
    for path in [&["link", "a.asc"][..], &["link", "sub"], &["link"]] {
        let found = rig.store.software_metadata(&names(path));
        assert!(found.is_err(), "{path:?}");
        assert!(rig.store.software_open(&names(path)).is_err(), "{path:?}");
        assert!(rig.store.software_list(&names(path)).is_err(), "{path:?}");
    }
    fs::remove_dir(rig.path("notes")).unwrap();
    symlink(&outside, rig.path("notes")).unwrap();
    let refused = rig.store.list(Folder::Notes).unwrap_err();
    assert_eq!(refused.kind(), Kind::NotDirectory);
    assert!(rig.store.remove(Folder::Notes, &name("a.asc")).is_err());
    assert!(outside.join("a.asc").exists());
    fs::remove_dir(rig.path("keys")).unwrap();
    symlink(&outside, rig.path("keys")).unwrap();
    let refused = rig.store.put_key(&name("b.gpg"), b"x").unwrap_err();
    assert_eq!(refused.kind(), Kind::NotDirectory);
    assert!(!outside.join("b.gpg").exists());
}

#[test]
fn a_file_that_may_not_be_read_is_listed_and_does_not_hurt() {
    let rig = OnDisk::new();
    arrive(&rig, "notes/a.asc", b"x");
    arrive(&rig, "notes/b.asc", b"x");
    let locked = rig.path("notes/a.asc");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(listed(&rig, Folder::Notes).len(), 2);
    let result = rig
        .store
        .read(&entry(&rig, Folder::Notes, &name("a.asc")), 10);
    // Root may read everything.
    if fs::read(&locked).is_err() {
        assert_eq!(result.unwrap_err().kind(), Kind::DiskForbids);
    } else {
        assert_eq!(result.unwrap().0, b"x");
    }
}

#[test]
fn a_huge_sparse_file_is_too_large_at_once() {
    let rig = OnDisk::new();
    let file = fs::File::create(rig.path("notes/a.asc")).unwrap();
    file.set_len(1 << 40).unwrap();
    let entry = entry(&rig, Folder::Notes, &name("a.asc"));
    let large = rig.store.read(&entry, 64 << 20).unwrap_err();
    assert_eq!(large.kind(), Kind::TooLarge);
}

#[test]
fn folders_and_the_store_may_vanish_and_come_back() {
    let rig = OnDisk::new();
    arrive(&rig, "notes/a.asc", b"x");
    fs::remove_dir_all(rig.path("notes")).unwrap();
    assert_eq!(listed(&rig, Folder::Notes), []);
    assert_eq!(
        rig.store.sync(Folder::Notes).unwrap_err().kind(),
        Kind::NotFound
    );
    arrive(&rig, "notes/b.asc", b"x");
    assert_eq!(listed(&rig, Folder::Notes), names(&["b.asc"]));
    // A store that is gone is not an empty one.
    fs::remove_dir_all(rig.store.path()).unwrap();
    assert_eq!(
        rig.store.list(Folder::Notes).unwrap_err().kind(),
        Kind::NotFound
    );
    assert_eq!(rig.store.keys().unwrap_err().kind(), Kind::NotFound);
    assert!(rig.store.put_key(&name("a.gpg"), b"x").is_err());
    arrive(&rig, "notes/c.asc", b"x");
    assert_eq!(listed(&rig, Folder::Notes), names(&["c.asc"]));
    rig.store.put_key(&name("a.gpg"), b"x").unwrap();
    assert_eq!(mode(&rig.path("keys")), 0o700);
    assert_eq!(mode(&rig.path("keys/a.gpg")), 0o600);
}

#[test]
fn an_open_program_stays_the_same_when_it_is_replaced() {
    let rig = OnDisk::new();
    arrive(&rig, "software/a.bin", b"old");
    let path = names(&["a.bin"]);
    let file = rig.store.software_open(&path).unwrap();
    fs::write(rig.path("software/new"), "newer").unwrap();
    fs::rename(rig.path("software/new"), rig.path("software/a.bin")).unwrap();
    assert_eq!(file.read_at(0, 10).unwrap(), b"old");
    let again = rig.store.software_open(&path).unwrap();
    assert_eq!(again.read_at(0, 10).unwrap(), b"newer");
}

#[test]
fn a_key_cannot_replace_a_directory_and_leaves_nothing() {
    let rig = OnDisk::new();
    fs::create_dir(rig.path("keys/a.gpg")).unwrap();
    rig.store.put_key(&name("a.gpg"), b"x").unwrap_err();
    let left: Vec<OsString> = fs::read_dir(rig.path("keys"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, [OsString::from_vec(b"a.gpg".to_vec())]);
}
