//! Whether the content of an open file is saved, and if not, when it will be.

use crate::error::Kind;

/// The state of an open file's content.
///
/// ```text
///              a change                   a save fails
///   Saved ----------------> Unsaved -------------------> Failed
///     ^                      |   ^   the bytes change       |
///     +----------------------+   +--------------------------+
///     |     saved, or undone                                |
///     +-----------------------------------------------------+
///
///             renamed over               done, or removed at once
///   any ------------------> RenamedOver -------------------------> Removed
///    ^                         |
///    +-------------------------+
///      that failed: a save that was asked for meanwhile is made up for
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DraftState {
    /// Nothing would be lost if the file were closed now.
    Saved,
    /// Changes wait for a close, for fsync(2), or for the end of the mount.
    Unsaved(Changes),
    /// The last attempt to save failed. Its writer may ask again; without being asked, only notes
    /// are saved again, and only if the disk was the reason.
    Failed(Changes, Kind),
    /// Another file is being renamed over it: nothing is saved now, but it may have to be kept.
    RenamedOver(Suspended),
    /// Its name was removed while it was open: nothing is saved any more.
    Removed(Suspended),
}

/// The changes since the last save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) bytes: Bytes,
    /// The time or the mode was set, which a note keeps.
    pub(super) attributes: bool,
    /// It has another path: saved though the bytes may be the same.
    pub(super) place: bool,
}

/// How the bytes differ from those of the last save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bytes {
    #[default]
    AsSaved,
    /// New and empty, or emptied by O_TRUNC: saved when the last writer is gone. Programs open,
    /// duplicate and close a descriptor before they write.
    Emptied,
    /// Written, or cut otherwise: saved at each close.
    Written,
}

/// The state of a file whose saves do not count, for when they count again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suspended {
    changes: Changes,
    failed: Option<Kind>,
    /// A save was asked for, and not made.
    missed: bool,
}

impl Changes {
    pub(super) fn any(self) -> bool {
        self.bytes != Bytes::AsSaved || self.attributes || self.place
    }
}

impl DraftState {
    /// The state of a new, empty file.
    pub(super) const NEW: DraftState = DraftState::Unsaved(Changes {
        bytes: Bytes::Emptied,
        attributes: false,
        place: false,
    });

    pub(super) fn changes(self) -> Changes {
        match self {
            DraftState::Saved => Changes::default(),
            DraftState::Unsaved(changes) | DraftState::Failed(changes, _) => changes,
            DraftState::RenamedOver(was) | DraftState::Removed(was) => was.changes,
        }
    }

    /// Why the last save failed, as long as that matters.
    pub(super) fn failed(self) -> Option<Kind> {
        match self {
            DraftState::Saved | DraftState::Unsaved(_) => None,
            DraftState::Failed(_, kind) => Some(kind),
            DraftState::RenamedOver(was) | DraftState::Removed(was) => was.failed,
        }
    }

    /// Tells whether a save of it does nothing.
    pub(super) fn is_suspended(self) -> bool {
        matches!(self, DraftState::RenamedOver(_) | DraftState::Removed(_))
    }

    /// After the bytes changed: a save that failed before is worth another attempt.
    pub(super) fn with_bytes(self, bytes: Bytes) -> DraftState {
        let mut changes = self.changes();
        changes.bytes = changes.bytes.max(bytes);
        self.with(changes, None)
    }

    /// After the time or the mode was set.
    pub(super) fn with_attributes(self) -> DraftState {
        let mut changes = self.changes();
        changes.attributes = true;
        self.with(changes, self.failed())
    }

    /// After it got another path under which it was not saved yet.
    pub(super) fn with_place(self) -> DraftState {
        let mut changes = self.changes();
        changes.place = true;
        self.with(changes, self.failed())
    }

    /// After everything was saved, or undone.
    pub(super) fn saved(self) -> DraftState {
        self.with(Changes::default(), None)
    }

    /// After a save failed.
    pub(super) fn with_failure(self, kind: Kind) -> DraftState {
        self.with(self.changes(), Some(kind))
    }

    /// When another file begins to be renamed over it.
    pub(super) fn renamed_over(self) -> DraftState {
        DraftState::RenamedOver(self.suspended())
    }

