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
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::support::disk::Disk;
use crate::support::gnupg::Gnupg;
use crate::support::mount::{Home, Mount, wait_for};
use crate::support::programs::run;
use crate::support::scene::Scene;

/// Bytes of the disk on which the small store is.
const DISK: u64 = 512 << 10;
/// The contacts in each scene.
const CONTACTS: [&str; 2] = ["bob", "carol"];

/// A store, perhaps on a disk of its own, and its mount. Fields are dropped in their order.
struct Saving {
    mount: Option<Mount>,
    disk: Option<Disk>,
    scene: Scene,
}

impl Saving {
    fn on_small_disk() -> Saving {
        let mut saving = Self::on(Some(DISK));
        saving.start();
        saving
    }

    /// A store that is not mounted yet, on a disk of so many bytes.
    fn on(disk: Option<u64>) -> Saving {
        let home = Home::new();
        let disk = disk.map(|bytes| Disk::in_memory(&home.path("store"), bytes));
        let dir = home.dir.path().to_owned();
        Saving {
            mount: None,
            disk,
            scene: Scene::with_store_in(home, &dir, &CONTACTS),
        }
    }

    fn start(&mut self) {
        self.start_by(self.scene.home.dds_mount());
    }

    fn start_by(&mut self, command: Command) {
        let command = self.scene.arguments(command);
        self.mount = Some(Mount::start(command, &self.scene.mountpoint()));
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
        let folders = ["messages", "notes"].map(|folder| self.scene.store.join(folder));
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
    needs!(mount, disk);
    let saving = Saving::on_small_disk();
    for path in [
        "notes/me/plan.md",
        "notes/bob,carol/plan.md",
        "messages/bob/plan.md",
        "messages/bob,carol/plan.md",
    ] {
        let (old, new) = (text(100), text(30_000));
        assert_eq!(save(&saving.path(path), &old, false), Ok(()));
        let mut before = saving.stored();
        // Full at once, or in the middle of the file.
        for (left, sync) in [(0, false), (8192, false), (0, true), (8192, true)] {
            saving.disk().fill(left);
            let saved = save(&saving.path(path), &new, sync);
            assert_eq!(saved, Err(libc::ENOSPC), "{path}, {left} left, {sync}");
            assert!(saving.stored() == before, "{path}: the store changed");
            assert!(saving.read(path) == new, "{path}: the draft is lost");
            saving.assert_told(path, "No space left on device");
            saving.assert_unsaved(1);
            saving.disk().free();
            if path.starts_with("notes") {
                // As soon as there is room.
                saving.assert_unsaved(0);
                assert!(saving.read(path) == new, "{path}");
                saving.assert_told(path, "it is saved now");
                assert_eq!(save(&saving.path(path), &old, true), Ok(()));
                before = saving.stored();
            }
        }
        if path.starts_with("messages") {
            // Nothing is sent behind the writer's back: what is tried again would be by now, as
            // this note shows.
            let note = "notes/me/other.md";
            saving.disk().fill(0);
            assert_eq!(save(&saving.path(note), &new, false), Err(libc::ENOSPC));
            saving.disk().free();
            saving.assert_unsaved(1);
            let unsent = saving.stored().len() - 1;
            assert_eq!(unsent, before.len(), "{path}: sent by itself");
            std::fs::remove_file(saving.path(note)).unwrap();
        }
        assert_eq!(save(&saving.path(path), &new, false), Ok(()), "{path}");
        let after = saving.stored();
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
        assert!(saving.read(path) == new, "{path}");
        saving.assert_unsaved(0);
    }
}

#[test]
fn a_new_file_that_does_not_fit_is_a_draft_until_it_is_saved_or_removed() {
    needs!(mount, disk);
    let mut saving = Saving::on_small_disk();
    let new = text(30_000);
    saving.disk().fill(0);
    let paths = ["notes/me/new", "messages/bob/new", "messages/bob,carol/new"];
    for path in paths {
        assert_eq!(save(&saving.path(path), &new, false), Err(libc::ENOSPC));
        assert!(saving.read(path) == new, "{path}");
        assert!(saving.stored().is_empty());
        let made = std::fs::create_dir(saving.path("notes/me/directory"));
        assert_eq!(made.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    }
    saving.assert_unsaved(3);
    std::fs::remove_file(saving.path(paths[1])).unwrap();
    saving.assert_unsaved(2);
    assert_eq!(save(&saving.path(paths[1]), &new, false), Err(libc::ENOSPC));
    saving.disk().free();
    // What nobody saved again is kept for its writer, and sent to nobody.
    let (code, said) = saving.mount.take().unwrap().unmount();
    assert_eq!(code, Some(0), "{said}");
    saving.start();
    let sent = saving.stored();
    assert!(
        !sent.keys().any(|name| name.contains("/messages/")),
        "sent by itself"
    );
    let mut rescued: Vec<_> = std::fs::read_dir(saving.path(".dds/rescued"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    rescued.retain(|path| std::fs::read(path).unwrap() == new);
    assert_eq!(rescued.len() + sent.len(), 3);
}

#[test]
fn a_read_only_store_refuses_every_change_and_keeps_the_draft() {
    needs!(mount, disk);
    let saving = Saving::on_small_disk();
    for path in ["notes/me/plan.md", "messages/bob/plan.md"] {
        let (old, new) = (text(100), text(5_000));
        assert_eq!(save(&saving.path(path), &old, true), Ok(()));
        let before = saving.stored();
        saving.disk().remount("ro");
        for sync in [false, true] {
            assert_eq!(
                save(&saving.path(path), &new, sync),
                Err(libc::EROFS),
                "{path}"
            );
            assert!(saving.read(path) == new, "{path}");
            saving.assert_told(path, "Read-only file system");
            saving.assert_unsaved(1);
        }
        let errno = |result: std::io::Result<()>| result.unwrap_err().raw_os_error();
        let moved = saving.path(&format!("{path}.moved"));
        let renamed = std::fs::rename(saving.path(path), moved);
        assert_eq!(errno(renamed), Some(libc::EROFS), "{path}");
        let removed = std::fs::remove_file(saving.path(path));
        assert_eq!(errno(removed), Some(libc::EROFS), "{path}");
        assert!(saving.read(path) == new, "{path}");
        assert!(saving.stored() == before, "{path}");
        saving.disk().remount("rw");
        assert_eq!(save(&saving.path(path), &new, false), Ok(()), "{path}");
        assert_eq!(saving.stored().len(), before.len(), "{path}");
        std::fs::remove_file(saving.path(path)).unwrap();
        assert!(saving.stored().is_empty(), "{path}");
    }
}

#[test]
fn a_folder_that_may_not_be_written_to_is_access_denied() {
    needs!(mount, "setpriv");
    let mut saving = Saving::on(None);
    let program = env!("CARGO_BIN_EXE_dds-mount");
    let command = if rustix::process::geteuid().is_root() {
        // A superuser who heeds permissions like anybody else.
        let mut command = saving.scene.home.command("setpriv");
        let without = "--bounding-set=-dac_override,-dac_read_search";
        command.args([without, program]);
        command
    } else {
        saving.scene.home.dds_mount()
    };
    saving.start_by(command);
    let allow = |mode: u32| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(saving.scene.store.join("notes"), mode).unwrap();
    };
    let path = "notes/me/plan.md";
    assert_eq!(save(&saving.path(path), b"old", false), Ok(()));
    let before = saving.stored();
    allow(0o500);
    for sync in [false, true] {
        assert_eq!(save(&saving.path(path), b"new", sync), Err(libc::EACCES));
        assert_eq!(saving.read(path), b"new");
        saving.assert_told(path, "Permission denied");
        saving.assert_unsaved(1);
    }
    assert!(saving.stored() == before);
    allow(0o700);
    assert_eq!(save(&saving.path(path), b"new", false), Ok(()));
    assert_eq!(saving.stored().len(), 1);
    saving.assert_unsaved(0);
}

#[test]
fn vim_shows_the_error_keeps_its_buffer_and_saves_when_there_is_room() {
    needs!("vim");
    needs!(mount, disk);
    let saving = Saving::on_small_disk();
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
        assert_eq!(save(&saving.path(&path), b"first line\n", false), Ok(()));
        let before = saving.stored();
        saving.disk().fill(0);
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
            saving.scene.store.display()
        );
        let told = run(&saving.scene.home, &saving.path(""), &script);
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines[1..], ["1 2000", "0 2000"], "{set}: {told}");
        assert!(lines[0].starts_with("Vim(write):E"), "{set}: {told}");
        let count = std::fs::read_to_string(saving.scene.home.path("count")).unwrap();
        assert_eq!(count.trim(), before.len().to_string(), "{set}");
        saving.assert_told(&path, "No space left on device");
        assert_eq!(
            saving
                .read(&path)
                .iter()
                .filter(|byte| **byte == b'\n')
                .count(),
            2000
        );
        assert_eq!(saving.stored().len(), before.len(), "{set}");
        saving.assert_unsaved(0);
        std::fs::remove_file(saving.path(&path)).unwrap();
    }
}

