//! Saves that fail: the disk is full or read-only, or a key expires while a file is open. The call
//! that can say so fails, nothing of the save is in the store, the old version and the draft are
//! both there, and once the cause is gone saving works: a note is saved by itself then, and no
//! message is ever sent later.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::IntoRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::support::gnupg::{self, Gnupg};
use crate::support::mount::{Home, Mount, can_mount, skipped, wait_for};
use crate::support::people::{Person, make_store};
use crate::support::programs::{installed, run};

/// Bytes of the disk on which the small store is.
const DISK: u64 = 512 << 10;
/// The contacts in each scene.
const CONTACTS: [&str; 2] = ["bob", "carol"];

/// A tmpfs of its own.
struct Disk(PathBuf);

impl Disk {
    /// Needs root. `None` where it cannot be, which is said loudly.
    fn new(directory: &Path) -> Option<Disk> {
        std::fs::create_dir_all(directory).unwrap();
        let size = format!("size={DISK},mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "dds-test"])
            .arg(directory)
            .stderr(Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Disk(directory.to_owned()));
        }
        skipped("a store on a full or read-only disk: only root can make a small one");
        None
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Fills it up but for so many bytes.
    fn fill(&self, left: u64) {
        let mut file = File::create(self.filler()).unwrap();
        let full = loop {
            match file.write(&[0; 4096]) {
                Ok(0) => panic!("nothing is written and nothing is wrong"),
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
        let size = file.metadata().unwrap().len();
        file.set_len(size - left).unwrap();
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        let status = Command::new("mount")
            .args(["-o", &option])
            .arg(&self.0)
            .status();
        assert!(status.unwrap().success(), "{option}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A store, perhaps on a disk of its own, and its mount. Fields are dropped in their order.
struct Scene {
    mount: Option<Mount>,
    disk: Option<Disk>,
    store: PathBuf,
    home: Home,
}

impl Scene {
    fn on_small_disk() -> Option<Scene> {
        if !can_mount() {
            return None;
        }
        let home = Home::new();
        let disk = Disk::new(&home.path("store"))?;
        let mut scene = Scene::of(home, Some(disk));
        scene.start();
        Some(scene)
    }

    /// A store that is not mounted yet.
    fn of(home: Home, disk: Option<Disk>) -> Scene {
        let me = Person::new("Alice");
        let contacts = CONTACTS.map(|name| (name, Person::new(name)));
        let mut people: Vec<_> = contacts
            .iter()
            .map(|(name, person)| (*name, person))
            .collect();
        people.push(("me", &me));
        let store = make_store(home.dir.path(), &people);
        std::fs::write(home.path("secret.asc"), &me.secret).unwrap();
        Scene {
            mount: None,
            disk,
            store,
            home,
        }
    }

    fn start(&mut self) {
        self.start_by(self.home.dds_mount());
    }

    fn start_by(&mut self, mut command: Command) {
        command.arg("--store").arg(&self.store);
        command.arg("--key").arg(self.home.path("secret.asc"));
        self.mount = Some(Mount::start(command, &self.home.path("secure")));
    }

    fn disk(&self) -> &Disk {
        self.disk.as_ref().unwrap()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.mount.as_ref().unwrap().path(path)
    }

    fn read(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.path(path)).unwrap()
    }

    fn told(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!(".dds/{name}"))).unwrap()
    }

    #[track_caller]
    fn assert_told(&self, path: &str, words: &str) {
        let told = self.told("errors");
        let line = told
            .lines()
            .rfind(|line| line.contains(&format!(" {path}: ")));
        let line = line.unwrap_or_else(|| panic!("nothing about {path}: {told}"));
        assert!(line.contains(words), "{line}");
    }

    #[track_caller]
    fn assert_unsaved(&self, count: usize) {
        let line = format!("unsaved files: {count}");
        wait_for(&line, || {
            self.told("status").lines().any(|said| said == line)
        });
    }

    /// All that is in `messages/` and `notes/` of the store, once it is settled.
    fn stored(&self) -> BTreeMap<String, Vec<u8>> {
        for folder in ["messages", "notes"] {
            // Looks at the store anew; then waits for what is to be unlinked. A disk that is full
            // or read-only may fail it.
            std::fs::read_dir(self.path(folder)).unwrap().count();
            let _ = File::open(self.path(folder)).unwrap().sync_all();
        }
        let folders = ["messages", "notes"].map(|folder| self.store.join(folder));
        let entries = folders
            .iter()
            .flat_map(|folder| std::fs::read_dir(folder).unwrap());
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .map(|path| (path.display().to_string(), std::fs::read(path).unwrap()))
            .collect()
    }
}

/// Writes to an open file and closes it; the first call that fails says why.
fn finish(mut file: File, bytes: &[u8], sync: bool) -> Result<(), i32> {
    let errno = |error: std::io::Error| error.raw_os_error().unwrap();
    file.write_all(bytes).map_err(errno)?;
    let synced = if sync { file.sync_all() } else { Ok(()) };
    // SAFETY: the descriptor is ours, and nothing uses it afterwards.
    let closed = match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    };
    synced.and(closed).map_err(errno)
}

fn save(path: &Path, bytes: &[u8], sync: bool) -> Result<(), i32> {
    let file = File::create(path).map_err(|error| error.raw_os_error().unwrap())?;
    finish(file, bytes, sync)
}

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|i| b'a' + (i * i % 25) as u8).collect()
}

