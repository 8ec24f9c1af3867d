//! Old versions of notes: listed, and restored.

pub(in crate::view) mod list;
pub(in crate::view) mod restore;
