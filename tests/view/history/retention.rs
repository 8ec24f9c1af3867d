//! How long versions are kept, and `dds history` and `dds restore`.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::support::mount::wait_for;
use crate::support::people::blobs;
use crate::support::rig::Rig as _;
use crate::support::rig::{Cast, Mounted};
use crate::support::tree::files_below;
use OldState::{Current, Replaced};
use dds::ids::Folder;

#[test]
fn what_is_old_stays_until_the_clock_is_sure() {
    let mut past = Past::new();
    for content in [b"one", b"two"] {
        past.save(MINE, content);
    }
    let gone = past.kept("gone").remove(0);
    let name = gone.file_name().unwrap().to_str().unwrap();
    let (_, id) = name.rsplit_once('-').unwrap();
    fs::rename(&gone, gone.with_file_name(format!("gone-0-{id}"))).unwrap();
    past.rig.crash(|_| {});
    past.look();
    // The mount is not an hour old.
    past.assert_states(MINE, &[Current, Replaced]);
}

#[test]
fn what_is_forgotten_is_gone() {
    let past = Past::new();
    for path in [MINE, "notes/me/trip/a", "notes/me/trip/b"] {
        let _ = past.rig.mkdir("notes/me/trip");
        past.save(path, b"first");
        past.save(path, b"second");
    }
    assert_eq!(past.rig.view().history("notes/me/trip").unwrap().len(), 2);
    assert_eq!(past.rig.view().forget_history("notes/me/trip").unwrap(), 2);
    assert_eq!(past.rig.view().forget_history(MINE).unwrap(), 1);
    assert!(past.rig.view().forget_history(MINE).is_err());
    assert_eq!(past.kept("gone"), Vec::<PathBuf>::new());
    past.assert_states(MINE, &[Current]);
}

/// Runs `dds`. Returns its output, or its exit code and errors if it failed.
fn dds(rig: &Mounted, arguments: &[&str]) -> Result<String, (Option<i32>, String)> {
    let mut command = rig.home.dds();
    let output = command
        .args(arguments)
        .current_dir(rig.mount().path("notes"))
        .output();
    let output = output.unwrap();
    match output.status.code() {
        Some(0) => Ok(String::from_utf8(output.stdout).unwrap()),
        code => Err((code, String::from_utf8(output.stderr).unwrap())),
    }
}

#[test]
fn dds_history_and_dds_restore() {
    needs!(mount);
    let cast = Cast::new();
    let mut rig = Mounted::new(&cast, "");
    for content in [&b"first"[..], b"second", b"third"] {
        rig.write(MINE, content).unwrap();
        rig.settle();
    }
    let full = rig.mount().path(MINE);
    for path in [full.to_str().unwrap(), "me/plan.md", "./me/../me/plan.md"] {
        let told = dds(&rig, &["history", path]).unwrap();
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines.len(), 4, "{told}");
        assert_eq!(lines[0], "notes/me/plan.md: there");
        assert!(lines[1].starts_with("   1  ") && lines[1].contains("  me  5 bytes  current"));
        assert!(lines[2].starts_with("   2  ") && lines[2].contains("6 bytes  replaced 20"));
    }
    let restored = dds(&rig, &["restore", "me/plan.md"]).unwrap();
    assert!(
        restored.starts_with("restored: notes/me/plan.md ("),
        "{restored}"
    );
    assert_eq!(rig.read(MINE).unwrap(), b"second");
    fs::remove_file(&full).unwrap();
    let told = dds(&rig, &["history"]).unwrap();
    assert!(
        told.starts_with("notes/me/plan.md: gone since 20"),
        "{told}"
    );
    let json = dds(&rig, &["history", "--json", full.to_str().unwrap()]).unwrap();
    let note: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(note["present"], false);
    assert_eq!(note["versions"][0]["state"], "removed-by-me");
    let first = note["versions"][3]["version"].as_str().unwrap();
    dds(&rig, &["restore", full.to_str().unwrap(), &first[..8]]).unwrap();
    assert_eq!(rig.read(MINE).unwrap(), b"first");

    let (code, said) = dds(&rig, &["restore", "me/none.md"]).unwrap_err();
    assert_eq!(code, Some(1));
    assert!(
        said.contains("notes/me/none.md") && said.contains("hint: "),
        "{said}"
    );
    let (_, said) = dds(&rig, &["history", "/etc/passwd"]).unwrap_err();
    assert!(said.contains("is in no mount"), "{said}");
    let forgotten = dds(&rig, &["history", "--forget", "me/plan.md"]).unwrap();
    assert_eq!(forgotten, "forgotten versions: 4\n");
    assert_eq!(
        dds(&rig, &["history"]).unwrap(),
        "no old versions are kept\n"
    );
    rig.remount();
    rig.end_by(libc::SIGTERM);
    let mut command = rig.home.dds();
    let output = command.args(["history"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no mount of this store is running"), "{said}");
}

#[test]
fn with_history_days_0_nothing_is_kept_and_what_was_kept_goes() {
    needs!(mount);
    let cast = Cast::new();
    let mut rig = Mounted::new(&cast, "");
    rig.write(MINE, b"first").unwrap();
    rig.settle();
    rig.write(MINE, b"second").unwrap();
    rig.settle();
    let state = rig.home.path(".local/state/dds");
    let kept = || {
        let files = files_below(&state).into_iter();
        let kept = files.filter(|path| path.to_string_lossy().contains("/history/"));
        kept.collect::<BTreeSet<_>>()
    };
    wait_for("a spare and an old version", || kept().len() == 2);
    let config = rig.home.path(".config/dds/config.toml");
    fs::write(config, "history_days = 0\n").unwrap();
    rig.remount();
    assert_eq!(kept(), BTreeSet::new());
    rig.write(MINE, b"third").unwrap();
    rig.settle();
    assert_eq!(kept(), BTreeSet::new());
    assert_eq!(blobs(rig.store(), Folder::Notes).len(), 1);
    assert_eq!(
        dds(&rig, &["history"]).unwrap(),
        "no old versions are kept\n"
    );
}
