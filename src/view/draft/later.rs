//! Saves that come later: of notes that the disk refused, and of notes that were held back as
//! somebody's temporary files and that stay.

use std::time::Duration;

use crate::error::Kind;
use crate::ids::BlobKind;
use crate::view::View;
use crate::view::draft::open_file::{Locked, Target};
use crate::view::draft::scratch::Hold;
use crate::view::error_log::About;

impl View {
    /// Saves the notes again whose last save failed for the disk and that nobody is writing now.
    /// Tells whether none fails again.
    pub fn retry_failed(&self) -> bool {
        let mut all_saved = true;
        for (ino, file) in self.open_drafts() {
            let mut body = file.lock();
            if !may_retry(&body) || self.has_writer(ino) || !self.has_room(&body) {
                continue;
            }
            // The log already says why.
            if self.publish(ino, &mut body).is_ok() {
                drop(body);
                self.drop_if_idle(ino);
                let path = self.tree().path(ino);
                self.errors.note(&path, "it is saved now");
            } else {
                all_saved = false;
            }
        }
        all_saved
    }

    /// Tells whether trying is worth the work of sealing.
    fn has_room(&self, body: &Locked<'_>) -> bool {
        self.space().is_ok_and(|space| {
            let available = space.available.saturating_mul(space.block_size.into());
            available > body.content().len()
        })
    }

    /// Saves the notes that were held back as somebody's temporary files, and that nobody has
    /// renamed or removed for a while since they were closed. Messages are not sent behind their
    /// writer's back: `.dds/errors` says once how to send them.
    pub fn save_what_stays(&self, after: Duration) {
        for (ino, file) in self.open_drafts() {
            // A file that is just being published is not held back.
            let Some(mut body) = file.try_lock() else {
                continue;
            };
            let stays = body.left().is_some_and(|left| left.elapsed() >= after);
            if !body.is_held() || !stays || body.is_unlinked() || self.has_writer(ino) {
                continue;
            }
            if body.is_message() {
                body.forget_left();
                let path = self.tree().path(ino);
                let sentence = match body.hold() {
                    Hold::UntilRenamed => {
                        "it is not sent yet, as it has the name of a download that has not \
                         ended: rename it to send it"
                    }
                    Hold::No | Hold::WhileEmpty => {
                        "it is not sent yet, as it is empty: write something to send it"
                    }
                };
                self.errors.note(&path, sentence);
                continue;
            }
            body.set_hold(Hold::No);
            let published = self.publish(ino, &mut body);
            drop(body);
            // A failure is tried again like that of any other note.
            if self.report(About::Node(ino), published).is_ok() {
                self.drop_if_idle(ino);
            }
        }
    }
}

fn may_retry(body: &Locked<'_>) -> bool {
    let is_note = matches!(
        body.target(),
        Target::Document {
            kind: BlobKind::Note,
            ..
        }
    );
    is_note && !body.is_unlinked() && matches!(body.failed(), Some(Kind::NoSpace | Kind::Io))
}