#[test]
fn on_a_full_disk_close_and_fsync_fail_and_both_versions_are_kept() {
    let Some(scene) = Scene::on_small_disk() else {
        return;
    };
    for path in [
        "notes/me/plan.md",
        "notes/bob,carol/plan.md",
        "messages/bob/plan.md",
        "messages/bob,carol/plan.md",
    ] {
        let (old, new) = (text(100), text(30_000));
        assert_eq!(save(&scene.path(path), &old, false), Ok(()));
        let mut before = scene.stored();
        // Full at once, or in the middle of the file.
        for (left, sync) in [(0, false), (8192, false), (0, true), (8192, true)] {
            scene.disk().fill(left);
            let saved = save(&scene.path(path), &new, sync);
            assert_eq!(saved, Err(libc::ENOSPC), "{path}, {left} left, {sync}");
            assert!(scene.stored() == before, "{path}: the store changed");
            assert!(scene.read(path) == new, "{path}: the draft is lost");
            scene.assert_told(path, "No space left on device");
            scene.assert_unsaved(1);
            scene.disk().free();
            if path.starts_with("notes") {
                // As soon as there is room.
                scene.assert_unsaved(0);
                assert!(scene.read(path) == new, "{path}");
                scene.assert_told(path, "it is saved now");
                assert_eq!(save(&scene.path(path), &old, true), Ok(()));
                before = scene.stored();
            }
        }
        if path.starts_with("messages") {
            // Nothing is sent behind the writer's back: what is tried again would be by now, as
            // this note shows.
            let note = "notes/me/other.md";
            scene.disk().fill(0);
            assert_eq!(save(&scene.path(note), &new, false), Err(libc::ENOSPC));
            scene.disk().free();
            scene.assert_unsaved(1);
            let unsent = scene.stored().len() - 1;
            assert_eq!(unsent, before.len(), "{path}: sent by itself");
            std::fs::remove_file(scene.path(note)).unwrap();
        }
        assert_eq!(save(&scene.path(path), &new, false), Ok(()), "{path}");
        let after = scene.stored();
        assert_eq!(after.len(), before.len(), "{path}");
        let kept = after
            .keys()
            .filter(|name| before.contains_key(*name))
            .count();
        let copies = if path == "messages/bob,carol/plan.md" {
            2
        } else {
            1
        };
        assert_eq!(before.len() - kept, copies, "{path}");
        assert!(scene.read(path) == new, "{path}");
        scene.assert_unsaved(0);
    }
}

