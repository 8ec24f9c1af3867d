//! The operations that programs ask for, one kind a file.

pub(in crate::view) mod attr;
pub(in crate::view) mod create;
pub(in crate::view) mod link;
pub(in crate::view) mod lookup;
pub(in crate::view) mod open;
pub(in crate::view) mod read;
pub(in crate::view) mod remove;
pub(in crate::view) mod rename;
pub(in crate::view) mod rename_dir;
pub(in crate::view) mod save;
pub(in crate::view) mod write;
pub(in crate::view) mod xattr;
