//! What a crash left of what was replaced: a publication answers before it unlinks that, and nobody
//! would name it again before the next save of the document.

use std::sync::Arc;

use crate::ids::Folder;
use crate::vault::Vault;
use crate::vault::documents::{Document, Version};

impl Vault {
    /// Lets go of what versions of mine replaced and what is still there, as their publication
    /// would have. Called once, when all of the store is known.
    pub(super) fn settle_leftovers(&self) {
        let left: Vec<_> = {
            let state = self.state();
            let documents = state.documents.values();
            documents.flat_map(Document::replaced_by_mine).collect()
        };
        // What somebody brought back goes with the next save, and is told of until then.
        let left = left.into_iter().filter(|old| !self.has_returned(old));
        let (messages, notes): (Vec<Arc<Version>>, Vec<_>) =
            left.partition(|version| version.folder() == Folder::Messages);
        for (folder, left) in [(Folder::Messages, messages), (Folder::Notes, notes)] {
            if !left.is_empty() {
                self.shared.published(folder, left, Vec::new());
            }
        }
    }
}