#[test]
fn a_new_file_that_does_not_fit_is_a_draft_until_it_is_saved_or_removed() {
    let Some(mut scene) = Scene::on_small_disk() else {
        return;
    };
    let new = text(30_000);
    scene.disk().fill(0);
    let paths = ["notes/me/new", "messages/bob/new", "messages/bob,carol/new"];
    for path in paths {
        assert_eq!(save(&scene.path(path), &new, false), Err(libc::ENOSPC));
        assert!(scene.read(path) == new, "{path}");
        assert!(scene.stored().is_empty());
        let made = std::fs::create_dir(scene.path("notes/me/directory"));
        assert_eq!(made.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    }
    scene.assert_unsaved(3);
    std::fs::remove_file(scene.path(paths[1])).unwrap();
    scene.assert_unsaved(2);
    assert_eq!(save(&scene.path(paths[1]), &new, false), Err(libc::ENOSPC));
    scene.disk().free();
    // What nobody saved again is kept for its writer, and sent to nobody.
    let (code, said) = scene.mount.take().unwrap().unmount();
    assert_eq!(code, Some(0), "{said}");
    scene.start();
    let sent = scene.stored();
    assert!(
        !sent.keys().any(|name| name.contains("/messages/")),
        "sent by itself"
    );
    let mut rescued: Vec<_> = std::fs::read_dir(scene.path(".dds/rescued"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    rescued.retain(|path| std::fs::read(path).unwrap() == new);
    assert_eq!(rescued.len() + sent.len(), 3);
}

#[test]
fn a_read_only_store_refuses_every_change_and_keeps_the_draft() {
    let Some(scene) = Scene::on_small_disk() else {
        return;
    };
    for path in ["notes/me/plan.md", "messages/bob/plan.md"] {
        let (old, new) = (text(100), text(5_000));
        assert_eq!(save(&scene.path(path), &old, true), Ok(()));
        let before = scene.stored();
        scene.disk().remount("ro");
        for sync in [false, true] {
            assert_eq!(
                save(&scene.path(path), &new, sync),
                Err(libc::EROFS),
                "{path}"
            );
            assert!(scene.read(path) == new, "{path}");
            scene.assert_told(path, "Read-only file system");
            scene.assert_unsaved(1);
        }
        let errno = |result: std::io::Result<()>| result.unwrap_err().raw_os_error();
        let moved = scene.path(&format!("{path}.moved"));
        let renamed = std::fs::rename(scene.path(path), moved);
        assert_eq!(errno(renamed), Some(libc::EROFS), "{path}");
        let removed = std::fs::remove_file(scene.path(path));
        assert_eq!(errno(removed), Some(libc::EROFS), "{path}");
        assert!(scene.read(path) == new, "{path}");
        assert!(scene.stored() == before, "{path}");
        scene.disk().remount("rw");
        assert_eq!(save(&scene.path(path), &new, false), Ok(()), "{path}");
        assert_eq!(scene.stored().len(), before.len(), "{path}");
        std::fs::remove_file(scene.path(path)).unwrap();
        assert!(scene.stored().is_empty(), "{path}");
    }
}

#[test]
fn a_folder_that_may_not_be_written_to_is_access_denied() {
    if !can_mount() || !installed(&["setpriv"]) {
        return;
    }
    let mut scene = Scene::of(Home::new(), None);
    let program = env!("CARGO_BIN_EXE_dds-mount");
    let command = if rustix::process::geteuid().is_root() {
        // A superuser who heeds permissions like anybody else.
        let mut command = scene.home.command("setpriv");
        let without = "--bounding-set=-dac_override,-dac_read_search";
        command.args([without, program]);
        command
    } else {
        scene.home.dds_mount()
    };
    scene.start_by(command);
    let allow = |mode: u32| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(scene.store.join("notes"), mode).unwrap();
    };
    let path = "notes/me/plan.md";
    assert_eq!(save(&scene.path(path), b"old", false), Ok(()));
    let before = scene.stored();
    allow(0o500);
    for sync in [false, true] {
        assert_eq!(save(&scene.path(path), b"new", sync), Err(libc::EACCES));
        assert_eq!(scene.read(path), b"new");
        scene.assert_told(path, "Permission denied");
        scene.assert_unsaved(1);
    }
    assert!(scene.stored() == before);
    allow(0o700);
    assert_eq!(save(&scene.path(path), b"new", false), Ok(()));
    assert_eq!(scene.stored().len(), 1);
    scene.assert_unsaved(0);
}

#[test]
fn vim_shows_the_error_keeps_its_buffer_and_saves_when_there_is_room() {
    if !installed(&["vim"]) {
        return;
    }
    let Some(scene) = Scene::on_small_disk() else {
        return;
    };
    for (n, set) in [
        "set nofsync",
        "set fsync",
        "set backup backupcopy=no",
        "set backup backupcopy=yes",
        "set nobackup nowritebackup",
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("notes/me/plan {n}.md");
        assert_eq!(save(&scene.path(&path), b"first line\n", false), Ok(()));
        let before = scene.stored();
        scene.disk().fill(0);
        let script = format!(
            "cat > $HOME/session.vim <<'END'
call setline(1, map(range(2000), '\"line \" . v:val'))
let told = []
try | w | catch | call add(told, v:exception) | endtry
call add(told, &modified . ' ' . line('$'))
call system('ls ' . $STORE . '/notes | wc -l > $HOME/count; rm ' . $STORE . '/filler')
w
call add(told, &modified . ' ' . line('$'))
call writefile(told, $HOME . '/told')
q!
END
export STORE='{}'
vim -N -es -u NONE -i NONE --cmd 'set swapfile directory=. backupskip=' --cmd '{set}' \
    -S $HOME/session.vim '{path}' || echo vim ended with $? >> $HOME/told
rm -f 'notes/me/plan {n}.md~'; cat $HOME/told",
            scene.store.display()
        );
        let told = run(&scene.home, &scene.path(""), &script);
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines[1..], ["1 2000", "0 2000"], "{set}: {told}");
        assert!(lines[0].starts_with("Vim(write):E"), "{set}: {told}");
        let count = std::fs::read_to_string(scene.home.path("count")).unwrap();
        assert_eq!(count.trim(), before.len().to_string(), "{set}");
        scene.assert_told(&path, "No space left on device");
        assert_eq!(
            scene
                .read(&path)
                .iter()
                .filter(|byte| **byte == b'\n')
                .count(),
            2000
        );
        assert_eq!(scene.stored().len(), before.len(), "{set}");
        scene.assert_unsaved(0);
        std::fs::remove_file(scene.path(&path)).unwrap();
    }
}

#[test]
fn a_key_that_expires_while_a_file_is_open_fails_the_close_and_nothing_is_sent() {
    if !can_mount() || !gnupg::installed("gpg") {
        return;
    }
    let mut scene = Scene::of(Home::new(), None);
    let gnupg = Gnupg::new("");
    let erin = scene.store.join("keys/erin.gpg");
    let deliver = || std::fs::write(&erin, gnupg.certificate("erin")).unwrap();
    let seconds = 8;
    let validity = format!("seconds={seconds}");
    let make = [
        "--quick-gen-key",
        "erin <erin@example.org>",
        "future-default",
        "default",
    ];
    gnupg.run(&[&make[..], &[&validity]].concat());
    let born = SystemTime::now();
    deliver();
    scene.start();
    let paths = [
        ("notes/erin/closed", false),
        ("notes/bob,erin/synced", true),
        ("messages/erin/closed", false),
        ("messages/bob,erin/closed", false),
        ("messages/erin/synced", true),
    ];
    let open = paths.map(|(path, _)| File::create(scene.path(path)).unwrap());
    wait_for("the key to expire", || {
        born.elapsed().unwrap() > Duration::from_secs(seconds + 1)
    });
    for (file, (path, sync)) in open.into_iter().zip(paths) {
        assert_eq!(
            finish(file, b"secret plan", sync),
            Err(libc::EKEYEXPIRED),
            "{path}"
        );
        assert_eq!(scene.read(path), b"secret plan");
        scene.assert_told(path, "erin");
        scene.assert_told(path, "expired");
    }
    assert!(scene.stored().is_empty(), "sent with an expired key");
    scene.assert_unsaved(paths.len());
    // The key is prolonged; what failed waits for its writer all the same.
    let key = gnupg.fingerprint("erin");
    gnupg.run(&["--quick-set-expire", &key, "1y"]);
    gnupg.run(&["--quick-set-expire", &key, "1y", "*"]);
    deliver();
    assert!(scene.stored().is_empty(), "sent by itself");
    scene.assert_unsaved(paths.len());
    for (path, sync) in paths {
        assert_eq!(
            save(&scene.path(path), b"secret plan 2", sync),
            Ok(()),
            "{path}"
        );
    }
    scene.assert_unsaved(0);
    assert_eq!(scene.stored().len(), paths.len() + 1);
}

/// Drafts that cannot be saved, however many, leave room for everything else.
#[test]
fn many_drafts_on_a_full_disk_use_up_no_descriptors() {
    const LIMIT: u64 = 64;
    const DRAFTS: usize = 100;
    if !can_mount() {
        return;
    }
    let home = Home::new();
    let Some(disk) = Disk::new(&home.path("store")) else {
        return;
    };
    let mut scene = Scene::of(home, Some(disk));
    let mut command = scene.home.dds_mount();
    // SAFETY: only a system call is made between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let limit = rustix::process::Rlimit {
                current: Some(LIMIT),
                maximum: Some(LIMIT),
            };
            Ok(rustix::process::setrlimit(
                rustix::process::Resource::Nofile,
                limit,
            )?)
        });
    }
    scene.start_by(command);
    save(&scene.path("notes/me/keep"), b"keep", false).unwrap();
    std::fs::create_dir(scene.path("notes/me/photos")).unwrap();
    scene.disk().fill(0);
    let name = |number: usize| format!("notes/me/photos/{number}");
    for number in 0..DRAFTS {
        let content = vec![number as u8; 280_000];
        let saved = save(&scene.path(&name(number)), &content, false);
        assert_eq!(saved, Err(libc::ENOSPC), "{number}");
    }
    scene.assert_told(&name(DRAFTS - 1), "No space left on device");
    let list = || {
        std::fs::read_dir(scene.path("notes/me/photos"))
            .unwrap()
            .count()
    };
    assert_eq!(list(), DRAFTS);
    assert_eq!(scene.read("notes/me/keep"), b"keep");
    assert_eq!(scene.read(&name(7)), vec![7; 280_000]);
    // What is removed makes room, though the disk is full.
    for number in DRAFTS / 2..DRAFTS {
        std::fs::remove_file(scene.path(&name(number))).unwrap();
    }
    assert_eq!(list(), DRAFTS / 2);
    scene.assert_unsaved(DRAFTS / 2);
    let (code, said) = scene.mount.take().unwrap().unmount();
    assert_eq!(
        said.matches("kept for you").count(),
        DRAFTS / 2,
        "{code:?} {said}"
    );
    scene.disk().free();
    scene.start();
    let rescued = std::fs::read_dir(scene.path(".dds/rescued")).unwrap();
    assert_eq!(rescued.count(), DRAFTS / 2);
    assert_eq!(scene.read(".dds/rescued/7"), vec![7; 280_000]);
}