    /// After its name was removed.
    pub(super) fn removed(self) -> DraftState {
        DraftState::Removed(self.suspended())
    }

    /// After a save was asked for that does not count.
    pub(super) fn missed(self) -> DraftState {
        let missed = |was: Suspended| Suspended {
            changes: Changes::default(),
            failed: None,
            missed: was.missed || was.changes.any(),
        };
        match self {
            DraftState::RenamedOver(was) => DraftState::RenamedOver(missed(was)),
            DraftState::Removed(was) => DraftState::Removed(missed(was)),
            DraftState::Saved | DraftState::Unsaved(_) | DraftState::Failed(..) => self,
        }
    }

    /// After it was not renamed over.
    pub(super) fn kept(self) -> DraftState {
        let was = self.suspended();
        let mut changes = was.changes;
        if was.missed {
            changes.bytes = Bytes::Written;
        }
        DraftState::of(changes, was.failed)
    }

    fn suspended(self) -> Suspended {
        match self {
            DraftState::RenamedOver(was) | DraftState::Removed(was) => was,
            DraftState::Saved | DraftState::Unsaved(_) | DraftState::Failed(..) => Suspended {
                changes: self.changes(),
                failed: self.failed(),
                missed: false,
            },
        }
    }

    fn of(changes: Changes, failed: Option<Kind>) -> DraftState {
        match failed {
            _ if !changes.any() => DraftState::Saved,
            Some(kind) => DraftState::Failed(changes, kind),
            None => DraftState::Unsaved(changes),
        }
    }

    fn with(self, changes: Changes, failed: Option<Kind>) -> DraftState {
        let updated = |was: Suspended| Suspended {
            changes,
            failed,
            ..was
        };
        match self {
            DraftState::RenamedOver(was) => DraftState::RenamedOver(updated(was)),
            DraftState::Removed(was) => DraftState::Removed(updated(was)),
            DraftState::Saved | DraftState::Unsaved(_) | DraftState::Failed(..) => {
                DraftState::of(changes, failed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> DraftState {
        DraftState::Saved.with_bytes(Bytes::Written)
    }

    #[test]
    fn a_save_takes_every_change_and_a_failure_none() {
        let changed = DraftState::NEW.with_bytes(Bytes::Written).with_place();
        assert_eq!(changed.with_attributes().saved(), DraftState::Saved);
        let failed = changed.with_failure(Kind::NoSpace);
        assert_eq!(failed.changes(), changed.changes());
        assert_eq!(failed.failed(), Some(Kind::NoSpace));
        assert_eq!(failed.saved(), DraftState::Saved);
        // Nothing to save, nothing that failed.
        let nothing = DraftState::Saved.with_failure(Kind::Io);
        assert_eq!(nothing, DraftState::Saved);
    }

    #[test]
    fn only_other_bytes_make_a_failure_forgotten() {
        let failed = written().with_failure(Kind::KeyExpired);
        assert_eq!(failed.with_attributes().failed(), Some(Kind::KeyExpired));
        assert_eq!(failed.with_place().failed(), Some(Kind::KeyExpired));
        assert_eq!(failed.with_bytes(Bytes::Emptied).failed(), None);
    }

    #[test]
    fn what_is_renamed_over_and_kept_is_as_it_was_or_saved_late() {
        for state in [
            DraftState::Saved,
            DraftState::NEW,
            written(),
            written().with_failure(Kind::Io),
        ] {
            assert_eq!(state.renamed_over().kept(), state);
            let missed = state.renamed_over().missed();
            assert!(!missed.changes().any(), "{state:?}");
            match state.changes().any() {
                true => assert_eq!(missed.kept(), written(), "{state:?}"),
                false => assert_eq!(missed.kept(), state),
            }
        }
        let meanwhile = DraftState::Saved.renamed_over().with_bytes(Bytes::Written);
        assert_eq!(meanwhile.kept(), written());
    }

    #[test]
    fn what_was_removed_stays_removed_whatever_is_written_to_it() {
        let removed = written().renamed_over().removed();
        let removed = removed.with_bytes(Bytes::Written).saved().missed();
        assert!(matches!(removed, DraftState::Removed(_)));
        assert!(removed.is_suspended());
    }
}
