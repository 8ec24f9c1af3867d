//! The operations by path, which need no kernel: what a page or a gateway does with the view.

use std::fs;
use std::time::{Duration, SystemTime};

use dds::error::Kind;
use dds::ids::{BlobKind, BlobName, Folder};
use dds::vault::Vouched;
use dds::view::{Access, Ino, NodeKind, Paths, Reader};

use crate::support::people::{Blob, blobs};
use crate::support::rig::{Cast, InProcess, Rig as _};

const PLAN: &str = "notes/bob/plan.md";

fn paths(rig: &InProcess) -> Paths<'_> {
    rig.view().paths(Reader::session())
}

/// Bob's own version of `plan.md`; the one that it replaces goes.
fn bob_saves(cast: &Cast, rig: &InProcess, content: &[u8], replaces: Option<BlobName>) -> BlobName {
    let to = [&cast.me, &cast.bob];
    let mut blob = Blob::new(BlobKind::Note, &cast.bob, &to, "plan.md").content(content);
    blob.notations.replaces.extend(replaces);
    blob.created = replaces.map(|_| SystemTime::now() + Duration::from_secs(1));
    let name = blob.deliver(rig.store(), Folder::Notes);
    if let Some(old) = replaces {
        fs::remove_file(rig.store().join("notes").join(old.file_name())).unwrap();
    }
    name
}

fn text(paths: &Paths<'_>, path: &str) -> String {
    String::from_utf8(paths.read(path).unwrap().to_vec()).unwrap()
}

#[test]
fn a_saved_note_is_durable_and_its_facts_say_who_wrote_it_and_who_reads_it() {
    let cast = Cast::new();
    let mut rig = InProcess::new(&cast);
    let saved = paths(&rig).save(PLAN, b"first").unwrap();
    assert_eq!(saved.path, PLAN);
    let facts = saved.facts.unwrap();
    let blob = facts.blob.file_name();
    assert_eq!(blobs(rig.store(), Folder::Notes), [blob]);
    assert_eq!(facts.signature, Vouched::Good);
    let from = facts.from.unwrap();
    assert_eq!(
        (from.name.as_str(), from.fingerprint),
        ("me", cast.me.fingerprint())
    );
    let audience = facts.audience.unwrap();
    assert_eq!(
        (audience.names, audience.proven),
        (vec!["bob".to_owned(), "me".to_owned()], true)
    );
    assert_eq!((facts.pending, facts.is_conflict), (None, false));
    rig.crash(|_| {});
    assert_eq!(text(&paths(&rig), PLAN), "first");
}

#[test]
fn a_save_replaces_only_what_its_reader_has_read() {
    let cast = Cast::new();
    let rig = InProcess::new(&cast);
    let first = bob_saves(&cast, &rig, b"first", None);
    let (early, late) = (paths(&rig), paths(&rig));
    assert_eq!(text(&early, PLAN), "first");
    bob_saves(&cast, &rig, b"bob's edit", Some(first));
    late.list("notes/bob").unwrap();
    assert_eq!(text(&late, PLAN), "bob's edit");

    // The early one has not seen the edit: both stay.
    early.save(PLAN, b"mine").unwrap();
    let listed = early.list("notes/bob").unwrap();
    let mut contents: Vec<_> = listed
        .iter()
        .map(|file| text(&early, &format!("notes/bob/{}", file.name)))
        .collect();
    contents.sort();
    assert_eq!(contents, ["bob's edit", "mine"]);
    let conflicts = listed
        .iter()
        .filter(|file| file.facts.as_ref().unwrap().is_conflict);
    assert_eq!(conflicts.count(), 1);

    // A later save by the same reader goes on with what it has read now.
    let edit = listed
        .iter()
        .find(|file| text(&early, &format!("notes/bob/{}", file.name)) == "bob's edit");
    let edit = format!("notes/bob/{}", edit.unwrap().name);
    early.remove(&edit).unwrap();
    let [only] = &early.list("notes/bob").unwrap()[..] else {
        panic!("{:?}", early.list("notes/bob"));
    };
    assert_eq!(only.name, "plan.md");
    early.save(PLAN, b"mine again").unwrap();
    assert_eq!(early.list("notes/bob").unwrap().len(), 1);
    assert_eq!(text(&late, PLAN), "mine again");
}

