//! The order of the view's locks, from the first to the last.
//!
//! Whoever holds one may take only those below it. None but a file's own two is held during
//! cryptography or disk I/O.

use crate::locks::Rank;

/// An open file: held while it is published. Several at once only by the renaming of a directory, in
/// the order of their inodes.
pub(in crate::view) const BODY: Rank = Rank(10);
/// The bytes of an open file: held while they are read, sealed or written.
pub(in crate::view) const CONTENT: Rank = Rank(20);
/// The tree. It is held while the vault's changes are taken into it, and while events
/// of them are published.
pub(in crate::view) const TREE: Rank = Rank(30);
/// The problems that subscribers to events know.
pub(in crate::view) const PROBLEMS: Rank = Rank(40);
/// The subscribers to events.
pub(in crate::view) const SUBSCRIBERS: Rank = Rank(50);
/// The queue of one subscriber.
pub(in crate::view) const QUEUE: Rank = Rank(60);
/// Everything else: nothing of the view is locked while one of them is held.
pub(in crate::view) const LEAF: Rank = Rank(70);
