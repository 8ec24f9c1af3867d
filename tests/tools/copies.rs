//! cp, rsync, mv, tar, zip: trees are copied and moved with their modes and times.

use super::desk::World;
use crate::support::people::{Blob, Person, blobs};
use crate::support::programs::assert_quiet;
use crate::support::rig::Rig as _;
use dds::ids::{BlobKind, Folder};

/// Makes a tree of files with modes and times in `$OUT/tree`.
const TREE: &str = r#"
    mkdir -p $OUT/tree/deep/er $OUT/tree/empty
    seq 5 > $OUT/tree/five
    : > $OUT/tree/nothing
    printf '#!/bin/sh\necho "it runs"\n' > $OUT/tree/deep/script
    head -c 300000 /dev/urandom > $OUT/tree/deep/er/large
    echo umlaut > "$OUT/tree/deep/er/Übung und Leerzeichen.txt"
    chmod 700 $OUT/tree/deep/script
    chmod 400 $OUT/tree/five
    touch -d '2001-02-03 04:05:06.789012345' $OUT/tree/five
    touch -d '1999-12-31 23:59:59' $OUT/tree/deep/er/large
"#;

/// Compares a tree with the one that `TREE` made. Times of directories are not kept.
const SAME_TREE: &str = r#"
    same_tree() {
        diff -r $OUT/tree "$1"
        facts() {
            cd "$1"
            find . -type d -printf '%p %m\n' -o -printf '%p %m %s %T@\n' | sort
        }
        diff <(facts $OUT/tree) <(facts "$1")
    }
"#;

#[test]
fn cp_keeps_trees_modes_and_times() {
    needs!(mount, "cp", "find");
    let mut world = World::new();
    world.run(&format!("{TREE} cp -a $OUT/tree copy; cp -a copy again"));
    world.holds(&format!(
        "{SAME_TREE} same_tree copy; same_tree again; [[ $(copy/deep/script) == 'it runs' ]]"
    ));
    // A file that only me can read is copied out as it is.
    world.run("cp -a copy $OUT/back; diff -r copy $OUT/back");
    // What cannot be there is refused by name, and the rest is copied.
    let (code, said) = world.attempt("ln -s five $OUT/tree/link; cp -a $OUT/tree linked");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot create symbolic link"), "{said}");
    world.holds("diff -r copy linked");
}

#[test]
fn rsync_copies_once() {
    needs!(mount, "rsync");
    let mut world = World::new();
    world.run(TREE);
    world.run("rsync -a $OUT/tree/ copy");
    let before = world.notes();
    // Directories' times are not kept, so they are left out; of files nothing is sent again.
    let again = "rsync -aiO $OUT/tree/ copy";
    assert_eq!(world.run(again), "");
    let sent = world.run("rsync -ai $OUT/tree/ copy");
    assert!(!sent.lines().any(|line| line.starts_with('>')), "{sent}");
    assert_eq!(world.notes(), before);
    world.holds(&format!("{SAME_TREE} same_tree copy"));
    assert_eq!(world.run(again), "");
    assert_eq!(world.notes(), before);
    // A file that is replaced is one new blob. One that is changed in place gets its time after it
    // was closed, which is another one.
    for (n, (option, saves)) in [("", 1), ("--inplace", 2), ("--append", 2)]
        .into_iter()
        .enumerate()
    {
        world.assert_saves(saves, option, || {
            let script = format!(
                "echo more >> $OUT/tree/deep/script
                 touch -d @10000000{n} $OUT/tree/deep/script
                 [[ $(rsync -aiO {option} $OUT/tree/ copy | wc -l) == 1 ]]"
            );
            world.run(&script);
        });
    }
    world.run("chmod 600 $OUT/tree/five; rm $OUT/tree/nothing; rsync -aO --delete $OUT/tree/ copy");
    world.holds(&format!("{SAME_TREE} same_tree copy"));
    // Modes for others cannot be kept, and are not sent again and again either.
    let before = world.notes();
    world.run("chmod 644 $OUT/tree/five; rsync -aO $OUT/tree/ copy");
    assert_eq!(world.notes(), before);
}

