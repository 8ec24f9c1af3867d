//! The programs' own code: the only part of the crate that prints, prompts, reads the environment
//! and decides exit codes.

#![allow(clippy::print_stdout, clippy::print_stderr)]

pub mod config;
mod control;
mod daemons;
pub mod history;
mod idle;
pub mod init;
pub mod lock;
mod log;
pub mod mount;
mod mountpoint;
mod passphrase;
mod paths;
pub mod restore;
pub mod status;
pub mod tool;
mod unlock;
pub mod verify;

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

/// A failure as it is told: one line, a hint, an exit code.
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
        if let Some(hint) = &self.hint {
            eprintln!("{program}: hint: {hint}");
        }
        ExitCode::from(self.exit as u8)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.kind() {
            Kind::BadConfig => Exit::Setup,
            Kind::WrongPassphrase => Exit::Passphrase,
            _ => Exit::Failure,
        };
        Failure::new(exit, error.to_string())
    }
}

type Outcome<T> = std::result::Result<T, Failure>;

/// Parses a command line; prints help, version or what is wrong with it.
fn parse<T: clap::Parser>(program: &str) -> std::result::Result<T, ExitCode> {
    use clap::error::ErrorKind;
    T::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // If even the terminal is gone there is nobody left to tell.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(Exit::Usage as u8)
        }
        _ => usage(program, &error.to_string()).tell(program),
    })
}

/// Says in one line what clap says in several: its first paragraph, and its tip if it has one.
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
