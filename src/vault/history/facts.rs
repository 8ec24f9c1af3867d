//! The facts of old versions that were opened, so that each is opened once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::ids::{BlobId, BlobName};
use crate::locks::{Guard, Ranked};
use crate::openpgp::{CertIndex, Facts};
use crate::state::Gone;
use crate::vault::ranks;

/// The facts of the history's blobs.
pub(in crate::vault) struct FoundFacts {
    cache: Ranked<FactsCache>,
    /// The notes that vanished while nobody looked were looked for.
    pub(in crate::vault) missed: AtomicBool,
}

/// Facts by blob, for as long as the same certificates are known.
#[derive(Default)]
pub(in crate::vault) struct FactsCache {
    certificates: Option<Arc<CertIndex>>,
    pub(in crate::vault) facts: HashMap<BlobId, (BlobName, Arc<Facts>)>,
}

impl Default for FoundFacts {
    fn default() -> Self {
        FoundFacts {
            cache: Ranked::new(ranks::LEAF, FactsCache::default()),
            missed: AtomicBool::new(false),
        }
    }
}

impl FoundFacts {
    /// Returns the blobs of which no facts are known with these certificates, and forgets those that
    /// are not in the history any more.
    pub(in crate::vault) fn unknown(
        &self,
        gone: &[Gone],
        certificates: &Arc<CertIndex>,
    ) -> Vec<BlobId> {
        let mut cache = self.cache();
        let same = cache.certificates.as_ref();
        if !same.is_some_and(|same| Arc::ptr_eq(same, certificates)) {
            cache.facts.clear();
            cache.certificates = Some(Arc::clone(certificates));
        }
        let ids: HashSet<BlobId> = gone.iter().map(|gone| gone.id).collect();
        cache.facts.retain(|id, _| ids.contains(id));
        let unknown = ids.iter().filter(|id| !cache.facts.contains_key(id));
        unknown.copied().collect()
    }

    pub(in crate::vault) fn cache(&self) -> Guard<'_, FactsCache> {
        self.cache.lock()
    }
}
