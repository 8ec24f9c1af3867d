//! Renaming, on both rigs: editors' backups and replacements, directory trees, and refusals.

use std::ffi::OsStr;
use std::fs;
use std::sync::Arc;

use crate::support::people::{Blob, blobs, deliver};
use crate::support::rig::{Cast, InProcess, Rig, on_both};
use dds::contacts::Contacts;
use dds::error::Kind;
use dds::ids::{BlobKind, BlobName, Folder};
use dds::openpgp::Identity;
use dds::state::{Intent, State};
use dds::store::{MemoryStore, Store as _};
use dds::vault::{self, Vault};
use dds::view::{self, Access, Caller, Ino, RenameMode, View};

/// The one blob of the notes, once everything is settled.
fn only_note(rig: &dyn Rig) -> String {
    rig.settle();
    let names = blobs(rig.store(), Folder::Notes);
    assert_eq!(names.len(), 1, "{names:?}");
    names[0].clone()
}

#[test]
fn a_file_renamed_within_its_audience_keeps_content_and_has_one_blob() {
    on_both(|rig, _| {
        rig.write("notes/bob/a.md", b"text").unwrap();
        let before = only_note(rig);
        rig.rename("notes/bob/a.md", "notes/bob/b.md").unwrap();
        assert_ne!(only_note(rig), before);
        assert_eq!(rig.list("notes/bob").unwrap(), ["b.md"]);
        rig.remount();
        assert_eq!(rig.read("notes/bob/b.md").unwrap(), b"text");
        assert_eq!(rig.list("notes/bob").unwrap(), ["b.md"]);
    });
}

#[test]
fn vim_s_backup_by_rename_makes_one_new_version() {
    on_both(|rig, _| {
        rig.write("notes/bob/plan.md", b"one").unwrap();
        let before = only_note(rig);
        rig.rename("notes/bob/plan.md", "notes/bob/plan.md~")
            .unwrap();
        assert_eq!(rig.read("notes/bob/plan.md~").unwrap(), b"one");
        // The blob stays until a replacement is published.
        assert_eq!(only_note(rig), before);
        rig.write("notes/bob/plan.md", b"two").unwrap();
        assert_ne!(only_note(rig), before);
        rig.remove("notes/bob/plan.md~").unwrap();
        assert_eq!(rig.list("notes/bob").unwrap(), ["plan.md"]);
        rig.remount();
        assert_eq!(rig.list("notes/bob").unwrap(), ["plan.md"]);
        assert_eq!(rig.read("notes/bob/plan.md").unwrap(), b"two");
    });
}

#[test]
fn a_backup_comes_back_if_nothing_replaces_it() {
    on_both(|rig, _| {
        rig.write("notes/bob/plan.md", b"one").unwrap();
        let before = only_note(rig);
        rig.rename("notes/bob/plan.md", "notes/bob/plan.md~")
            .unwrap();
        assert_eq!(rig.list("notes/bob").unwrap(), ["plan.md~"]);
        rig.rename("notes/bob/plan.md~", "notes/bob/plan.md")
            .unwrap();
        assert_eq!(only_note(rig), before);
        assert_eq!(rig.read("notes/bob/plan.md").unwrap(), b"one");
        // Nor does a crash lose it.
        rig.rename("notes/bob/plan.md", "notes/bob/plan.md~")
            .unwrap();
        rig.remount();
        assert_eq!(rig.list("notes/bob").unwrap(), ["plan.md"]);
        assert_eq!(rig.read("notes/bob/plan.md").unwrap(), b"one");
    });
}

#[test]
fn scratch_renamed_over_a_document_takes_over_its_identity() {
    on_both(|rig, _| {
        rig.write("notes/bob/plan.md", b"one").unwrap();
        only_note(rig);
        rig.write("notes/bob/.goutputstream-Q1W2E3", b"two")
            .unwrap();
        rig.rename("notes/bob/.goutputstream-Q1W2E3", "notes/bob/plan.md")
            .unwrap();
        assert_eq!(rig.read("notes/bob/plan.md").unwrap(), b"two");
        only_note(rig);
        rig.remount();
        assert_eq!(rig.read("notes/bob/plan.md").unwrap(), b"two");
    });
}

#[test]
fn a_document_renamed_over_another_leaves_one_blob_of_both() {
    on_both(|rig, _| {
        rig.write("notes/bob/old.md", b"old").unwrap();
        rig.write("notes/bob/new.tmp", b"new").unwrap();
        rig.rename("notes/bob/new.tmp", "notes/bob/old.md").unwrap();
        only_note(rig);
        assert_eq!(rig.list("notes/bob").unwrap(), ["old.md"]);
        assert_eq!(rig.read("notes/bob/old.md").unwrap(), b"new");
        rig.remount();
        assert_eq!(rig.list("notes/bob").unwrap(), ["old.md"]);
        assert_eq!(rig.read("notes/bob/old.md").unwrap(), b"new");
    });
}

