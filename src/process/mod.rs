//! The daemon as a process: its keeper, its sandbox, its memory, the reasons for its end.
//!
//! Nothing here knows of files, keys or documents.

pub mod account;
mod calls;
pub mod ending;
pub mod keeper;
pub mod logind;
pub mod memory;
pub mod mounts;
pub mod sandbox;

use std::os::fd::RawFd;

use rustix::process::{Resource, Rlimit};

/// Raises the number of descriptors that this process may have as far as it may, and returns it.
///
/// The usual limit of 1,024 is for programs that use select(2).
pub fn raise_descriptor_limit() -> u64 {
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let limit = match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(_) => current,
    };
    limit.unwrap_or(u64::MAX)
}

/// Closes every descriptor above the standard ones, but for one. Descriptors that the caller of this
/// program left open are not ours, and would lead out of the sandbox.
pub fn close_all_but(kept: RawFd) {
    let close = |first: RawFd, last: libc::c_uint| {
        if first >= 0 && first as libc::c_uint <= last {
            // SAFETY: nothing in this program refers to these descriptors: it has just begun, or
            // is a child that keeps only the one. An older kernel refuses, and they stay open.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    };
    if kept > 2 {
        close(3, kept as libc::c_uint - 1);
    }
    close(kept.max(2) + 1, libc::c_uint::MAX);
}
