//! Names of audiences: groups, and audiences too large for a name.

use crate::support::mount::Home;
use crate::support::people::{Person, make_store};
use crate::support::rig::{Cast, InProcess, Mounted, Rig, on_both};

#[test]
fn a_group_is_the_one_name_of_its_audience() {
    needs!(mount);
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

/// The lines of `.dds/errors` about a path.
fn told(rig: &dyn Rig, path: &str) -> Vec<String> {
    let errors = String::from_utf8(rig.read(".dds/errors").unwrap()).unwrap();
    let about = |line: &&str| line.contains(&format!(" {path}: "));
    errors.lines().filter(about).map(str::to_owned).collect()
}

#[test]
fn a_name_that_nobody_has_is_told_with_the_nearest_contact() {
    on_both(|rig, _| {
        for (path, why, helps) in [
            (
                "messages/Carol",
                "no contact is called Carol",
                "messages/carol",
            ),
            (
                "messages/craol",
                "no contact is called craol",
                "messages/carol",
            ),
            (
                "messages/carol smith",
                "called carol smith",
                "messages/carol",
            ),
            (
                "notes/BOB,carol",
                "no contact is called BOB",
                "notes/bob,carol",
            ),
            ("notes/carl,bbo", "called carl", "notes/carol,bob"),
            ("messages/dave", "no contact is called dave", "keys/"),
            ("messages/dave,carol", "no contact is called dave", "keys/"),
            (
                "messages/me,carol",
                "you are in every audience",
                "messages/carol",
            ),
            ("messages/me", "no messages to yourself", "notes/me"),
            ("messages/alice", "no messages to yourself", "notes/me"),
            (
                "messages/carol@other.org",
                "the address carol@other.org",
                "messages/carol",
            ),
            ("messages/0123ABCD", "short key id", "dds status"),
            ("messages/bob,,carol", "a comma too many", "dds status"),
            ("messages/a\u{1b}[2J", "called a\\u{1b}[2J", "dds status"),
        ] {
            let shown = path.replace('\u{1b}', "\\u{1b}");
            assert_eq!(told(rig, &shown), [""; 0], "{path}");
            for _ in 0..3 {
                assert_eq!(rig.list(path), Err(libc::ENOENT), "{path}");
                assert_eq!(rig.mkdir(path), Err(libc::ENOENT), "{path}");
                assert_eq!(rig.write(&format!("{path}/x"), b"x"), Err(libc::ENOENT));
            }
            let lines = told(rig, &shown);
            let [line] = &lines[..] else {
                panic!("{path}: not one line: {lines:?}");
            };
            assert!(line.contains(why) && line.contains(helps), "{line}");
        }
        // Programs look for these in every directory.
        for probe in ["messages/.git", "notes/.hidden", "notes/bob/nothing"] {
            assert_eq!(rig.list(probe), Err(libc::ENOENT));
            assert_eq!(told(rig, probe), [""; 0]);
        }
    });
}

#[test]
fn my_own_name_in_an_audience_is_me() {
    on_both(|rig, cast| {
        rig.write("notes/bob,carol/plan.md", b"ours").unwrap();
        rig.write("notes/bob/b.md", b"two").unwrap();
        rig.write("notes/me/m.md", b"mine").unwrap();
        let fingerprint = cast.me.fingerprint();
        for me in [
            "alice",
            "alice@example.org",
            "ALICE@example.org",
            &fingerprint.to_string(),
        ] {
            for (spelled, canonical, file) in [
                (format!("{me},bob,carol"), "bob,carol", "plan.md"),
                (format!("bob,{me},carol"), "bob,carol", "plan.md"),
                (
                    format!("carol@example.org,{me},bob"),
                    "bob,carol",
                    "plan.md",
                ),
                (format!("bob,{me}"), "bob", "b.md"),
                (me.to_string(), "me", "m.md"),
            ] {
                let path = format!("notes/{spelled}");
                assert_eq!(rig.readlink(&path).unwrap(), canonical, "{spelled}");
                assert!(rig.read(&format!("{path}/{file}")).is_ok(), "{spelled}");
            }
            let messages = format!("messages/{me},bob");
            assert_eq!(rig.readlink(&messages).unwrap(), "bob");
            assert_eq!(rig.list(&format!("messages/{me}")), Err(libc::ENOENT));
        }
        // It shows in no listing.
        assert_eq!(
            rig.list("notes").unwrap(),
            ["bob", "bob,carol", "carol", "me", "unverified"]
        );
        assert_eq!(rig.list("messages/me,bob"), Err(libc::ENOENT));
    });
}

#[test]
fn a_contact_of_my_name_is_not_me() {
    let home = Home::new();
    let (me, other) = (Person::new("Bob"), Person::new("Carol"));
    let namesake = openpgp_namesake("Bob <bob@elsewhere.org>");
    let store = make_store(
        home.dir.path(),
        &[("me", &me), ("other", &other), ("namesake", &namesake)],
    );
    let rig = InProcess::of(&me, home, store);
    rig.write("notes/bob,carol/x", b"three of us").unwrap();
    assert_eq!(rig.list("notes/bob,carol").unwrap(), ["x"]);
    assert!(rig.readlink("notes/bob,carol").is_err());
    // By address I am still told apart.
    assert_eq!(
        rig.readlink("notes/bob@example.org,carol").unwrap(),
        "carol"
    );
    assert_eq!(rig.readlink("notes/bob@elsewhere.org").unwrap(), "bob");
}

fn openpgp_namesake(user_id: &str) -> Person {
    let new = dds::openpgp::generate(user_id, None, dds::openpgp::Profile::Compatible).unwrap();
    Person {
        identity: dds::openpgp::Identity::unlock(&new.secret, None).unwrap(),
        secret: new.secret.to_vec(),
    }
}

#[test]
fn a_group_with_somebody_unknown_is_a_problem_until_it_is_mended() {
    needs!(mount);
    let cast = Cast::new();
    let groups =
        "[groups]\nteam = [\"alice\", \"bob\", \"carol\"]\nclub = [\"bob\", \"mallory\"]\n";
    let rig = Mounted::new(&cast, groups);
    let status = || String::from_utf8(rig.read(".dds/status").unwrap()).unwrap();
    let problem = "problem: the group club has a member mallory, who is no contact";
    assert!(status().contains(problem), "{}", status());
    assert_eq!(status().matches("problem: the group").count(), 1);
    assert_eq!(rig.list("notes/club"), Err(libc::ENOENT));
    assert!(told(&rig, "notes/club")[0].contains("the group club has a member mallory"));
    // My own name in a group is me, as in any audience.
    rig.write("notes/team/plan.md", b"ours").unwrap();
    assert_eq!(rig.readlink("notes/bob,carol").unwrap(), "team");
    assert_eq!(rig.list("notes/teem"), Err(libc::ENOENT));
    assert!(told(&rig, "notes/teem")[0].contains("did you mean notes/team"));
    rig.write("keys/mallory.asc", &cast.mallory.certificate().to_armored())
        .unwrap();
    rig.write("notes/club/plan.md", b"theirs").unwrap();
    assert!(!status().contains("problem: the group"), "{}", status());
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
    needs!(mount);
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
    needs!(mount);
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
