//! Real Syncthing between people who are seldom there at the same time: files that they write,
//! remove and edit travel by way of an always-on device that has no keys.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::support::mount::{Home, Mount, wait_for};
use crate::support::people::{Person, make_store};
use crate::support::programs::{assert_only_blobs, full};
use crate::support::syncthing::{Device, wait_synced};
use crate::support::watch::Watch;

/// Somebody with a key, a device and a mount. Each is online or not, mounted or not.
struct Member {
    /// Goes first, or its directory could not be removed.
    mount: Option<Mount>,
    device: Device,
    home: Home,
}

impl Member {
    /// Somebody whose store holds nothing but her own certificate.
    fn new(name: &'static str) -> Member {
        let home = Home::new();
        let person = Person::new(name);
        let store = make_store(home.dir.path(), &[(name, &person)]);
        let config = home.path(".config/dds");
        std::fs::create_dir_all(&config).unwrap();
        person.install_identity(&config);
        Member {
            mount: None,
            device: Device::new(name, &store),
            home,
        }
    }

    fn mount(&mut self) {
        let mut command = self.home.dds_mount();
        command.arg("--store").arg(self.device.folder());
        self.mount = Some(Mount::start(command, &self.home.path("secure")));
    }

    fn unmount(&mut self) {
        let (code, said) = self.mount.take().unwrap().unmount();
        assert_eq!(code, Some(0), "{said}");
    }

    fn remount(&mut self) {
        self.unmount();
        self.mount();
    }

    fn come(&mut self) {
        self.mount();
        self.device.start();
    }

    fn go(&mut self) {
        self.unmount();
        self.device.stop();
    }

    fn path(&self, path: &str) -> PathBuf {
        self.mount.as_ref().unwrap().path(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        std::fs::write(self.path(path), bytes).unwrap();
    }

    fn read(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.path(path)).unwrap()
    }

    fn remove(&self, path: &str) {
        std::fs::remove_file(self.path(path)).unwrap();
    }

    fn list(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(path)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// What a directory shows, by name.
    fn contents(&self, path: &str) -> BTreeMap<String, Vec<u8>> {
        let names = self.list(path).into_iter();
        names
            .map(|name| {
                let content = self.read(&format!("{path}/{name}"));
                (name, content)
            })
            .collect()
    }

    /// Waits until every saved blob is durable and every replaced one is gone.
    fn settle(&self) {
        let notes = std::fs::File::open(self.path("notes")).unwrap();
        notes.sync_all().unwrap();
    }

    fn status(&self) -> String {
        String::from_utf8(self.read(".dds/status")).unwrap()
    }
}

/// Alice, Bob, the device between them that is always on, and one that is seldom seen.
struct World {
    alice: Member,
    bob: Member,
    relay: Device,
    stale: Device,
    /// The folders of the devices that belong to nobody.
    _homes: [Home; 2],
}

impl World {
    /// All have met and have each other's certificates: Alice and Bob are online, and only by way
    /// of the relay. The fourth device is off. `None` where this cannot be tested, which is said
    /// loudly.
    fn new() -> World {
        let [mut alice, mut bob] = ["Alice", "Bob"].map(Member::new);
        let homes = [Home::new(), Home::new()];
        let stores = [&homes[0], &homes[1]].map(|home| make_store(home.dir.path(), &[]));
        let mut relay = Device::new("relay", &stores[0]);
        let mut stale = Device::new("stale", &stores[1]);
        for device in [&mut alice.device, &mut bob.device, &mut stale] {
            Device::introduce(device, &mut relay);
        }
        relay.start();
        alice.come();
        bob.come();
        let world = World {
            alice,
            bob,
            relay,
            stale,
            _homes: homes,
        };
        world.wait("the certificates", || {
            let has = |member: &Member, other| member.list("notes").iter().any(|one| one == other);
            has(&world.alice, "bob") && has(&world.bob, "alice")
        });
        world
    }

    fn devices(&self) -> [&Device; 4] {
        [
            &self.alice.device,
            &self.relay,
            &self.bob.device,
            &self.stale,
        ]
    }

    #[track_caller]
    fn wait(&self, what: &str, condition: impl FnMut() -> bool) {
        wait_synced(what, &self.devices(), condition);
    }

