//! Sentences about events, each for as long as it is worth reading.

use std::time::{Duration, Instant};

use crate::ids::{Folder, VersionId};
use crate::locks::Ranked;
use crate::store::FileName;
use crate::vault::documents::Version;
use crate::vault::known::Known;
use crate::vault::known::store_file::StoreFile;
use crate::vault::ranks;

/// Sentences that are kept.
const MOST: usize = 100;
/// How long an event stays of which nothing is left.
const OVER: Duration = Duration::from_secs(24 * 3600);

/// Sentences for `.dds/status` about events, newest first.
pub(super) struct Reports(Ranked<Vec<Sentence>>);

struct Sentence {
    text: String,
    lasting: Lasting,
}

/// How long a sentence stays.
pub(super) enum Lasting {
    /// Until the end of the mount, or until [`Reports::withdraw`].
    Mount,
    /// A day, as nothing is left that anybody could mend.
    Day(Instant),
    /// As long as this version, or a file that shows none, has this name in the store.
    Blob(Folder, FileName, VersionId),
}

impl Lasting {
    /// As long as the blob of a version is in the store.
    pub(super) fn of(version: &Version) -> Lasting {
        let name = version.entry.name.clone();
        Lasting::Blob(version.folder(), name, version.id)
    }

    /// For an event of which nothing is left.
    pub(super) fn over() -> Lasting {
        Lasting::Day(Instant::now())
    }
}

impl Default for Reports {
    fn default() -> Self {
        Reports(Ranked::new(ranks::LEAF, Vec::new()))
    }
}

impl Reports {
    /// Reports something, for as long as it lasts.
    pub(super) fn report(&self, text: String, lasting: Lasting) {
        let mut sentences = self.0.lock();
        sentences.retain(|one| one.text != text);
        sentences.truncate(MOST - 1);
        sentences.insert(0, Sentence { text, lasting });
    }

    /// Drops the sentences that begin with these words, since the trouble is mended.
    pub(super) fn withdraw(&self, words: &str) {
        self.0.lock().retain(|one| !one.text.starts_with(words));
    }

    /// The sentences that still hold, newest first. The others are kept for a while: a sentence that
    /// was reported before its file was taken in becomes true with that.
    pub(super) fn sentences(&self, known: &Known) -> Vec<String> {
        let lasts = |one: &&Sentence| match &one.lasting {
            Lasting::Mount => true,
            Lasting::Day(since) => since.elapsed() < OVER,
            Lasting::Blob(folder, name, id) => {
                let file = known.files.get(&(*folder, name.clone()));
                let version = |file: &StoreFile| file.version().cloned();
                file.is_some_and(|file| version(file).is_none_or(|there| there.id == *id))
            }
        };
        let sentences = self.0.lock();
        sentences
            .iter()
            .filter(lasts)
            .map(|one| one.text.clone())
            .collect()
    }
}
