//! Events of the view: what others do, for any number of subscribers.

use crate::support::people::Blob;
use crate::support::rig::{Cast, InProcess, Rig as _};
use dds::ids::{BlobKind, BlobName, Folder};
use dds::vault::Vouched;
use dds::view::{ChangeKind, Event, EventFile, Received, Subscription};

fn message(cast: &Cast, rig: &InProcess, path: &str) -> BlobName {
    let to = [&cast.me, &cast.bob];
    Blob::new(BlobKind::Message, &cast.bob, &to, path)
        .content(b"at noon?")
        .deliver(rig.store(), Folder::Messages)
}

/// Looks at the store, as a listing does.
fn look(rig: &InProcess) {
    rig.list("messages/bob").or(rig.list("messages")).unwrap();
}

fn bob_s(path: &str) -> EventFile {
    EventFile {
        path: path.to_owned(),
        from: Some("bob".to_owned()),
        signature: Vouched::GoodUnverified,
    }
}

#[track_caller]
fn expect(events: &Subscription<Event>, expected: Event) {
    assert_eq!(events.next(), Received::Item(expected));
}

#[test]
fn every_subscriber_gets_every_event_and_the_lock_last() {
    let cast = Cast::new();
    let rig = InProcess::new(&cast);
    message(&cast, &rig, "early.txt");
    look(&rig);
    let subscribers = [(); 3].map(|()| rig.view().subscribe(8));
    let lunch = message(&cast, &rig, "lunch.txt");
    look(&rig);
    // Those who come late get what is new for them.
    let late = rig.view().subscribe(8);
    let file = rig.store().join("messages").join(lunch.file_name());
    std::fs::remove_file(file).unwrap();
    look(&rig);
    rig.write("notes/me/mine.txt", b"mine").unwrap();
    rig.remove("messages/bob/early.txt").unwrap();
    assert_eq!(rig.view().close(), []);
    for events in &subscribers {
        expect(events, Event::Arrival(bob_s("messages/bob/lunch.txt")));
    }
    for events in subscribers.iter().chain([&late]) {
        expect(events, Event::Removal(bob_s("messages/bob/lunch.txt")));
        expect(events, Event::Lock);
        assert_eq!(events.next(), Received::Closed);
    }
    assert_eq!(rig.view().subscribe(8).next(), Received::Closed);
}

#[test]
fn a_subscriber_that_lags_is_told_and_nobody_waits_for_it() {
    let cast = Cast::new();
    let rig = InProcess::new(&cast);
    look(&rig);
    let (slow, quick) = (rig.view().subscribe(2), rig.view().subscribe(8));
    let names = ["a.txt", "b.txt", "c.txt"];
    for name in names {
        message(&cast, &rig, name);
        look(&rig);
    }
    for name in names {
        let path = format!("messages/bob/{name}");
        expect(&quick, Event::Arrival(bob_s(&path)));
    }
    for name in &names[..2] {
        let path = format!("messages/bob/{name}");
        expect(&slow, Event::Arrival(bob_s(&path)));
    }
    assert_eq!(slow.next(), Received::Lost);
}

/// All files of a contact get another path: one event for each, though a kernel must be told of a
/// removal and an arrival.
#[test]
fn a_contact_with_a_new_name_has_its_files_renamed() {
    let cast = Cast::new();
    let rig = InProcess::new(&cast);
    message(&cast, &rig, "lunch.txt");
    look(&rig);
    let (events, steps) = (rig.view().subscribe(8), rig.view().subscribe_to_tree(64));
    let pins = rig.home().path("pins/contacts.toml");
    let text = std::fs::read_to_string(&pins).unwrap();
    assert!(text.contains("\"bob\""), "{text}");
    std::fs::write(&pins, text.replace("\"bob\"", "\"robert\"")).unwrap();
    rig.list("messages").unwrap();
    let file = EventFile {
        from: Some("robert".to_owned()),
        ..bob_s("messages/robert/lunch.txt")
    };
    let old_path = "messages/bob/lunch.txt".to_owned();
    expect(&events, Event::Rename { old_path, file });
    assert_eq!(rig.view().close(), []);
    expect(&events, Event::Lock);
    let mut of_the_file = Vec::new();
    while of_the_file.len() < 2 {
        let Received::Item(step) = steps.next() else {
            panic!("a step is missing: {of_the_file:?}");
        };
        if step.name == "lunch.txt" {
            let directory = step.directory.to_str().unwrap().to_owned();
            of_the_file.push((step.change, directory));
        }
    }
    let expected = [
        (ChangeKind::Gone, "messages/bob".to_owned()),
        (ChangeKind::Appeared, "messages/robert".to_owned()),
    ];
    assert_eq!(of_the_file, expected);
}
