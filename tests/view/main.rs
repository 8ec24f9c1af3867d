//! The rules of the view, each on both rigs where both make sense: calls on the view in this
//! process, and system calls on a mount by the real binary.

#[path = "../support/mod.rs"]
mod support;

mod audiences;
mod changes;
mod history;
mod hostile_keys;
mod renames;
mod rescue;
mod scenarios;
mod seen;
mod several_readers;
