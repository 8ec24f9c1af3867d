//! README.md tells the truth: its console sessions are run, its tables and file names compared.

mod support;

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use support::mount::{Home, can_mount, is_mounted};

const README: &str = include_str!("../README.md");
const MANUAL: &str = include_str!("../man/dds-mount.1");
const RECOVERY: &str = include_str!("../man/dds-recovery.7");

/// Nothing that a session does takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Stands before the exit code of each command in what a session prints.
const MARK: &str = "@@ exit code";
/// How README.md writes the home directory where a program prints it.
const HOME_SHOWN: &str = "/home/bob";

/// A command and the lines that it must print.
#[derive(Debug, Default)]
struct Step {
    command: String,
    shown: Vec<String>,
}

/// Returns the console sessions of a text, each a list of steps.
///
/// A line that starts `$ ` is a command, the others are what it prints. There `...` stands for
/// any text within a line and, alone, for any number of lines; a blob's name stands for any.
fn sessions(text: &str) -> Vec<Vec<Step>> {
    let mut sessions = Vec::new();
    let mut open: Option<Vec<Step>> = None;
    for line in text.lines() {
        match &mut open {
            None if line == "```console" => open = Some(Vec::new()),
            None => {}
            Some(_) if line == "```" => sessions.extend(open.take()),
            Some(steps) => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step {
                    command: command.to_owned(),
                    shown: Vec::new(),
                }),
                (None, Some(step)) => step.shown.push(line.to_owned()),
                (None, None) => panic!("a session begins with output: {line}"),
            },
        }
    }
    assert!(open.is_none(), "a console session has no end");
    sessions
}

/// Tells whether printed lines are as shown.
fn as_shown(shown: &[String], printed: &[&str]) -> bool {
    match (shown.split_first(), printed.split_first()) {
        (Some((any, rest)), _) if any == "..." => {
            as_shown(rest, printed) || (!printed.is_empty() && as_shown(shown, &printed[1..]))
        }
        (Some((line, shown)), Some((printed_line, printed))) => {
            line_as_shown(line, printed_line) && as_shown(shown, printed)
        }
        (shown, printed) => shown.is_none() && printed.is_none(),
    }
}

fn line_as_shown(shown: &str, printed: &str) -> bool {
    let is_blob = |text: &str| text.strip_suffix(".asc").is_some_and(is_blob_name);
    if is_blob(shown) {
        return is_blob(printed);
    }
    let Some((start, rest)) = shown.split_once("...") else {
        return shown == printed;
    };
    let Some(printed) = printed.strip_prefix(start) else {
        return false;
    };
    let mut cuts = (0..=printed.len()).filter(|cut| printed.is_char_boundary(*cut));
    cuts.any(|cut| line_as_shown(rest, &printed[cut..]))
}

fn is_blob_name(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Ends what a session may leave behind, also when the test fails.
struct Tidy<'a>(&'a Home);

impl Drop for Tidy<'_> {
    fn drop(&mut self) {
        let mountpoint = self.0.path("secure");
        if is_mounted(&mountpoint) {
            let _ = Command::new("fusermount3")
                .args(["-u", "-z", "-q"])
                .arg(&mountpoint)
                .status();
        }
        for gpg_home in [".gnupg", "documents-btsync-alice"] {
            let mut end = self.0.command("gpgconf");
            let _ = end
                .arg("--homedir")
                .arg(self.0.path(gpg_home))
                .args(["--kill", "all"])
                .status();
        }
    }
}

/// Runs a script in a home, with our programs first in PATH. Returns what it prints.
fn run(home: &Home, script: &str) -> String {
    let programs = Path::new(env!("CARGO_BIN_EXE_dds")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let file = home.path("session");
    std::fs::write(&file, script).unwrap();
    // A file, not a pipe: gpg-agent would keep a pipe open.
    let output = home.path("session.out");
    let to = File::create(&output).unwrap();
    let mut bash = home.command("bash");
    bash.arg(&file).current_dir(home.dir.path());
    bash.env("PATH", path).env("LC_ALL", "C.UTF-8");
    bash.stdout(to.try_clone().unwrap()).stderr(to);
    let mut child = bash.spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("hangs: {script}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let printed = std::fs::read_to_string(&output).unwrap();
    std::fs::remove_file(file).unwrap();
    std::fs::remove_file(output).unwrap();
    printed.replace(home.dir.path().to_str().unwrap(), HOME_SHOWN)
}

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

#[test]
fn the_sessions_run_as_shown() {
    let sessions = sessions(README);
    assert!(sessions.len() >= 3, "{} sessions", sessions.len());
    if !can_mount() {
        return;
    }
    let home = Home::new();
    let _tidy = Tidy(&home);
    prepare(&home);
    for steps in sessions {
        let mut script = String::new();
        for step in &steps {
            script += &format!("{}\necho \"{MARK} $?\"\n", step.command);
        }
        let printed = run(&home, &script);
        let mut lines = printed.lines();
        for Step { command, shown } in &steps {
            let mut said = Vec::new();
            let code = loop {
                let line = lines.next();
                let line = line.unwrap_or_else(|| panic!("{command}: no end:\n{printed}"));
                // What was printed last need not end with a line end.
                match line.split_once(MARK) {
                    None => said.push(line),
                    Some((rest, code)) => {
                        said.extend(Some(rest).filter(|rest| !rest.is_empty()));
                        break code.trim();
                    }
                }
            };
            assert!(
                as_shown(shown, &said),
                "$ {command}\nREADME.md shows {shown:#?}\nit printed {said:#?}"
            );
            assert!(
                code == "0" || !shown.is_empty(),
                "$ {command}\nfails with {code}, and README.md shows no message"
            );
        }
    }
    assert!(!is_mounted(&home.path("secure")), "left mounted");
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
    if !can_mount() {
        return;
    }
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
fn its_errnos_are_in_the_manual() {
    let rows = README.lines().filter_map(|line| line.strip_prefix("| E"));
    let mut found = 0;
    for row in rows {
        let (names, _) = row.split_once(" |").unwrap();
        for name in format!("E{names}").split(", ") {
            let manual = MANUAL.lines().filter(|line| line.starts_with(".It Bq Er "));
            let mut words = manual.flat_map(|line| line.split(' '));
            assert!(words.any(|word| word == name), "{name}");
            found += 1;
        }
    }
    assert!(found > 10, "{found}");
}

#[test]
fn the_files_it_names_are_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = 0;
    let in_names = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    for name in README.split(|c| !in_names(c)) {
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
fn three_dots_stand_for_anything() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(as_shown(&lines("a\n...\nd"), &["a", "b", "c", "d"]));
    assert!(as_shown(&lines("...\na"), &["a"]));
    assert!(as_shown(&lines("x ... z..."), &["x y z"]));
    assert!(!as_shown(&lines("a"), &["a", "b"]));
    assert!(!as_shown(&lines("x ... z"), &["x y"]));
    assert!(!as_shown(&lines("...\nd"), &["a"]));
    let blobs = ["0f", "a1"].map(|two| format!("{}.asc", two.repeat(20)));
    assert!(as_shown(&blobs[..1], &[&blobs[1]]) && !as_shown(&blobs[..1], &["f.asc"]));
}
