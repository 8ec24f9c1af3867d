//! The tree by paths: for a web page, a mail gateway, a test, for whatever is not the kernel.
//!
//! A path is relative to the root, its parts are separated by slashes: `messages/bob/lunch.txt`.
//! Links on the way are followed, as other spellings of an audience are links. The rules are
//! those of the operations by inode, on which everything here is built; refused operations are in
//! `.dds/errors` as well.

use std::ffi::OsStr;
use std::mem::ManuallyDrop;

use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};
use crate::view::facts::Facts;
use crate::view::ops::save::Saved;
use crate::view::reader::Reader;
use crate::view::rules::{exists, not_found};
use crate::view::tree::Ino;
use crate::view::{Access, Attr, Caller, DirEntry, HandleId, NodeKind, RenameMode, SetAttr, View};

/// Links followed on the way to one file, as Linux follows.
const LINKS: usize = 40;

/// Names that [`Paths::send`] tries when the first one is taken.
const NAMES_TRIED: usize = 1000;

/// The tree by paths, for one reader.
#[derive(Clone, Copy)]
pub struct Paths<'a> {
    view: &'a View,
    caller: Caller,
}

/// A line of a directory's listing, with what is known of the file.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Name in the directory.
    pub name: String,
    /// What `stat` shows of it.
    pub attr: Attr,
    /// What is known of the version that it shows, as [`Paths::facts`].
    pub facts: Option<Facts>,
}

impl View {
    /// The tree by paths, for one reader: a save replaces only what this reader has read.
    pub fn paths(&self, reader: Reader) -> Paths<'_> {
        let caller = Caller {
            reader: Some(reader),
            is_root: false,
        };
        Paths { view: self, caller }
    }
}

impl<'a> Paths<'a> {
    /// Returns what `stat` shows of a file or directory.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`, `NameTooLong`; `Invalid` for `..`; `Io` when the store cannot be
    /// read.
    pub fn stat(&self, path: &str) -> Result<Attr> {
        self.view.getattr(self.find(path)?)
    }

    /// Returns what is known of the version that a file shows: who signed it, who reads it. `None`
    /// for directories and for what is no version of a document.
    ///
    /// # Errors
    /// As [`Paths::stat`].
    pub fn facts(&self, path: &str) -> Result<Option<Facts>> {
        self.view.facts(self.find(path)?)
    }

    /// Lists a directory in the order of its names. An empty path is the root.
    ///
    /// # Errors
    /// As [`Paths::stat`].
    pub fn list(&self, path: &str) -> Result<Vec<Listed>> {
        let _use = self.view.last_use.begin();
        let entries = self.view.list(self.find(path)?)?.into_iter();
        // A file that another thread removed since is not listed.
        let listed = entries.filter_map(|DirEntry { ino, name, .. }| {
            Some(Listed {
                name: name.into_string().ok()?,
                attr: self.view.getattr(ino).ok()?,
                facts: self.view.facts(ino).ok()?,
            })
        });
        Ok(listed.collect())
    }

    /// Returns the target of a link.
    ///
    /// # Errors
    /// As [`Paths::stat`]; `Invalid` for anything but a link.
    pub fn link_target(&self, path: &str) -> Result<String> {
        let (parent, name) = self.parent(path)?;
        self.view.readlink(self.view.lookup(parent, name)?.ino)
    }

    /// Reads a whole file into memory, and notes that this reader has seen it. A large one is read
    /// in parts through [`Paths::open`].
    ///
    /// # Errors
    /// As [`View::open`] and [`View::read`].
    pub fn read(&self, path: &str) -> Result<Zeroizing<Vec<u8>>> {
        let access = Access {
            read: true,
            ..Access::default()
        };
        self.open(path, access)?.read(0, usize::MAX)
    }