/// Each file of `software/` that is open takes a descriptor of the daemon.
#[test]
fn open_files_of_software_leave_descriptors_for_everything_else() {
    if !can_mount() {
        return;
    }
    let mut scene = Scene::of(Home::new(), None);
    std::fs::write(scene.store.join("software/tool"), "#!").unwrap();
    let mut command = scene.home.dds_mount();
    // SAFETY: only a system call is made between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let limit = rustix::process::Rlimit {
                current: Some(32),
                maximum: Some(128),
            };
            Ok(rustix::process::setrlimit(
                rustix::process::Resource::Nofile,
                limit,
            )?)
        });
    }
    scene.start_by(command);
    let tool = scene.path("software/tool");
    let mut open = Vec::new();
    let refused = loop {
        match File::open(&tool) {
            Ok(file) => open.push(file),
            Err(error) => break error.raw_os_error(),
        }
        assert!(open.len() < 128, "it has no descriptors for so many");
    };
    // More than the soft limit: it was raised.
    assert!(open.len() > 32, "{}", open.len());
    assert_eq!(refused, Some(libc::EBUSY));
    scene.assert_told("software/tool", "open at once");
    save(&scene.path("notes/bob/new"), b"new", true).unwrap();
    assert_eq!(scene.read("notes/bob/new"), b"new");
    open.clear();
    wait_for("the closed ones to be let go", || File::open(&tool).is_ok());
}