#[test]
fn a_key_that_expires_while_a_file_is_open_fails_the_close_and_nothing_is_sent() {
    needs!(mount, "gpg");
    let mut saving = Saving::on(None);
    let gnupg = Gnupg::new("");
    let erin = saving.scene.store.join("keys/erin.gpg");
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
    saving.start();
    let paths = [
        ("notes/erin/closed", false),
        ("notes/bob,erin/synced", true),
        ("messages/erin/closed", false),
        ("messages/bob,erin/closed", false),
        ("messages/erin/synced", true),
    ];
    let open = paths.map(|(path, _)| File::create(saving.path(path)).unwrap());
    wait_for("the key to expire", || {
        born.elapsed().unwrap() > Duration::from_secs(seconds + 1)
    });
    for (file, (path, sync)) in open.into_iter().zip(paths) {
        assert_eq!(
            finish(file, b"secret plan", sync),
            Err(libc::EKEYEXPIRED),
            "{path}"
        );
        assert_eq!(saving.read(path), b"secret plan");
        saving.assert_told(path, "erin");
        saving.assert_told(path, "expired");
    }
    assert!(saving.stored().is_empty(), "sent with an expired key");
    saving.assert_unsaved(paths.len());
    // The key is prolonged; what failed waits for its writer all the same.
    let key = gnupg.fingerprint("erin");
    gnupg.run(&["--quick-set-expire", &key, "1y"]);
    gnupg.run(&["--quick-set-expire", &key, "1y", "*"]);
    deliver();
    assert!(saving.stored().is_empty(), "sent by itself");
    saving.assert_unsaved(paths.len());
    for (path, sync) in paths {
        assert_eq!(
            save(&saving.path(path), b"secret plan 2", sync),
            Ok(()),
            "{path}"
        );
    }
    saving.assert_unsaved(0);
    assert_eq!(saving.stored().len(), paths.len() + 1);
}

