//! What other people and my other devices do to the store.

use std::fs;
use std::time::SystemTime;

use dds::ids::{BlobKind, BlobName, Folder, Timestamp};

use super::documents::{Key, Version, Vid, Who};
use super::reference::{Node, Role, area, split};
use super::steps::{Sooner, Stays, Step};
use super::world::{World, other};
use crate::support::people::{Blob, Person, deliver};
use crate::support::rig::Rig as _;

/// Takes a step of theirs, or nothing if there is nothing to do it to.
pub fn take(world: &mut World<'_>, step: Step, at: &str, to: &str) {
    match step {
        Step::Deliver(_) | Step::DeliverDir(_) => {
            let signer = other(at);
            let marker = matches!(step, Step::DeliverDir(_));
            let message = at.starts_with("messages/");
            if marker && message {
                return;
            }
            let key = Key {
                area: area(at).0.to_owned(),
                marker,
                doc: world.model.docs.new_doc(),
                signer: message.then_some(signer),
            };
            arrive(world, key, signer, area(at).1, Vec::new(), world.later());
        }
        Step::Edit(_, stays) => {
            if let Some((key, head)) = shown(world, at) {
                let path = world.model.docs.all[head[0]].path.clone();
                replace(world, key, &head, &path, stays);
            }
        }
        Step::Move(..) if area(at).0 == area(to).0 => {
            if let Some((key, head)) = shown(world, at) {
                replace(world, key, &head, area(to).1, Stays::Gone);
            }
        }
        Step::Diverge(_, sooner) => {
            if let Some((key, head)) = shown(world, at).filter(|(key, _)| !key.is_message()) {
                let version = world.model.docs.all[head[0]].clone();
                let created = match sooner {
                    Sooner::Before => world.begun,
                    Sooner::After => world.later(),
                };
                let signer = other(at);
                arrive(world, key, signer, &version.path, version.replaces, created);
            }
        }
        Step::Vanish(_) => {
            if let Some((_, head)) = shown(world, at) {
                // Nobody removes a version that they have not seen, nor the versions that it
                // replaced.
                world.settle();
                vanish(world, head[0], 1);
            }
        }
        Step::Return(nth) => bring_back(world, nth),
        _ => {}
    }
    world.model.refresh();
}

/// The document shown at a path.
fn shown(world: &World<'_>, at: &str) -> Option<(Key, Vec<Vid>)> {
    match &world.model.nodes[world.model.names.get(at)?] {
        Node::File(file) => match &file.role {
            Role::Document {
                key,
                head: Some(head),
                ..
            } => Some((key.clone(), head.clone())),
            _ => None,
        },
        Node::Dir { .. } => None,
    }
}

fn replace(world: &mut World<'_>, key: Key, head: &[Vid], path: &str, stays: Stays) {
    // A stale node may show a blob that is no longer there.
    let replaces = world.model.docs.ancestry(head);
    let signer = key.signer.unwrap_or_else(|| other(&key.area));
    arrive(world, key, signer, path, replaces, world.later());
    if stays == Stays::Gone {
        for vid in head {
            vanish(world, *vid, usize::MAX);
        }
    }
}

fn vanish(world: &mut World<'_>, vid: Vid, most: usize) {
    let version = &mut world.model.docs.all[vid];
    let most = most.min(version.blobs.len());
    for blob in version.blobs.drain(..most) {
        let folder = world.rig.store().join(split(&version.key.area).0);
        // What a draft is based on may be gone already.
        let _ = fs::remove_file(folder.join(blob.file_name()));
    }
    version.present &= !version.blobs.is_empty();
}

fn folder(key: &Key) -> Folder {
    match key.is_message() {
        true => Folder::Messages,
        false => Folder::Notes,
    }
}

fn arrive(
    world: &mut World<'_>,
    key: Key,
    signer: Who,
    path: &str,
    replaces: Vec<Vid>,
    created: SystemTime,
) {
    let cast = world.cast;
    let kind = match (key.marker, key.is_message()) {
        (true, _) => BlobKind::Directory,
        (false, true) => BlobKind::Message,
        (false, false) => BlobKind::Note,
    };
    let mut members: Vec<&Person> = vec![&cast.me];
    for (name, person) in [("bob", &cast.bob), ("carol", &cast.carol)] {
        members.extend(key.area.contains(name).then_some(person));
    }
    let from = match signer {
        Who::Me => &cast.me,
        Who::Bob => &cast.bob,
    };
    let bytes = if key.marker {
        Vec::new()
    } else {
        world.bytes()
    };
    if signer == Who::Bob {
        world.model.made.remove(&key);
    }
    let doc = world.doc_id(key.doc);
    let docs = &mut world.model.docs;
    let vid = docs.all.len();
    docs.all.push(Version {
        key: key.clone(),
        path: path.to_owned(),
        bytes: bytes.clone(),
        mode: 6,
        replaces: replaces.clone(),
        present: true,
        blobs: Vec::new(),
        created: Timestamp::from(created).seconds(),
    });
    // Of bob's message I get my copy; mine has one for each of the others.
    let readers: Vec<Option<&Person>> = match (kind, signer) {
        (BlobKind::Message, Who::Bob) => vec![Some(&cast.me)],
        (BlobKind::Message, Who::Me) => members[1..].iter().map(|reader| Some(*reader)).collect(),
        _ => vec![None],
    };
    for reader in readers {
        let to: Vec<&Person> = match reader {
            Some(reader) => vec![reader, from],
            None => members.clone(),
        };
        let mut blob = Blob::new(kind, from, &to, path).content(&bytes);
        blob.intended = members.iter().map(|person| person.fingerprint()).collect();
        blob.notations.doc = Some(doc);
        blob.notations.copy = reader.map(Person::fingerprint);
        blob.notations.replaces = names(world, &replaces);
        blob.created = Some(created);
        let sealed = blob.seal();
        let name = deliver(world.rig.store(), folder(&key), &sealed);
        world.archive.insert(name, sealed);
        world.seen.push((name, vid));
        world.model.docs.all[vid].blobs.push(name);
    }
}

fn names(world: &World<'_>, replaces: &[Vid]) -> Vec<BlobName> {
    let of = |vid: &Vid| {
        let seen = world.seen.iter().filter(|(_, of)| of == vid);
        seen.map(|(blob, _)| *blob).collect::<Vec<_>>()
    };
    replaces.iter().flat_map(of).collect()
}

/// A peer that was away brings the files that it had.
fn bring_back(world: &mut World<'_>, nth: usize) {
    let docs = &world.model.docs;
    let gone: Vec<_> = world
        .seen
        .iter()
        .filter(|(blob, vid)| !docs.all[*vid].blobs.contains(blob) || !docs.all[*vid].present)
        .filter(|(_, vid)| !docs.unsettled.contains(vid))
        // A copy that its reader removed is named by no later version of mine.
        .filter(|(_, vid)| docs.all[*vid].key.copies() == 1)
        .copied()
        .collect();
    let Some((blob, vid)) = gone.get(nth % gone.len().max(1)).copied() else {
        return;
    };
    let folder = folder(&docs.all[vid].key);
    deliver(world.rig.store(), folder, &world.archive[&blob]);
    let removed = docs.ledger.contains(&vid);
    let version = &mut world.model.docs.all[vid];
    if !version.present {
        version.blobs.clear();
    }
    // A message that I removed is removed again.
    if !removed {
        version.present = true;
        version.blobs.push(blob);
    }
}
