//! Publishing, tested on both stores with bytes that no OpenPGP is needed for.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::publish::Sink;
use super::*;
use crate::ids::BlobName;

fn store() -> (tempfile::TempDir, DirStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::create(&dir.path().join("store")).unwrap();
    (dir, store)
}

/// A store on a file system that has no nameless files.
fn named_only() -> (tempfile::TempDir, DirStore) {
    let (dir, mut store) = store();
    store.forbid_nameless();
    (dir, store)
}

fn label(bytes: &[u8]) -> (FileName, u64) {
    let name = FileName::new(BlobName::of(bytes).file_name()).unwrap();
    (name, bytes.len() as u64)
}

fn write_all(sink: &mut Sink<'_>, bytes: &[u8]) -> Result<()> {
    sink.write_all(bytes)
        .map_err(|error| Error::io("writing", error))
}

fn put(store: &DirStore, bytes: &[u8]) -> Result<Entry> {
    let done = store.put_with(
        Folder::Notes,
        |sink| write_all(sink, bytes),
        |()| label(bytes),
    );
    done.map(|((), entry)| entry)
}

fn notes(store: &DirStore) -> PathBuf {
    store.path().join("notes")
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let name = |e: std::io::Result<fs::DirEntry>| e.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

#[test]
fn a_blob_is_private_whole_and_named_by_its_hash() {
    for (_dir, store) in [store(), named_only()] {
        let bytes = vec![7; 1_000_001];
        let entry = put(&store, &bytes).unwrap();
        assert_eq!(entry.name, label(&bytes).0);
        let path = notes(&store).join(entry.name.as_os_str());
        assert_eq!(fs::read(&path).unwrap(), bytes);
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
        assert_eq!(metadata.nlink(), 1);
        assert_eq!(
            store.list(Folder::Notes).unwrap(),
            std::slice::from_ref(&entry)
        );
        let (read, stamp) = store.read(&entry, 1_000_001).unwrap();
        assert_eq!((read, stamp), (bytes, entry.stamp));
        assert_eq!(names(&notes(&store)).len(), 1);
    }
}

#[test]
fn the_umask_does_not_matter() {
    // The umask belongs to the whole process: the tested code runs in one of its own.
    if std::env::var_os("DDS_TEST_UMASK").is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::put_tests::the_umask_does_not_matter"])
            .env("DDS_TEST_UMASK", "1")
            .status();
        assert!(status.unwrap().success());
        return;
    }
    for (_dir, store) in [store(), named_only()] {
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o377));
        let entry = put(&store, b"x");
        let key = store.put_key(&FileName::new("a.gpg").unwrap(), b"x");
        rustix::process::umask(before);
        key.unwrap();
        let blob = notes(&store).join(entry.unwrap().name.as_os_str());
        for path in [blob, store.path().join("keys/a.gpg")] {
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600);
        }
    }
}

#[test]
fn nothing_has_a_blobs_name_before_it_is_whole() {
    for (_dir, store) in [store(), named_only()] {
        let bytes = vec![1; 2 << 20];
        let look = |seen: &mut Vec<String>| {
            seen.extend(names(&notes(&store)));
            assert!(store.list(Folder::Notes).unwrap().is_empty());
        };
        let mut seen = Vec::new();
        store
            .put_with(
                Folder::Notes,
                |sink| {
                    for piece in bytes.chunks(100_000) {
                        write_all(sink, piece)?;
                        look(&mut seen);
                    }
                    Ok(())
                },
                |()| label(&bytes),
            )
            .unwrap();
        for name in seen {
            assert!(is_syncers(&FileName::new(name).unwrap()));
        }
        assert_eq!(store.list(Folder::Notes).unwrap().len(), 1);
    }
}

#[test]
fn a_failed_put_leaves_nothing() {
    for (_dir, store) in [store(), named_only()] {
        let refused = store.put_with(
            Folder::Notes,
            |sink| {
                write_all(sink, &[0; 500_000])?;
                Err::<(), _>(Error::new(Kind::NoKey, "no key"))
            },
            |()| label(b""),
        );
        assert_eq!(refused.unwrap_err().kind(), Kind::NoKey);
        let short = store.put_with(
            Folder::Notes,
            |sink| write_all(sink, b"half"),
            |()| label(b"half and half"),
        );
        assert_eq!(short.unwrap_err().kind(), Kind::Io);
        assert_eq!(names(&notes(&store)), [""; 0]);
    }
}

#[test]
fn the_same_bytes_may_be_put_twice_but_never_replace_others() {
    for (_dir, store) in [store(), named_only()] {
        let first = put(&store, b"same").unwrap();
        let again = put(&store, b"same").unwrap();
        assert_eq!(again, first);
        let path = notes(&store).join(first.name.as_os_str());
        for other in [&b"other"[..], b"sama"] {
            fs::write(&path, other).unwrap();
            assert_eq!(put(&store, b"same").unwrap_err().kind(), Kind::Exists);
            assert_eq!(fs::read(&path).unwrap(), other);
        }
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert_eq!(put(&store, b"same").unwrap_err().kind(), Kind::Exists);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(put(&store, b"same").unwrap_err().kind(), Kind::Exists);
        assert_eq!(names(&notes(&store)).len(), 1);
    }
}

