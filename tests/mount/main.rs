//! Mounts by the real binary: how saves reach the store, how arrivals reach programs, and how a
//! mount ends.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod conflicts;
mod disk_full;
mod draft_life;
mod durability;
mod foreign_files;
mod hostile_mount;
mod inotify;
mod keys_errno;
mod large_files;
mod leaks;
mod locking;
#[cfg(feature = "logind")]
mod logind;
mod ordinary_user;
mod watch;