    /// Opens a file; for writing, one that is not there is made. It is closed when it is dropped,
    /// and by [`OpenPath::close`], which tells whether its content was saved.
    ///
    /// # Errors
    /// As [`View::open`] and [`View::create`]; `IsDirectory`; `Exists` with `access.exclusive`.
    pub fn open(&self, path: &str, access: Access) -> Result<OpenPath<'a>> {
        let handle = match access.write {
            true => match self.end(path)? {
                PathEnd::Node(_) if access.exclusive => return Err(exists()),
                PathEnd::Node(attr) => {
                    let ino = self.file_at(path, &attr)?;
                    self.view.open(ino, access, self.caller)?
                }
                PathEnd::Free(parent, name) => {
                    let created = self.view.create(parent, name, 0o600, access, self.caller);
                    created.map(|(_, handle)| handle)?
                }
            },
            false => self.view.open(self.find(path)?, access, self.caller)?,
        };
        Ok(OpenPath {
            view: self.view,
            caller: self.caller,
            handle,
        })
    }

    /// Saves a whole file, as a new one or in the place of what this reader has read under that
    /// path. A version that arrived since then stays, as a conflict copy. A reader that never read
    /// the file replaces the shown version.
    ///
    /// # Errors
    /// `Busy` if another program has unsaved changes in it; `Forbidden` for names of programs'
    /// temporary files; as [`Paths::open`], [`View::write`] and [`View::flush`]. Then the file is as
    /// it was before.
    pub fn save(&self, path: &str, content: &[u8]) -> Result<Saved> {
        match self.end(path)? {
            PathEnd::Node(attr) => {
                let ino = self.file_at(path, &attr)?;
                self.view.save_over(ino, content, self.caller)
            }
            PathEnd::Free(parent, name) => self.view.save_new(parent, name, content, self.caller),
        }
    }

    /// Saves a new file, which must not be there yet.
    ///
    /// # Errors
    /// `Exists`; as [`Paths::save`]. Then there is no such file.
    pub fn create(&self, path: &str, content: &[u8]) -> Result<Saved> {
        match self.end(path)? {
            PathEnd::Node(_) => Err(exists()),
            PathEnd::Free(parent, name) => self.view.save_new(parent, name, content, self.caller),
        }
    }

    /// Sends a new message to the people whom `audience` names (`bob`, or `bob,carol`), under this
    /// name or, if it is taken, under one like it: `lunch (2).txt`.
    ///
    /// # Errors
    /// As [`Paths::create`]; `NotFound` if one of them is no contact. Then nothing was sent.
    pub fn send(&self, audience: &str, name: &str, content: &[u8]) -> Result<Saved> {
        if audience.contains('/') || name.contains('/') {
            let rule = "a message has no directories";
            return Err(Error::new(Kind::Invalid, rule));
        }
        let (stem, extension) = match name.rfind('.') {
            None | Some(0) => (name, ""),
            Some(dot) => name.split_at(dot),
        };
        let mut tried = format!("messages/{audience}/{name}");
        for number in 2..NAMES_TRIED {
            match self.create(&tried, content) {
                Err(error) if error.kind() == Kind::Exists => {}
                done => return done,
            }
            tried = format!("messages/{audience}/{stem} ({number}){extension}");
        }
        Err(Error::new(Kind::Exists, "all names like it are taken"))
    }

    /// Removes a file.
    ///
    /// # Errors
    /// As [`View::unlink`].
    pub fn remove(&self, path: &str) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        self.view.unlink(parent, name)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// As [`View::rmdir`].
    pub fn remove_dir(&self, path: &str) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        self.view.rmdir(parent, name)
    }

    /// Renames a file or directory; a file that has the new path is replaced.
    ///
    /// # Errors
    /// As [`View::rename`]; `Invalid` if a directory would move into itself.
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (parent, name) = self.parent(from)?;
        let (new_parent, new_name) = self.parent(to)?;
        self.view.lookup(parent, name)?;
        let mode = RenameMode::default();
        self.view
            .rename(parent, name, new_parent, new_name, mode, self.caller)
    }

    /// Makes a directory among notes.
    ///
    /// # Errors
    /// As [`View::mkdir`].
    pub fn mkdir(&self, path: &str) -> Result<()> {
        match self.end(path)? {
            PathEnd::Node(_) => Err(exists()),
            PathEnd::Free(parent, name) => self.view.mkdir(parent, name, 0o700).map(drop),
        }
    }

    /// Changes attributes of a file or directory.
    ///
    /// # Errors
    /// As [`View::setattr`].
    pub fn set(&self, path: &str, set: SetAttr) -> Result<Attr> {
        let ino = self.find(path)?;
        self.view.setattr(ino, None, set, self.caller)
    }

    /// Finds the inode that a path leads to, for operations that are not here.
    ///
    /// # Errors
    /// As [`Paths::stat`].
    pub fn find(&self, path: &str) -> Result<Ino> {
        let mut at = Ino::ROOT;
        let mut links = 0;
        let mut parts = Vec::new();
        push_parts(&mut parts, path)?;
        while let Some(part) = parts.pop() {
            let attr = self.view.lookup(at, OsStr::new(&part))?;
            match attr.kind {
                NodeKind::Symlink if links == LINKS => return Err(not_found()),
                NodeKind::Symlink => {
                    links += 1;
                    push_parts(&mut parts, &self.view.readlink(attr.ino)?)?;
                }
                NodeKind::Directory | NodeKind::File => at = attr.ino,
            }
        }
        Ok(at)
    }

    /// Finds the directory of a path; returns it and the last name.
    ///
    /// # Errors
    /// As [`Paths::stat`]; `Invalid` for the root.
    pub fn parent<'p>(&self, path: &'p str) -> Result<(Ino, &'p OsStr)> {
        let path = path.trim_end_matches('/');
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if matches!(name, "" | "." | "..") {
            return Err(Error::new(Kind::Invalid, "a path ends in a name"));
        }
        Ok((self.find(parent)?, OsStr::new(name)))
    }

    /// Finds the node that has a path, or the place where one could be made.
    fn end<'p>(&self, path: &'p str) -> Result<PathEnd<'p>> {
        let (parent, name) = self.parent(path)?;
        match self.view.lookup(parent, name) {
            Ok(attr) => Ok(PathEnd::Node(attr)),
            Err(error) if error.kind() == Kind::NotFound => Ok(PathEnd::Free(parent, name)),
            Err(error) => Err(error),
        }
    }

    /// The file at the end of a path whose last node is known.
    fn file_at(&self, path: &str, last: &Attr) -> Result<Ino> {
        match last.kind {
            NodeKind::Directory => Err(Error::new(Kind::IsDirectory, "it is a directory")),
            NodeKind::Symlink => self.find(path),
            NodeKind::File => Ok(last.ino),
        }
    }
}