#[test]
fn a_message_is_sent_in_one_call_and_never_replaces_another_one() {
    let cast = Cast::new();
    let rig = InProcess::new(&cast);
    let paths = paths(&rig);
    let first = paths.send("carol,bob", "lunch.txt", b"at noon?").unwrap();
    let second = paths.send("bob,carol", "lunch.txt", b"at one?").unwrap();
    assert_eq!(first.path, "messages/bob,carol/lunch.txt");
    assert_eq!(second.path, "messages/bob,carol/lunch (2).txt");
    let facts = second.facts.unwrap();
    assert_eq!(facts.pending.unwrap(), ["bob", "carol"]);
    assert_eq!(text(&paths, &first.path), "at noon?");
    assert_eq!(text(&paths, "messages/carol,bob/lunch (2).txt"), "at one?");
    assert_eq!(blobs(rig.store(), Folder::Messages).len(), 4);
    // A part of a name after its last dot alone is an extension.
    paths.send("bob", "README", b"1").unwrap();
    let second = paths.send("bob", "README", b"2").unwrap();
    assert_eq!(second.path, "messages/bob/README (2)");

    let before = blobs(rig.store(), Folder::Messages);
    let refused = |audience, name| paths.send(audience, name, b"x").unwrap_err().kind();
    assert_eq!(refused("bob,dave", "lunch.txt"), Kind::NotFound);
    assert_eq!(refused("bob", "a/b"), Kind::Invalid);
    assert_eq!(refused("bob/../carol", "lunch.txt"), Kind::Invalid);
    assert_eq!(blobs(rig.store(), Folder::Messages), before);
}

#[test]
fn a_save_that_fails_leaves_everything_as_it_was() {
    let cast = Cast::new();
    let rig = InProcess::new(&cast);
    let paths = paths(&rig);
    paths.save(PLAN, b"first").unwrap();
    let notes = rig.store().join("notes");
    let away = rig.store().join("notes-away");
    fs::rename(&notes, &away).unwrap();
    fs::write(&notes, b"no folder").unwrap();
    paths.save(PLAN, b"second").unwrap_err();
    paths.save("notes/bob/new.md", b"new").unwrap_err();
    paths.create("notes/bob/new.md", b"new").unwrap_err();
    fs::remove_file(&notes).unwrap();
    fs::rename(&away, &notes).unwrap();
    assert_eq!(text(&paths, PLAN), "first");
    let names: Vec<_> = paths
        .list("notes/bob")
        .unwrap()
        .into_iter()
        .map(|file| file.name)
        .collect();
    assert_eq!(names, ["plan.md"]);
    assert_eq!(rig.view().status().unsaved, [""; 0]);
    paths.save(PLAN, b"second").unwrap();
    assert_eq!(text(&paths, PLAN), "second");
    assert_eq!(
        paths.create(PLAN, b"third").unwrap_err().kind(),
        Kind::Exists
    );
    assert_eq!(text(&paths, PLAN), "second");
}

#[test]
fn a_file_with_unsaved_changes_of_another_program_is_not_saved_over() {
    let cast = Cast::new();
    let rig = InProcess::new(&cast);
    let (page, editor) = (paths(&rig), paths(&rig));
    page.save(PLAN, b"first").unwrap();
    let writing = Access {
        write: true,
        ..Access::default()
    };
    let open = editor.open(PLAN, writing).unwrap();
    open.write(5, b", edited").unwrap();
    assert_eq!(page.save(PLAN, b"page").unwrap_err().kind(), Kind::Busy);
    open.close().unwrap();
    assert_eq!(text(&page, PLAN), "first, edited");
    // Open alone is no change.
    let open = editor.open(PLAN, writing).unwrap();
    page.save(PLAN, b"page").unwrap();
    open.write(4, b" and editor").unwrap();
    open.close().unwrap();
    assert_eq!(text(&page, PLAN), "page and editor");
    assert_eq!(page.list("notes/bob").unwrap().len(), 1);
}

#[test]
fn a_save_under_a_name_of_programs_is_published_or_refused() {
    let cast = Cast::new();
    let rig = InProcess::new(&cast);
    let paths = paths(&rig);
    // Programs rename such a file when it is whole; here it is whole at once.
    let sent = paths.send("bob", "report.part", b"whole").unwrap();
    sent.durable.unwrap();
    assert!(sent.facts.is_some());
    assert_eq!(blobs(rig.store(), Folder::Messages).len(), 1);
    let refused = paths.send("bob", "draft.txt~", b"x").unwrap_err();
    assert_eq!(refused.kind(), Kind::Forbidden);
    assert_eq!(paths.list("messages/bob").unwrap().len(), 1);
    assert_eq!(rig.view().status().scratch_files, 0);
}

