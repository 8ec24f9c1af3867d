//! Going to the background: the caller of `dds-mount` gets the terminal back once the mount is
//! usable.
//!
//! The mount is usable when every file of the store is shown. As others can make that take long, it
//! also counts as usable after a fixed time.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::log;
use super::serving::{self, Job, PROGRAM};
use super::{Exit, Failure, Outcome};
use crate::error::Error;
use crate::view::View;

/// How long the store is read before the mount goes to the background all the same.
const READING: Duration = Duration::from_secs(10);

/// Forks: the child mounts and serves, the parent waits until the mount is usable and returns.
pub(super) fn serve(job: Job<'_>) -> Outcome<()> {
    let failed = |error: std::io::Error| Failure::from(Error::io("going to the background", error));
    let (reader, writer) = rustix::pipe::pipe().map_err(|error| failed(error.into()))?;
    // SAFETY: this process has one thread so far (no library starts any before the mount), so the
    // child may go on as the parent would.
    match unsafe { libc::fork() } {
        -1 => Err(failed(std::io::Error::last_os_error())),
        0 => {
            drop(reader);
            std::process::exit(child(job, writer));
        }
        _ => {
            drop(writer);
            let mountpoint = job.mountpoint;
            // The secrets of this process are the child's now.
            drop(job);
            let mut verdict = [0];
            match File::from(reader).read_exact(&mut verdict) {
                Ok(()) if verdict[0] == Exit::Ok as u8 => Ok(()),
                Ok(()) => {
                    // A child that was confined already could not.
                    mountpoint.undo();
                    std::process::exit(i32::from(verdict[0]))
                }
                Err(_) => {
                    mountpoint.undo();
                    let ended = "the mount ended before it was usable";
                    Err(Failure::new(Exit::Failure, ended)
                        .hint("dds-mount --foreground shows what happens"))
                }
            }
        }
    }
}

/// The background process: reports the outcome of mounting to the parent, then serves.
fn child(job: Job<'_>, parent: OwnedFd) -> i32 {
    log::to_system();
    let mut parent = File::from(parent);
    match job.mount() {
        Ok(daemon) => {
            when_read(daemon.view(), move |warnings| {
                // The parent says that the mount ended.
                let Some(warnings) = warnings else { return };
                for warning in warnings {
                    eprintln!("{PROGRAM}: {warning}");
                }
                if let Err(error) = leave_terminal() {
                    tracing::warn!("leaving the terminal: {error}");
                }
                tell(&mut parent, Exit::Ok);
            });
            match serving::serve(daemon) {
                Ok(()) => 0,
                Err(failure) => failure.exit as i32,
            }
        }
        Err(failure) => {
            // The parent gets the code, and passes it on.
            let _ = failure.tell(PROGRAM);
            tell(&mut parent, failure.exit);
            failure.exit as i32
        }
    }
}

/// Calls `then` from a thread of its own when the store was read, or when that takes long, with
/// warnings for the user; with `None` if the mount ended before.
fn when_read(view: &Arc<View>, then: impl FnOnce(Option<Vec<String>>) + Send + 'static) {
    let view = Arc::clone(view);
    let wait = move || {
        let warnings = view.wait_until_read(READING);
        drop(view);
        then(warnings);
    };
    let thread = std::thread::Builder::new().name("start".to_owned());
    if let Err(error) = thread.spawn(wait) {
        tracing::error!("starting a thread: {error}");
    }
}

/// Reports the outcome of mounting to the parent. A parent that was killed meanwhile needs none.
fn tell(parent: &mut File, exit: Exit) {
    let _ = parent.write_all(&[exit as u8]);
}

/// Begins a session of its own, in `/`, without the standard streams.
fn leave_terminal() -> std::io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::chdir("/")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}