/// The end of a path.
enum PathEnd<'p> {
    /// A node has the path; a link is not followed.
    Node(Attr),
    /// Its directory and its name, which nothing has.
    Free(Ino, &'p OsStr),
}

/// Pushes the parts of a path on a stack, the first one on top.
fn push_parts(parts: &mut Vec<String>, path: &str) -> Result<()> {
    for part in path.split('/').rev() {
        match part {
            "" | "." => {}
            ".." => return Err(Error::new(Kind::Invalid, "paths here have no `..`")),
            part => parts.push(part.to_owned()),
        }
    }
    Ok(())
}

/// An open file of [`Paths::open`].
pub struct OpenPath<'a> {
    view: &'a View,
    caller: Caller,
    /// Given back when this is dropped.
    handle: HandleId,
}

impl OpenPath<'_> {
    /// Reads up to `size` bytes from `offset`; fewer at the end of the file.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn read(&self, offset: u64, size: usize) -> Result<Zeroizing<Vec<u8>>> {
        self.view.read(self.handle, offset, size)
    }

    /// Writes at an offset; at the end if it was opened for appending.
    ///
    /// # Errors
    /// As [`View::write`].
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.view.write(self.handle, offset, data, false)
    }

    /// Publishes what is unsaved and makes it durable.
    ///
    /// # Errors
    /// As [`View::fsync`].
    pub fn sync(&self) -> Result<()> {
        self.view.fsync(self.handle)
    }

    /// Publishes what is unsaved, as closing one of several descriptors does.
    ///
    /// # Errors
    /// As [`View::flush`].
    pub fn flush(&self) -> Result<()> {
        self.view.flush(self.handle, self.caller)
    }

    /// Publishes unsaved changes and closes the file. A new or emptied file is published as well,
    /// unless another program still has it open for writing.
    ///
    /// # Errors
    /// As [`View::flush`]: then it stays a draft, which is tried again and rescued like any other.
    pub fn close(self) -> Result<()> {
        let flushed = self.flush();
        let closed = self.view.give_back(self.keep());
        flushed.and(closed)
    }

    /// Gives the handle to the caller, who releases it ([`View::release`]).
    pub fn keep(self) -> HandleId {
        ManuallyDrop::new(self).handle
    }
}

impl Drop for OpenPath<'_> {
    fn drop(&mut self) {
        self.view.release(self.handle);
    }
}
