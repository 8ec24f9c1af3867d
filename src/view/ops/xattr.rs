//! Read-only extended attributes: what the signature and the store say of a file.

use std::ffi::OsStr;

use crate::error::{Error, Kind, Result, printable};
use crate::ids::Folder;
use crate::vault::{Head, Version};
use crate::view::View;
use crate::view::rules::not_found;
use crate::view::tree::{Ino, NodeData, Shown};

const PREFIX: &str = "user.dds.";

impl View {
    /// Returns the names of a node's extended attributes.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn xattr_names(&self, ino: Ino) -> Result<Vec<String>> {
        let attributes = self.attributes(ino)?.into_iter();
        Ok(attributes
            .map(|(name, _)| format!("{PREFIX}{name}"))
            .collect())
    }

    /// Returns an extended attribute.
    ///
    /// # Errors
    /// `NoAttribute`; `NotFound`.
    pub fn xattr(&self, ino: Ino, name: &OsStr) -> Result<String> {
        let wanted = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let attributes = self.attributes(ino)?.into_iter();
        attributes
            .filter(|(name, _)| Some(*name) == wanted)
            .map(|(_, value)| value)
            .next()
            .ok_or_else(|| Error::new(Kind::NoAttribute, "no such attribute"))
    }

    fn attributes(&self, ino: Ino) -> Result<Vec<(&'static str, String)>> {
        let shown = {
            let tree = self.tree();
            match &tree.get(ino).ok_or_else(not_found)?.data {
                NodeData::File(_) => tree.shown(ino).cloned(),
                NodeData::Dir(_) | NodeData::Alias(_) => None,
            }
        };
        let Some(Shown {
            head: Some(head),
            is_conflict,
            ..
        }) = shown
        else {
            return Ok(Vec::new());
        };
        Ok(self.document_attributes(&head, is_conflict))
    }

    fn document_attributes(&self, head: &Head, is_conflict: bool) -> Vec<(&'static str, String)> {
        let people = self.vault.people();
        let version: &Version = &head.version;
        let mut attributes = vec![
            ("blob", version.blob.to_string()),
            ("signature", version.vouched.name().to_owned()),
        ];
        if let Some(reason) = &version.reason {
            attributes.push(("reason", printable(reason)));
        }
        if let Some(signer) = &version.signer {
            attributes.push(("from", people.name(signer)));
        }
        if let Some(audience) = version.audience() {
            let addressee = if version.addressee_proven {
                "proven"
            } else {
                "unproven"
            };
            attributes.push(("addressee", addressee.to_owned()));
            let mut names: Vec<_> = audience.members().map(|key| people.name(key)).collect();
            names.sort();
            names.push("me".to_owned());
            attributes.push(("to", names.join(",")));
        }
        if version.mine && version.folder() == Folder::Messages {
            let left = head.blobs().filter_map(|copy| copy.reader.as_ref());
            let mut names: Vec<_> = left.map(|key| people.name(key)).collect();
            names.sort();
            names.dedup();
            attributes.push(("pending", names.join(",")));
        }
        if is_conflict {
            attributes.push(("conflict", "yes".to_owned()));
        }
        attributes
    }
}
