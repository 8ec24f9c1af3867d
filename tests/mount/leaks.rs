//! Where plaintext and secrets are not: in the daemon's memory once a file is closed and
//! forgotten, and anywhere on a disk. Each search is shown to find a text that was planted for it.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};

use sequoia_openpgp as pgp;

use crate::support::disk::Disk;
use crate::support::mount::{Home, Mount, skipped, wait_for};
use crate::support::people::{Person, make_store};
use pgp::packet::key::SecretKeyMaterial;
use pgp::parse::Parse as _;

/// A text that is nowhere else: each call gives another one.
fn needle(name: &str) -> String {
    let mut random = [0; 12];
    File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut random)
        .unwrap();
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("needle-{name}-{hex}")
}

/// A content in which a needle stands in every line.
fn haystack(needle: &str, bytes: usize) -> Vec<u8> {
    let line = format!("{needle} and some more words\n");
    line.bytes().cycle().take(bytes).collect()
}

/// Counts how often bytes occur in a process's memory. Only root may look there.
fn count_in_memory(pid: u32, wanted: &[u8]) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let search = memchr::memmem::Finder::new(wanted);
    let mut found = 0;
    for line in maps.lines() {
        let mut fields = line.split(' ');
        let (range, mode) = (fields.next().unwrap(), fields.next().unwrap());
        if !mode.starts_with('r') || line.ends_with("[vvar]") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let number = |hex| u64::from_str_radix(hex, 16).unwrap();
        let (start, end) = (number(start), number(end));
        let mut region = vec![0; usize::try_from(end - start).unwrap()];
        // Some regions of the kernel's own cannot be read.
        let Ok(read) = memory.read_at(&mut region, start) else {
            continue;
        };
        found += search.find_iter(&region[..read]).count();
    }
    found
}

/// A store of mine and bob's, mounted with a key that has a passphrase.
fn mounted(home: &Home, passphrase: &str, me: &Person) -> Mount {
    let store = make_store(&home.path(""), &[("me", me), ("bob", &Person::new("Bob"))]);
    let secret = dds::openpgp::Identity::certificate_of(&me.secret);
    assert!(secret.is_ok());
    fs::write(home.path("key.asc"), &me.secret).unwrap();
    let mut pass = tempfile::tempfile_in(home.dir.path()).unwrap();
    writeln!(pass, "{passphrase}").unwrap();
    pass.seek(SeekFrom::Start(0)).unwrap();
    let mountpoint = home.path("secure");
    let mut command = home.dds_mount();
    command
        .arg("--store")
        .arg(&store)
        .arg("--key")
        .arg(home.path("key.asc"));
    command
        .args(["--passphrase-fd", "0"])
        .stdin(Stdio::from(pass));
    Mount::start(command, &mountpoint)
}

#[test]
fn what_was_closed_is_forgotten() {
    needs!(mount, root);
    let home = Home::new();
    let mount = mounted(&home, "", &Person::new("Alice"));
    let pid = mount.pid();
    let written = needle("written");
    let path = mount.path("notes/me/long.txt");
    let content = haystack(&written, 300_000);
    let mut file = File::create(&path).unwrap();
    file.write_all(&content).unwrap();
    // The search finds it while it is a draft.
    assert!(count_in_memory(pid, written.as_bytes()) > 1000);
    drop(file);
    let small = needle("small");
    fs::write(mount.path("messages/bob/small.txt"), &small).unwrap();
    let scratch = needle("scratch");
    fs::write(mount.path("notes/me/.plan.swp"), haystack(&scratch, 10_000)).unwrap();
    fs::remove_file(mount.path("notes/me/.plan.swp")).unwrap();
    let replaced = needle("replaced");
    fs::write(mount.path("notes/me/plan.txt"), haystack(&replaced, 5_000)).unwrap();
    fs::write(mount.path("notes/me/plan.txt"), b"short").unwrap();
    assert!(fs::read(&path).unwrap() == content);
    for (what, needle) in [
        ("a long note", &written),
        ("a message", &small),
        ("scratch", &scratch),
        ("what was replaced", &replaced),
    ] {
        wait_for(&format!("{what} is forgotten"), || {
            count_in_memory(pid, needle.as_bytes()) == 0
        });
    }
    mount.unmount();
}

