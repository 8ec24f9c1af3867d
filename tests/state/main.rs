//! What is kept on disk, each part through its interface: the store, the contacts, and the state
//! outside the store.

mod samples;

mod contacts;
mod contacts_on_disk;
mod damage;
mod log;
mod store_contract;
