//! Read-only extended attributes: the facts that the signature and the store give about a file.

use std::ffi::OsStr;

use crate::error::{Error, Kind, Result, printable};
use crate::view::View;
use crate::view::facts::Facts;
use crate::view::tree::Ino;

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
        Ok(self.facts(ino)?.map(attributes_of).unwrap_or_default())
    }
}

fn attributes_of(facts: Facts) -> Vec<(&'static str, String)> {
    let mut attributes = vec![
        ("blob", facts.blob.to_string()),
        ("signature", facts.signature.name().to_owned()),
    ];
    if let Some(reason) = facts.reason {
        attributes.push(("reason", printable(&reason)));
    }
    if let Some(from) = facts.from {
        attributes.push(("from", from.name));
    }
    if let Some(readers) = facts.audience {
        let addressee = match readers.proven {
            true => "proven",
            false => "unproven",
        };
        attributes.push(("addressee", addressee.to_owned()));
        attributes.push(("to", readers.names.join(",")));
    }
    if let Some(pending) = facts.pending {
        attributes.push(("pending", pending.join(",")));
    }
    if facts.is_conflict {
        attributes.push(("conflict", "yes".to_owned()));
    }
    attributes
}
