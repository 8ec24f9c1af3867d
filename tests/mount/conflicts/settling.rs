//! How a conflict ends: by removing, editing or renaming one of its versions.

use super::*;
use crate::support::rig::Rig as _;

#[test]
fn removing_the_conflict_copy_settles_it_for_both() {
    for settler in [0, 1] {
        needs!(mount);
        let mut world = in_conflict();
        let side = &world.sides[settler];
        let kept = side.read("plan.md");
        // The other one is the note itself, and is kept.
        assert_eq!(side.rig.remove(&side.at("plan.md")), Err(libc::EPERM));
        side.rig.remove(&side.at(&side.conflict())).unwrap();
        world.settle_and_sync();
        world.wait_contents(&[&kept]);
        assert_eq!(world.remount(), tree(&[("plan.md", &kept)]));
        world.assert_blobs(1);
    }
}

/// How programs save, as scripts that write `merged` into the file `$F`.
const SAVES: [&str; 5] = [
    r#"read -r seen < "$F" || true; printf merged > "$F""#,
    r#"save "$F" .goutputstream-ABCDEF"#,
    r#"save "$F" new.tmp"#,
    r#"perl -e 'open F, "<", $ARGV[0]; <F>; rename $ARGV[0], "$ARGV[0]~" or die; open G, ">", $ARGV[0];
        print G "merged"; close G or die; unlink "$ARGV[0]~" or die' "$F""#,
    r#"cat "$F" > /dev/null; sed -i 's/.*/merged/' "$F""#,
];

/// Reads a file, writes another, and renames it over the first.
const SAVE: &str = r#"save() {
    perl -e 'open F, "<", $ARGV[0]; <F>; open G, ">", $ARGV[1]; print G "merged";
        close G or die; rename $ARGV[1], $ARGV[0] or die' "$1" "$2"
}"#;

#[test]
fn editing_the_conflict_copy_settles_it_for_both() {
    for (round, save) in SAVES.into_iter().enumerate() {
        needs!(mount);
        let mut world = in_conflict();
        let side = &world.sides[round % 2];
        side.shell(&format!("{SAVE}\nF={:?}\n{save}", side.conflict()));
        assert_eq!(side.tree(""), tree(&[("plan.md", b"merged")]), "{save}");
        assert!(!side.is_conflict("plan.md"));
        world.settle_and_sync();
        world.wait_tree(&[("plan.md", b"merged")]);
        assert_eq!(world.remount(), tree(&[("plan.md", b"merged")]));
        world.assert_blobs(1);
    }
}

/// Reads the note, waits, and empties and writes it without having read it again.
const BLIND: &str = r#"read -r seen < trip.md || true; pause; printf "carol's" > trip.md"#;

/// Bob's note, which Carol has read, changed by Bob and then by Carol, who has not seen it.
fn with_blind_save() -> World {
    let mut world = World::of(&["Bob", "Carol"], "");
    world.sides[0].write("trip.md", b"first");
    world.settle_and_sync();
    world.wait_tree(&[("trip.md", b"first")]);
    let mut carol = world.sides[1].begin(BLIND);
    carol.pause();
    world.sides[0].write("trip.md", b"bob's");
    world.settle_and_sync();
    world.wait_tree(&[("trip.md", b"bob's")]);
    next_second();
    carol.end();
    world.settle_and_sync();
    world.wait_contents(&[b"bob's", b"carol's"]);
    assert_eq!(world.sides[1].read("trip.md"), b"carol's");
    world
}

