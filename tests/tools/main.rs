//! Programs that people use, on a real mount: editors, archivers, git, gpg, Syncthing, fsx,
//! pjdfstest.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod attributes;
mod copies;
mod databases;
mod desk;
mod editors;
mod fsx;
mod gpg_store;
mod locks;
mod posix;
mod syncthing;
mod unoffered;
