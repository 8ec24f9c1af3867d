//! What the integration tests share: people, stores, mounts that go away with the test.
#![allow(dead_code)]
// What is skipped is said loudly.
#![allow(clippy::print_stdout)]

pub mod fresh;
pub mod gnupg;
pub mod mount;
pub mod people;
pub mod programs;
pub mod rig;
pub mod syncthing;
pub mod watch;