    /// Asserts that no synchroniser had to make a copy of anything, and that the stores hold
    /// nothing but whole blobs.
    #[track_caller]
    fn assert_clean(&self) {
        for device in self.devices() {
            assert_no_conflict_copy(device.folder());
            assert_only_blobs(device.folder());
        }
    }
}

#[track_caller]
fn assert_no_conflict_copy(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert!(!name.contains("sync-conflict"), "{:?}", entry.path());
        if entry.file_type().unwrap().is_dir() {
            assert_no_conflict_copy(&entry.path());
        }
    }
}

#[test]
fn a_message_is_fetched_later_read_and_removed_for_both() {
    needs!(mount, "syncthing");
    let mut world = World::new();
    world.bob.go();

    // Alice writes and goes offline; the device without keys has it then, and it only.
    let text = b"The pier, at noon.\n";
    world.alice.write("messages/bob/lunch.txt", text);
    let sent = world.alice.device.files("messages");
    assert_eq!(sent.len(), 1);
    world.wait("the message at the relay", || {
        world.relay.files("messages") == sent
    });
    world.alice.go();
    let sealed = std::fs::read(world.relay.folder().join("messages").join(&sent[0])).unwrap();
    assert!(!sealed.windows(8).any(|part| part == b"The pier"));

    // Bob comes later, and sees it appear in his running mount.
    world.bob.mount();
    assert!(world.bob.list("messages/alice").is_empty());
    world.bob.device.start();
    world.wait("the message in Bob's view", || {
        world.bob.list("messages/alice") == ["lunch.txt"]
    });
    assert_eq!(world.bob.read("messages/alice/lunch.txt"), text);

    // He removes it and goes offline.
    world.bob.remove("messages/alice/lunch.txt");
    assert!(world.bob.list("messages/alice").is_empty());
    world.wait("the removal at the relay", || {
        world.relay.files("messages").is_empty()
    });
    world.bob.go();

    // Alice returns, and it goes from her running mount.
    world.alice.mount();
    assert_eq!(world.alice.list("messages/bob"), ["lunch.txt"]);
    assert_eq!(world.alice.read("messages/bob/lunch.txt"), text);
    world.alice.device.start();
    world.wait("the removal in Alice's view", || {
        world.alice.list("messages/bob").is_empty()
    });
    assert!(world.alice.device.files("messages").is_empty());
    world.alice.remount();
    assert!(world.alice.list("messages/bob").is_empty());
    world.assert_clean();
}

#[test]
fn both_edit_one_note_offline_and_both_see_both() {
    needs!(mount, "syncthing");
    let mut world = World::new();
    world.alice.write("notes/bob/plan.md", b"a plan\n");
    world.wait("the note in Bob's view", || {
        world.bob.list("notes/alice") == ["plan.md"]
    });
    let rounds = if full() { 8 } else { 1 };
    for round in 1..=rounds {
        let [alices, bobs] = [(); 2].map(|()| random_content());
        edit_both_offline(&mut world, &alices, &bobs);
        settle_conflict(&world, round % 2 == 0);
    }
}

/// Both edit the note while their devices are off; then both are online again.
fn edit_both_offline(world: &mut World, alices: &[u8], bobs: &[u8]) {
    world.alice.device.stop();
    world.bob.device.stop();
    for (member, path, content) in [
        (&world.alice, "notes/bob/plan.md", alices),
        (&world.bob, "notes/alice/plan.md", bobs),
    ] {
        member.write(path, content);
        member.settle();
        assert_eq!(member.device.files("notes").len(), 1);
        assert!(member.read(path) == content);
    }
    world.alice.device.start();
    world.bob.device.start();
    world.wait("both versions at every device", || {
        let [alice, relay, bob, _] = world.devices().map(|device| device.files("notes"));
        alice.len() == 2 && alice == relay && alice == bob
    });
    // Both see both, and what they wrote themselves keeps its name as long as they look at it.
    for (member, path, own, others) in [
        (&world.alice, "notes/bob", alices, bobs),
        (&world.bob, "notes/alice", bobs, alices),
    ] {
        wait_for("both versions in the view", || member.list(path).len() == 2);
        let mut shown = member.contents(path);
        assert!(shown.remove("plan.md").as_deref() == Some(own));
        let (name, content) = shown.pop_first().unwrap();
        assert!(name.starts_with("plan (conflict, "), "{name}");
        assert!(content == others, "{name}");
    }
    // Whoever looks anew sees both under the same names.
    world.alice.remount();
    world.bob.remount();
    let names = world.alice.list("notes/bob");
    assert_eq!(names, world.bob.list("notes/alice"));
    assert!(names.len() == 2 && names[1] == "plan.md", "{names:?}");
    assert!(world.alice.contents("notes/bob") == world.bob.contents("notes/alice"));
    world.assert_clean();
}

