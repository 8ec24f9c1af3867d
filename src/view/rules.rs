//! Rules about names, places and versions that several operations share, and their errors.

use std::ffi::OsStr;

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobKind, Folder};
use crate::vault::{Audience, Version};
use crate::view::tree::names::{self, NAME_MAX, PATH_LIMIT};
use crate::view::tree::{FileRole, Ino, Role, Shown};
use crate::view::{Caller, Tree, View};

impl View {
    /// Refuses a new name that looks like another one there, but for a file's own name.
    pub(in crate::view) fn check_unlike(
        &self,
        parent: Ino,
        name: &OsStr,
        own: Option<Ino>,
    ) -> Result<()> {
        let alike = self.tree().look_alike(parent, name);
        if alike.is_none() || alike == own {
            return Ok(());
        }
        let rule = "a name that looks the same is there: they differ in invisible characters only";
        Err(Error::new(Kind::Invalid, rule))
    }

    /// Says why a node is not listed.
    pub(in crate::view) fn not_a_directory(&self, tree: &Tree, ino: Ino) -> Error {
        match tree.get(ino) {
            Some(_) => Error::new(Kind::NotDirectory, "not a directory"),
            None => not_found(),
        }
    }
}

pub(in crate::view) fn not_found() -> Error {
    Error::new(Kind::NotFound, "no such file or directory")
}

pub(in crate::view) fn exists() -> Error {
    Error::new(Kind::Exists, "it exists already")
}

/// Checks the rules of a version itself.
pub(in crate::view) fn writable_version(version: &Version) -> Result<()> {
    if version.audience().is_none() {
        let rule = "unverified/ is only for reading and removing";
        return Err(Error::new(Kind::Forbidden, rule));
    }
    if version.is_received() {
        return Err(Error::new(
            Kind::ReadOnlyFile,
            "a received message is never changed",
        ));
    }
    if version.newer_format {
        let newer = "it was made by a newer version of DDS";
        return Err(Error::new(Kind::ReadOnlyFile, newer));
    }
    Ok(())
}

/// Checks that there may be such a long name anywhere.
pub(in crate::view) fn check_length(name: &OsStr) -> Result<()> {
    match name.len() > NAME_MAX {
        true => Err(Error::new(
            Kind::NameTooLong,
            "a name has at most 255 bytes",
        )),
        false => Ok(()),
    }
}

/// Checks a name that somebody wants to give to a file or directory.
pub(in crate::view) fn check_new_name(name: &OsStr) -> Result<&str> {
    check_length(name)?;
    let shown = name.to_str().filter(|name| names::is_safe(name));
    let Some(name) = shown else {
        let rule = "names are UTF-8 without control, invisible or bidirectional characters \
                    (joiners are kept in words that are spelled with them)";
        return Err(Error::new(Kind::Invalid, rule));
    };
    if names::is_trash(name) {
        let rule = "there is no trash here: delete for real";
        return Err(Error::new(Kind::Forbidden, rule));
    }
    Ok(name)
}

pub(in crate::view) fn check_path(path: &str) -> Result<()> {
    if path.len() > PATH_LIMIT {
        return Err(Error::new(
            Kind::NameTooLong,
            "a path has at most 4096 bytes",
        ));
    }
    Ok(())
}

/// The kind of a file in a folder.
pub(in crate::view) fn file_kind(folder: Folder) -> BlobKind {
    match folder {
        Folder::Messages => BlobKind::Message,
        Folder::Notes => BlobKind::Note,
    }
}

/// Owner's permission bits of a published document.
pub(in crate::view) fn document_mode(version: &crate::vault::Version) -> u32 {
    let unverified = version.audience().is_none();
    if version.is_received() || unverified {
        0o4
    } else {
        version.mode.unwrap_or(0o6)
    }
}

/// Says why files cannot be made in a directory.
pub(in crate::view) fn no_files_here(role: &Role) -> Error {
    let rule = match role {
        Role::Root => "files go into messages/NAME/ or notes/NAME/",
        Role::Folder(Folder::Messages) => "messages go into messages/NAME/",
        Role::Folder(Folder::Notes) => "notes go into notes/NAME/ or notes/me/",
        Role::Unverified(_) => "unverified/ is only for reading and removing",
        Role::Dds | Role::Rescued => return dds_is_read_only(),
        Role::Software(_) => return software_is_read_only(),
        Role::Keys => "keys/ takes certificates only",
        Role::Audience(..) | Role::Sub(..) => return messages_are_flat(),
    };
    Error::new(Kind::Forbidden, rule)
}

pub(in crate::view) fn dds_is_read_only() -> Error {
    Error::new(Kind::Forbidden, ".dds/ is only for reading")
}

pub(in crate::view) fn software_is_read_only() -> Error {
    Error::new(Kind::ReadOnlyTree, "software/ is read-only here")
}

pub(in crate::view) fn messages_are_flat() -> Error {
    let rule = "messages/NAME/ has no directories; use notes/NAME/";
    Error::new(Kind::Forbidden, rule)
}

/// Refuses roles of files that nobody writes.
pub(in crate::view) fn check_role(role: &FileRole) -> Result<()> {
    match role {
        FileRole::Software(_) => Err(software_is_read_only()),
        FileRole::Status | FileRole::Errors | FileRole::Rescued(_) => Err(dds_is_read_only()),
        FileRole::Document(_) | FileRole::Scratch | FileRole::Backup(..) | FileRole::Key(_) => {
            Ok(())
        }
    }
}

/// Checks every rule of the view that can forbid writing to a file, whose owner's permission bits
/// are `mode`. Returns the audience whose keys must be usable, if there is one to be checked.
pub(in crate::view) fn check_writable(
    role: &FileRole,
    mode: u32,
    caller: Caller,
) -> Result<Option<Audience>> {
    check_role(role)?;
    let FileRole::Document(Shown {
        head: Some(head), ..
    }) = role
    else {
        return Ok(None); // A draft: its audience was checked when it was made.
    };
    let version = &head.version;
    writable_version(version)?;
    if mode & 0o2 == 0 && !caller.is_root {
        return Err(Error::new(Kind::ReadOnlyFile, "its mode forbids writing"));
    }
    Ok(version.audience().cloned())
}
