//! Locking that survives a panic elsewhere.

pub(super) use crate::locks::lock;