#[test]
fn regression_who_did_not_settle_a_conflict_keeps_the_notes_name() {
    // The merge arrives before the removal of the other version, after it, and with it.
    for order in 0..3 {
        needs!(mount);
        let mut world = with_blind_save();
        let bob = &world.sides[0];
        let (merge, copy) = (bob.at("trip.md"), bob.at(&bob.conflict()));
        next_second();
        if order == 1 {
            bob.rig.remove(&copy).unwrap();
            world.settle_and_sync();
            world.wait_tree(&[("trip.md", b"bob's")]);
        }
        let bob = &world.sides[0];
        bob.rig.append(&merge, b" and carol's").unwrap();
        if order == 0 {
            world.settle_and_sync();
            world.wait_contents(&[b"bob's and carol's", b"carol's"]);
        }
        if order != 1 {
            world.sides[0].rig.remove(&copy).unwrap();
        }
        world.settle_and_sync();
        world.wait_tree(&[("trip.md", b"bob's and carol's")]);
        let carol = &world.sides[1];
        assert!(!carol.is_conflict("trip.md"));
        // What is appended there is the note, not another one.
        carol.shell("echo ' more' >> trip.md");
        world.settle_and_sync();
        world.wait_tree(&[("trip.md", b"bob's and carol's more\n")]);
        world.assert_blobs(1);
        world.remount();
    }
}

#[test]
fn the_status_names_conflicts_until_they_are_settled() {
    needs!(mount);
    let mut world = in_conflict();
    for side in &world.sides {
        let copy = side.at(&side.conflict());
        let told = format!(
            "problem: {copy} is another version of {}",
            side.at("plan.md")
        );
        let status = side.rig.read(".dds/status").unwrap();
        let status = String::from_utf8(status).unwrap();
        assert!(
            status.lines().any(|line| line.starts_with(&told)),
            "{status}"
        );
    }
    let side = &world.sides[0];
    side.rig.remove(&side.at(&side.conflict())).unwrap();
    world.settle_and_sync();
    world.wait_contents(&[b"alice's"]);
    for side in &world.sides {
        let status = side.rig.read(".dds/status").unwrap();
        assert!(
            !String::from_utf8(status)
                .unwrap()
                .contains("another version")
        );
    }
}

#[test]
fn the_version_that_is_left_has_the_name() {
    needs!(mount);
    let mut world = World::of_one();
    world.sides[0].write("plan.md", b"first");
    world.settle_and_sync();
    world.wait_tree(&[("plan.md", b"first")]);
    world.sides[0].write("plan.md", b"one");
    world.sides[1].write("plan.md", b"two");
    world.settle_and_sync();
    world.wait_contents(&[b"one", b"two"]);
    // The names that a program has listed are there until it has removed them all.
    let side = &world.sides[0];
    let kept = side.read(&side.conflict());
    side.rig.remove(&side.at("plan.md")).unwrap();
    world.settle_and_sync();
    world.wait_tree(&[("plan.md", &kept)]);
    world.assert_blobs(1);
}

#[test]
fn a_name_that_a_program_frees_is_free_for_it() {
    needs!(mount);
    let mut world = World::of_one();
    let both: [&[u8]; 2] = [b"one", b"two"];
    // Removed and made anew, as tar and git do: not in the place of the other version.
    let anew = r#"perl -e 'unlink "plan.md" or die; use Fcntl;
        sysopen F, "plan.md", O_WRONLY | O_CREAT | O_EXCL or die $!; print F "anew"; close F or die'"#;
    for script in [anew, "rm *", "perl -e 'unlink or die for <*>'"] {
        world.sides[0].write("plan.md", b"first");
        world.settle_and_sync();
        world.wait_tree(&[("plan.md", b"first")]);
        for (side, edit) in world.sides.iter().zip(both) {
            side.write("plan.md", edit);
        }
        world.settle_and_sync();
        world.wait_contents(&both);
        let side = &world.sides[0];
        side.shell(script);
        if script == anew {
            world.settle_and_sync();
            world.wait_contents(&[b"anew", b"two"]);
            world.sides[0].shell("rm *");
        }
        world.settle_and_sync();
        world.wait_tree(&[]);
    }
}

#[test]
fn of_two_notes_of_one_name_the_one_that_is_left_has_it() {
    needs!(mount);
    let mut world = World::of_one();
    world.sides[0].write("plan.md", b"one");
    world.sides[1].write("plan.md", b"two");
    world.settle_and_sync();
    world.wait_contents(&[b"one", b"two"]);
    let side = &world.sides[0];
    let open = std::fs::File::open(side.rig.mount().path(&side.at("plan (alice).md"))).unwrap();
    let from = side.at("plan.md");
    side.rig.rename(&from, &side.at("other.md")).unwrap();
    // What is open keeps its name.
    assert_eq!(side.list(), ["other.md", "plan (alice).md"]);
    drop(open);
    world.settle_and_sync();
    world.wait_tree(&[("other.md", b"one"), ("plan.md", b"two")]);
    assert_eq!(
        world.remount(),
        tree(&[("other.md", b"one"), ("plan.md", b"two")])
    );
}

