//! Several people change the same notes while nothing is synchronised: nothing is lost, all see the
//! same, and one person settles it for everybody. Real mounts, each over a store of its own.

mod settling;
mod vim;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant, SystemTime};

use crate::support::mount::{Home, PATIENCE, wait_for};
use crate::support::people::{Person, blobs, make_store};
use crate::support::programs::{assert_only_blobs, bash, run};
use crate::support::rig::{Mounted, Rig as _};
use dds::ids::Folder;

/// People, or devices of one person, each with a mount and a store. Nothing moves between the
/// stores but by [`World::sync`].
struct World {
    sides: Vec<Side>,
}

struct Side {
    rig: Mounted,
    /// The files that it had when it was synchronised last.
    known: BTreeSet<(Folder, String)>,
    /// The notes that all sides have in common.
    dir: String,
}

impl World {
    /// Everybody's notes for all the others. `None` where nothing can be mounted.
    fn of(names: &[&str], configuration: &str) -> World {
        let people: Vec<_> = names.iter().map(|name| Person::new(name)).collect();
        let lower: Vec<_> = names.iter().map(|name| name.to_lowercase()).collect();
        let everybody: Vec<_> = lower.iter().map(String::as_str).zip(&people).collect();
        let sides = people.iter().zip(&lower).map(|(person, me)| {
            let others = lower.iter().filter(|name| *name != me).cloned();
            let others: Vec<_> = others.collect();
            let dir = format!("notes/{}", others.join(","));
            Side::new(person, &everybody, dir, configuration)
        });
        let sides = sides.collect();
        World { sides }
    }

    /// Two devices of one person, and her notes for herself.
    fn of_one() -> World {
        let me = Person::new("Alice");
        let device = || Side::new(&me, &[("alice", &me)], "notes/me".to_owned(), "");
        let sides = vec![device(), device()];
        World { sides }
    }

    /// Brings the stores in step as a synchroniser does: a file that was removed anywhere is
    /// removed everywhere, and every other one is copied to everybody.
    fn sync(&mut self) {
        let mut all = BTreeMap::new();
        let mut removed = BTreeSet::new();
        for side in &self.sides {
            let files = side.files();
            removed.extend(side.known.difference(&files).cloned());
            let paths = files.into_iter().map(|file| (side.path(&file), file));
            all.extend(paths.map(|(path, file)| (file, path)));
        }
        all.retain(|file, _| !removed.contains(file));
        for side in &mut self.sides {
            let files = side.files();
            for (_, from) in all.iter().filter(|(file, _)| !files.contains(*file)) {
                side.arrives(from);
            }
            for file in removed.intersection(&files) {
                std::fs::remove_file(side.path(file)).unwrap();
            }
            side.known = all.keys().cloned().collect();
        }
    }

    /// Waits until everybody shows files with these contents, whatever their names.
    #[track_caller]
    fn wait_contents(&self, expected: &[&[u8]]) {
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        self.wait_shown(|tree| {
            let mut contents: Vec<_> = tree.values().map(Vec::as_slice).collect();
            contents.sort_unstable();
            contents == expected
        });
    }

    /// Waits until everybody shows exactly these files.
    #[track_caller]
    fn wait_tree(&self, expected: &[(&str, &[u8])]) {
        let expected = tree(expected);
        self.wait_shown(|tree| *tree == expected);
    }

