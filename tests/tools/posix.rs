//! What POSIX says of calls that programs make with any number and on any kind of file: each is
//! answered, and with the errno that other filesystems give.

use std::ffi::CString;
use std::fs::{File, Metadata};
use std::io::Error;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;

use crate::support::mount::PATIENCE;
use crate::support::programs::of_crates_io;
use crate::support::rig::{Cast, Mounted, Rig as _};

/// Makes a call that might never be answered: not waiting for it lets the test fail.
fn answered<T: Send + 'static>(what: &str, call: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        // Nobody may wait any more.
        let _ = sender.send(call());
    });
    let answer = receiver.recv_timeout(PATIENCE);
    answer.unwrap_or_else(|_| panic!("no answer to {what}"))
}

/// Sets both times. `UTIME_NOW` and `UTIME_OMIT` are nanoseconds.
fn set_times(path: &Path, times: [(i64, i64); 2]) -> Result<Metadata, Error> {
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    let times = times.map(|(tv_sec, tv_nsec)| libc::timespec { tv_sec, tv_nsec });
    // SAFETY: the path is a C string, and the array has the two times that are read.
    let done = unsafe { libc::utimensat(libc::AT_FDCWD, name.as_ptr(), times.as_ptr(), 0) };
    match done {
        0 => path.metadata(),
        _ => Err(Error::last_os_error()),
    }
}

#[test]
fn times_at_the_ends_of_their_range_are_kept() {
    needs!(mount);
    let mut rig = Mounted::new(&Cast::new(), "");
    const ENDS: [i64; 8] = [
        i64::MIN,
        i64::MIN + 1,
        -(1 << 32) - 1,
        -1,
        0,
        1 << 32,
        i64::MAX - 1,
        i64::MAX,
    ];
    for (at, seconds) in ENDS.into_iter().enumerate() {
        let name = format!("notes/me/{at}");
        rig.write(&name, b"some").unwrap();
        let path = rig.mount().path(&name);
        let fractions = [0, 1, 500_000_000, 999_999_999];
        let times = fractions.map(|nanos| (seconds, nanos));
        let now = (0, libc::UTIME_NOW);
        let special = [now, (0, libc::UTIME_OMIT), (seconds, 0)];
        let pairs = times.into_iter().flat_map(|time| {
            let beside = special.into_iter();
            beside.flat_map(move |other| [[time, other], [other, time]])
        });
        for pair in pairs {
            let path = path.clone();
            let set = answered(&format!("{pair:?}"), move || set_times(&path, pair));
            let set = set.unwrap_or_else(|error| panic!("{pair:?}: {error}"));
            if pair[1].0 == seconds && pair[1] != now && pair[1].1 != libc::UTIME_OMIT {
                assert_eq!(set.mtime(), seconds, "{pair:?}");
            }
        }
    }
    rig.remount();
    for (at, seconds) in ENDS.into_iter().enumerate() {
        let path = rig.mount().path(&format!("notes/me/{at}"));
        assert_eq!(path.metadata().unwrap().mtime(), seconds);
        assert_eq!(std::fs::read(path).unwrap(), b"some");
    }
}

#[test]
fn sizes_and_offsets_at_the_ends_of_their_range_are_answered() {
    needs!(mount);
    let rig = Mounted::new(&Cast::new(), "");
    rig.write("notes/me/f", b"hello").unwrap();
    let path: PathBuf = rig.mount().path("notes/me/f");
    let end = i64::MAX as u64;
    for offset in [
        1 << 45,
        1 << 62,
        end - 8191,
        end - 4096,
        end - 4095,
        end - 1,
        end,
    ] {
        let path = path.clone();
        answered(&format!("calls at {offset}"), move || {
            let file = File::options().read(true).write(true).open(&path).unwrap();
            let number = |error: Error| error.raw_os_error().unwrap();
            let read = file.read_at(&mut [0; 10], offset).map_err(number);
            assert!(
                matches!(read, Ok(0) | Err(libc::EINVAL)),
                "{offset}: {read:?}"
            );
            let written = file.write_at(&[1; 5000], offset).map_err(number);
            let refused = matches!(written, Err(libc::EFBIG | libc::EINVAL));
            assert!(refused, "{offset}: {written:?}");
            let cut = file.set_len(offset).map_err(number);
            assert_eq!(cut, Err(libc::EFBIG), "{offset}");
            let at = i64::try_from(offset).unwrap();
            for mode in [0, libc::FALLOC_FL_KEEP_SIZE] {
                // SAFETY: it only takes numbers.
                let done = unsafe { libc::fallocate(file.as_raw_fd(), mode, at, 1) };
                assert_eq!(done, -1, "{offset}");
            }
            let directory = File::open(path.parent().unwrap()).unwrap();
            // SAFETY: it only takes numbers.
            unsafe { libc::lseek(directory.as_raw_fd(), at, libc::SEEK_SET) };
            // SAFETY: the buffer is as long as is said, and nobody else has it.
            let listed = unsafe {
                let mut buffer = [0_u8; 4096];
                let (fd, to) = (directory.as_raw_fd(), buffer.as_mut_ptr());
                libc::syscall(libc::SYS_getdents64, fd, to, buffer.len())
            };
            assert_eq!(listed, 0, "{offset}");
        });
    }
    assert_eq!(rig.read("notes/me/f").unwrap(), b"hello");
}

