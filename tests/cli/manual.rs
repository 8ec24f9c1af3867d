//! Options and exit codes: the programs and their manual pages have the same.

use std::path::Path;
use std::process::Command;

use super::ended::*;
use crate::support::mount::Home;

#[test]
fn a_command_that_others_have_points_to_ours() {
    let home = Home::new();
    for (tried, helps) in [
        ("unlock", "dds-mount MOUNTPOINT"),
        ("mount", "dds-mount MOUNTPOINT"),
        ("unmount", "dds lock"),
        ("umount", "dds lock"),
        ("trust", "contacts.toml"),
        ("import", "keys/"),
    ] {
        let mut command = home.dds();
        command.arg(tried);
        let told = assert_tells("dds", command, 2, tried);
        assert!(told.contains(helps), "{told}");
    }
}

/// Options in the words of `--help`: those at the beginning of a line, both forms.
fn options_in_help(program: &str, arguments: &[&str]) -> Vec<String> {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'));
    let words = lines.flat_map(|line| {
        line.split(' ')
            .take_while(|word| !word.is_empty())
            .filter(|word| word.starts_with('-'))
    });
    let mut options: Vec<_> = words
        .map(|word| word.trim_end_matches(',').to_owned())
        .collect();
    options.sort();
    options.dedup();
    options
}

/// Options that have an entry of their own in a manual page.
fn options_in_manual(page: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let entries = text.lines().filter(|line| line.starts_with(".It Fl "));
    let mut options = Vec::new();
    for entry in entries {
        let mut words = entry.split(' ');
        while let Some(word) = words.next() {
            if word == "Fl" {
                options.push(format!("-{}", words.next().unwrap()));
            }
        }
    }
    options.sort();
    options.dedup();
    options
}

#[test]
fn the_manual_has_every_option_and_no_other() {
    let man = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let (mount, tool) = (env!("CARGO_BIN_EXE_dds-mount"), env!("CARGO_BIN_EXE_dds"));
    let mut of_tool = options_in_help(tool, &["--help"]);
    for command in ["history", "init", "lock", "restore", "status", "verify"] {
        of_tool.extend(options_in_help(tool, &[command, "--help"]));
    }
    of_tool.sort();
    of_tool.dedup();
    for (page, in_help) in [
        ("dds-mount.1", options_in_help(mount, &["--help"])),
        ("dds.1", of_tool),
    ] {
        let page = man.join(page);
        assert!(in_help.len() >= 10, "{in_help:?}");
        assert_eq!(options_in_manual(&page), in_help, "{}", page.display());
    }
}

#[test]
fn the_manual_has_every_exit_code_and_errno() {
    let man = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let page = std::fs::read_to_string(man.join("dds-mount.1")).unwrap();
    let (_, codes) = page.split_once(".Sh EXIT STATUS").unwrap();
    let (codes, _) = codes.split_once(".Sh ").unwrap();
    let codes: Vec<_> = codes
        .lines()
        .filter_map(|line| line.strip_prefix(".It ")?.parse::<u8>().ok())
        .collect();
    use dds::cli::Exit;
    let known = [
        Exit::Ok,
        Exit::Failure,
        Exit::Usage,
        Exit::Setup,
        Exit::Passphrase,
        Exit::Mountpoint,
        Exit::Fuse,
    ];
    assert_eq!(codes, known.map(|code| code as u8));
    for name in [
        "ENOKEY",
        "EKEYEXPIRED",
        "EKEYREVOKED",
        "EKEYREJECTED",
        "EBADMSG",
        "EFBIG",
        "EXDEV",
        "EPERM",
        "EROFS",
        "EACCES",
        "ENOSPC",
        "EIO",
    ] {
        assert!(page.contains(&format!("Er {name}")), "{name}");
    }
}
