//! Events: arrivals, edits, removals and renames that others made, new problems, and the lock, for
//! any number of subscribers.
//!
//! Two streams come from the same changes. [`TreeChange`]s are the single steps by which the tree
//! changed, for a kernel that has to be kept in step. [`Event`]s are the same as a person would put
//! it: a document that appears under another name than it had is one rename.
//! Changes that programs make through this view are in neither: whoever makes them knows of them.

mod broadcast;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

pub(in crate::view) use broadcast::{Broadcast, WhenFull};
pub use broadcast::{Received, Subscription};

use crate::locks::Ranked;
use crate::vault::{DocKey, People, Vouched};
use crate::view::tree::changes::{ChangeKind, TreeChange};
use crate::view::{Tree, View, ranks};

/// Something that happened, though no program here did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A file is there that was not.
    Arrival(EventFile),
    /// A file has another content, or another time.
    Edit(EventFile),
    /// A file is not there any more.
    Removal(EventFile),
    /// A file has another path.
    Rename {
        /// The path that it had.
        old_path: String,
        /// The file under its new path.
        file: EventFile,
    },
    /// The status has a problem that it did not have: the sentence about it.
    Problem(String),
    /// The view is being locked. This is the last event.
    Lock,
}

/// The file of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFile {
    /// Path below the view's root.
    pub path: String,
    /// Name of the signer, if there is a signature.
    pub from: Option<String>,
    /// Whether the signature proves that.
    pub signature: Vouched,
}

/// The subscribers of a view.
pub(in crate::view) struct Events {
    tree: Broadcast<TreeChange>,
    events: Broadcast<Event>,
    /// Problems that subscribers know; `None` while there are no subscribers.
    known_problems: Ranked<Option<HashSet<String>>>,
}

impl Events {
    pub(in crate::view) fn new() -> Self {
        Events {
            tree: Broadcast::new(),
            events: Broadcast::new(),
            known_problems: Ranked::new(ranks::PROBLEMS, None),
        }
    }
}

impl View {
    /// Subscribes to the steps by which others change the tree, from now on. Up to `capacity` of
    /// them wait, and those that come while as many wait are left out.
    pub fn subscribe_to_tree(&self, capacity: usize) -> Subscription<TreeChange> {
        self.events.tree.subscribe(capacity, WhenFull::DropItem)
    }

    /// Subscribes to events, from now on; problems that the status has already are none. Up to
    /// `capacity` events wait; a subscriber for whom more would wait has lost them and its
    /// subscription. A view that is locked has one event left: [`Event::Lock`] for those
    /// that subscribed before.
    pub fn subscribe(&self, capacity: usize) -> Subscription<Event> {
        let problems = self.problems().into_iter().collect();
        let mut known = self.events.known_problems.lock();
        known.get_or_insert(problems);
        // While they are locked, so that no problem of these is published to the subscriber.
        self.events.events.subscribe(capacity, WhenFull::End)
    }

    /// Begins to record the changes that others make, if somebody subscribed. Files that were there
    /// before this mount are no events.
    pub(in crate::view) fn begin_events(&self, tree: &mut Tree) {
        let is_wanted = self.events.tree.has_subscribers() || self.events.events.has_subscribers();
        if is_wanted && self.was_read.load(Ordering::Relaxed) {
            tree.record_changes();
        }
    }

    /// Publishes the recorded changes in their order: the caller still holds the tree.
    pub(in crate::view) fn publish_events(&self, tree: &mut Tree, people: &People) {
        let changes = tree.take_recorded();
        for change in &changes {
            self.events.tree.publish(change);
        }
        if self.events.events.has_subscribers() {
            for event in events_of(&changes, people) {
                self.events.events.publish(&event);
            }
        }
    }

    /// Publishes the problems that the status did not have when this was called last. If anybody
    /// subscribed, it walks over all files that are shown, and asks the store for its folders.
    pub(in crate::view) fn publish_problems(&self) {
        {
            let mut known = self.events.known_problems.lock();
            if !self.events.events.has_subscribers() {
                *known = None;
                return;
            }
        }
        let problems = self.problems();
        let mut known = self.events.known_problems.lock();
        let Some(known) = known.as_mut() else {
            return; // The last subscriber left meanwhile.
        };
        for problem in &problems {
            if !known.contains(problem) {
                self.events.events.publish(&Event::Problem(problem.clone()));
            }
        }
        *known = problems.into_iter().collect();
    }

    /// Publishes that the view is being locked, the first time that it is called. No event follows.
    pub fn announce_lock(&self) {
        self.events.events.publish(&Event::Lock);
        self.events.events.close();
    }
}

/// Sums up changes: a document that is gone and appeared is a file that was edited or renamed.
fn events_of(changes: &[TreeChange], people: &People) -> Vec<Event> {
    let mut gone: HashMap<&DocKey, Vec<usize>> = HashMap::new();
    let mut events: Vec<Option<Event>> = Vec::new();
    for change in changes {
        let Some((key, version)) = &change.document else {
            events.push(None);
            continue;
        };
        let file = EventFile {
            path: change.path(),
            from: version.signer.as_ref().map(|signer| people.name(signer)),
            signature: version.vouched,
        };
        let before = match change.change {
            ChangeKind::Appeared => gone.get_mut(key).and_then(Vec::pop),
            ChangeKind::Changed | ChangeKind::Gone => None,
        };
        let removed = before.and_then(|before| events[before].take());
        events.push(Some(match (change.change, removed) {
            (ChangeKind::Gone, _) => {
                gone.entry(key).or_default().push(events.len());
                Event::Removal(file)
            }
            (ChangeKind::Changed, _) => Event::Edit(file),
            (ChangeKind::Appeared, Some(Event::Removal(old))) if old.path == file.path => {
                Event::Edit(file)
            }
            (ChangeKind::Appeared, Some(Event::Removal(old))) => Event::Rename {
                old_path: old.path,
                file,
            },
            (ChangeKind::Appeared, _) => Event::Arrival(file),
        }));
    }
    events.into_iter().flatten().collect()
}

impl TreeChange {
    /// Path of the file below the view's root.
    fn path(&self) -> String {
        let path = self.directory.join(&self.name);
        path.to_string_lossy().into_owned()
    }
}
