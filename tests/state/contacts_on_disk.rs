//! What is on disk of the contacts: kept, private, readable and editable by people.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::claims::*;
use dds::contacts::{Claimed, Contacts, Notice, Standing, Statement, Trust};
use dds::error::Kind;
use dds::ids::Fingerprint;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn pins(dir: &Path) -> String {
    fs::read_to_string(dir.join("contacts.toml")).unwrap()
}

#[test]
fn pins_are_kept_and_private() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("store/0a");
    let mut contacts = Contacts::load(&dir).unwrap();
    assert!(!dir.exists());
    see(
        &mut contacts,
        &[
            cert(1, &["bob@a.org"]),
            cert(2, &["bob@a.org"]),
            cert(3, &["c.d@x"]),
        ],
    );
    contacts.trust(&name("bob")).unwrap();
    contacts
        .succeed(&name("bob"), &name("bob-02020202"))
        .unwrap();

    let again = Contacts::load(&dir).unwrap();
    assert!(again.iter().eq(contacts.iter()));
    for byte in 1..=3 {
        assert_eq!(again.certificate(&fpr(byte)), Some(&[byte; 3][..]));
    }
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("certificates")), 0o700);
    assert_eq!(mode(&dir.join("contacts.toml")), 0o600);
    let certificate = dir.join(format!("certificates/{}.pgp", fpr(1)));
    assert_eq!(mode(&certificate), 0o600);
    let mut names: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["certificates", "contacts.toml"]);
}

#[test]
fn who_certified_whom_is_kept() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    let mut contacts = Contacts::load(dir).unwrap();
    see(&mut contacts, &[cert(1, &["bob@a.org"])]);
    see(&mut contacts, &[cert(2, &["bob@a.org"])]);
    assert!(!pins(dir).contains("certified_by ="));
    let said = Statement {
        of: fpr(2),
        by: fpr(1),
        address: "Bob@a.org".to_owned(),
        withdrawn: false,
    };
    let mut follow = |standing: &dyn Fn(&Fingerprint) -> Standing| {
        let said = std::slice::from_ref(&said);
        let told = contacts.follow(said, standing, &[], Trust::FirstSight);
        let again = Contacts::load(dir).unwrap();
        assert!(again.iter().eq(contacts.iter()));
        (told.unwrap(), listed(&again))
    };
    let (told, now) = follow(&|_| Standing::InForce);
    assert_eq!(
        (told.len(), now),
        (0, vec!["bob".into(), "bob-02020202".into()])
    );
    assert!(pins(dir).contains(&format!("certified_by = \"{}\"", fpr(1))));
    let over = |key: &Fingerprint| match *key == fpr(1) {
        true => Standing::Over,
        false => Standing::InForce,
    };
    let (told, now) = follow(&over);
    let succeeded = Notice::Succeeded {
        name: name("bob"),
        from: name("bob-02020202"),
    };
    assert_eq!((told, now), (vec![succeeded], vec!["bob".to_owned()]));
    let (told, now) = follow(&|_| Standing::Stolen);
    assert_eq!((told.len(), now), (0, vec!["bob!".to_owned()]));
    assert_eq!(contacts.by_name("bob").unwrap().past, [fpr(1)]);
}

