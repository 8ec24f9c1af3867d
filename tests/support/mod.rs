//! What the integration tests share: people, stores, mounts that go away with the test.
#![allow(dead_code, unused_macros)]
// What is skipped is said loudly.
#![allow(clippy::print_stdout)]

#[macro_use]
pub mod needs;
pub mod disk;
pub mod fresh;
pub mod gnupg;
pub mod mount;
pub mod people;
pub mod programs;
pub mod rig;
pub mod scene;
pub mod syncthing;
pub mod tree;
pub mod watch;