#[test]
fn who_renames_the_conflict_copy_has_two_notes() {
    needs!(mount);
    let mut world = in_conflict();
    let side = &world.sides[0];
    let from = side.at(&side.conflict());
    side.rig.rename(&from, &side.at("bobs plan.md")).unwrap();
    let both: [(&str, &[u8]); 2] = [("bobs plan.md", b"bob's"), ("plan.md", b"alice's")];
    assert_eq!(side.tree(""), tree(&both));
    world.settle_and_sync();
    world.wait_contents(&[b"alice's", b"bob's"]);
    assert_eq!(world.remount(), tree(&both));
    for side in &world.sides {
        assert!(side.list().iter().all(|name| !side.is_conflict(name)));
    }
    world.assert_blobs(2);
}

#[test]
fn who_renames_it_over_the_note_settles_it() {
    needs!(mount);
    let mut world = in_conflict();
    let side = &world.sides[0];
    let from = side.at(&side.conflict());
    side.rig.rename(&from, &side.at("plan.md")).unwrap();
    world.settle_and_sync();
    world.wait_contents(&[b"bob's"]);
    assert_eq!(world.remount(), tree(&[("plan.md", b"bob's")]));
    world.assert_blobs(1);
}

#[test]
fn three_versions_are_all_there_and_settled_one_by_one() {
    needs!(mount);
    let mut world = World::of(&["Alice", "Bob", "Carol"], "");
    world.sides[0].write("plan.md", b"first");
    world.settle_and_sync();
    world.wait_tree(&[("plan.md", b"first")]);
    let edits: [&[u8]; 3] = [b"alice's", b"bob's", b"carol's"];
    for (side, edit) in world.sides.iter().zip(edits) {
        side.write("plan.md", edit);
    }
    world.settle_and_sync();
    world.wait_contents(&edits);
    let all = world.remount();
    assert_eq!(all.len(), 3);
    assert!(all.contains_key("plan.md"));
    let copies = all.keys().filter(|name| world.sides[1].is_conflict(name));
    let copies: Vec<_> = copies.collect();
    assert_eq!(copies.len(), 2);
    // Alice edits one of the copies without having heard that Bob removes the other.
    let [alice, bob] = [0, 1].map(|side| &world.sides[side]);
    alice.write(copies[0], b"merged");
    bob.rig.remove(&bob.at(copies[1])).unwrap();
    world.settle_and_sync();
    world.wait_tree(&[("plan.md", b"merged")]);
    world.assert_blobs(1);
}

#[test]
fn what_arrives_after_the_copy_was_read_is_no_part_of_what_it_settles() {
    needs!(mount);
    let mut world = World::of(&["Alice", "Bob", "Carol"], "");
    world.sides[0].write("plan.md", b"first");
    world.settle_and_sync();
    world.wait_tree(&[("plan.md", b"first")]);
    let edits: [&[u8]; 3] = [b"alice's", b"bob's", b"carol's"];
    for (side, edit) in world.sides.iter().zip(edits) {
        side.write("plan.md", edit);
        side.rig.settle();
    }
    let carol = world.sides.pop().unwrap();
    world.sync();
    world.wait_contents(&edits[..2]);
    // A process reads it, Carol's edit arrives, and that process saves.
    let copy = world.sides[0].conflict();
    let script =
        format!("F={copy:?}; read -r seen < \"$F\" || true; pause; printf merged > \"$F\"");
    let mut process = world.sides[0].begin(&script);
    process.pause();
    world.sides.push(carol);
    world.sync();
    world.wait_contents(&edits);
    process.end();
    world.settle_and_sync();
    world.wait_contents(&[b"merged", edits[2]]);
    world.remount();
    world.assert_blobs(2);
}
