//! Files larger than the memory that the daemon may take: 300 MiB, with DDS_TEST_FULL 4 GiB.

// How long it takes and how much memory belong to the result.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::mount::{Home, Mount};
use crate::support::people::{Person, blobs, make_store};
use dds::ids::Folder;

const MIB: u64 = 1 << 20;
/// What the daemon may have resident, in KiB.
const MOST_KIB: u64 = 256 << 10;
/// Bytes that are made at once.
const BLOCK: u64 = 4096;
/// How long mounting may take: everything in the store is read then.
const LONG: Duration = Duration::from_secs(1800);

fn length() -> u64 {
    match std::env::var_os("DDS_TEST_FULL") {
        Some(_) => 4096 * MIB + 12_345,
        None => 300 * MIB + 12_345,
    }
}

/// The content that a file should have: made anew when it is asked for, never stored.
struct Model {
    length: u64,
    /// By which round a block was written last, if not by the first.
    rounds: BTreeMap<u64, u64>,
}

impl Model {
    fn block(index: u64, round: u64) -> Vec<u8> {
        let mut state = index << 20 | round;
        let mut bytes = Vec::with_capacity(BLOCK as usize);
        while bytes.len() < BLOCK as usize {
            // SplitMix64.
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut word = state;
            word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            bytes.extend_from_slice(&(word ^ word >> 31).to_le_bytes());
        }
        bytes
    }

    fn bytes(&self, offset: u64, size: u64) -> Vec<u8> {
        let end = self.length.min(offset + size);
        let mut bytes = Vec::new();
        for index in offset / BLOCK..end.div_ceil(BLOCK) {
            let round = self.rounds.get(&index).copied().unwrap_or_default();
            bytes.extend(Self::block(index, round));
        }
        let start = (offset % BLOCK) as usize;
        bytes[start..start + (end - offset) as usize].to_vec()
    }

    /// Compares the bytes of a reader from the first to the last.
    fn check_all(&self, mut from: impl Read) {
        let mut piece = vec![0; MIB as usize];
        for offset in (0..self.length).step_by(MIB as usize) {
            let size = MIB.min(self.length - offset) as usize;
            from.read_exact(&mut piece[..size]).unwrap();
            assert!(piece[..size] == self.bytes(offset, MIB), "at {offset}");
        }
        assert_eq!(from.read(&mut piece).unwrap(), 0, "and nothing else");
    }

    /// Compares reads at random places.
    fn check_at_random(&self, file: &File, seed: &mut u64) {
        for _ in 0..300 {
            let offset = random(seed, self.length);
            let size = 1 + random(seed, 20_000);
            let expected = self.bytes(offset, size);
            let mut read = vec![0; expected.len()];
            file.read_exact_at(&mut read, offset).unwrap();
            assert!(read == expected, "{size} bytes at {offset}");
        }
    }
}

fn random(seed: &mut u64, below: u64) -> u64 {
    *seed = seed
        .wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407);
    (*seed >> 20) % below
}

fn most_resident_kib(mount: &Mount) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", mount.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.unwrap().split_whitespace().nth(1);
    number.unwrap().parse().unwrap()
}

fn check_memory(mount: &Mount, after: &str) {
    let most = most_resident_kib(mount);
    println!("VmHWM after {after}: {} MiB", most >> 10);
    assert!(most < MOST_KIB, "{most} KiB after {after}");
}

/// The files without a name that the daemon has open.
fn nameless_files(mount: &Mount) -> Vec<PathBuf> {
    let all = std::fs::read_dir(format!("/proc/{}/fd", mount.pid())).unwrap();
    let all = all.map(|entry| entry.unwrap().path());
    let deleted = |path: &PathBuf| {
        let target = std::fs::read_link(path).unwrap_or_default();
        target.to_string_lossy().ends_with("(deleted)")
    };
    all.filter(deleted).collect()
}

struct Timer(Instant);

impl Timer {
    fn lap(&mut self, what: &str) {
        println!("{what}: {:.1} s", self.0.elapsed().as_secs_f64());
        self.0 = Instant::now();
    }
}

