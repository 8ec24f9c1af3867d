//! Drafts: the writes of programs until they are published, and the versions that a save replaces.

pub(in crate::view) mod conflict;
pub(in crate::view) mod directory;
pub(in crate::view) mod handles;
pub(in crate::view) mod later;
pub(in crate::view) mod load;
pub(in crate::view) mod made_here;
pub(in crate::view) mod moved_here;
pub(in crate::view) mod open_file;
#[cfg(test)]
mod open_file_tests;
pub(in crate::view) mod publish;
pub(in crate::view) mod read_set;
pub(in crate::view) mod scratch;
pub(in crate::view) mod scratch_limit;
mod state;
pub(in crate::view) mod takeover;
