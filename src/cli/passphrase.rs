//! Asking for a passphrase: from a command, a file descriptor, or the terminal. Never from the
//! command line or the environment, where other programs can see it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

use rustix::termios::{self, LocalModes, OptionalActions};
use zeroize::Zeroizing;

use super::{Exit, Failure, Outcome};
use crate::plaintext::Passphrase;

/// Where the passphrase comes from.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Source {
    /// Take the passphrase from what this shell command prints
    #[arg(long, value_name = "CMD", conflicts_with = "passphrase_fd")]
    passphrase_command: Option<String>,
    /// Take the passphrase from this file descriptor
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<i32>,
}

impl Source {
    /// Tells whether the passphrase comes from elsewhere than the terminal.
    pub(super) fn is_given(&self) -> bool {
        self.passphrase_command.is_some() || self.passphrase_fd.is_some()
    }

    /// The descriptor that it comes from, if it does.
    pub(super) fn descriptor(&self) -> Option<i32> {
        self.passphrase_fd
    }

    /// Gets the passphrase. `prompt` is shown on the terminal if it is asked there; a new one is
    /// asked twice.
    pub(super) fn get(&self, prompt: &str, new: bool) -> Outcome<Passphrase> {
        if let Some(command) = &self.passphrase_command {
            return from_command(command);
        }
        if let Some(fd) = self.passphrase_fd {
            return from_descriptor(fd);
        }
        for _ in 0..ATTEMPTS {
            let first = from_terminal(prompt)?;
            if !new || first.expose() == from_terminal("the same again: ")?.expose() {
                return Ok(first);
            }
            on_terminal("the two differ; once more\n")?;
        }
        Err(Failure::new(Exit::Passphrase, "the two passphrases differ")
            .hint("nothing was made; --passphrase-command 'CMD' takes it from a program"))
    }
}

/// How often a new passphrase is asked for.
const ATTEMPTS: usize = 3;

fn from_command(command: &str) -> Outcome<Passphrase> {
    let failed = |why: String| {
        Failure::new(Exit::Passphrase, format!("passphrase command {why}"))
            .hint("it is run by sh, and the first line that it prints is the passphrase")
    };
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::inherit())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    let output = child.stdout.take().expect("asked for a pipe");
    let passphrase = read_line(output).map_err(|error| failed(format!("output: {error}")))?;
    let status = child
        .wait()
        .map_err(|error| failed(format!("was lost: {error}")))?;
    if !status.success() {
        return Err(failed(format!("failed: {status}")));
    }
    Ok(passphrase)
}

fn from_descriptor(fd: i32) -> Outcome<Passphrase> {
    let failed = |why: std::io::Error| {
        Failure::new(
            Exit::Passphrase,
            format!("passphrase from descriptor {fd}: {why}"),
        )
        .hint("give an open one, such as --passphrase-fd 3 3< FILE")
    };
    if fd < 0 {
        return Err(failed(std::io::Error::from_raw_os_error(libc::EBADF)));
    }
    // SAFETY: F_GETFD only looks at the descriptor table.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(failed(std::io::Error::last_os_error()));
    }
    // SAFETY: the descriptor is open, and whoever started this program gave it to us to read.
    let descriptor = unsafe { OwnedFd::from_raw_fd(fd) };
    let file = File::from(descriptor);
    if fd > 2 {
        return read_line(file).map_err(failed);
    }
    // Standard streams stay open: another file must not get their number.
    let line = read_line(&file).map_err(failed);
    std::mem::forget(file);
    line
}

/// Opens the terminal and says something there.
fn on_terminal(words: &str) -> Outcome<File> {
    let open = File::options().read(true).write(true).open("/dev/tty");
    let no_terminal = || {
        Failure::new(
            Exit::Passphrase,
            "a passphrase is needed and there is no terminal to ask for it",
        )
        .hint("--passphrase-command 'CMD' or --passphrase-fd N")
    };
    let mut terminal = open.map_err(|_| no_terminal())?;
    let said = write!(terminal, "{words}").and_then(|()| terminal.flush());
    said.map_err(terminal_failed)?;
    Ok(terminal)
}

fn terminal_failed(error: std::io::Error) -> Failure {
    Failure::new(Exit::Passphrase, format!("terminal: {error}"))
        .hint("--passphrase-command 'CMD' or --passphrase-fd N")
}

fn from_terminal(prompt: &str) -> Outcome<Passphrase> {
    let mut terminal = on_terminal("")?;
    let line = {
        // Before the prompt: characters that are typed at once are neither shown nor thrown away.
        let _silent = NoEcho::begin(&terminal).map_err(terminal_failed)?;
        on_terminal(prompt)?;
        read_line(&terminal).map_err(terminal_failed)?
    };
    writeln!(terminal).map_err(terminal_failed)?;
    Ok(line)
}

/// Turns echo off on a terminal until it is dropped.
struct NoEcho<'a> {
    terminal: &'a File,
    before: termios::Termios,
}

impl<'a> NoEcho<'a> {
    fn begin(terminal: &'a File) -> std::io::Result<Self> {
        let before = termios::tcgetattr(terminal.as_fd())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ICANON);
        termios::tcsetattr(terminal.as_fd(), OptionalActions::Flush, &silent)?;
        Ok(NoEcho { terminal, before })
    }
}

impl Drop for NoEcho<'_> {
    fn drop(&mut self) {
        // Nothing better can be done if the terminal is gone.
        let _ = termios::tcsetattr(self.terminal.as_fd(), OptionalActions::Flush, &self.before);
    }
}

/// Reads up to the first line end, byte by byte, so that nothing of it stays in a buffer.
fn read_line(mut from: impl Read) -> std::io::Result<Passphrase> {
    let mut line = Passphrase::new();
    let mut byte = Zeroizing::new([0_u8]);
    loop {
        match from.read(&mut byte[..]) {
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) => {
                if !line.push(byte[0]) {
                    let limit = Passphrase::LIMIT;
                    let why = format!("a passphrase has at most {limit} bytes");
                    return Err(std::io::Error::other(why));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    line.trim_end(b'\r');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_the_first_line_without_its_end() {
        let read = |input: &[u8]| read_line(input).map(|p| p.expose().to_vec()).unwrap();
        assert_eq!(read(b"open sesame\nmore"), b"open sesame");
        assert_eq!(read(b"open sesame\r\n"), b"open sesame");
        assert_eq!(read(b" spaces stay "), b" spaces stay ");
        assert!(read_line(&[b'x'; 5000][..]).is_err());
    }
}
