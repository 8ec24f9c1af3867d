//! Runs programs to their end, and checks the rules that all of their messages follow.

use std::borrow::BorrowMut;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::support::gnupg::piped;
use crate::support::mount::{Home, PATIENCE};

pub const PASSPHRASE: &str = "correct horse";

/// The exit code and the output of a program.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs a program to its end, within the time limit.
#[track_caller]
pub fn run(mut command: impl BorrowMut<Command>) -> Ended {
    let command = command.borrow_mut();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    // Little is said: it fits into the pipes.
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{command:?} does not end");
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    let mut ended = Ended {
        code: status.code(),
        out: String::new(),
        err: String::new(),
    };
    out.read_to_string(&mut ended.out).unwrap();
    err.read_to_string(&mut ended.err).unwrap();
    ended
}

/// Runs `dds init`, which must succeed.
#[track_caller]
pub fn init(home: &Home, passphrase: Option<&str>, more: &[&str]) -> Ended {
    let mut command = home.dds();
    command.args(["init", "--user-id", "Alice <alice@example.org>"]);
    command.args(more);
    match passphrase {
        Some(passphrase) => command
            .args(["--passphrase-fd", "0"])
            .stdin(piped(passphrase)),
        None => command.arg("--no-passphrase"),
    };
    let ended = run(command);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(ended.err, "");
    ended
}

/// A home with an identity and the default store.
pub fn prepared(passphrase: Option<&str>) -> Home {
    let home = Home::new();
    init(&home, passphrase, &[]);
    home
}

/// Everything that is mounted anywhere in a home.
pub fn mounts_in(home: &Home) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let inside = |line: &&str| {
        let path = line.split(' ').nth(4).unwrap();
        path.starts_with(home.dir.path().to_str().unwrap())
    };
    table.lines().filter(inside).map(str::to_owned).collect()
}

/// Asserts one line, one hint, an exit code, and that nothing is mounted.
#[track_caller]
pub fn assert_refused(home: &Home, command: Command, code: i32, sentence: &str) {
    let told = assert_tells("dds-mount", command, code, sentence);
    assert_eq!(mounts_in(home), [""; 0], "{told}");
}

#[track_caller]
pub fn assert_tells(program: &str, command: Command, code: i32, sentence: &str) -> String {
    let shown = format!("{command:?}");
    let ended = run(command);
    let lines: Vec<_> = ended.err.lines().collect();
    assert_eq!(ended.code, Some(code), "{shown}: {}", ended.err);
    let [first, second] = lines[..] else {
        panic!("{shown}: not a line and a hint: {:?}", ended.err);
    };
    let begin = format!("{program}: ");
    assert!(first.starts_with(&begin), "{first:?}");
    let hint = second.strip_prefix(&format!("{begin}hint: "));
    assert!(hint.is_some_and(|hint| !hint.is_empty()), "{second:?}");
    assert!(first.contains(sentence), "{shown}: {first:?}");
    assert!(!first.ends_with('.') && !second.ends_with('.'), "{lines:?}");
    assert!(!first.starts_with(&format!("{begin}hint")), "{first:?}");
    assert_eq!(ended.out, "");
    ended.err
}

pub fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

/// A mountpoint that dds-mount made is gone again, or takes no files.
#[track_caller]
pub fn assert_harmless(mountpoint: &Path) {
    if mountpoint.exists() {
        assert_eq!(mode(mountpoint), 0o500);
        assert_eq!(std::fs::read_dir(mountpoint).unwrap().count(), 0);
    }
}

pub fn with(mut command: Command, argument: impl AsRef<std::ffi::OsStr>) -> Command {
    command.arg(argument);
    command
}

pub fn signal(pid: i32, signal: i32) {
    // SAFETY: the process was started by this test.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}