#[test]
fn the_file_is_stable_text_for_people() {
    let dir = tempfile::tempdir().unwrap();
    let mut contacts = Contacts::load(dir.path()).unwrap();
    see(
        &mut contacts,
        &[
            cert(2, &["bob@a.org", "b@a.org"]),
            cert(3, &["alice@a.org"]),
        ],
    );
    let text = pins(dir.path());
    assert!(text.starts_with("# Contacts of DDS"));
    let records = "
[[contact]]
name = \"alice\"
fingerprint = \"0303030303030303030303030303030303030303\"
past = []
since = 1000
verified = false
frozen = false
used = false
addresses = [\"alice@a.org\"]

[[contact]]
name = \"bob\"
fingerprint = \"0202020202020202020202020202020202020202\"
past = []
since = 1000
verified = false
frozen = false
used = false
addresses = [\"b@a.org\", \"bob@a.org\"]
";
    assert!(text.ends_with(records), "{text}");
    // Nothing changed: nothing written.
    let before = fs::metadata(dir.path().join("contacts.toml")).unwrap();
    see(&mut contacts, &[cert(2, &["bob@a.org"])]);
    let after = fs::metadata(dir.path().join("contacts.toml")).unwrap();
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(before.ino(), after.ino());
    assert_eq!(pins(dir.path()), text);
}

#[test]
fn hand_edits_work_also_while_running() {
    let dir = tempfile::tempdir().unwrap();
    let mut contacts = Contacts::load(dir.path()).unwrap();
    see(&mut contacts, &[cert(1, &["bob@a.org"])]);
    let edited = pins(dir.path())
        .replace("name = \"bob\"", "name = \"Robert\"")
        .replace("verified = false", "verified = true # by phone")
        + "[[contact]]\nname='dave'\nfingerprint='0707 0707 0707 0707 0707  0707 0707 0707 0707 0707'\n";
    fs::write(dir.path().join("contacts.toml"), edited).unwrap();
    assert!(contacts.refresh().unwrap());
    assert!(!contacts.refresh().unwrap());
    assert_eq!(listed(&contacts), ["Robert", "dave"]);
    assert!(contacts.by_name("Robert").unwrap().verified);
    assert_eq!(contacts.by_name("dave").unwrap().fingerprint, fpr(7));
    assert!(contacts.certificate(&fpr(1)).is_some());

    // A change of ours keeps theirs, although nobody called refresh.
    let edited = pins(dir.path()).replace("dave", "david");
    fs::write(dir.path().join("contacts.toml"), edited).unwrap();
    see(&mut contacts, &[cert(3, &["carol@a.org"])]);
    assert_eq!(
        listed(&Contacts::load(dir.path()).unwrap()),
        ["Robert", "carol", "david"]
    );
}

#[test]
fn damaged_pins_are_an_error_that_names_the_line() {
    let f1 = "01".repeat(20);
    let f2 = "02".repeat(20);
    let one = format!("[[contact]]\nname = \"bob\"\nfingerprint = \"{f1}\"\n");
    let second = |name: &str, f: &str| {
        format!("{one}\n[[contact]]\nname = \"{name}\"\nfingerprint = \"{f}\"\n")
    };
    for (text, line) in [
        ("x".to_owned(), 1),
        (format!("{one}trusted = true\n"), 4),
        (format!("\n\n[groups]\n{one}"), 3),
        (format!("{one}since = -1\n"), 4),
        (format!("{one}verified = \"yes\"\n"), 4),
        (format!("{one}past = [\n  \"{f2}\",\n  \"0102\",\n]\n"), 6),
        (format!("{one}addresses = [\"a@b\",\n \"a b\"]\n"), 5),
        (second("me", &f2), 6),
        (second("a/b", &f2), 6),
        (second("bob", &f2), 6),
        (second("BOB", &f2), 6),
        (second("carol", &f1), 7),
        (second("carol", "DEADBEEF"), 7),
        (format!("{one}past = [\"{f1}\"]\n"), 4),
        ("[[contact]]\nname = \"bob\"\n".to_owned(), 1),
        (format!("{one}name = \"bob\"\n"), 4),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("contacts.toml");
        fs::write(&path, &text).unwrap();
        let error = Contacts::load(dir.path()).err().expect(&text);
        assert_eq!(error.kind(), Kind::BadConfig, "{text}");
        let expected = format!("{}, line {line}: ", path.display());
        assert!(error.to_string().starts_with(&expected), "{error}\n{text}");
        assert!(!error.to_string().contains('\n'), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("contacts.toml"), b"# ok\n# \xff\n").unwrap();
    let error = Contacts::load(dir.path()).err().unwrap();
    assert_eq!(error.kind(), Kind::BadConfig);
    assert!(error.to_string().contains("line 2"));
}

#[test]
fn a_damaged_edit_changes_nothing_and_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let mut contacts = Contacts::load(dir.path()).unwrap();
    see(&mut contacts, &[cert(1, &["bob@a.org"])]);
    let broken = pins(dir.path()) + "oops";
    fs::write(dir.path().join("contacts.toml"), &broken).unwrap();
    let result = contacts.observe(&[cert(2, &["carol@a.org"])], &[], &[], Trust::FirstSight, 0);
    assert_eq!(result.unwrap_err().kind(), Kind::BadConfig);
    assert_eq!(listed(&contacts), ["bob"]);
    assert_eq!(pins(dir.path()), broken);
}

#[test]
fn certificates_are_updated_for_contacts_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut contacts = Contacts::load(dir.path()).unwrap();
    see(&mut contacts, &[cert(1, &["bob@a.org"])]);
    contacts.set_certificate(&fpr(1), b"merged").unwrap();
    let unknown = contacts.set_certificate(&fpr(2), b"x").unwrap_err();
    assert_eq!(unknown.kind(), Kind::NotFound);
    // What is in the store does not replace the merged copy.
    see(&mut contacts, &[cert(1, &["bob@a.org"])]);
    let again = Contacts::load(dir.path()).unwrap();
    assert_eq!(again.certificate(&fpr(1)), Some(&b"merged"[..]));
}

#[test]
fn if_pins_cannot_be_saved_nothing_is_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let mut contacts = Contacts::load(dir.path()).unwrap();
    see(&mut contacts, &[cert(5, &["bob@a.org"])]);
    // A directory in the way of the temporary file fails also for root.
    let blocked = dir.path().join("contacts.new");
    fs::create_dir(&blocked).unwrap();
    let seen = [cert(1, &["bob@a.org"]), cert(2, &["carol@a.org"])];
    assert!(
        contacts
            .observe(&seen, &[], &[], Trust::FirstSight, 0)
            .is_err()
    );
    assert_eq!(listed(&contacts), ["bob"]);
    fs::remove_dir(&blocked).unwrap();
    see(&mut contacts, &seen);
    let again = Contacts::load(dir.path()).unwrap();
    assert_eq!(listed(&again), ["bob", "bob-01010101!", "carol"]);
}

