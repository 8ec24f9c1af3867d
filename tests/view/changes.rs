//! Readers of a vault's changes: each has its own place, and one that lags compares everything.

use std::ffi::OsStr;
use std::sync::Arc;

use crate::support::people::{Blob, Person};
use crate::support::rig::Cast;
use dds::contacts::Contacts;
use dds::ids::{BlobKind, Folder, Timestamp};
use dds::openpgp::Identity;
use dds::plaintext::Plaintext;
use dds::state::State;
use dds::store::{FileName, MemoryStore, Store as _};
use dds::vault::{self, Audience, ChangeReader, Changes, Vault};
use dds::view::{self, Ino, View};

fn vault_of(me: &Person, store: &Arc<MemoryStore>, change_log: usize) -> Vault {
    let me = Identity::unlock(&me.secret, None).unwrap();
    let options = vault::Options {
        change_log,
        ..vault::Options::default()
    };
    let (state, contacts) = (State::in_memory(), Contacts::in_memory());
    Vault::open(Arc::clone(store) as _, state, vec![me], contacts, options).unwrap()
}

/// A note of mine arrives from another device.
fn arrive(store: &MemoryStore, me: &Person, path: &str) -> FileName {
    let note = Blob::new(BlobKind::Note, me, &[me], path).content(path.as_bytes());
    let name = FileName::new(format!("{path}.asc")).unwrap();
    store.arrive(Folder::Notes, &name, &note.seal());
    name
}

/// The paths of the documents that a reader is given; those of documents that are gone are empty.
fn paths(changes: Changes) -> Vec<String> {
    let Changes::Changed(changed) = changes else {
        panic!("the reader was told that it lags");
    };
    let mut paths: Vec<String> = changed
        .into_iter()
        .map(|(_, document)| {
            let heads = document.map(|one| one.heads()).unwrap_or_default();
            let path = heads.first().and_then(|head| head.version.path.clone());
            String::from_utf8(path.unwrap_or_default()).unwrap()
        })
        .collect();
    paths.sort();
    paths
}

#[test]
fn two_readers_are_each_given_every_change() {
    let cast = Cast::new();
    let store = Arc::new(MemoryStore::new());
    let vault = vault_of(&cast.me, &store, 100);
    let (mut one, mut two) = (ChangeReader::default(), ChangeReader::default());
    let first = arrive(&store, &cast.me, "first");
    vault.refresh().unwrap();
    assert_eq!(paths(vault.changes(&mut one)), ["first"]);
    assert!(paths(vault.changes(&mut one)).is_empty());
    arrive(&store, &cast.me, "second");
    store.remove(Folder::Notes, &first).unwrap();
    vault.refresh().unwrap();
    assert_eq!(paths(vault.changes(&mut one)), ["", "second"]);
    assert_eq!(paths(vault.changes(&mut two)), ["", "second"]);
    assert!(paths(vault.changes(&mut one)).is_empty());
    assert!(paths(vault.changes(&mut two)).is_empty());
}

#[test]
fn a_publication_is_given_to_every_reader_after_its_publisher_recorded_it() {
    let cast = Cast::new();
    let store = Arc::new(MemoryStore::new());
    let vault = vault_of(&cast.me, &store, 100);
    let (mut one, mut two) = (ChangeReader::default(), ChangeReader::default());
    let content = Plaintext::from(&b"mine"[..]);
    let published = vault.publish(&vault::Publication {
        kind: BlobKind::Note,
        audience: &Audience::me(),
        path: "mine",
        doc: vault.new_doc_id(),
        replaces: &[],
        content: &content,
        mtime: Timestamp::now(),
        mode: None,
    });
    assert!(paths(vault.changes(&mut one)).is_empty());
    drop(published.unwrap());
    assert_eq!(paths(vault.changes(&mut one)), ["mine"]);
    assert_eq!(paths(vault.changes(&mut two)), ["mine"]);
    assert!(paths(vault.changes(&mut one)).is_empty());
}

#[test]
fn a_view_that_lags_shows_what_arrived_and_takes_out_what_is_gone() {
    let cast = Cast::new();
    let store = Arc::new(MemoryStore::new());
    let stays = arrive(&store, &cast.me, "stays");
    let goes = arrive(&store, &cast.me, "goes");
    // The changes of a single look do not fit into the log.
    let view = View::new(vault_of(&cast.me, &store, 1), view::Options::default()).unwrap();
    let find = |parent, name: &str| view.lookup(parent, OsStr::new(name)).map(|attr| attr.ino);
    let home = find(find(Ino::ROOT, "notes").unwrap(), "me").unwrap();
    let names = || {
        let mut names = view.list(home).unwrap();
        names.retain(|entry| entry.name != "." && entry.name != "..");
        let mut names: Vec<_> = names.into_iter().map(|entry| entry.name).collect();
        names.sort();
        names
    };
    view.refresh().unwrap();
    assert_eq!(names(), ["goes", "stays"]);
    let inode = find(home, "stays").unwrap();
    store.remove(Folder::Notes, &goes).unwrap();
    for new in ["a", "b", "c"] {
        arrive(&store, &cast.me, new);
    }
    view.refresh().unwrap();
    assert_eq!(names(), ["a", "b", "c", "stays"]);
    assert_eq!(find(home, "stays").unwrap(), inode);
    store.remove(Folder::Notes, &stays).unwrap();
    arrive(&store, &cast.me, "d");
    view.refresh().unwrap();
    assert_eq!(names(), ["a", "b", "c", "d"]);
}