#[test]
fn a_foreign_note_is_replaced_by_name_as_well() {
    on_both(|rig, cast| {
        let mut foreign = Blob::new(BlobKind::Note, &cast.bob, &[&cast.me], "plan.md");
        foreign.notations = dds::openpgp::Notations::default();
        foreign.intended.clear();
        foreign
            .content(b"by gpg")
            .deliver(rig.store(), Folder::Notes);
        assert_eq!(rig.read("notes/bob/plan.md").unwrap(), b"by gpg");
        rig.rename("notes/bob/plan.md", "notes/bob/plan.md~")
            .unwrap();
        rig.write("notes/bob/plan.md", b"by vim").unwrap();
        rig.remove("notes/bob/plan.md~").unwrap();
        assert_eq!(rig.list("notes/bob").unwrap(), ["plan.md"]);
        only_note(rig);
        rig.append("notes/bob/plan.md", b", twice").unwrap();
        assert_eq!(rig.list("notes/bob").unwrap(), ["plan.md"]);
        only_note(rig);
        rig.remount();
        assert_eq!(rig.read("notes/bob/plan.md").unwrap(), b"by vim, twice");
    });
}

#[test]
fn a_directory_tree_is_renamed_with_all_that_is_in_it() {
    on_both(|rig, _| {
        rig.mkdir("notes/bob/a").unwrap();
        rig.mkdir("notes/bob/a/b").unwrap();
        rig.mkdir("notes/bob/a/empty").unwrap();
        rig.write("notes/bob/a/b/x", b"1").unwrap();
        rig.write("notes/bob/a/y", b"2").unwrap();
        rig.rename("notes/bob/a", "notes/bob/c").unwrap();
        for _ in 0..2 {
            assert_eq!(rig.list("notes/bob").unwrap(), ["c"]);
            assert_eq!(rig.list("notes/bob/c").unwrap(), ["b", "empty", "y"]);
            assert_eq!(rig.read("notes/bob/c/b/x").unwrap(), b"1");
            rig.remount();
        }
        rig.write("notes/bob/c/b/x", b"3").unwrap();
        rig.mkdir("notes/bob/full").unwrap();
        rig.write("notes/bob/full/z", b"z").unwrap();
        assert_eq!(
            rig.rename("notes/bob/c", "notes/bob/full"),
            Err(libc::ENOTEMPTY)
        );
        assert_eq!(
            rig.rename("notes/bob/c", "notes/bob/c/b/z"),
            Err(libc::EINVAL)
        );
        rig.settle();
        // Three files' and four directories' blobs, none of them left from before.
        assert_eq!(blobs(rig.store(), Folder::Notes).len(), 7);
    });
}

#[test]
fn across_audiences_a_rename_is_exdev() {
    on_both(|rig, cast| {
        rig.write("notes/me/x", b"1").unwrap();
        for to in ["notes/bob/x", "messages/bob/x"] {
            assert_eq!(rig.rename("notes/me/x", to), Err(libc::EXDEV));
        }
        let to = [&cast.me, &cast.bob];
        Blob::new(BlobKind::Message, &cast.bob, &to, "m.txt")
            .deliver(rig.store(), Folder::Messages);
        assert_eq!(
            rig.rename("messages/bob/m.txt", "messages/bob/n.txt"),
            Err(libc::EACCES)
        );
        assert_eq!(
            rig.rename("messages/bob/m.txt", "messages/bob/m.txt~"),
            Err(libc::EACCES)
        );
        assert_eq!(
            rig.rename("messages/bob/m.txt", "notes/me/m.txt"),
            Err(libc::EXDEV)
        );
        rig.write("messages/bob/mine.txt", b"1").unwrap();
        assert_eq!(
            rig.rename("messages/bob/mine.txt", "messages/bob/m.txt"),
            Err(libc::EACCES)
        );
        assert_eq!(rig.rename("keys/one.gpg", "keys/uno.gpg"), Err(libc::EPERM));
        assert_eq!(
            rig.rename("notes/me/x", "notes/me/.Trash-0"),
            Err(libc::EPERM)
        );
        assert_eq!(rig.rename("notes/bob", "notes/dave"), Err(libc::EPERM));
    });
}