#[test]
fn contacts_of_earlier_versions_count_as_used() {
    let dir = tempfile::tempdir().unwrap();
    let f1 = "01".repeat(20);
    let record = format!("[[contact]]\nname = \"bob\"\nfingerprint = \"{f1}\"\nsince = 1\n");
    fs::write(dir.path().join("contacts.toml"), record).unwrap();
    let mut contacts = Contacts::load(dir.path()).unwrap();
    let people: Vec<Claimed> = (2..=64)
        .map(|n| cert(n, &[&format!("user{n}@a.org")]))
        .collect();
    see(&mut contacts, &people);
    let newcomer = [cert(100, &["carol@a.org"])];
    contacts
        .observe(&newcomer, &[], &[], Trust::FirstSight, 2000)
        .unwrap();
    let again = Contacts::load(dir.path()).unwrap();
    assert!(again.by_name("bob").is_some() && again.by_name("carol").is_some());
    assert_eq!(again.iter().count(), 64);
}

#[test]
fn a_copy_that_is_too_large_keeps_nobody_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let mut contacts = Contacts::load(dir.path()).unwrap();
    see(
        &mut contacts,
        &[cert(1, &["bob@a.org"]), cert(2, &["carol@a.org"])],
    );
    let copy = dir.path().join(format!("certificates/{}.pgp", fpr(1)));
    let file = fs::File::create(copy).unwrap();
    file.set_len((16 << 20) + 10).unwrap();
    let again = Contacts::load(dir.path()).unwrap();
    assert_eq!(listed(&again), ["bob", "carol"]);
    assert_eq!(again.certificate(&fpr(2)), Some(&[2; 3][..]));
}

#[test]
fn a_copy_stays_when_its_owner_made_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut contacts = Contacts::load(dir.path()).unwrap();
    let people: Vec<Claimed> = (1..=64)
        .map(|n| cert(n, &[&format!("user{n}@a.org")]))
        .collect();
    see(&mut contacts, &people);
    contacts.set_certificate(&fpr(1), b"revoked").unwrap();
    see(&mut contacts, &[cert(100, &["carol@a.org"])]);
    assert!(contacts.by_fingerprint(&fpr(1)).is_none());
    let former = contacts.former_certificate(&fpr(1));
    assert_eq!(former.as_deref(), Some(&b"revoked"[..]));
}

#[test]
fn what_an_interrupted_save_left_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("contacts.new"), "half").unwrap();
    let mut contacts = Contacts::load(dir.path()).unwrap();
    see(&mut contacts, &[cert(1, &["bob@a.org"])]);
    assert!(!dir.path().join("contacts.new").exists());
    assert_eq!(listed(&Contacts::load(dir.path()).unwrap()), ["bob"]);
}