#[test]
fn what_was_only_read_is_forgotten() {
    needs!(mount, root);
    let home = Home::new();
    let me = Person::new("Alice");
    let mount = mounted(&home, "", &me);
    let text = needle("read");
    for (name, size) in [("small.txt", 100), ("large.txt", 3 << 20)] {
        fs::write(mount.path("notes/me").join(name), haystack(&text, size)).unwrap();
    }
    mount.unmount();
    let mount = mounted(&home, "", &me);
    let pid = mount.pid();
    let mut open = File::open(mount.path("notes/me/large.txt")).unwrap();
    open.read_exact(&mut [0; 10]).unwrap();
    assert!(count_in_memory(pid, text.as_bytes()) > 1000);
    drop(open);
    assert_eq!(
        fs::read(mount.path("notes/me/small.txt")).unwrap().len(),
        100
    );
    wait_for("what was read is forgotten", || {
        count_in_memory(pid, text.as_bytes()) == 0
    });
    mount.unmount();
}

/// The secret numbers of a key without passphrase, as they would lie in memory.
fn secret_numbers(secret: &[u8]) -> Vec<Vec<u8>> {
    let cert = pgp::Cert::from_bytes(secret).unwrap();
    let keys = cert.keys().secret().map(|key| {
        let SecretKeyMaterial::Unencrypted(secret) = key.key().secret() else {
            panic!("it has a passphrase");
        };
        secret.map(|numbers| match numbers {
            pgp::crypto::mpi::SecretKeyMaterial::EdDSA { scalar }
            | pgp::crypto::mpi::SecretKeyMaterial::ECDH { scalar } => scalar.value().to_vec(),
            pgp::crypto::mpi::SecretKeyMaterial::Ed25519 { x }
            | pgp::crypto::mpi::SecretKeyMaterial::X25519 { x } => x.to_vec(),
            other => panic!("another kind of key: {}", other.algo().unwrap()),
        })
    });
    keys.collect()
}

#[test]
fn keys_and_passphrase_are_not_in_the_clear() {
    needs!(mount, root);
    let home = Home::new();
    let passphrase = needle("passphrase");
    let given = dds::plaintext::Passphrase::of(passphrase.as_bytes()).unwrap();
    let profile = dds::openpgp::Profile::Compatible;
    let made = dds::openpgp::generate("Alice <alice@example.org>", Some(&given), profile);
    let mut me = Person::new("Alice");
    me.secret = made.unwrap().secret.to_vec();
    let identity = dds::openpgp::Identity::unlock(&me.secret, Some(&given)).unwrap();
    me.identity = identity;
    let mount = mounted(&home, &passphrase, &me);
    fs::write(mount.path("notes/me/a.txt"), "signed and sealed").unwrap();
    assert_eq!(
        fs::read(mount.path("notes/me/a.txt")).unwrap(),
        b"signed and sealed"
    );
    let pid = mount.pid();
    wait_for("the passphrase is forgotten", || {
        count_in_memory(pid, passphrase.as_bytes()) == 0
    });
    mount.unmount();

    // The numbers themselves, of a key that is not encrypted on its disk.
    let home = Home::new();
    let me = Person::new("Alice");
    let mount = mounted(&home, "", &me);
    fs::write(mount.path("notes/me/a.txt"), "signed and sealed").unwrap();
    for number in secret_numbers(&me.secret) {
        assert_eq!(number.len(), 32);
        for half in number.chunks(16) {
            let mut reversed = half.to_vec();
            reversed.reverse();
            for form in [half, &reversed] {
                wait_for("no secret number in the clear", || {
                    count_in_memory(mount.pid(), form) == 0
                });
            }
        }
    }
    mount.unmount();
}

/// The forms in which a text may lie on a disk.
fn forms(text: &str) -> Vec<(String, Vec<u8>)> {
    let mut forms = vec![("UTF-8".to_owned(), text.as_bytes().to_vec())];
    let wide = |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect();
    forms.push(("UTF-16LE".to_owned(), wide(u16::to_le_bytes)));
    forms.push(("UTF-16BE".to_owned(), wide(u16::to_be_bytes)));
    for skipped in 0..3 {
        // What is left is a whole number of groups of three bytes.
        let part = &text.as_bytes()[skipped..];
        let part = &part[..part.len() / 3 * 3];
        forms.push((format!("base64, {skipped} on"), base64(part)));
    }
    forms
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits = three
            .iter()
            .fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| DIGITS[bits >> shift & 63])
    };
    bytes.chunks_exact(3).flat_map(group).collect()
}