#[test]
fn a_document_renamed_over_another_is_gone_with_all_that_it_replaced() {
    on_both(|rig, _| {
        rig.write("notes/me/a", b"old").unwrap();
        let old = only_note(rig);
        let bytes = std::fs::read(rig.store().join("notes").join(&old)).unwrap();
        rig.write("notes/me/a", b"new").unwrap();
        only_note(rig);
        rig.write("notes/me/b", b"other").unwrap();
        rig.settle();
        // As after a crash, and after a peer brought it back.
        deliver(rig.store(), Folder::Notes, &bytes);
        assert_eq!(rig.list("notes/me").unwrap(), ["a", "b"]);
        rig.rename("notes/me/a", "notes/me/b").unwrap();
        // At once: a crash must not bring back what no other document replaces.
        assert_eq!(blobs(rig.store(), Folder::Notes).len(), 1);
        assert_eq!(rig.list("notes/me").unwrap(), ["b"]);
        rig.remount();
        assert_eq!(rig.list("notes/me").unwrap(), ["b"]);
        assert_eq!(rig.read("notes/me/b").unwrap(), b"new");
    });
}

/// A save without a change, as vim makes it, must not leave the document to its backup.
#[test]
fn regression_an_unchanged_save_over_a_backup_keeps_the_document() {
    on_both(|rig, _| {
        rig.write("notes/me/plan.md", b"same").unwrap();
        let before = only_note(rig);
        rig.rename("notes/me/plan.md", "notes/me/plan.md~").unwrap();
        rig.write("notes/me/plan.md", b"same").unwrap();
        rig.remove("notes/me/plan.md~").unwrap();
        assert_eq!(rig.read("notes/me/plan.md").unwrap(), b"same");
        assert_eq!(only_note(rig), before);
        rig.remount();
        assert_eq!(rig.read("notes/me/plan.md").unwrap(), b"same");
    });
}

/// Renamed through a scratch name, a document is not left behind under its old name.
#[test]
fn regression_a_backup_renamed_to_a_third_name_takes_the_document_along() {
    on_both(|rig, _| {
        rig.write("messages/bob/keep.txt", b"text").unwrap();
        rig.rename("messages/bob/keep.txt", "messages/bob/keep.txt~")
            .unwrap();
        rig.rename("messages/bob/keep.txt~", "messages/bob/other.txt")
            .unwrap();
        rig.settle();
        assert_eq!(blobs(rig.store(), Folder::Messages).len(), 1);
        rig.remount();
        assert_eq!(rig.list("messages/bob").unwrap(), ["other.txt"]);
    });
}

/// A download that is held back is its only copy: it is saved at the mount's end at the latest.
#[test]
fn regression_a_failed_rename_forgets_no_draft() {
    let mut rig = InProcess::new(&Cast::new());
    rig.write("notes/me/.goutputstream-A1B2C3", b"a film")
        .unwrap();
    rig.rename("notes/me/.goutputstream-A1B2C3", "notes/me/film.part")
        .unwrap();
    let (notes, away) = (rig.store().join("notes"), rig.store().join("notes-away"));
    fs::rename(&notes, &away).unwrap();
    fs::write(&notes, b"no folder").unwrap();
    rig.rename("notes/me/film.part", "notes/me/film")
        .unwrap_err();
    fs::remove_file(&notes).unwrap();
    fs::rename(&away, &notes).unwrap();
    assert_eq!(rig.view().status().unsaved, ["notes/me/film.part"]);
    rig.remount();
    assert_eq!(rig.read("notes/me/film.part").unwrap(), b"a film");
}