#[test]
fn times_are_kept_as_they_are_set() {
    needs!(mount);
    let mut rig = Mounted::new(&Cast::new(), "");
    rig.mkdir("notes/me/dir").unwrap();
    rig.write("notes/me/file", b"some").unwrap();
    let (read, written) = ((1_000_000_000, 1), (2_000_000_000, 999_999_999));
    let omit = (0, libc::UTIME_OMIT);
    let shown = |found: &Metadata| {
        let read = (found.atime(), found.atime_nsec());
        (read, (found.mtime(), found.mtime_nsec()))
    };
    for name in ["notes/me/dir", "notes/me/file"] {
        let path = rig.mount().path(name);
        let set = set_times(&path, [read, written]).unwrap();
        assert_eq!(shown(&set), (read, written), "{name}");
        let set = set_times(&path, [omit, read]).unwrap();
        assert_eq!(shown(&set), (read, read), "{name}");
        let set = set_times(&path, [written, omit]).unwrap();
        assert_eq!(shown(&set), (written, read), "{name}");
    }
    // What is changed has a new time of change, and keeps that of access.
    rig.append("notes/me/file", b" more").unwrap();
    rig.write("notes/me/dir/one", b"one").unwrap();
    for name in ["notes/me/dir", "notes/me/file"] {
        let (access, change) = shown(&rig.mount().path(name).metadata().unwrap());
        assert_eq!(access, written, "{name}");
        assert!(change > read, "{name}");
    }
    let (_, before) = shown(&rig.mount().path("notes/me/file").metadata().unwrap());
    rig.remount();
    let (_, after) = shown(&rig.mount().path("notes/me/file").metadata().unwrap());
    assert_eq!(before, after);
}

/// What the cases of pjdfstest need that this filesystem does not offer on purpose. A name is
/// matched as a whole, or from a `^`, or to a `$`.
const RULES: [(&str, &[&str]); 5] = [
    (
        "there are only files and directories: no device nodes, FIFOs, sockets",
        &[
            "fifo$",
            "block$",
            "char$",
            "socket$",
            "^mkfifo::",
            "^mknod::",
        ],
    ),
    (
        "symbolic links are editors' locks and other spellings of names, and are made nowhere else",
        &[
            "symlink$",
            "^symlink::",
            "eloop_comp$",
            "eloop_final_comp$",
            "open::open_nofollow",
            "rename::preserve_metadata_symlink",
            "utimensat::follow_symlink",
        ],
    ),
    (
        "hard links are for editors' scratch alone",
        &[
            "^link::",
            "unlink::unchanged_ctime_failed::regular",
            "unlink::update_ctime_success::regular",
            "rename::preserve_metadata::regular",
            "rename::to_multiply_linked::regular",
        ],
    ),
    (
        "of a mode the owner's bits are kept",
        &["^chmod::change_perm::", "mkdir::permission_bits_from_mode"],
    ),
    (
        "one user has the mount: nobody else may look into it or be given anything in it",
        &[
            "^chown::",
            "uid_gid_eq_euid_egid$",
            "chmod::clear_isgid_bit",
            "ftruncate::affected_create_flags_only",
            "posix_fallocate::affected_only_create_flags",
            "rename::unchanged_ctime_failed::dir",
            "rename::unchanged_ctime_failed::regular",
            "rename::write_access_required_subdir",
            "utimensat::nobody",
            "utimensat::write_perm",
        ],
    ),
];

fn rule(case: &str) -> Option<&'static str> {
    let matches = |pattern: &&str| match (pattern.strip_prefix('^'), pattern.strip_suffix('$')) {
        (Some(start), _) => case.starts_with(start),
        (None, Some(end)) => case.ends_with(end),
        (None, None) => case == *pattern,
    };
    let mut rules = RULES.iter();
    let found = rules.find(|(_, patterns)| patterns.iter().any(&matches));
    found.map(|(why, _)| *why)
}

/// Only root can run all of it.
#[test]
fn what_fails_of_pjdfstest_is_what_a_rule_does_not_offer() {
    needs!(mount, root);
    let Some(pjdfstest) = of_crates_io("pjdfstest", "DDS_PJDFSTEST") else {
        return;
    };
    let rig = Mounted::new(&Cast::new(), "");
    let config = rig.home.path("pjdfstest.toml");
    let users = "[features]\nposix_fallocate = {}\nutime_now = {}\nutimensat = {}\nrename_ctime = {}\n\
                 [settings]\nnaptime = 0.01\nallow_remount = false\n\
                 [dummy_auth]\nentries = [[\"nobody\", \"nogroup\"], [\"daemon\", \"daemon\"]]\n";
    std::fs::write(&config, users).unwrap();
    let (mut passed, mut unexpected) = (0, Vec::new());
    // Of open's cases one needs a file of 2 GiB, which takes long to encrypt.
    let parts = [
        "chmod",
        "chown",
        "ftruncate",
        "link",
        "mkdir",
        "mkfifo",
        "mknod",
        "posix_fallocate",
        "rename",
        "rmdir",
        "symlink",
        "truncate",
        "unlink",
        "utimensat",
        "open::e",
        "open::open",
    ];
    let run = Command::new(pjdfstest)
        .arg("--configuration-file")
        .arg(&config)
        .arg("--path")
        .arg(rig.mount().path("notes/me"))
        .args(parts)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    for line in said.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(_), Some("ok"), None) => passed += 1,
            (Some(case), Some("FAILED"), None) if rule(case).is_none() => {
                unexpected.push(case.to_owned());
            }
            _ => {}
        }
    }
    assert_eq!(unexpected, Vec::<String>::new(), "{said}");
    assert!(passed > 120, "{passed} cases passed: {said}");
}
