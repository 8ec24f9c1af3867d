//! Console sessions in pages for readers: finds them, runs them, and compares their output.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::mount::{Home, is_mounted};

/// Nothing that a session does takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Stands before the exit code of each command in what a session prints.
const MARK: &str = "@@ exit code";
/// How the pages write the home directory where a program prints it.
const HOME_SHOWN: &str = "/home/bob";

/// A command and the lines that it must print.
#[derive(Debug, Default)]
pub struct Step {
    command: String,
    shown: Vec<String>,
}

/// A console session.
pub type Session = Vec<Step>;

/// Returns the console sessions of a page in Markdown: its blocks marked `console`.
pub fn of_markdown(page: &str) -> Vec<Session> {
    let mut blocks = Vec::new();
    let mut open: Option<Vec<String>> = None;
    for line in page.lines() {
        match &mut open {
            None if line == "```console" => open = Some(Vec::new()),
            None => {}
            Some(_) if line == "```" => blocks.extend(open.take()),
            Some(lines) => lines.push(line.to_owned()),
        }
    }
    assert!(open.is_none(), "a console session has no end");
    blocks.into_iter().map(session).collect()
}

/// Returns the console sessions of a manual page: its literal displays that begin with a command.
pub fn of_mdoc(page: &str) -> Vec<Session> {
    let mut blocks = Vec::new();
    let mut open: Option<Vec<String>> = None;
    for line in page.lines() {
        match &mut open {
            None if line.starts_with(".Bd -literal") => open = Some(Vec::new()),
            None => {}
            Some(_) if line == ".Ed" => blocks.extend(open.take()),
            Some(lines) => lines.push(plain(line)),
        }
    }
    assert!(open.is_none(), "a display has no end");
    let begins_with_command = |block: &Vec<String>| block[0].starts_with("$ ");
    let blocks = blocks.into_iter().filter(begins_with_command);
    blocks.map(session).collect()
}

/// Returns a line of a literal display as it is shown.
fn plain(line: &str) -> String {
    assert!(!line.starts_with('.'), "a macro in a display: {line}");
    assert!(!line.starts_with('\''), "a macro in a display: {line}");
    let shown = line.replace("\\&", "").replace("\\(aq", "'");
    let shown = shown.replace("\\e", "\0");
    assert!(!shown.contains('\\'), "an unknown escape: {line}");
    shown.replace('\0', "\\")
}

/// Makes a session of its lines.
///
/// A line that starts `$ ` is a command, the others are what it prints. There `...` stands for
/// any text within a line and, alone, for any number of lines; a blob's name stands for any.
fn session(lines: Vec<String>) -> Session {
    let mut steps: Session = Vec::new();
    for line in lines {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step {
                command: command.to_owned(),
                shown: Vec::new(),
            }),
            (None, Some(step)) => step.shown.push(line),
            (None, None) => panic!("a session begins with output: {line}"),
        }
    }
    steps
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

/// Ends the mounts that a session may leave behind, also when the test fails.
pub struct Tidy<'a>(pub &'a Home);

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

/// Runs a script in a home, with our programs first in PATH. Returns its output.
pub fn run(home: &Home, script: &str) -> String {
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

/// Runs sessions one after the other in a home, and holds what they print against what `page`
/// shows. A command that shows no message must succeed.
pub fn run_as_shown(home: &Home, page: &str, sessions: &[Session]) {
    for steps in sessions {
        let mut script = String::new();
        for step in steps {
            script += &format!("{}\necho \"{MARK} $?\"\n", step.command);
        }
        let printed = run(home, &script);
        let mut lines = printed.lines();
        for Step { command, shown } in steps {
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
                "$ {command}\n{page} shows {shown:#?}\nit printed {said:#?}"
            );
            assert!(
                code == "0" || !shown.is_empty(),
                "$ {command}\nfails with {code}, and {page} shows no message"
            );
        }
    }
    assert!(!is_mounted(&home.path("secure")), "left mounted");
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

#[test]
fn sessions_are_found_in_manual_pages() {
    let page = ".Bd -literal -offset indent\n$ printf 'a\\en'\na\n\\&...\n$ ls\n.Ed\n\
        .Bd -literal\nno session\n.Ed\n";
    let found = of_mdoc(page);
    let [session] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(session[0].command, "printf 'a\\n'");
    assert_eq!(session[0].shown, ["a", "..."]);
    assert_eq!(session[1].command, "ls");
}