#[test]
fn a_directory_is_renamed_with_all_that_is_in_it_or_not_at_all() {
    let cast = Cast::new();
    let store = Arc::new(MemoryStore::new());
    let me = Identity::unlock(&cast.me.secret, None).unwrap();
    let (state, contacts) = (State::in_memory(), Contacts::in_memory());
    let options = vault::Options::default();
    let vault = Vault::open(Arc::clone(&store) as _, state, vec![me], contacts, options).unwrap();
    let view = View::new(vault, view::Options::default()).unwrap();
    let caller = Caller {
        reader: None,
        is_root: false,
    };
    let access = Access {
        write: true,
        ..Access::default()
    };
    let find = |parent, name: &str| view.lookup(parent, OsStr::new(name)).unwrap().ino;
    let home = find(find(Ino::ROOT, "notes"), "me");
    let old = view.mkdir(home, OsStr::new("old"), 0o700).unwrap().ino;
    let sub = view.mkdir(old, OsStr::new("sub"), 0o500).unwrap().ino;
    for (dir, name) in [(old, "a"), (old, "b"), (sub, "c")] {
        let made = view.create(dir, OsStr::new(name), 0o600, access, caller);
        let (_, handle) = made.unwrap();
        view.write(handle, 0, name.as_bytes(), false).unwrap();
        view.flush(handle, caller).unwrap();
        view.release(handle);
    }
    // And one that is being written.
    let made = view.create(sub, OsStr::new("draft"), 0o600, access, caller);
    let (_, draft) = made.unwrap();
    view.write(draft, 0, b"half", false).unwrap();
    view.make_durable().unwrap();
    let stored = || {
        let mut names: Vec<_> = store.list(Folder::Notes).unwrap();
        names.sort_by(|one, other| one.name.cmp(&other.name));
        names
            .into_iter()
            .map(|entry| entry.name)
            .collect::<Vec<_>>()
    };
    let before = stored();
    let (from, to) = (OsStr::new("old"), OsStr::new("new"));
    let rename = || view.rename(home, from, home, to, RenameMode::default(), caller);
    for successes in 0..before.len() {
        store.fail_put_after(successes, Kind::NoSpace);
        assert_eq!(rename().unwrap_err().kind(), Kind::NoSpace, "{successes}");
        assert_eq!(stored(), before, "{successes}");
        let names = view.list(sub).unwrap().into_iter().map(|entry| entry.name);
        assert_eq!(names.collect::<Vec<_>>(), ["c", "draft"]);
        assert!(view.lookup(home, to).is_err());
    }
    rename().unwrap();
    view.make_durable().unwrap();
    assert_eq!(stored().len(), before.len());
    assert!(stored().iter().all(|name| !before.contains(name)));
    assert!(view.lookup(home, from).is_err());
    view.flush(draft, caller).unwrap();
    view.release(draft);
    let new = find(home, "new");
    assert_eq!(view.getattr(find(new, "sub")).unwrap().mode, 0o500);
    for (dir, name, content) in [
        (new, "a", "a"),
        (new, "b", "b"),
        (sub, "c", "c"),
        (sub, "draft", "half"),
    ] {
        let access = Access {
            read: true,
            ..Access::default()
        };
        let handle = view.open(find(dir, name), access, caller).unwrap();
        assert_eq!(*view.read(handle, 0, 100).unwrap(), *content.as_bytes());
        let blob = view.xattr(find(dir, name), OsStr::new("user.dds.blob"));
        assert!(
            !before
                .iter()
                .any(|old| Some(old.as_os_str()) == blob.as_deref().ok().map(OsStr::new))
        );
        view.release(handle);
    }
    assert_eq!(stored().len(), before.len() + 1);
}

/// As it was when the first of them was in place.
#[test]
fn a_renamed_directory_is_completed_at_the_next_start() {
    let mut rig = InProcess::new(&Cast::new());
    rig.mkdir("notes/bob/old").unwrap();
    for name in ["a", "b", "c"] {
        rig.write(&format!("notes/bob/old/{name}"), name.as_bytes())
            .unwrap();
    }
    rig.settle();
    let folder = |store: &std::path::Path| store.join("notes");
    let read = |store: &std::path::Path| -> Vec<(String, Vec<u8>)> {
        let names = blobs(store, Folder::Notes).into_iter();
        let all = names.map(|name| {
            let bytes = std::fs::read(folder(store).join(&name)).unwrap();
            (name, bytes)
        });
        all.collect()
    };
    let before = read(rig.store());
    rig.rename("notes/bob/old", "notes/bob/new").unwrap();
    rig.settle();
    let after = read(rig.store());
    assert_eq!((before.len(), after.len()), (4, 4));
    rig.remount_after(
        |state| {
            let publish = after.iter().map(|(_, bytes)| {
                let stage = state.stage(&mut |out| {
                    out.write_all(bytes).unwrap();
                    Ok(BlobName::of(bytes))
                });
                stage.unwrap().name
            });
            let intent = Intent {
                folder: Folder::Notes,
                publish: publish.collect(),
                remove: Vec::new(),
            };
            state.begin(&intent).unwrap();
        },
        |store| {
            for (name, _) in &after[1..] {
                std::fs::remove_file(folder(store).join(name)).unwrap();
            }
            for (name, bytes) in &before {
                std::fs::write(folder(store).join(name), bytes).unwrap();
            }
        },
    );
    assert_eq!(rig.list("notes/bob").unwrap(), ["new"]);
    assert_eq!(rig.list("notes/bob/new").unwrap(), ["a", "b", "c"]);
    for name in ["a", "b", "c"] {
        let read = rig.read(&format!("notes/bob/new/{name}")).unwrap();
        assert_eq!(read, name.as_bytes());
    }
    // What they replace is not shown, and goes with the next save.
    let there = blobs(rig.store(), Folder::Notes);
    assert!(after.iter().all(|(name, _)| there.contains(name)));
}
