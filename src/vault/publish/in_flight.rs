//! While a document is being published, its changes are kept from their readers.

use std::sync::Arc;

use crate::vault::Vault;
use crate::vault::documents::{DocKey, Head, Version};

/// A published version: one blob, or one for each reader. Until this is dropped, readers are not
/// given the document's changes, so that the publisher can first record the version for the file
/// that it has open.
pub struct Published<'a> {
    /// The new version's blobs, at least one.
    pub(super) versions: Vec<Arc<Version>>,
    pub(super) _flight: InFlight<'a>,
}

impl Published<'_> {
    /// The new version's blobs, at least one.
    pub fn versions(&self) -> &[Arc<Version>] {
        &self.versions
    }

    /// The document's new head.
    pub fn head(&self) -> Head {
        Head::of(self.versions.clone())
    }
}

/// Marks a document as being published, until this is dropped: a refresh leaves a blob of it to its
/// publisher.
pub(super) struct InFlight<'a> {
    vault: &'a Vault,
    key: DocKey,
}

impl<'a> InFlight<'a> {
    pub(super) fn begin(vault: &'a Vault, key: DocKey) -> Self {
        vault.known().take_off(&key);
        InFlight { vault, key }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.vault.known().land(&self.key);
    }
}
