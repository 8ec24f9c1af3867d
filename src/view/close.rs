//! The end of a mount: publishes finished drafts and rescues the others.

use std::ffi::OsStr;

use crate::error::Result;
use crate::view::View;
use crate::view::draft::open_file::{Locked, Target};
use crate::view::draft::scratch::{Hold, is_leftover};
use crate::view::tree::OpenContent as _;
use crate::view::tree::{FileRole, Ino};

/// A file that was not saved where it belongs when the mount ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsaved {
    /// Its path in the view, or a description of another loss.
    pub path: String,
    /// It is kept, and shown in `.dds/rescued/` at the next mount.
    pub rescued: bool,
}

impl View {
    /// Makes durable all that was published, before it returns.
    ///
    /// # Errors
    /// `Io` or `NoSpace` as the disk says.
    pub fn make_durable(&self) -> Result<()> {
        self.vault.make_durable()
    }

    /// Rescues drafts that are still being written, publishes those whose writers have closed them,
    /// and makes everything durable. Returns the files that were not saved where they belong.
    ///
    /// Everything that needs the store comes last: its disk may not answer.
    pub fn close(&self) -> Vec<Unsaved> {
        self.announce_lock();
        self.vault.stop_copying();
        let mut open: Vec<_> = {
            let tree = self.tree();
            let held = tree
                .files()
                .filter(|(_, file)| file.is_draft() || file.role.is_scratch());
            held.filter_map(|(ino, file)| Some((ino, file.open.clone()?)))
                .collect()
        };
        // There is an end to the time for it: many small ones before a large one.
        open.sort_by_key(|(_, file)| file.stat().size);
        let mut unsaved = Vec::new();
        open.retain(|(ino, file)| {
            let Some(mut body) = file.try_lock() else {
                return true; // Just being published.
            };
            let later = self.may_publish(*ino, &body);
            if !later {
                unsaved.extend(self.close_file(*ino, &mut body));
            }
            later
        });
        for (ino, file) in open {
            unsaved.extend(self.close_file(ino, &mut file.lock()));
        }
        if let Err(error) = self.vault.close() {
            unsaved.push(Unsaved {
                path: format!("the last second's saves: {error}"),
                rescued: false,
            });
        }
        unsaved
    }

    /// Tells whether a draft may be published without its writer: not while it is being written,
    /// not after a save of it failed, and not if it is a message that looks like a temporary
    /// file.
    fn may_publish(&self, ino: Ino, body: &Locked<'_>) -> bool {
        matches!(body.target(), Target::Document { .. })
            && body.failed().is_none()
            && !self.has_writer(ino)
            && !(body.is_held() && body.is_message())
    }

    /// All files that anybody may still have open.
    pub fn files(&self) -> Vec<Ino> {
        self.tree().files().map(|(ino, _)| ino).collect()
    }

    fn close_file(&self, ino: Ino, body: &mut Locked<'_>) -> Option<Unsaved> {
        if body.is_unlinked() {
            return None;
        }
        match body.target() {
            // Scratch that was neither renamed nor removed may be the only copy of somebody's work.
            Target::Scratch => {
                let role = self.tree().file(ino).map(|file| file.role.clone())?;
                let unchanged = !body.changed_since_published();
                let comes_back = matches!(role, FileRole::Backup(..)) && unchanged;
                let wanted = !comes_back && !self.is_nobody_s_work(ino, body);
                wanted.then(|| self.rescue(ino, body))
            }
            Target::Key(_) | Target::Nowhere => None,
            Target::Document { .. } => {
                if self.may_publish(ino, body) {
                    // It was not a temporary file after all.
                    body.set_hold(Hold::No);
                    if self.publish(ino, body).is_ok() {
                        return None;
                    }
                }
                let nothing = body.is_held() && body.content().is_empty();
                (body.is_dirty() && !nothing).then(|| self.rescue(ino, body))
            }
        }
    }

    fn is_nobody_s_work(&self, ino: Ino, body: &Locked<'_>) -> bool {
        let size = body.content().len();
        let name = self.tree().get(ino).map(|node| node.name.clone());
        let name = name.as_deref().and_then(OsStr::to_str).unwrap_or_default();
        // An unreadable beginning counts as somebody's work: rescue as much as can be read.
        let start = body.content().read_at(0, 16).unwrap_or_default();
        size == 0 || is_leftover(name, size, &start)
    }

    fn rescue(&self, ino: Ino, body: &Locked<'_>) -> Unsaved {
        let path = self.tree().path(ino);
        let rescued = self.vault.rescue(&path, &body.content(), body.mtime());
        if let Err(error) = &rescued {
            tracing::error!("inode {} could not be rescued: {:?}", ino.0, error.kind());
        }
        Unsaved {
            path,
            rescued: rescued.is_ok(),
        }
    }
}
