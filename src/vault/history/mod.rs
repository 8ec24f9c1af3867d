//! Old versions of notes: how they are kept when they leave the store, and how they are found again.

pub(super) mod facts;
mod find;
pub(super) mod keep;
mod rounds;

pub use find::PastVersion;
