//! `dds`: the tool beside the mount.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::{history, init, lock, parse, restore, status, verify, watch};

const PROGRAM: &str = "dds";

/// Look after identities, stores and mounts of DDS
#[derive(Parser)]
#[command(name = PROGRAM, version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    History(history::Arguments),
    Init(init::Arguments),
    Lock(lock::Arguments),
    Restore(restore::Arguments),
    Status(status::Arguments),
    Verify(verify::Arguments),
    Watch(watch::Arguments),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments: Arguments = match parse(PROGRAM) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let done = match &arguments.command {
        Command::History(arguments) => history::run(arguments),
        Command::Init(arguments) => init::run(arguments),
        Command::Lock(arguments) => lock::run(arguments),
        Command::Restore(arguments) => restore::run(arguments),
        Command::Status(arguments) => status::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Watch(arguments) => watch::run(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(PROGRAM),
    }
}
