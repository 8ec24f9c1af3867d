//! Names of audiences: groups, and audiences too large for a name.

mod support;

use support::mount::{Home, can_mount};
use support::people::{Person, make_store};
use support::rig::{Cast, InProcess, Mounted, Rig as _};

#[test]
fn a_group_is_the_one_name_of_its_audience() {
    if !can_mount() {
        return;
    }
    let rig = Mounted::new(&Cast::new(), "[groups]\nteam = [\"bob\", \"carol\"]\n");
    rig.write("notes/team/plan.md", b"ours").unwrap();
    assert_eq!(
        rig.list("notes").unwrap(),
        ["bob", "carol", "me", "team", "unverified"]
    );
    for other in ["bob,carol", "carol,bob"] {
        assert_eq!(rig.readlink(&format!("notes/{other}")).unwrap(), "team");
        assert_eq!(
            rig.read(&format!("notes/{other}/plan.md")).unwrap(),
            b"ours"
        );
    }
}

#[test]
fn an_audience_too_large_for_a_name_is_called_by_its_number() {
    let home = Home::new();
    let me = Person::new("Me");
    let others: Vec<_> = (10..25)
        .map(|n| Person::new(&format!("a-rather-long-name-{n}")))
        .collect();
    let names: Vec<_> = (10..25)
        .map(|n| format!("a-rather-long-name-{n}"))
        .collect();
    let mut people: Vec<_> = names.iter().map(String::as_str).zip(&others).collect();
    people.push(("me", &me));
    let store = make_store(home.dir.path(), &people);
    let mut rig = InProcess::of(&me, home, store);
    let spelled = names[..11].join(",");
    assert!(spelled.len() > 200);
    let canonical = rig.readlink(&format!("notes/{spelled}")).unwrap();
    assert!(
        canonical.starts_with("11-people-") && canonical.len() == 26,
        "{canonical}"
    );
    rig.write(&format!("notes/{spelled}/plan.md"), b"for many")
        .unwrap();
    rig.remount();
    assert!(rig.list("notes").unwrap().contains(&canonical));
    assert_eq!(
        rig.read(&format!("notes/{canonical}/plan.md")).unwrap(),
        b"for many"
    );
}

#[test]
fn a_contact_that_is_renamed_takes_its_directory_along() {
    if !can_mount() {
        return;
    }
    let cast = Cast::new();
    let rig = Mounted::new(&cast, "");
    rig.write("messages/bob/x.txt", b"for bob").unwrap();
    let config = rig.home.path(".config/dds");
    let pins = std::fs::read_dir(config)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("contacts.toml"))
        .find(|path| path.exists())
        .unwrap();
    let text = std::fs::read_to_string(&pins).unwrap();
    let renamed = text
        .replace("\"bob\"", "\"robert\"")
        .replace("[contacts.bob]", "[contacts.robert]");
    assert_ne!(text, renamed);
    std::fs::write(&pins, renamed).unwrap();
    assert_eq!(
        rig.list("messages").unwrap(),
        ["carol", "robert", "unverified"]
    );
    assert_eq!(rig.list("messages/robert").unwrap(), ["x.txt"]);
    assert_eq!(rig.write("messages/bob/y.txt", b""), Err(libc::ENOENT));
}

#[test]
fn a_group_cannot_have_the_name_of_a_contact() {
    if !can_mount() {
        return;
    }
    let rig = Mounted::new(&Cast::new(), "");
    let (home, mount) = rig.take();
    mount.unmount();
    let config = home.path(".config/dds/config.toml");
    std::fs::write(config, "[groups]\nbob = [\"carol\"]\n").unwrap();
    let mut command = home.dds_mount();
    command
        .arg("--store")
        .arg(home.path("store"))
        .arg(home.path("secure"));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("bob is a contact"), "{said}");
}
