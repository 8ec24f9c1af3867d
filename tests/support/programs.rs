//! Other people's programs, run on a mount, and checks of the store afterwards.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use dds::ids::BlobName;

use super::mount::{Home, skipped, wait_for};
use super::rig::{Mounted, Rig as _};

/// Seconds after which a program is stuck.
const PATIENCE: &str = "100";

/// Finds a program as a shell does.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

/// Finds a program of crates.io where `scripts/test` installed it, or as a shell does. Says loudly
/// if it is missing.
pub fn of_crates_io(program: &str, variable: &str) -> Option<PathBuf> {
    let installed = std::env::var_os(variable).map(PathBuf::from);
    let found = installed.or_else(|| find(program));
    if found.is_none() {
        skipped(&format!(
            "{program}: it is not installed (scripts/test installs it and sets {variable})"
        ));
    }
    found
}

/// Tells whether all these programs are installed; says loudly if one is not.
pub fn installed(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs
        .iter()
        .filter(|program| find(program).is_none())
        .collect();
    if !missing.is_empty() {
        skipped(&format!(
            "{programs:?} on a mount: not installed: {missing:?}"
        ));
    }
    missing.is_empty()
}

/// Tells whether the long forms are asked for.
pub fn full() -> bool {
    std::env::var_os("DDS_TEST_FULL").is_some_and(|value| value == "1")
}

/// A bash script, which sees a home of its own and no configuration of this machine's.
pub fn bash(home: &Home, directory: &Path, script: &str) -> Command {
    let mut command = home.command("timeout");
    command
        .args(["--kill-after=1", PATIENCE, "bash", "-euo", "pipefail", "-c"])
        .arg(format!("umask 077\n{script}"))
        .current_dir(directory)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env("TERM", "dumb")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env_remove("GIT_DIR")
        .stdin(Stdio::null());
    command
}

/// Runs a script, which may fail.
pub fn attempt(home: &Home, directory: &Path, script: &str) -> Output {
    bash(home, directory, script).output().unwrap()
}

/// Runs a script, which must succeed. Returns its output.
#[track_caller]
pub fn run(home: &Home, directory: &Path, script: &str) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = attempt(home, directory, script);
    let [stdout, stderr] = [stdout, stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(status.success(), "{script}: {status}\n{stdout}\n{stderr}");
    stdout
}

/// Asserts that the store holds nothing in `messages/` and `notes/` but whole blobs under the names
/// of their bytes. Returns how many.
#[track_caller]
pub fn assert_only_blobs(store: &Path) -> usize {
    let folders = ["messages", "notes"].map(|folder| store.join(folder));
    let entries = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap());
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(name, BlobName::of(&bytes).file_name(), "not a blob's name");
            assert!(bytes.ends_with(b"-----END PGP MESSAGE-----\n"), "{name}");
        })
        .count()
}

/// Waits until everything is saved and durable. Returns the problems in `.dds/status`, without the
/// news of a store's first mount.
#[track_caller]
pub fn problems(rig: &Mounted) -> Vec<String> {
    let status = || std::fs::read_to_string(rig.mount().path(".dds/status")).unwrap();
    // An empty file is published after its close has returned.
    wait_for("the last save", || {
        status().lines().any(|line| line == "unsaved files: 0")
    });
    rig.settle();
    assert_only_blobs(rig.store());
    let status = status();
    let problems = status
        .lines()
        .filter_map(|line| line.strip_prefix("problem: "));
    problems
        .filter(|problem| !problem.starts_with("new contact "))
        .map(str::to_owned)
        .collect()
}

/// Asserts that everything was saved and nothing went wrong.
#[track_caller]
pub fn assert_quiet(rig: &Mounted) {
    assert_eq!(problems(rig), [""; 0]);
}
