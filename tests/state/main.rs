//! Everything that is kept on disk, each part through its interface: the store, the contacts, and
//! the state outside the store.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod claims;
mod samples;

mod contacts;
mod contacts_on_disk;
mod damage;
mod log;
mod store_contract;