/// Drafts that cannot be saved, however many, leave room for everything else.
#[test]
fn many_drafts_on_a_full_disk_use_up_no_descriptors() {
    const LIMIT: u64 = 64;
    const DRAFTS: usize = 100;
    needs!(mount, disk);
    let mut saving = Saving::on(Some(DISK));
    let mut command = saving.scene.home.dds_mount();
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
    saving.start_by(command);
    save(&saving.path("notes/me/keep"), b"keep", false).unwrap();
    std::fs::create_dir(saving.path("notes/me/photos")).unwrap();
    saving.disk().fill(0);
    let name = |number: usize| format!("notes/me/photos/{number}");
    for number in 0..DRAFTS {
        let content = vec![number as u8; 280_000];
        let saved = save(&saving.path(&name(number)), &content, false);
        assert_eq!(saved, Err(libc::ENOSPC), "{number}");
    }
    saving.assert_told(&name(DRAFTS - 1), "No space left on device");
    let list = || {
        std::fs::read_dir(saving.path("notes/me/photos"))
            .unwrap()
            .count()
    };
    assert_eq!(list(), DRAFTS);
    assert_eq!(saving.read("notes/me/keep"), b"keep");
    assert_eq!(saving.read(&name(7)), vec![7; 280_000]);
    // What is removed makes room, though the disk is full.
    for number in DRAFTS / 2..DRAFTS {
        std::fs::remove_file(saving.path(&name(number))).unwrap();
    }
    assert_eq!(list(), DRAFTS / 2);
    saving.assert_unsaved(DRAFTS / 2);
    let (code, said) = saving.mount.take().unwrap().unmount();
    assert_eq!(
        said.matches("kept for you").count(),
        DRAFTS / 2,
        "{code:?} {said}"
    );
    saving.disk().free();
    saving.start();
    let rescued = std::fs::read_dir(saving.path(".dds/rescued")).unwrap();
    assert_eq!(rescued.count(), DRAFTS / 2);
    assert_eq!(saving.read(".dds/rescued/7"), vec![7; 280_000]);
}

/// Each file of `software/` that is open takes a descriptor of the daemon.
#[test]
fn open_files_of_software_leave_descriptors_for_everything_else() {
    needs!(mount);
    let mut saving = Saving::on(None);
    std::fs::write(saving.scene.store.join("software/tool"), "#!").unwrap();
    let mut command = saving.scene.home.dds_mount();
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
    saving.start_by(command);
    let tool = saving.path("software/tool");
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
    saving.assert_told("software/tool", "open at once");
    save(&saving.path("notes/bob/new"), b"new", true).unwrap();
    assert_eq!(saving.read("notes/bob/new"), b"new");
    open.clear();
    wait_for("the closed ones to be let go", || File::open(&tool).is_ok());
}
