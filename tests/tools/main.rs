//! Programs that people use, on a real mount: editors, archivers, git, gpg, Syncthing, fsx,
//! pjdfstest.

#[path = "../support/mod.rs"]
mod support;

mod fsx;
mod gpg_store;
mod posix;
mod programs;
mod syncthing;
