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
