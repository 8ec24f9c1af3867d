//! What somebody with access to a store puts there.

use dds::ids::{BlobKind, BlobName};

use super::oracle::{Members, Record};
use super::people::NAMES;
use super::run::World;
use super::steps::{Attack, Nth};
use super::syncer::FileId;
use crate::support::people::{Blob, Person};

impl World<'_> {
    /// A file that is to be put into a store, if there is anything to make it of.
    pub fn weapon(&mut self, what: Attack, nth: Nth) -> Option<(FileId, Vec<u8>)> {
        let count = self.count;
        match what {
            Attack::OtherName => {
                let (file, bytes) = self.oracle.nth_file(nth)?;
                let (folder, _) = file.split_once('/').unwrap();
                Some((format!("{folder}/letter {count}.asc"), bytes.clone()))
            }
            Attack::OtherFolder => {
                let (file, bytes) = self.oracle.nth_file(nth)?;
                let (folder, name) = file.split_once('/').unwrap();
                let other = match folder {
                    "notes" => "messages",
                    _ => "notes",
                };
                Some((format!("{other}/{name}"), bytes.clone()))
            }
            Attack::Garbage => {
                let bytes = format!("no message {count}").into_bytes();
                Some((format!("notes/{count}.asc"), bytes))
            }
            Attack::Truncated => {
                let (file, bytes) = self.oracle.nth_file(nth)?;
                let (folder, _) = file.split_once('/').unwrap();
                let part = bytes[..bytes.len() * 3 / 4].to_vec();
                Some((format!("{folder}/part {count}.asc"), part))
            }
            Attack::Stranger => {
                let members = self.area(nth);
                let record = self.forgery(nth, &members, "mallory");
                self.forge(record, &members)
            }
            Attack::Outsider => {
                let members = self.area(nth);
                let outsider = NAMES.into_iter().find(|name| !members.contains(name))?;
                // For one reader alone it is a message from its signer, as sq makes it.
                if members.len() < 2 {
                    return None;
                }
                let record = self.forgery(nth, &members, outsider);
                self.forge(record, &members)
            }
            Attack::Forwarded => {
                let members = self.area(nth);
                let signer = *members.first()?;
                let outsider = NAMES.into_iter().find(|name| !members.contains(name))?;
                let record = self.forgery(nth, &members, signer);
                self.forge(record, &Members::from([outsider]))
            }
            Attack::StolenDocument => self.stolen(nth),
        }
    }

    fn area(&self, nth: Nth) -> Members {
        self.areas[nth % self.areas.len()].1.clone()
    }

    /// A forgery: no reader can take it for genuine.
    fn forgery(&self, nth: Nth, members: &Members, signer: &'static str) -> Record {
        let kind = match self.areas[nth % self.areas.len()].0 {
            "notes" => BlobKind::Note,
            _ => BlobKind::Message,
        };
        Record {
            content: format!("forged {}", self.count),
            kind,
            members: members.clone(),
            path: "a.md".to_owned(),
            doc: None,
            signer,
            reader: None,
            replaces: Vec::new(),
            proven: false,
            excuse: None,
        }
    }

    /// What names a document of others, and is another one: of another audience, or, among
    /// messages, by another writer.
    fn stolen(&mut self, nth: Nth) -> Option<(FileId, Vec<u8>)> {
        let (file, bytes) = self.oracle.nth_file(nth)?;
        let victim = self.oracle.records.get(&BlobName::of(bytes))?.clone();
        // What is stolen back is a new version by its own writer, which replaces.
        let is_stolen = victim.content.starts_with("forged");
        if is_stolen || !victim.proven || !file.ends_with(".asc") {
            return None;
        }
        let areas = self.areas.iter();
        let mut others = areas.filter(|(folder, m)| *folder == "notes" && *m != victim.members);
        let other = others.next().map(|(_, members)| members.clone());
        let (kind, members, signer) = match (victim.kind, other) {
            (BlobKind::Message, _) if victim.members.len() == 2 => {
                let mut writers = victim.members.iter();
                let writer = *writers.find(|name| **name != victim.signer)?;
                (BlobKind::Message, victim.members.clone(), writer)
            }
            (BlobKind::Note, Some(members)) => {
                let writer = *members.first()?;
                (BlobKind::Note, members, writer)
            }
            _ => return None,
        };
        let reader = members.iter().copied().find(|name| *name != signer);
        let mut replaces = vec![BlobName::of(bytes)];
        replaces.extend(&victim.replaces);
        let record = Record {
            content: format!("forged {}", self.count),
            kind,
            members: members.clone(),
            path: victim.path,
            doc: victim.doc,
            signer,
            reader: reader.filter(|_| kind == BlobKind::Message),
            replaces,
            // It is what its writer says, and does nothing to what he names.
            proven: true,
            excuse: None,
        };
        self.forge(record, &members)
    }

    /// Makes a blob with the facts of the record, encrypted to somebody.
    fn forge(&mut self, record: Record, to: &Members) -> Option<(FileId, Vec<u8>)> {
        let cast = self.cast;
        let signer: &Person = match record.signer {
            "mallory" => &cast.stranger,
            name => cast.of(name),
        };
        let to: Vec<&Person> = to.iter().map(|name| cast.of(name)).collect();
        let mut blob =
            Blob::new(record.kind, signer, &to, &record.path).content(record.content.as_bytes());
        let key = |name: &&'static str| cast.of(name).fingerprint();
        blob.intended = record.members.iter().map(key).collect();
        if record.doc.is_some() {
            blob.notations.doc = record.doc;
        }
        blob.notations.copy = record.reader.as_ref().map(key);
        blob.notations.replaces.clone_from(&record.replaces);
        let bytes = blob.seal();
        let name = BlobName::of(&bytes);
        let file = format!("{}/{}", record.folder(), name.file_name());
        let doc = blob.notations.doc;
        self.oracle.records.insert(name, Record { doc, ..record });
        Some((file, bytes))
    }
}
