//! How far the reading of the store has come.

use std::sync::atomic::AtomicBool;

use crate::vault::scan::openings::Openings;

/// The progress of reading the store.
#[derive(Default)]
pub(in crate::vault) struct Progress {
    /// The files that wait to be opened, are being opened, or wait to be taken in.
    pub(in crate::vault) openings: Openings,
    /// Everything in the store was listed once.
    pub(in crate::vault) listed: AtomicBool,
    /// Everything in the store was opened once, as far as it can be.
    pub(in crate::vault) scanned: AtomicBool,
}