#[test]
fn a_certificate_is_saved_under_the_name_that_it_is_given() {
    let cast = Cast::new();
    let rig = InProcess::new(&cast);
    let paths = paths(&rig);
    let certificate = cast.mallory.certificate().to_bytes();
    let first = paths.create("keys/mallory.txt", &certificate).unwrap();
    let again = paths.create("keys/again.txt", &certificate).unwrap();
    for saved in [first, again] {
        let name = saved.path.strip_prefix("keys/").unwrap().to_owned();
        assert!(
            name.contains(&cast.mallory.fingerprint().to_string()),
            "{name}"
        );
        let listed = paths.list("keys").unwrap();
        assert_eq!(listed.iter().filter(|file| file.name == name).count(), 1);
    }
    paths.create("keys/bad.txt", b"no certificate").unwrap_err();
    let listed = paths.list("keys").unwrap();
    assert!(listed.iter().all(|file| file.name != "bad.txt"));
}

#[test]
fn closing_tells_whether_an_empty_file_was_saved() {
    let cast = Cast::new();
    let rig = InProcess::new(&cast);
    let paths = paths(&rig);
    let writing = Access {
        write: true,
        ..Access::default()
    };
    paths
        .open("notes/bob/empty.md", writing)
        .unwrap()
        .close()
        .unwrap();
    assert_eq!(blobs(rig.store(), Folder::Notes).len(), 1);
    let notes = rig.store().join("notes");
    let away = rig.store().join("notes-away");
    let open = paths.open("notes/bob/second.md", writing).unwrap();
    fs::rename(&notes, &away).unwrap();
    fs::write(&notes, b"no folder").unwrap();
    open.close().unwrap_err();
    fs::remove_file(&notes).unwrap();
    fs::rename(&away, &notes).unwrap();
    assert_eq!(rig.view().status().unsaved, ["notes/bob/second.md"]);
}

#[test]
fn a_path_follows_links_and_never_leaves_the_tree() {
    let cast = Cast::new();
    let rig = InProcess::new(&cast);
    let paths = paths(&rig);
    paths.mkdir("notes/bob,carol/trip").unwrap();
    paths
        .save("notes/carol,bob/trip/plan.md", b"north")
        .unwrap();
    assert_eq!(text(&paths, "/notes//bob,carol/./trip/plan.md"), "north");
    assert_eq!(paths.link_target("notes/carol,bob").unwrap(), "bob,carol");
    for wrong in ["..", "notes/../notes", "notes/bob/.."] {
        assert_eq!(
            paths.stat(wrong).unwrap_err().kind(),
            Kind::Invalid,
            "{wrong}"
        );
        assert_eq!(
            paths.save(wrong, b"").unwrap_err().kind(),
            Kind::Invalid,
            "{wrong}"
        );
    }
    assert_eq!(paths.stat("").unwrap().kind, NodeKind::Directory);
    let names: Vec<_> = paths
        .list("")
        .unwrap()
        .into_iter()
        .map(|file| file.name)
        .collect();
    assert_eq!(names, [".dds", "keys", "messages", "notes", "software"]);
    // The dots are the kernel's.
    let handle = rig.view().open_dir(Ino::ROOT).unwrap();
    let entries = rig.view().read_dir(handle, 0).unwrap();
    rig.view().release(handle);
    assert_eq!(entries.len(), names.len() + 2);
    assert!(entries[0].name == "." && entries[1].name == "..");
    assert_eq!(
        paths.save("notes/bob,carol/trip", b"").unwrap_err().kind(),
        Kind::IsDirectory
    );
    for into_itself in [
        "bob,carol/trip/x",
        "carol,bob/trip/x",
        "bob,carol/./trip//x",
    ] {
        let renamed = paths.rename("notes/bob,carol/trip/", &format!("notes/{into_itself}"));
        assert_eq!(renamed.unwrap_err().kind(), Kind::Invalid, "{into_itself}");
    }
    paths
        .rename("notes/bob,carol/trip", "notes/bob,carol/journey")
        .unwrap();
    assert!(paths.facts("notes/bob,carol/journey").unwrap().is_none());
}