#[test]
fn a_folder_that_vanishes_during_a_put_is_made_again() {
    for (_dir, store) in [store(), named_only()] {
        let bytes = b"important";
        let ((), entry) = store
            .put_with(
                Folder::Notes,
                |sink| {
                    write_all(sink, bytes)?;
                    fs::remove_dir_all(notes(&store)).unwrap();
                    Ok(())
                },
                |()| label(bytes),
            )
            .unwrap();
        assert_eq!(store.read(&entry, 100).unwrap().0, bytes);
        assert_eq!(names(&notes(&store)).len(), 1);
        let mode = fs::metadata(notes(&store)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}

#[test]
fn a_missing_folder_is_made_by_a_put() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    assert!(store.list(Folder::Notes).unwrap().is_empty());
    assert_eq!(names(dir.path()), [""; 0]);
    put(&store, b"x").unwrap();
    assert_eq!(names(dir.path()), ["notes"]);
}

#[test]
fn memory_fails_once_when_told_to() {
    let store = MemoryStore::new();
    let put = |bytes: &[u8]| {
        let write = |sink: &mut Sink<'_>| write_all(sink, bytes);
        store.put_with(Folder::Messages, write, |()| label(bytes))
    };
    for kind in [Kind::NoSpace, Kind::Io] {
        store.fail_next_put(kind);
        assert_eq!(put(b"short").unwrap_err().kind(), kind);
        store.fail_next_put(kind);
        assert_eq!(put(&[0; 1000]).unwrap_err().kind(), kind);
    }
    assert!(store.list(Folder::Messages).unwrap().is_empty());
    let ((), entry) = put(b"short").unwrap();
    assert_eq!(put(b"short").unwrap().1, entry);
    assert_eq!(store.read(&entry, 5).unwrap().0, b"short");
}

/// A tmpfs of 1 MiB, unmounted on drop.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "dds-test"])
            .arg(dir.path())
            .stderr(std::process::Stdio::null())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| SmallDisk(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount")
            .arg(self.0.path())
            .status();
        assert!(unmounted.unwrap().success());
    }
}

#[test]
#[allow(clippy::print_stderr)]
fn a_full_disk_is_told_as_such_and_leaves_nothing() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("SKIPPED: a_full_disk_is_told_as_such_and_leaves_nothing (cannot mount)");
        return;
    };
    let mut store = DirStore::create(disk.0.path()).unwrap();
    for _ in 0..2 {
        // However the writer words the disk's error, also if it swallows it.
        for swallow in [false, true] {
            let full = store.put_with(
                Folder::Notes,
                |sink| match write_all(sink, &vec![1; 2 << 20]) {
                    Err(_) if !swallow => Err(Error::new(Kind::Damaged, "sealing failed")),
                    _ => Ok(()),
                },
                |()| label(b"x"),
            );
            assert_eq!(full.unwrap_err().kind(), Kind::NoSpace);
        }
        let key = FileName::new("a.gpg").unwrap();
        let full = store.put_key(&key, &vec![1; 2 << 20]);
        assert_eq!(full.unwrap_err().kind(), Kind::NoSpace);
        assert_eq!(names(&notes(&store)), [""; 0]);
        assert_eq!(names(&store.path().join("keys")), [""; 0]);
        store.forbid_nameless();
    }
    put(&store, b"small").unwrap();
}

#[test]
fn leftovers_of_the_dead_are_removed_and_nothing_else() {
    let (_dir, store) = store();
    let dead = format!(".syncthing.{}.!sync", "0a".repeat(16));
    let fresh = format!(".syncthing.{}.!sync", "0b".repeat(16));
    let link = format!(".syncthing.{}.!sync", "0c".repeat(16));
    let others = [
        ".syncthing.0a.asc.tmp".to_owned(),
        format!(".syncthing.{}.tmp", "0a".repeat(16)),
        format!("{}.asc", "0a".repeat(20)),
        format!("{}.asc.!sync", "0a".repeat(20)),
    ];
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let make = |folder: &str, name: &str| {
        let file = fs::File::create(store.path().join(folder).join(name)).unwrap();
        file.set_modified(old).unwrap();
        file
    };
    for folder in ["keys", "messages", "notes", "software"] {
        make(folder, &dead);
        for name in &others {
            make(folder, name);
        }
        std::os::unix::fs::symlink("/etc/passwd", store.path().join(folder).join(&link)).unwrap();
    }
    // Younger than the store, and old but with a living writer.
    let young = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    make("notes", &fresh).set_modified(young).unwrap();
    let living =
        super::publish::Staged::new(fs::File::open(notes(&store)).unwrap().into(), false).unwrap();
    let locked = names(&notes(&store))
        .into_iter()
        .find(|name| ![&dead, &fresh, &link].contains(&name) && !others.contains(name))
        .unwrap();
    let file = fs::File::options()
        .write(true)
        .open(notes(&store).join(&locked))
        .unwrap();
    file.set_modified(old).unwrap();

    assert_eq!(store.clean_leftovers().unwrap(), 4);
    let left = names(&notes(&store));
    for name in others.iter().chain([&fresh, &link, &locked]) {
        assert!(left.contains(name), "{name}");
    }
    assert_eq!(left.len(), others.len() + 3);
    assert!(!names(&store.path().join("software")).contains(&dead));
    drop(living);
    assert!(!names(&notes(&store)).contains(&locked));
}
