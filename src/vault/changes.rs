//! The documents that changed, for any number of readers, each with its own place.
//!
//! The log has each document once, at its latest change, so a reader that comes rarely is given
//! each document once, as it is then. The log is bounded. A reader that lags behind its beginning
//! is told so, and gets all documents instead: it must compare them with its own.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::vault::documents::{DocKey, Document};

/// A reader's place among the changes. A new reader has had none of them.
#[derive(Debug, Default)]
pub struct ChangeReader {
    /// Number of the last change that it was given.
    had: u64,
    /// Documents that it must be given again, whether they change or not.
    again: HashSet<DocKey>,
}

impl ChangeReader {
    /// Counts a document as changed for this reader: it no longer shows the state that it was given.
    pub fn ask_again(&mut self, key: DocKey) {
        self.again.insert(key);
    }
}

/// The changes since a reader's last call.
pub enum Changes {
    /// Each document that changed, as it is now; `None` if it is gone.
    Changed(Vec<(DocKey, Option<Document>)>),
    /// The reader came too late for the single changes.
    Lagged {
        /// All documents as they are now.
        present: Vec<(DocKey, Document)>,
        /// Documents that are being published: their changes are given later. Any document that is
        /// neither here nor among the present ones is gone.
        in_flight: Vec<DocKey>,
    },
}

/// The latest change of each document, numbered from 1.
pub(super) struct ChangeLog {
    longest: usize,
    /// Number of the last change.
    last: u64,
    /// Number of the last change that is no longer in the log.
    dropped: u64,
    by_number: BTreeMap<u64, DocKey>,
    numbers: HashMap<DocKey, u64>,
}

impl ChangeLog {
    pub(super) fn of_length(longest: usize) -> Self {
        ChangeLog {
            longest,
            last: 0,
            dropped: 0,
            by_number: BTreeMap::new(),
            numbers: HashMap::new(),
        }
    }

    /// Notes that a document changed.
    pub(super) fn add(&mut self, key: &DocKey) {
        self.last += 1;
        if let Some(before) = self.numbers.insert(key.clone(), self.last) {
            self.by_number.remove(&before);
        }
        self.by_number.insert(self.last, key.clone());
        if self.by_number.len() > self.longest {
            if let Some((number, oldest)) = self.by_number.pop_first() {
                self.numbers.remove(&oldest);
                self.dropped = number;
            }
        }
    }

