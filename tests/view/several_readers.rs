//! Messages to several readers, take-back, and messages that come back after they were removed.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::support::mount::Home;
use crate::support::people::{Blob, blobs, make_store, other_forms};
use crate::support::rig::{Cast, InProcess, Rig, on_both};
use dds::contacts::Contacts;
use dds::error::Kind;
use dds::ids::{BlobKind, BlobName, Folder, Timestamp};
use dds::openpgp::Identity;
use dds::plaintext::Plaintext;
use dds::state::{Intent, State};
use dds::store::{FileName, MemoryStore, Store as _};
use dds::vault::{self, Audience, Vault};

/// Three people's own copies of one store, as a syncer keeps them.
fn three(cast: &Cast) -> [InProcess; 3] {
    let people = [
        ("one", &cast.me),
        ("two", &cast.bob),
        ("three", &cast.carol),
    ];
    [&cast.me, &cast.bob, &cast.carol].map(|person| {
        let home = Home::new();
        let store = make_store(home.dir.path(), &people);
        InProcess::of(person, home, store)
    })
}

/// What a syncer does: brings every change of one folder to the other.
fn sync(from: &Path, to: &Path) {
    let (from, to) = (from.join("messages"), to.join("messages"));
    for entry in fs::read_dir(&to).unwrap() {
        let entry = entry.unwrap();
        if !from.join(entry.file_name()).exists() {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    for entry in fs::read_dir(&from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn every_reader_has_a_copy_and_removes_only_that() {
    let cast = Cast::new();
    let [me, bob, carol] = three(&cast);
    me.write("messages/bob,carol/plan.txt", b"at noon").unwrap();
    assert_eq!(blobs(me.store(), Folder::Messages).len(), 2);
    assert_eq!(me.list("messages/bob,carol").unwrap(), ["plan.txt"]);
    let pending = || me.xattr("messages/bob,carol/plan.txt", "user.dds.pending");
    assert_eq!(pending().unwrap(), "bob,carol");

    sync(me.store(), bob.store());
    assert_eq!(
        bob.read("messages/alice,carol/plan.txt").unwrap(),
        b"at noon"
    );
    bob.remove("messages/alice,carol/plan.txt").unwrap();
    assert_eq!(blobs(bob.store(), Folder::Messages).len(), 1);

    sync(bob.store(), carol.store());
    assert_eq!(
        carol.read("messages/alice,bob/plan.txt").unwrap(),
        b"at noon"
    );
    sync(bob.store(), me.store());
    assert_eq!(me.list("messages/bob,carol").unwrap(), ["plan.txt"]);
    assert_eq!(pending().unwrap(), "carol");

    // Mine takes back all that are left.
    me.remove("messages/bob,carol/plan.txt").unwrap();
    assert!(blobs(me.store(), Folder::Messages).is_empty());
    sync(me.store(), carol.store());
    assert!(carol.list("messages/alice,bob").unwrap().is_empty());
}

#[test]
fn a_failure_in_the_middle_takes_back_what_was_sent() {
    let cast = Cast::new();
    let store = Arc::new(MemoryStore::new());
    for (name, person) in [("two.gpg", &cast.bob), ("three.gpg", &cast.carol)] {
        let bytes = person.certificate().to_bytes();
        store.arrive_key(&FileName::new(name).unwrap(), &bytes);
    }
    let me = Identity::unlock(&cast.me.secret, None).unwrap();
    let (state, contacts) = (State::in_memory(), Contacts::in_memory());
    let options = vault::Options::default();
    let vault = Vault::open(Arc::clone(&store) as _, state, vec![me], contacts, options).unwrap();
    let audience: Audience = [&cast.bob, &cast.carol]
        .map(|p| p.fingerprint())
        .into_iter()
        .collect();
    let content = Plaintext::from(&b"at noon"[..]);
    let publication = || vault::Publication {
        kind: BlobKind::Message,
        audience: &audience,
        path: "plan.txt",
        doc: vault.new_doc_id(),
        replaces: &[],
        content: &content,
        mtime: Timestamp::now(),
        mode: None,
    };
    for (successes, kind) in [(0, Kind::NoSpace), (1, Kind::NoSpace), (1, Kind::Io)] {
        store.fail_put_after(successes, kind);
        let error = vault.publish(&publication()).map(drop).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().starts_with("nothing was sent"), "{error}");
        assert!(store.list(Folder::Messages).unwrap().is_empty());
    }
    assert_eq!(vault.publish(&publication()).unwrap().versions().len(), 2);
    assert_eq!(store.list(Folder::Messages).unwrap().len(), 2);
}

#[test]
fn a_crash_in_the_middle_is_completed_at_the_next_start() {
    let cast = Cast::new();
    let [mut me, _, _] = three(&cast);
    me.write("messages/bob,carol/plan.txt", b"at noon").unwrap();
    me.settle();
    let names = blobs(me.store(), Folder::Messages);
    let copies: Vec<_> = names
        .iter()
        .map(|name| fs::read(me.store().join("messages").join(name)).unwrap())
        .collect();
    // As it was when one of the two was in place.
    me.remount_after(
        |state| {
            let publish = copies.iter().map(|bytes| {
                let stage = state.stage(&mut |out| {
                    out.write_all(bytes).unwrap();
                    Ok(BlobName::of(bytes))
                });
                stage.unwrap().name
            });
            let intent = Intent {
                folder: Folder::Messages,
                publish: publish.collect(),
                remove: Vec::new(),
            };
            state.begin(&intent).unwrap();
        },
        |store| fs::remove_file(store.join("messages").join(&names[1])).unwrap(),
    );
    assert_eq!(blobs(me.store(), Folder::Messages), names);
    assert_eq!(me.list("messages/bob,carol").unwrap(), ["plan.txt"]);
    let pending = me
        .xattr("messages/bob,carol/plan.txt", "user.dds.pending")
        .unwrap();
    assert_eq!(pending, "bob,carol");
}

#[test]
fn saving_again_replaces_every_copy() {
    on_both(|rig, _| {
        rig.write("messages/bob,carol/plan.txt", b"one").unwrap();
        rig.settle();
        let before = blobs(rig.store(), Folder::Messages);
        rig.write("messages/bob,carol/plan.txt", b"two").unwrap();
        rig.settle();
        let after = blobs(rig.store(), Folder::Messages);
        assert_eq!((before.len(), after.len()), (2, 2));
        assert!(before.iter().all(|name| !after.contains(name)));
        rig.rename("messages/bob,carol/plan.txt", "messages/bob,carol/new.txt")
            .unwrap();
        rig.remount();
        assert_eq!(rig.list("messages/bob,carol").unwrap(), ["new.txt"]);
        assert_eq!(rig.read("messages/bob,carol/new.txt").unwrap(), b"two");
        assert_eq!(blobs(rig.store(), Folder::Messages).len(), 2);
    });
}

#[test]
fn a_removed_message_that_comes_back_is_removed_again() {
    on_both(|rig, cast| {
        let to = [&cast.me, &cast.bob];
        let blob = Blob::new(BlobKind::Message, &cast.bob, &to, "lunch.txt").content(b"at noon");
        let bytes = blob.seal();
        crate::support::people::deliver(rig.store(), Folder::Messages, &bytes);
        assert_eq!(rig.list("messages/bob").unwrap(), ["lunch.txt"]);
        rig.remove("messages/bob/lunch.txt").unwrap();
        for _ in 0..2 {
            crate::support::people::deliver(rig.store(), Folder::Messages, &bytes);
            assert!(rig.list("messages/bob").unwrap().is_empty());
            assert!(blobs(rig.store(), Folder::Messages).is_empty());
            let status = String::from_utf8(rig.read(".dds/status").unwrap()).unwrap();
            assert!(
                status.contains("came back and was removed again"),
                "{status}"
            );
            rig.remount();
        }
    });
}

#[test]
fn a_removed_message_does_not_come_back_in_another_form() {
    on_both(|rig, cast| {
        let to = [&cast.me, &cast.bob];
        let blob = Blob::new(BlobKind::Message, &cast.bob, &to, "lunch.txt").content(b"at noon");
        let mut gpg = Blob::new(BlobKind::Message, &cast.bob, &to, "hello.txt").content(b"hello");
        gpg.intended.clear();
        gpg.notations = dds::openpgp::Notations::default();
        let all = [blob.seal(), gpg.seal()];
        for bytes in &all {
            crate::support::people::deliver(rig.store(), Folder::Messages, bytes);
        }
        let shown = rig.list("messages/bob").unwrap();
        assert_eq!(shown, ["hello.txt", "lunch.txt"]);
        for name in shown {
            rig.remove(&format!("messages/bob/{name}")).unwrap();
        }
        let mut forms: Vec<_> = all.iter().flat_map(|bytes| other_forms(bytes)).collect();
        // More readers, and nothing signed that says for whom: these only stay hidden.
        let others: Vec<_> = forms.drain(6 + 3..6 + 5).collect();
        for form in forms {
            crate::support::people::deliver(rig.store(), Folder::Messages, &form);
            assert!(rig.list("messages/bob").unwrap().is_empty());
            assert!(blobs(rig.store(), Folder::Messages).is_empty());
            let status = String::from_utf8(rig.read(".dds/status").unwrap()).unwrap();
            let told = "came back and was removed again";
            assert!(status.contains(told), "{status}");
        }
        for form in others {
            crate::support::people::deliver(rig.store(), Folder::Messages, &form);
        }
        for _ in 0..2 {
            assert!(rig.list("messages/bob").unwrap().is_empty());
            rig.remount();
        }
        // Another message of the same words is another one.
        blob.deliver(rig.store(), Folder::Messages);
        let mut later = blob;
        later.created = Some(std::time::SystemTime::now() - std::time::Duration::from_secs(9));
        later.deliver(rig.store(), Folder::Messages);
        assert_eq!(rig.list("messages/bob").unwrap(), ["lunch.txt"]);
    });
}

#[test]
fn what_is_signed_says_who_else_reads_a_message_and_not_what_stands_around_it() {
    on_both(|rig, cast| {
        let to = [&cast.me, &cast.bob];
        let mut mine = Blob::new(BlobKind::Message, &cast.bob, &to, "mine.txt");
        mine.intended.push(cast.carol.fingerprint());
        mine.notations.copy = Some(cast.me.fingerprint());
        let named = Blob::new(BlobKind::Message, &cast.bob, &to, "named.txt");
        for (blob, dir, name) in [(mine, "bob,carol", "mine.txt"), (named, "bob", "named.txt")] {
            // Session keys that anybody added.
            let form = other_forms(&blob.seal()).remove(4);
            crate::support::people::deliver(rig.store(), Folder::Messages, &form);
            let dir = format!("messages/{dir}");
            assert_eq!(rig.list(&dir).unwrap(), [name]);
            rig.remove(&format!("{dir}/{name}")).unwrap();
            assert!(blobs(rig.store(), Folder::Messages).is_empty(), "{name}");
        }
        // The copy of another reader, made readable to me.
        let all = [&cast.me, &cast.bob, &cast.carol];
        let mut carols = Blob::new(BlobKind::Message, &cast.bob, &all, "carols.txt");
        carols.to = to.to_vec();
        carols.notations.copy = Some(cast.carol.fingerprint());
        carols.deliver(rig.store(), Folder::Messages);
        assert_eq!(rig.list("messages/bob,carol").unwrap(), ["carols.txt"]);
        rig.remove("messages/bob,carol/carols.txt").unwrap();
        assert!(rig.list("messages/bob,carol").unwrap().is_empty());
        assert_eq!(blobs(rig.store(), Folder::Messages).len(), 1);
    });
}

#[test]
fn an_older_version_of_a_removed_message_does_not_come_back_either() {
    on_both(|rig, cast| {
        let to = [&cast.me, &cast.bob];
        let old = Blob::new(BlobKind::Message, &cast.bob, &to, "lunch.txt").content(b"old");
        let old = old.seal();
        let mut new = Blob::new(BlobKind::Message, &cast.bob, &to, "lunch.txt").content(b"new");
        new.notations.replaces = vec![dds::ids::BlobName::of(&old)];
        new.deliver(rig.store(), Folder::Messages);
        assert_eq!(rig.read("messages/bob/lunch.txt").unwrap(), b"new");
        rig.remove("messages/bob/lunch.txt").unwrap();
        // Never seen here before.
        crate::support::people::deliver(rig.store(), Folder::Messages, &old);
        assert!(rig.list("messages/bob").unwrap().is_empty());
        assert!(blobs(rig.store(), Folder::Messages).is_empty());
    });
}

#[test]
fn a_removed_note_that_comes_back_is_shown_and_told() {
    on_both(|rig, _| {
        rig.write("notes/me/x", b"mine").unwrap();
        rig.settle();
        let name = blobs(rig.store(), Folder::Notes).remove(0);
        let bytes = fs::read(rig.store().join("notes").join(name)).unwrap();
        rig.remove("notes/me/x").unwrap();
        assert!(rig.list("notes/me").unwrap().is_empty());
        crate::support::people::deliver(rig.store(), Folder::Notes, &bytes);
        assert_eq!(rig.read("notes/me/x").unwrap(), b"mine");
        let status = String::from_utf8(rig.read(".dds/status").unwrap()).unwrap();
        assert!(status.contains("came back; it is shown"), "{status}");
        // As long as it is there.
        rig.write("notes/me/y", b"another").unwrap();
        rig.settle();
        let told = |rig: &dyn crate::support::rig::Rig| {
            let status = rig.read(".dds/status").unwrap();
            String::from_utf8(status).unwrap().contains("came back")
        };
        assert!(told(rig));
        rig.remove("notes/me/x").unwrap();
        assert!(!told(rig));
        // And again, each time that it comes.
        crate::support::people::deliver(rig.store(), Folder::Notes, &bytes);
        assert_eq!(rig.read("notes/me/x").unwrap(), b"mine");
        assert!(told(rig));
        rig.write("notes/me/x", b"as it shall be").unwrap();
        rig.settle();
        assert!(rig.list("notes/me").unwrap().contains(&"x".to_owned()));
        assert!(!told(rig));
    });
}

#[test]
fn a_foreign_message_with_other_readers_is_hidden_and_stays() {
    on_both(|rig, cast| {
        let to = [&cast.me, &cast.bob, &cast.carol];
        let mut foreign = Blob::new(BlobKind::Message, &cast.bob, &to, "all.txt");
        foreign.notations = dds::openpgp::Notations::default();
        foreign.deliver(rig.store(), Folder::Messages);
        assert_eq!(rig.list("messages/bob,carol").unwrap(), ["all.txt"]);
        rig.remove("messages/bob,carol/all.txt").unwrap();
        for _ in 0..2 {
            assert!(rig.list("messages/bob,carol").unwrap().is_empty());
            assert_eq!(blobs(rig.store(), Folder::Messages).len(), 1);
            rig.remount();
        }
    });
}