    #[track_caller]
    fn wait_shown(&self, expected: impl Fn(&BTreeMap<String, Vec<u8>>) -> bool) {
        let trees = || self.sides.iter().map(|side| side.tree(""));
        let begun = Instant::now();
        while !trees().all(|tree| expected(&tree)) {
            if begun.elapsed() > PATIENCE {
                let trees = trees().map(|tree| {
                    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                    let tree = tree.into_iter().map(|(name, bytes)| (name, text(bytes)));
                    tree.collect::<Vec<_>>()
                });
                panic!("waited too long: {:#?}", trees.collect::<Vec<_>>());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Makes every save durable, and synchronises.
    fn settle_and_sync(&mut self) {
        for side in &self.sides {
            side.rig.settle();
        }
        self.sync();
    }

    /// Everybody mounts anew: all show the same under the same names.
    #[track_caller]
    fn remount(&mut self) -> BTreeMap<String, Vec<u8>> {
        for side in &mut self.sides {
            side.rig.remount();
        }
        let trees = self.sides.iter().map(|side| side.tree(""));
        let trees: Vec<_> = trees.collect();
        for tree in &trees {
            assert_eq!(tree, &trees[0], "not everybody sees the same");
        }
        trees.into_iter().next().unwrap()
    }

    /// All stores hold the same so many whole blobs and nothing else.
    #[track_caller]
    fn assert_blobs(&self, count: usize) {
        for side in &self.sides {
            side.rig.settle();
            assert_eq!(assert_only_blobs(side.rig.store()), count);
            assert_eq!(side.files(), self.sides[0].files());
        }
    }
}

impl Side {
    fn new(person: &Person, everybody: &[(&str, &Person)], dir: String, config: &str) -> Side {
        let home = Home::new();
        let store = make_store(home.dir.path(), everybody);
        let rig = Mounted::of(person, home, store, config);
        let known = BTreeSet::new();
        Side { rig, known, dir }
    }

    fn path(&self, (folder, name): &(Folder, String)) -> PathBuf {
        self.rig.store().join(folder.name()).join(name)
    }

    fn files(&self) -> BTreeSet<(Folder, String)> {
        let folders = Folder::ALL.map(|folder| (folder, blobs(self.rig.store(), folder)));
        let files = folders.into_iter().flat_map(|(folder, names)| {
            let names = names.into_iter().filter(|name| !name.starts_with('.'));
            names.map(move |name| (folder, name))
        });
        files.collect()
    }

    /// Copies a file into the store as a synchroniser does.
    fn arrives(&self, file: &Path) {
        let folder = file.parent().unwrap().file_name().unwrap();
        let folder = self.rig.store().join(folder);
        let temporary = folder.join(".syncthing.test.tmp");
        std::fs::copy(file, &temporary).unwrap();
        std::fs::rename(temporary, folder.join(file.file_name().unwrap())).unwrap();
    }

    fn at(&self, name: &str) -> String {
        match name {
            "" => self.dir.clone(),
            name => format!("{}/{name}", self.dir),
        }
    }

    #[track_caller]
    fn write(&self, name: &str, content: &[u8]) {
        self.rig.write(&self.at(name), content).unwrap();
    }

    #[track_caller]
    fn read(&self, name: &str) -> Vec<u8> {
        self.rig.read(&self.at(name)).unwrap()
    }

    fn list(&self) -> Vec<String> {
        self.rig.list(&self.dir).unwrap()
    }

    /// The name of the one conflict copy.
    #[track_caller]
    fn conflict(&self) -> String {
        let mut names = self.list();
        names.retain(|name| self.is_conflict(name));
        assert_eq!(names.len(), 1, "{names:?} of {:?}", self.list());
        names.remove(0)
    }

    /// Begins a script in the directory of the notes, which waits when it says `pause`.
    fn begin(&self, script: &str) -> Running {
        let [ready, go] = ["ready", "go"].map(|name| self.rig.home.path(name));
        let pause = "touch $HOME/ready; while ! rm $HOME/go; do sleep 0.01; done 2> /dev/null";
        let script = format!("pause() {{ {pause}; }}\n{script}");
        let directory = self.rig.mount().path(&self.dir);
        let process = bash(&self.rig.home, &directory, &script).spawn().unwrap();
        Running { process, ready, go }
    }

    /// Runs a script in the directory of the notes.
    #[track_caller]
    fn shell(&self, script: &str) -> String {
        run(&self.rig.home, &self.rig.mount().path(&self.dir), script)
    }

    fn is_conflict(&self, name: &str) -> bool {
        let attribute = self.rig.xattr(&self.at(name), "user.dds.conflict");
        assert!(matches!(
            attribute.as_deref(),
            Ok("yes") | Err(&libc::ENODATA)
        ));
        attribute.is_ok()
    }

    /// All files below a directory with their content, but for vim's scratch. What goes meanwhile
    /// is left out.
    fn tree(&self, below: &str) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut waiting = vec![below.to_owned()];
        while let Some(dir) = waiting.pop() {
            let mut names = self.rig.list(&self.at(&dir)).unwrap_or_default();
            names.retain(|name| !name.ends_with('~') && !name.ends_with(".swp"));
            for name in names {
                let path = match dir.as_str() {
                    "" => name,
                    dir => format!("{dir}/{name}"),
                };
                match self.rig.read(&self.at(&path)) {
                    Ok(content) => drop(found.insert(path, content)),
                    Err(libc::EISDIR) => waiting.push(path),
                    Err(_) => {}
                }
            }
        }
        found
    }
}

/// A script that goes on when it is told to.
struct Running {
    process: Child,
    ready: PathBuf,
    go: PathBuf,
}

impl Running {
    /// Waits until it pauses.
    fn pause(&mut self) {
        wait_for("the script's pause", || {
            assert!(matches!(self.process.try_wait(), Ok(None)), "it ended");
            std::fs::remove_file(&self.ready).is_ok()
        });
    }

    /// Lets it go on to its next pause.
    fn go_on(&mut self) {
        std::fs::write(&self.go, "").unwrap();
        self.pause();
    }

    /// Lets it go on to its end.
    fn end(mut self) {
        std::fs::write(&self.go, "").unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}

fn tree(files: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
    let files = files.iter();
    files
        .map(|(name, content)| ((*name).to_owned(), content.to_vec()))
        .collect()
}

/// Signatures are timed in seconds.
fn next_second() {
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let begun = now().unwrap().as_secs();
    wait_for("the next second", || now().unwrap().as_secs() > begun);
}

/// Alice's and Bob's note, which both have.
fn with_note(config: &str) -> World {
    let mut world = World::of(&["Alice", "Bob"], config);
    world.sides[0].write("plan.md", b"first");
    world.settle_and_sync();
    world.wait_tree(&[("plan.md", b"first")]);
    world
}

/// The same after both have edited it while nothing was synchronised, Alice first.
fn in_conflict() -> World {
    let mut world = with_note("");
    world.sides[0].write("plan.md", b"alice's");
    next_second();
    world.sides[1].write("plan.md", b"bob's");
    world.settle_and_sync();
    world.wait_contents(&[b"alice's", b"bob's"]);
    world
}

#[test]
fn both_edit_and_both_see_both_under_the_same_names() {
    needs!(mount);
    let mut world = in_conflict();
    // What is shown keeps its name in this mount.
    for (side, own) in world.sides.iter().zip([&b"alice's"[..], b"bob's"]) {
        assert_eq!(side.read("plan.md"), own);
        assert_eq!(side.list().len(), 2);
        assert!(side.conflict().starts_with("plan (conflict, "));
        assert!(!side.is_conflict("plan.md"));
    }
    // Who looks anew sees the newest under the name.
    let both = world.remount();
    assert_eq!(both["plan.md"], b"bob's");
    let copy = world.sides[0].conflict();
    assert_eq!(both[&copy], b"alice's");
    let when = copy.strip_prefix("plan (conflict, alice 20").unwrap();
    assert!(when.ends_with(" UTC).md") && when.len() == "26-11-21 10.15 UTC).md".len());
    world.assert_blobs(2);
}

#[test]
fn a_rename_and_an_edit_lose_nothing() {
    needs!(mount);
    let mut world = with_note("");
    let [alice, bob] = [0, 1].map(|side| &world.sides[side]);
    let (from, to) = (alice.at("plan.md"), alice.at("plan2.md"));
    alice.rig.rename(&from, &to).unwrap();
    bob.write("plan.md", b"bob's");
    world.settle_and_sync();
    world.wait_contents(&[b"first", b"bob's"]);
    let both = world.remount();
    assert_eq!(both.len(), 2);
    let side = &world.sides[1];
    side.rig.remove(&side.at(&side.conflict())).unwrap();
    world.settle_and_sync();
    for side in &world.sides {
        wait_for("the settled conflict", || side.list().len() == 1);
    }
    world.remount();
    world.assert_blobs(1);
}

#[test]
fn a_renamed_directory_and_an_edit_in_it_lose_nothing() {
    needs!(mount);
    let mut world = World::of(&["Alice", "Bob"], "");
    let alice = &world.sides[0];
    alice.rig.mkdir(&alice.at("trip")).unwrap();
    alice.write("trip/plan.md", b"first");
    alice.write("trip/list.md", b"list");
    world.settle_and_sync();
    world.wait_contents(&[b"first", b"list"]);
    let [alice, bob] = [0, 1].map(|side| &world.sides[side]);
    let (from, to) = (alice.at("trip"), alice.at("journey"));
    alice.rig.rename(&from, &to).unwrap();
    bob.write("trip/plan.md", b"bob's");
    bob.write("trip/new.md", b"new");
    world.settle_and_sync();
    world.wait_contents(&[b"first", b"list", b"bob's", b"new"]);
    let all = world.remount();
    assert_eq!(all["journey/list.md"], b"list");
    assert_eq!(all["trip/new.md"], b"new");
    let in_directory = |dir: &str| {
        let mut paths = all.iter().filter(|(path, _)| path.starts_with(dir));
        paths.any(|(path, content)| path.contains("/plan") && !content.is_empty())
    };
    assert!(in_directory("journey/") && in_directory("trip/"), "{all:?}");
    assert_eq!(all.len(), 4);
}

#[test]
fn an_edit_beats_a_removal() {
    // Where shared notes may be removed; and between two devices of one person, who may always.
    needs!(mount);
    let shared = with_note("remove_shared_notes = true\n");
    let mut one = World::of_one();
    one.sides[0].write("plan.md", b"first");
    one.settle_and_sync();
    one.wait_tree(&[("plan.md", b"first")]);
    for mut world in [shared, one] {
        world.sides[0].write("plan.md", b"edited");
        let other = &world.sides[1];
        other.rig.remove(&other.at("plan.md")).unwrap();
        world.settle_and_sync();
        world.wait_tree(&[("plan.md", b"edited")]);
        world.remount();
        world.assert_blobs(1);
        // Removed after it was edited, it is gone.
        let other = &world.sides[1];
        other.rig.remove(&other.at("plan.md")).unwrap();
        world.settle_and_sync();
        world.wait_tree(&[]);
        world.remount();
        world.assert_blobs(0);
    }
}

#[test]
fn equal_edits_are_one() {
    needs!(mount);
    let mut world = with_note("");
    for side in &world.sides {
        side.write("plan.md", b"equal");
    }
    world.settle_and_sync();
    world.assert_blobs(2);
    assert_eq!(world.remount(), tree(&[("plan.md", b"equal")]));
    assert!(!world.sides[0].is_conflict("plan.md"));
    // The next edit replaces both, and so does that of one who has looked all the time.
    world.sides[0].write("plan.md", b"edited");
    world.settle_and_sync();
    world.wait_tree(&[("plan.md", b"edited")]);
    world.assert_blobs(1);
    for side in &world.sides {
        side.write("plan.md", b"equal again");
    }
    world.settle_and_sync();
    world.assert_blobs(2);
    assert_eq!(world.sides[1].list(), ["plan.md"]);
    world.sides[1].write("plan.md", b"edited again");
    world.settle_and_sync();
    world.wait_tree(&[("plan.md", b"edited again")]);
    world.assert_blobs(1);
}

#[test]
fn removing_equal_edits_removes_both() {
    needs!(mount);
    let mut world = World::of_one();
    world.sides[0].write("plan.md", b"first");
    world.settle_and_sync();
    world.wait_tree(&[("plan.md", b"first")]);
    for side in &world.sides {
        side.write("plan.md", b"equal");
    }
    world.settle_and_sync();
    world.assert_blobs(2);
    let side = &world.sides[0];
    assert_eq!(side.list(), ["plan.md"]);
    side.rig.remove(&side.at("plan.md")).unwrap();
    assert_eq!(side.list(), [""; 0]);
    world.settle_and_sync();
    world.wait_tree(&[]);
    world.assert_blobs(0);
}

#[test]
fn names_without_ending_and_long_ones_have_conflict_copies_too() {
    let long = format!("{}.md", "\u{e4}".repeat(126));
    for name in ["Makefile", ".profile", &long] {
        needs!(mount);
        let mut world = World::of(&["Alice", "Bob"], "");
        world.sides[0].write(name, b"first");
        world.settle_and_sync();
        world.wait_tree(&[(name, b"first")]);
        world.sides[0].write(name, b"alice's");
        world.sides[1].write(name, b"bob's");
        world.settle_and_sync();
        world.wait_contents(&[b"alice's", b"bob's"]);
        let all = world.remount();
        let copy = world.sides[0].conflict();
        assert!(copy.len() <= 255 && copy.contains(" (conflict, "), "{copy}");
        assert!(all.contains_key(name) && all.len() == 2);
        world.sides[1].write(&copy, b"merged");
        world.settle_and_sync();
        world.wait_tree(&[(name, b"merged")]);
        assert_eq!(world.remount(), tree(&[(name, b"merged")]));
    }
}
