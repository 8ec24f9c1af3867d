//! What the integration tests share: people, stores, mounts that go away with the test.
#![allow(dead_code)]

pub mod mount;
pub mod people;
pub mod rig;