#[test]
fn no_plaintext_is_on_the_disk_after_real_work() {
    needs!(mount, root);
    let outer = Home::new();
    let (file, at) = (outer.path("image"), outer.path("disk"));
    let Some(image) = Disk::in_file(&file, 256 << 20, &at) else {
        return skipped("plaintext on disks: no loop device, or no mkfs.ext4");
    };
    // The search finds a text that lies there, and one that was deleted there.
    for (number, (form, bytes)) in forms(&needle("planted")).into_iter().enumerate() {
        let planted = image.path().join(format!("planted{number}"));
        let mut file = File::create(&planted).unwrap();
        file.write_all(&bytes).unwrap();
        file.sync_all().unwrap();
        assert!(image.count(&bytes) > 0, "{form} is not found");
        fs::remove_file(&planted).unwrap();
        assert!(image.count(&bytes) > 0, "{form} is not found when deleted");
    }
    let secret = needle("secret");
    let temporary = image.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let home = Home {
        dir: tempfile::tempdir_in(image.path()).unwrap(),
    };
    {
        let me = Person::new("Alice");
        let store = make_store(
            home.dir.path(),
            &[("me", &me), ("bob", &Person::new("Bob"))],
        );
        fs::write(home.path("key.asc"), &me.secret).unwrap();
        let mountpoint = home.path("secure");
        let start = || {
            let mut command = home.dds_mount();
            command.env("TMPDIR", &temporary).arg("--store").arg(&store);
            command.arg("--key").arg(home.path("key.asc"));
            Mount::start(command, &mountpoint)
        };
        let mount = start();
        let work = format!(
            "set -e; export TMPDIR={0} HOME={1}; cd {2}; echo {secret} > notes/me/a.txt
             echo {secret} > messages/bob/a.txt; sed -i 's/$/ {secret}/' notes/me/a.txt
             cp notes/me/a.txt notes/bob/b.txt; mv notes/bob/b.txt notes/bob/c.txt
             echo {secret} > notes/me/.a.txt.swp; mv notes/me/a.txt notes/me/a.txt~
             echo new {secret} > notes/me/a.txt; rm notes/me/a.txt~
             mkdir notes/me/d; yes {secret} | head -c 60000000 > notes/me/d/large.txt
             cat notes/me/d/large.txt > /dev/null; dd if=/dev/zero of=notes/me/d/large.txt \
               bs=1M count=3 conv=notrunc 2>/dev/null
             cd notes/me; git init -q -b main repo; cd repo; git config user.email me@example.org
             git config user.name me; echo {secret} > tracked; git add .; git commit -qm {secret}",
            temporary.display(),
            home.dir.path().display(),
            mountpoint.display()
        );
        let done = Command::new("bash").arg("-c").arg(work).output().unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        // A draft and a backup for the state directory, by unmounting under it; a remount.
        let mut draft = File::create(mount.path("notes/me/draft.txt")).unwrap();
        draft.write_all(secret.as_bytes()).unwrap();
        mount.end_by(libc::SIGTERM);
        drop(draft);
        let mount = start();
        let rescued = fs::read(mount.path(".dds/rescued/draft.txt")).unwrap();
        assert_eq!(rescued, secret.as_bytes());
        // Killed in the middle of work, with much that is spilled.
        let mut draft = File::create(mount.path("notes/me/killed.txt")).unwrap();
        draft.write_all(&haystack(&secret, 50 << 20)).unwrap();
        mount.kill();
        drop(draft);
    }
    for (form, bytes) in forms(&secret) {
        assert_eq!(image.count(&bytes), 0, "{form} is on the disk");
    }
    for name in ["large.txt", "draft.txt", "killed.txt", "tracked"] {
        assert_eq!(
            image.count(name.as_bytes()),
            0,
            "the name {name} is on the disk"
        );
    }
    drop(home);
}

#[test]
fn nobody_else_may_look_into_the_daemon() {
    needs!(mount);
    let home = Home::new();
    let mount = mounted(&home, "", &Person::new("Alice"));
    let limits = fs::read_to_string(format!("/proc/{}/limits", mount.pid())).unwrap();
    let cores = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let sizes: Vec<_> = cores.unwrap().split_whitespace().collect();
    assert_eq!(sizes[4..6], ["0", "0"], "{limits}");
    let status = fs::read_to_string(format!("/proc/{}/status", mount.pid())).unwrap();
    assert!(status.contains("CoreDumping:\t0"), "{status}");
    // Who is not dumpable belongs to root in /proc, also where an ordinary user runs it.
    let locked = status
        .lines()
        .find_map(|line| line.strip_prefix("VmLck:"))
        .unwrap();
    let locked: u64 = locked.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(locked > 100, "{locked} KiB are locked");
    mount.unmount();
}
