//! The rules of the view, each on both rigs where both make sense: calls on the view in this
//! process, and system calls on a mount by the real binary.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod arrivals;
mod audiences;
mod changes;
mod chmod;
mod events;
mod history;
mod hostile_keys;
mod keys;
mod link;
mod mkdir;
mod names;
mod paths;
mod rename;
mod rescue;
mod seen;
mod several_readers;
mod unlink;
mod write;