    /// Returns the changes that a reader has not had. Those of documents in flight stay with the
    /// reader until they have landed.
    pub(super) fn read(
        &self,
        reader: &mut ChangeReader,
        documents: &HashMap<DocKey, Document>,
        is_in_flight: impl Fn(&DocKey) -> bool,
    ) -> Changes {
        let lagged = reader.had < self.dropped;
        let mut keys = std::mem::take(&mut reader.again);
        if lagged {
            keys.extend(documents.keys().cloned());
        }
        let since = self.by_number.range(reader.had + 1..);
        keys.extend(since.map(|(_, key)| key.clone()));
        reader.had = self.last;
        let (in_flight, landed): (HashSet<_>, HashSet<_>) =
            keys.into_iter().partition(is_in_flight);
        reader.again.clone_from(&in_flight);
        let now = landed.into_iter().map(|key| {
            let document = documents.get(&key).cloned();
            (key, document)
        });
        match lagged {
            false => Changes::Changed(now.collect()),
            true => Changes::Lagged {
                present: now.filter_map(|(key, one)| Some((key, one?))).collect(),
                in_flight: in_flight.into_iter().collect(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Folder, VersionId};

    fn key(number: u8) -> DocKey {
        DocKey::Single(Folder::Notes, VersionId::from_digest([number; 32]))
    }

    /// The keys that changed, sorted by their debug form; `None` for a reader that lagged.
    fn changed(changes: Changes) -> Option<Vec<DocKey>> {
        match changes {
            Changes::Changed(changed) => {
                let mut keys: Vec<_> = changed.into_iter().map(|(key, _)| key).collect();
                keys.sort_by_key(|key| format!("{key:?}"));
                Some(keys)
            }
            Changes::Lagged { .. } => None,
        }
    }

    #[test]
    fn each_reader_is_given_each_change_once() {
        let mut log = ChangeLog::of_length(8);
        let documents = HashMap::new();
        let (mut one, mut two) = (ChangeReader::default(), ChangeReader::default());
        let read =
            |log: &ChangeLog, reader: &mut ChangeReader| log.read(reader, &documents, |_| false);
        log.add(&key(1));
        log.add(&key(2));
        assert_eq!(changed(read(&log, &mut one)).unwrap(), [key(1), key(2)]);
        assert_eq!(changed(read(&log, &mut one)).unwrap(), []);
        // The second change of a document takes the place of the first.
        log.add(&key(1));
        log.add(&key(1));
        assert_eq!(changed(read(&log, &mut one)).unwrap(), [key(1)]);
        assert_eq!(changed(read(&log, &mut two)).unwrap(), [key(1), key(2)]);
        assert_eq!(changed(read(&log, &mut two)).unwrap(), []);
        two.ask_again(key(9));
        assert_eq!(changed(read(&log, &mut one)).unwrap(), []);
        assert_eq!(changed(read(&log, &mut two)).unwrap(), [key(9)]);
    }

    #[test]
    fn a_document_in_flight_is_given_to_each_reader_when_it_has_landed() {
        let mut log = ChangeLog::of_length(8);
        let documents = HashMap::new();
        let (mut one, mut two) = (ChangeReader::default(), ChangeReader::default());
        log.add(&key(1));
        log.add(&key(2));
        let flying = |key_: &DocKey| *key_ == key(2);
        assert_eq!(
            changed(log.read(&mut one, &documents, flying)).unwrap(),
            [key(1)]
        );
        assert_eq!(changed(log.read(&mut one, &documents, flying)).unwrap(), []);
        let landed = |_: &DocKey| false;
        assert_eq!(
            changed(log.read(&mut one, &documents, landed)).unwrap(),
            [key(2)]
        );
        assert_eq!(changed(log.read(&mut one, &documents, landed)).unwrap(), []);
        let both = changed(log.read(&mut two, &documents, landed)).unwrap();
        assert_eq!(both, [key(1), key(2)]);
    }

    #[test]
    fn a_reader_that_lags_is_told_so_once_and_gets_everything_there_is() {
        let mut log = ChangeLog::of_length(2);
        let mut documents = HashMap::new();
        for number in [1, 3, 4] {
            documents.insert(key(number), Document::default());
        }
        let mut punctual = ChangeReader::default();
        let mut late = ChangeReader::default();
        for number in 1..=4 {
            log.add(&key(number));
            let given = changed(log.read(&mut punctual, &documents, |_| false));
            assert_eq!(given.unwrap(), [key(number)]);
        }
        // Document 2 is gone, and 4 is being published.
        let flying = |one: &DocKey| *one == key(4);
        let Changes::Lagged { present, in_flight } = log.read(&mut late, &documents, flying) else {
            panic!("it was given changes, of which two are not in the log any more");
        };
        let present: HashSet<DocKey> = present.into_iter().map(|(key, _)| key).collect();
        assert_eq!(present, HashSet::from([key(1), key(3)]));
        assert_eq!(in_flight, [key(4)]);
        let landed = log.read(&mut late, &documents, |_| false);
        assert_eq!(changed(landed).unwrap(), [key(4)]);
        // A reader at the beginning of the log has missed nothing.
        log.add(&key(5));
        log.add(&key(6));
        assert_eq!(
            changed(log.read(&mut punctual, &documents, |_| false)).unwrap(),
            [key(5), key(6)]
        );
    }
}