#[test]
fn a_file_larger_than_memory_is_written_and_read_at_any_place() {
    needs!(mount);
    let (home, me) = (Home::new(), Person::new("Alice"));
    let store = make_store(home.dir.path(), &[("one", &me)]);
    let key = home.path("secret.asc");
    std::fs::write(&key, &me.secret).unwrap();
    let start = || {
        let mut command = home.dds_mount();
        command.arg("--store").arg(&store).arg("--key").arg(&key);
        Mount::start_within(LONG, command, &home.path("secure"))
    };
    let mut timer = Timer(Instant::now());
    let mut model = Model {
        length: length(),
        rounds: BTreeMap::new(),
    };
    let seed = &mut 1;

    let mount = start();
    let path = mount.path("notes/me/large.bin");
    let mut options = File::options();
    let options = options.read(true).write(true).create_new(true);
    let file = options.open(&path).unwrap();
    for offset in (0..model.length).step_by(MIB as usize) {
        (&file).write_all(&model.bytes(offset, MIB)).unwrap();
    }
    timer.lap("written from first to last");
    for round in 1..=2000 {
        let index = random(seed, model.length / BLOCK);
        let bytes = Model::block(index, round);
        file.write_all_at(&bytes, index * BLOCK).unwrap();
        model.rounds.insert(index, round);
    }
    timer.lap("written at random places");
    model.check_at_random(&file, seed);
    check_memory(&mount, "writing");
    check_secrecy(&mount, &home, &model);
    timer.lap("read as a draft");
    drop(file);
    timer.lap("published");
    check_memory(&mount, "publishing");

    let (code, said) = mount.unmount();
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let names = blobs(&store, Folder::Notes);
    assert_eq!(names.len(), 1);
    read_by_gpg(&home, &key, &store.join("notes").join(&names[0]), &model);
    timer.lap("read by gpg");

    let mount = start();
    timer.lap("mounted again");
    check_memory(&mount, "mounting");
    let file = File::options().read(true).write(true).open(&path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), model.length);
    model.check_at_random(&file, seed);
    model.check_all(&file);
    timer.lap("opened and read");
    check_memory(&mount, "reading");

    // A small change to a large file, and a cut.
    file.write_all_at(&Model::block(7, 9999), 7 * BLOCK)
        .unwrap();
    model.rounds.insert(7, 9999);
    model.length /= 4;
    file.set_len(model.length).unwrap();
    model.check_at_random(&file, seed);
    drop(file);
    timer.lap("changed");
    check_memory(&mount, "changing");
    model.check_at_random(&File::open(&path).unwrap(), seed);
    mount.unmount();
    let names = blobs(&store, Folder::Notes);
    assert_eq!(names.len(), 1, "the version that was replaced is gone");
}

/// What spilled has no name and shows nothing of the content.
fn check_secrecy(mount: &Mount, home: &Home, model: &Model) {
    let spilled = nameless_files(mount);
    assert!(!spilled.is_empty(), "nothing spilled");
    let needle = &model.bytes(0, 16)[..];
    for path in spilled {
        let mut start = vec![0; 4 * MIB as usize];
        let read = File::open(path).unwrap().read_at(&mut start, 0).unwrap();
        assert!(!start[..read].windows(16).any(|part| part == needle));
    }
    let cache = std::fs::read_dir(home.path(".cache/dds")).unwrap();
    for store in cache {
        let files = std::fs::read_dir(store.unwrap().path()).unwrap();
        assert_eq!(files.count(), 0);
    }
}

fn read_by_gpg(home: &Home, key: &Path, blob: &Path, model: &Model) {
    needs!("gpg");
    let gnupg = home.path("g");
    std::fs::create_dir(&gnupg).unwrap();
    let gpg = |args: &[&str]| {
        let mut command = home.command("gpg");
        command.arg("--homedir").arg(&gnupg);
        command.args(["--batch", "--quiet", "--trust-model", "always"]);
        command.args(args).stderr(Stdio::null());
        command
    };
    let imported = gpg(&["--import", key.to_str().unwrap()]).status().unwrap();
    assert!(imported.success());
    let mut decrypt = gpg(&["--decrypt", blob.to_str().unwrap()]);
    let mut child = decrypt.stdout(Stdio::piped()).spawn().unwrap();
    model.check_all(child.stdout.take().unwrap());
    assert!(child.wait().unwrap().success());
    let mut stop = Command::new("gpgconf");
    stop.arg("--homedir").arg(&gnupg).args(["--kill", "all"]);
    let _ = stop.status();
}
