//! The programs' own code: the only part of the crate that prints, prompts, reads the environment
//! and decides exit codes.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod background;
pub mod config;
mod daemons;
pub mod history;
pub mod init;
pub mod lock;
mod log;
pub mod mount;
mod mountpoint;
mod options;
mod passphrase;
mod paths;
pub mod restore;
mod serving;
pub mod status;
pub mod tool;
mod unlock;
pub mod verify;
pub mod watch;

use std::process::ExitCode;

use crate::error::{Error, Kind};

/// Why a program ends. The numbers are a stable interface; the man pages list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Something else failed.
    Failure = 1,
    /// The command line cannot be understood.
    Usage = 2,
    /// No store, no key or no configuration, or one that cannot be understood.
    Setup = 3,
    /// The passphrase is wrong, or there is no way to ask for it.
    Passphrase = 4,
    /// The mountpoint cannot be used.
    Mountpoint = 5,
    /// The system does not offer FUSE.
    Fuse = 6,
}

impl Exit {
    /// A remedy where nothing is known beyond the reason to end.
    fn hint(self) -> &'static str {
        match self {
            Exit::Ok => "nothing is wrong",
            Exit::Failure => "dds-mount --foreground tells more, with DDS_LOG=debug still more",
            Exit::Usage => "--help shows how it is called",
            Exit::Setup => "dds-mount(1) describes the configuration and its files",
            Exit::Passphrase => "--passphrase-command 'CMD' or --passphrase-fd N",
            Exit::Mountpoint => "choose a directory of your own, such as ~/secure",
            Exit::Fuse => "apt install fuse3, and modprobe fuse as root",
        }
    }
}

/// A failure as the user sees it: one line, a hint, an exit code.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    sentence: String,
    hint: Option<String>,
}

impl Failure {
    fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Failure {
            exit,
            sentence: sentence.into(),
            hint: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Prints the failure as `program` says it and returns the exit code.
    fn tell(&self, program: &str) -> ExitCode {
        eprintln!("{program}: {}", self.sentence);
        let hint = self.hint.as_deref().unwrap_or(self.exit.hint());
        eprintln!("{program}: hint: {hint}");
        ExitCode::from(self.exit as u8)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::of(&error)
    }
}

impl Failure {
    /// Makes a failure of an error of the library, if nothing better is known.
    fn of(error: &Error) -> Self {
        let exit = match error.kind() {
            Kind::BadConfig => Exit::Setup,
            Kind::WrongPassphrase => Exit::Passphrase,
            _ => Exit::Failure,
        };
        let failure = Failure::new(exit, error.to_string());
        let Some(hint) = hint(error.kind()) else {
            return failure;
        };
        failure.hint(hint)
    }
}

/// A remedy against an error of the library, where the caller has no better one.
fn hint(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::BadConfig => Some("mend the file that is named; dds-mount(1) describes it"),
        Kind::NoSpace => Some("make room on that disk, then try again"),
        Kind::DiskForbids => {
            Some("it must belong to you, and be writable for you; ls -ld shows whether it is")
        }
        Kind::DiskReadOnly => Some("the disk is mounted read-only; mount shows it"),
        Kind::Busy => Some("another program uses it; dds status shows the mounts that run"),
        _ => None,
    }
}

type Outcome<T> = std::result::Result<T, Failure>;

/// Prints a text at once.
fn print(text: &str) -> Outcome<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::from(Error::io("standard output", error)))
}

/// Writes something as one line of JSON, without the line's end.
fn to_json(value: &impl serde::Serialize) -> Outcome<String> {
    serde_json::to_string(value)
        .map_err(|error| Failure::from(Error::io("standard output", error.into())))
}

/// Parses a command line; prints help, version or the mistake in it.
fn parse<T: clap::Parser>(program: &str) -> std::result::Result<T, ExitCode> {
    use clap::error::{ContextKind, ErrorKind};
    T::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // If even the terminal is gone, nobody is left to read it.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(Exit::Usage as u8)
        }
        ErrorKind::InvalidSubcommand => {
            let failure = usage(program, &error.to_string());
            let tried = error.get(ContextKind::InvalidSubcommand);
            match tried.and_then(|tried| instead_of(&tried.to_string())) {
                Some(hint) => failure.hint(hint).tell(program),
                None => failure.tell(program),
            }
        }
        _ => usage(program, &error.to_string()).tell(program),
    })
}

/// The way to get the effect that somebody expects of a command which does not exist.
fn instead_of(command: &str) -> Option<&'static str> {
    Some(match command {
        "mount" | "unlock" | "open" | "start" => {
            "dds-mount MOUNTPOINT unlocks the store and mounts it"
        }
        "umount" | "unmount" | "close" | "stop" | "quit" => "dds lock, or umount MOUNTPOINT",
        "contacts" | "people" | "list" | "ls" => "dds status lists the contacts",
        "trust" | "verify-contact" | "rename" | "forget" => {
            "edit contacts.toml, which dds status names; it may be done while mounted"
        }
        "import" | "add" | "invite" => "cp CERTIFICATE MOUNTPOINT/keys/ adds a person",
        "export" => "your certificate is in MOUNTPOINT/keys/, as FINGERPRINT.gpg",
        "remove" | "rm" | "delete" => "rm MOUNTPOINT/messages/NAME/FILE removes a message",
        "doctor" | "check" | "fsck" => "dds status tells of problems, dds verify checks a store",
        "setup" | "create" | "new" | "keygen" => "dds init makes an identity and a store",
        _ => return None,
    })
}

/// Shortens clap's message to one line: its first paragraph, and its tip if it has one.
fn usage(program: &str, said: &str) -> Failure {
    let mut paragraphs = said.split("\n\n");
    let first = paragraphs.next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let tip = paragraphs.find_map(|paragraph| paragraph.trim_start().strip_prefix("tip: "));
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let hint = match tip {
        Some(tip) => one_line(tip),
        None => format!("{program} --help"),
    };
    Failure::new(Exit::Usage, crate::error::printable(&one_line(first))).hint(hint)
}
