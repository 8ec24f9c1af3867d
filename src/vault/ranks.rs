//! The order of the vault's locks, from the first to the last; those of the view come before them.
//!
//! A thread that holds one takes only those below it. `KNOWN` and the leaves are never held during
//! cryptography or disk I/O.

use crate::locks::Rank;

/// The files of `keys/`: held during a whole refresh, so that refreshes follow each other.
pub(super) const REFRESHING: Rank = Rank(110);
/// The pins, also while they are written.
pub(super) const CONTACTS: Rank = Rank(120);
/// One flush at a time, also while directories are fsynced and blobs unlinked.
pub(super) const FLUSHING: Rank = Rank(130);
/// All that is known of the store.
pub(super) const KNOWN: Rank = Rank(140);
/// Every other lock: the vault takes none while it holds one of them.
pub(super) const LEAF: Rank = Rank(150);