#[test]
fn certificates_are_copied_in_by_whatever_program_and_under_any_name() {
    needs!(mount, "cp", "install", "mv", "rsync", "cmp");
    let mut world = World::new();
    let people: Vec<Person> = (0..8).map(|n| Person::new(&format!("Guest{n}"))).collect();
    let out = world.rig.home.path("elsewhere");
    for (n, command) in [
        "cp $FROM $TO",
        "cp -p $FROM $TO",
        "cp -a $FROM $TO/",
        "install -m 644 $FROM $TO",
        "cp $FROM $OUT/moved && mv $FROM $TO && mv $OUT/moved $FROM",
        "rsync -a $FROM $TO",
        "rsync -a --inplace $FROM $TO",
        "rsync -rtp --chmod=F600 $FROM $TO/",
    ]
    .iter()
    .enumerate()
    {
        let certificate = people[n].certificate();
        let stored = format!("{}.asc", people[n].fingerprint());
        for (name, bytes) in [
            (format!("guest{n}.cert"), certificate.to_bytes()),
            (format!("guest{n}.gpg"), certificate.to_bytes()),
            (stored.clone(), certificate.to_armored()),
        ] {
            std::fs::write(out.join(&name), bytes).unwrap();
            // Twice, as people do who are not sure.
            for time in ["once", "twice"] {
                let places = format!("FROM=$OUT/{name}\nTO=$VIEW/keys\n");
                let (code, said) = world.attempt(&format!("{places}{command}"));
                assert_eq!(code, Some(0), "{command} {name} {time}: {said}");
                assert!(!said.contains("rror"), "{command} {name} {time}: {said}");
            }
        }
        let keys = world.run("ls -A $VIEW/keys");
        assert!(keys.contains(&stored), "{command}: {keys}");
        let armored = certificate.to_armored();
        std::fs::write(out.join("expected"), armored).unwrap();
        world.run(&format!("cmp $OUT/expected $VIEW/keys/{stored}"));
        world.run(&format!("ls -d $VIEW/messages/guest{n}"));
    }
    // Nothing that programs wrote aside is left, in the store or in the view.
    let listed = world.run("ls -A $VIEW/keys");
    let strange = listed.lines().find(|name| {
        let extensions = [".asc", ".gpg"];
        name.starts_with('.') || !extensions.iter().any(|one| name.ends_with(one))
    });
    assert_eq!(strange, None, "{listed}");
    world.rig.remount();
    assert_eq!(world.run("ls -A $VIEW/keys"), listed);
    assert_quiet(&world.rig);
}

#[test]
fn archives_unpack_and_pack() {
    needs!(mount, "tar", "zip", "unzip");
    let mut world = World::new();
    world.run(TREE);
    world.run(
        "tar cf $OUT/a.tar --format=posix -C $OUT tree; (cd $OUT; zip -qr a.zip tree)
         tar xf $OUT/a.tar; mv tree tar; unzip -q $OUT/a.zip; mv tree zip",
    );
    world.holds(&format!(
        "{SAME_TREE} same_tree tar; diff -r $OUT/tree zip; [[ $(zip/deep/script) == 'it runs' ]]
         [[ $(stat -c %Y zip/deep/er/large) == $(stat -c %Y $OUT/tree/deep/er/large) ]]"
    ));
    world.run("tar czf a.tgz tar; (cd tar; zip -qr ../a.zip .); zip -q a.zip a.tgz");
    world.holds(
        "[[ $(tar tzf a.tgz) == *large* ]]; unzip -qt a.zip
         rm -rf $OUT/x; mkdir $OUT/x; tar xzf a.tgz -C $OUT/x; diff -r $OUT/x/tar tar",
    );
}

#[test]
fn mv_moves_within_and_between_audiences() {
    needs!(mount, "mv", "find");
    let mut world = World::new();
    let lunch = Blob::new(
        BlobKind::Message,
        &world.cast.bob,
        &[&world.cast.bob, &world.cast.me],
        "lunch.txt",
    );
    let lunch = lunch.content(b"at noon?\n");
    lunch.deliver(world.rig.store(), Folder::Messages);

    world.run(&format!(
        "{TREE} cp -a $OUT/tree tree; echo single > single"
    ));
    world.run("mv single renamed; mv tree moved; mv moved/deep .; mv deep moved/");
    world.holds(&format!(
        "{SAME_TREE} same_tree moved; [[ $(cat renamed) == single ]]"
    ));

    // To another audience everything is encrypted anew, and the originals go.
    let shared = "notes/bob,carol";
    world.run("mv renamed ../bob,carol/single; mv moved ../bob,carol/tree; [[ -z $(ls -A) ]]");
    world.holds(&format!(
        "{SAME_TREE} same_tree ../bob,carol/tree; [[ $(cat ../bob,carol/single) == single ]]
         [[ -z $(ls -A) ]]"
    ));
    let readers = |path: &str| world.rig.xattr(path, "user.dds.to").unwrap();
    for file in ["single", "tree/deep/script"] {
        assert_eq!(readers(&format!("{shared}/{file}")), "bob,carol,me");
    }

    // What others can read is kept for them.
    let (code, said) = world.attempt("mv ../bob,carol/single ../bob/");
    assert_eq!(code, Some(1), "{said}");
    world.holds("[[ $(cat ../bob,carol/single ../bob/single) == $'single\\nsingle' ]]");

    // A received message becomes a note of mine, and is gone where it was.
    world.run("mv ../../messages/bob/lunch.txt .");
    world.holds("[[ $(cat lunch.txt) == 'at noon?' ]]; [[ -z $(ls -A ../../messages/bob) ]]");
    assert!(blobs(world.rig.store(), Folder::Messages).is_empty());

    // A message is composed at leisure, and sent by moving it.
    world.run("echo draft > letter; echo more >> letter; mv letter ../../messages/bob/");
    assert_eq!(blobs(world.rig.store(), Folder::Messages).len(), 1);
    world.holds("[[ $(cat ../../messages/bob/letter) == $'draft\\nmore' ]]; [[ ! -e letter ]]");
}
