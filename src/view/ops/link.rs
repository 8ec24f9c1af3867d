//! Links, as far as there are any: second names of scratch, and editors' locks.

use std::ffi::OsStr;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::view::draft::open_file::{OpenFile, Target};
use crate::view::draft::scratch::is_scratch;
use crate::view::error_log::About;
use crate::view::rules::{check_new_name, check_path, exists, not_found};
use crate::view::tree::OpenContent as _;
use crate::view::tree::{FileRole, Ino, NodeData};
use crate::view::{Attr, Caller, View};

impl View {
    /// Gives scratch a second name. To a name that is no scratch name it is saved, as by renaming.
    ///
    /// # Errors
    /// `Forbidden` for anything but scratch; `Exists`; `CrossAudience`; errors of publishing.
    pub fn link(
        &self,
        ino: Ino,
        new_parent: Ino,
        new_name: &OsStr,
        caller: Caller,
    ) -> Result<Attr> {
        self.reporting(About::Name(new_parent, new_name), || {
            self.link_scratch(ino, new_parent, new_name, caller)
        })
    }

    fn link_scratch(
        &self,
        ino: Ino,
        new_parent: Ino,
        new_name: &OsStr,
        caller: Caller,
    ) -> Result<Attr> {
        let (from, open) = {
            let tree = self.tree();
            let node = tree.get(ino).ok_or_else(not_found)?;
            let file = tree
                .file(ino)
                .filter(|file| matches!(file.role, FileRole::Scratch));
            let Some(file) = file else {
                let rule = "a file here has one name: no hard links";
                return Err(Error::new(Kind::Forbidden, rule));
            };
            ((node.parent, node.name.clone()), file.open.clone())
        };
        let open = open.ok_or_else(not_found)?;
        let from = self.spot(from.0, &from.1)?;
        let to = self.spot(new_parent, new_name)?;
        if !from.same_audience(&to) {
            return Err(Error::new(Kind::CrossAudience, "another audience"));
        }
        let name = check_new_name(new_name)?;
        self.check_unlike(new_parent, new_name, None)?;
        check_path(&to.path())?;
        let (content, stat) = {
            let body = open.lock();
            self.check_scratch(body.content().len())?;
            (Arc::new(body.content().duplicate()), open.stat())
        };
        let copy = Arc::new(OpenFile::published(
            content,
            Target::Scratch,
            stat,
            &self.scratch,
        ));
        let second = {
            let mut tree = self.tree();
            if tree.child(new_parent, new_name).is_some() {
                return Err(exists());
            }
            let second = tree.attach_file(new_parent, name, FileRole::Scratch);
            if let Some(file) = tree.file_mut(second) {
                file.open = Some(copy);
            }
            second
        };
        if !is_scratch(name) {
            if let Err(error) = self.publish_as(second, &to, None, caller) {
                self.tree().detach(second);
                return Err(error);
            }
        }
        self.getattr(second)
    }

    /// Makes an editor's lock: a symbolic link with a scratch name, in RAM.
    ///
    /// # Errors
    /// `Forbidden` for any other name or place; `Exists`.
    pub fn symlink(&self, parent: Ino, name: &OsStr, target: &str) -> Result<Attr> {
        self.reporting(About::Name(parent, name), || {
            self.make_lock(parent, name, target)
        })
    }

    fn make_lock(&self, parent: Ino, name: &OsStr, target: &str) -> Result<Attr> {
        self.spot(parent, name)?;
        let name = check_new_name(name)?;
        self.check_unlike(parent, OsStr::new(name), None)?;
        if !is_scratch(name) {
            let rule = "only editors' locks may be symbolic links";
            return Err(Error::new(Kind::Forbidden, rule));
        }
        let ino = {
            let mut tree = self.tree();
            if tree.child(parent, OsStr::new(name)).is_some() {
                return Err(exists());
            }
            tree.attach(parent, name, NodeData::Alias(target.to_owned()))
        };
        self.getattr(ino)
    }
}