/// One of them removes the conflict copy; then both have one version again, the same.
fn settle_conflict(world: &World, by_alice: bool) {
    let (member, path) = match by_alice {
        true => (&world.alice, "notes/bob"),
        false => (&world.bob, "notes/alice"),
    };
    let kept = member.read(&format!("{path}/plan.md"));
    let names = member.list(path);
    let copy = names.iter().find(|name| *name != "plan.md").unwrap();
    member.remove(&format!("{path}/{copy}"));
    world.wait("the settled conflict", || {
        let blobs = world.devices().map(|device| device.files("notes").len());
        let shown = [(&world.alice, "notes/bob"), (&world.bob, "notes/alice")]
            .map(|(member, path)| member.list(path) == ["plan.md"]);
        blobs[..3] == [1; 3] && shown == [true; 2]
    });
    assert!(world.alice.read("notes/bob/plan.md") == kept);
    assert!(world.bob.read("notes/alice/plan.md") == kept);
    world.assert_clean();
}

/// Up to 64 KiB of text that nobody has seen before.
fn random_content() -> Vec<u8> {
    let mut random = std::fs::File::open("/dev/urandom").unwrap();
    let mut bytes = [0; 18];
    random.read_exact(&mut bytes).unwrap();
    let line = bytes.map(|byte| format!("{byte:02x}")).concat() + "\n";
    let lines = 1 + usize::from(u16::from_le_bytes([bytes[0], bytes[1]])) % 1700;
    line.repeat(lines).into_bytes()
}

#[test]
fn a_removed_message_that_a_stale_device_brings_back_goes_again() {
    needs!(mount, "syncthing");
    let mut world = World::new();
    // The fourth device gets the message, and is away when Bob removes it.
    world.stale.start();
    world.alice.write("messages/bob/lunch.txt", b"at noon");
    let sent = world.alice.device.files("messages");
    world.wait("the message at every device", || {
        world
            .devices()
            .iter()
            .all(|device| device.files("messages") == sent)
    });
    world.stale.stop();
    wait_for("the message in Bob's view", || {
        world.bob.list("messages/alice") == ["lunch.txt"]
    });
    world.bob.remove("messages/alice/lunch.txt");
    world.wait("the removal", || {
        let files = world.devices().map(|device| device.files("messages"));
        files[..3].iter().all(Vec::is_empty) && world.alice.list("messages/bob").is_empty()
    });
    assert_eq!(world.stale.files("messages"), sent);
    let told = format!("message {} came back and was removed again", &sent[0][..40]);
    assert!(!world.bob.status().contains(&told));

    let backup = std::fs::read(world.stale.folder().join("messages").join(&sent[0])).unwrap();

    // It returns without memory of what it was told: to the others the message is new.
    let watch = Watch::new(&world.bob.device.folder().join("messages"));
    let mut appeared = Vec::new();
    world.stale.forget();
    world.stale.start();
    world.wait("the message to come back and to go again", || {
        appeared.extend(watch.appeared());
        assert!(world.bob.list("messages/alice").is_empty());
        appeared.contains(&sent[0])
            && world
                .devices()
                .iter()
                .all(|device| device.files("messages").is_empty())
    });
    assert!(world.bob.status().contains(&told), "{}", world.bob.status());
    world.assert_clean();

    // Somebody restores it from a backup while Bob is not mounted: his next mount does not show it.
    world.bob.unmount();
    let restored = world.stale.folder().join("messages").join(&sent[0]);
    std::fs::write(restored, backup).unwrap();
    world.wait("the message to come back", || {
        world.bob.device.files("messages") == sent
            && world.alice.list("messages/bob") == ["lunch.txt"]
    });
    world.bob.mount();
    assert!(world.bob.list("messages/alice").is_empty());
    world.wait("the message to go again", || {
        let files = world.devices().map(|device| device.files("messages"));
        files.iter().all(Vec::is_empty) && world.alice.list("messages/bob").is_empty()
    });
    assert!(world.bob.status().contains(&told), "{}", world.bob.status());
    world.assert_clean();
}
