//! The pages for readers tell the truth: their console sessions are run, their tables and file
//! names compared.

mod session;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::support::mount::Home;
use session::{Session, Tidy, run};

const README: &str = include_str!("../../README.md");
const MANUAL: &str = include_str!("../../man/dds-mount.1");
const RECOVERY: &str = include_str!("../../man/dds-recovery.7");
const STORE: &str = include_str!("../../man/dds-store.5");
const SYNC: &str = include_str!("../../man/dds-sync.7");
const RULES: &str = include_str!("../../man/dds.7");
const TESTS: &str = include_str!("../README.md");

/// What quickstart leaves behind, without building, installing and mounting: the identity, the
/// store, and alice, who is made by quickstart's own code. And the certificate of carol, who
/// handed it over.
fn prepare(home: &Home) {
    let quickstart = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/quickstart");
    let script = format!(
        r#"set -euo pipefail
        dds init --user-id 'Bob <bob@example.org>' --no-passphrase
        HOME=$HOME/carol dds init --user-id 'Carol <carol@example.org>' --no-passphrase
        cp carol/documents-btsync/keys/*.gpg carol.gpg
        rm -r carol
        say() {{ echo "$*"; }}
        typed() {{ echo "$1"; }}
        store=$HOME/documents-btsync friend=$store-alice
        eval "$(sed -n '/^make_friend() {{/,/^}}/p' {quickstart})"
        make_friend
        echo prepared"#
    );
    let printed = run(home, &script);
    assert!(printed.ends_with("prepared\n"), "{printed}");
}

/// Runs the sessions of a page, all in one home, where quickstart was run before.
fn sessions_run_as_shown(page: &str, sessions: &[Session]) {
    assert!(!sessions.is_empty(), "{page} has no session");
    needs!(mount);
    let home = Home::new();
    let _tidy = Tidy(&home);
    prepare(&home);
    session::run_as_shown(&home, page, sessions);
}

#[test]
fn the_sessions_of_the_readme_run_as_shown() {
    sessions_run_as_shown("README.md", &session::of_markdown(README));
}

#[test]
fn the_sessions_of_the_page_on_everything_run_as_shown() {
    sessions_run_as_shown("dds.7", &session::of_mdoc(RULES));
}

#[test]
fn the_sessions_of_the_page_on_synchronisers_run_as_shown() {
    sessions_run_as_shown("dds-sync.7", &session::of_mdoc(SYNC));
}

#[test]
fn the_sessions_of_the_page_on_the_store_run_as_shown() {
    sessions_run_as_shown("dds-store.5", &session::of_mdoc(STORE));
}

/// The commands of a section of the page on recovery, one a line.
fn recovery(section: &str) -> String {
    let (_, after) = RECOVERY.split_once(&format!(".Ss {section}\n")).unwrap();
    let (section, _) = after.split_once("\n.S").unwrap();
    let commands = section.lines().filter_map(|line| line.strip_prefix("$ "));
    commands.map(|command| format!("{command}\n")).collect()
}

#[test]
fn the_page_on_recovery_works_as_written() {
    needs!(mount);
    let (home, new) = (Home::new(), Home::new());
    let (_tidy, _tidy_new) = (Tidy(&home), Tidy(&new));
    // Where a passphrase would be asked for there is no terminal.
    let run = |home: &Home, script: &str| {
        let script = script.replace("dds init --user-id", "dds init --no-passphrase --user-id");
        let said = run(home, &format!("set -eu\n{script}\necho done"));
        assert!(said.ends_with("done\n"), "{script}\n{said}");
        said
    };
    run(
        &home,
        "dds init --user-id 'Bob <bob@example.org>'
         HOME=$HOME/carol dds init --user-id 'Carol <carol@example.org>'
         cp carol/documents-btsync/keys/*.gpg documents-btsync/keys/carol.gpg
         mkdir stick
         dds-mount ~/secure
         mkdir ~/secure/notes/carol/trip
         echo 'train at 9' > ~/secure/notes/carol/trip/plan.md",
    );
    run(&home, &recovery("A copy to keep"));
    // The synchroniser brings the store; the stick is carried over.
    for folder in ["documents-btsync", "stick"] {
        let copied = Command::new("cp")
            .arg("-r")
            .arg(home.path(folder))
            .arg(new.dir.path())
            .status();
        assert!(copied.unwrap().success());
    }
    run(&new, &recovery("Another device, or a new disk"));
    let plan = |home: &Home| std::fs::read_to_string(home.path("secure/notes/carol/trip/plan.md"));
    assert_eq!(plan(&new).unwrap(), "train at 9\n");
    run(&new, "dds lock");
    run(&home, &recovery("Somebody leaves"));
    assert!(!home.path("documents-btsync/keys/carol.gpg").exists());
    let kept = std::fs::read_to_string(home.path("secure/notes/me/trip/plan.md"));
    assert_eq!(kept.unwrap(), "train at 9\n");
    run(&home, &recovery("The key is lost or stolen"));
    // What the revoked key signed could be a thief's.
    let unverified = "grep -rlx 'train at 9' ~/secure/notes/unverified | wc -l";
    assert_ne!(run(&home, unverified).lines().next(), Some("0"));
    run(&home, "echo new > ~/secure/notes/me/new.txt");
    // The old key is revoked for everybody who has the store.
    let revocation = home.path("documents-btsync/keys/identity.rev.asc");
    let certificates = dds::openpgp::Certificate::parse_all(&std::fs::read(revocation).unwrap());
    assert_eq!(certificates.unwrap().len(), 1);
    run(&home, "dds lock");
}

#[test]
fn the_manual_lists_every_errno_and_no_other() {
    let table = include_str!("../../src/fuse/errno.rs");
    let (_, table) = table.split_once("pub fn code(").unwrap();
    let (table, _) = table.split_once("\n}\n").unwrap();
    let given = table.split("libc::").skip(1);
    let given: BTreeSet<&str> = given.map(|rest| rest.split(',').next().unwrap()).collect();
    let entries = MANUAL.lines().filter(|line| line.starts_with(".It Bq Er "));
    let words = entries.flat_map(|line| line.split(' '));
    let listed: BTreeSet<&str> = words
        .filter(|word| word.starts_with('E') && *word != "Er")
        .collect();
    assert_eq!(listed, given);
    assert!(listed.len() > 20, "{listed:?}");
    assert!(!README.contains("| E"), "the table is in the manual alone");
}

#[test]
fn the_files_that_the_pages_name_are_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = 0;
    let in_names = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let pages = [README, STORE, SYNC, RULES, TESTS];
    for name in pages.iter().flat_map(|page| page.split(|c| !in_names(c))) {
        let ours = ["scripts/", "src/", "tests/", "man/"];
        if ours.iter().any(|start| name.starts_with(start)) {
            let name = name.trim_end_matches('.');
            assert!(top.join(name).exists(), "{name}");
            found += 1;
        }
    }
    assert!(found > 5, "{found}");
}

#[test]
fn the_page_on_testing_names_every_file_and_tests_that_are_there() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let source = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    // A test may be in a file of its subject's directory.
    let of_subject = |subject: &str| {
        let mut all = source(&here.join(format!("{subject}.rs")));
        for entry in std::fs::read_dir(here.join(subject)).into_iter().flatten() {
            all += &source(&entry.unwrap().path());
        }
        all
    };
    let mut found = 0;
    let example = "binary::module::test";
    let quoted = TESTS.split('`').filter(|word| !word.contains('\n'));
    for word in quoted.filter(|word| *word != example) {
        let Some((subject, test)) = word.rsplit_once("::") else {
            continue;
        };
        let there = of_subject(&subject.replace("::", "/"));
        // Tests that run on both rigs are named in a macro, so any mention will do.
        let mut words = there.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        assert!(words.any(|found| found == test), "{word}");
        found += 1;
    }
    assert!(found > 50, "{found}");
    // A file of its own is a binary, a directory is one of a module for each file.
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&here).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let inside = std::fs::read_dir(here.join(&name)).into_iter().flatten();
        let inside = inside.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        if here.join(&name).join("main.rs").exists() {
            files.extend(inside.map(|file| format!("{name}/{file}")));
        } else {
            files.push(name);
        }
    }
    files.retain(|name| name.ends_with(".rs") && source(&here.join(name)).contains("#[test]"));
    assert!(files.len() > 40, "{files:?}");
    for name in files {
        let named = TESTS.contains(&format!("`tests/{name}`"));
        assert!(named, "{name} is not on the page");
    }
}

#[test]
fn the_page_on_testing_has_a_row_for_each_section_of_the_rules() {
    let (_, rules) = RULES.split_once("\n.Sh RULES\n").unwrap();
    let (rules, _) = rules.split_once("\n.Sh ").unwrap();
    let sections = rules.lines().filter_map(|line| line.strip_prefix(".Ss "));
    let (_, table) = TESTS.split_once("\n## Rules of dds(7)\n").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| "));
    let rows = rows.map(|row| row.split(" |").next().unwrap()).skip(1);
    assert!(sections.eq(rows), "the sections, in their order");
}
