//! Calls that are not offered, and mknod, of which a part is.

use std::fs::File;
use std::os::fd::AsRawFd as _;

use super::desk::World;
use crate::support::rig::Rig as _;
use crate::support::watch::Watch;
use rustix::fs::{CWD, FileType, Mode};

#[test]
fn mknod_makes_files_and_says_what_it_does_not_make() {
    needs!(mount, "mkfifo", "tar", "cat");
    let mut world = World::new();
    let sent = Watch::new(&world.rig.store().join("messages"));
    let make = |path: &str, kind: FileType| {
        let mode = Mode::from_raw_mode(0o640);
        let made = rustix::fs::mknodat(CWD, world.path(path), kind, mode, 0);
        made.map_err(|errno| errno.raw_os_error())
    };
    let file = FileType::RegularFile;
    make("notes/me/made", file).unwrap();
    assert_eq!(world.notes().len(), 1, "it is there after a crash, too");
    assert_eq!(world.rig.stat("notes/me/made").unwrap().0, 0o600);
    assert_eq!(make("notes/me/made", file), Err(libc::EEXIST));
    // Whoever makes a message so opens it next.
    make("messages/bob/made", file).unwrap();
    assert_eq!(world.rig.size("messages/bob/made").unwrap(), 0);
    assert!(sent.appeared().is_empty());
    world.run("echo hi > ../../messages/bob/made; cat ../../messages/bob/made > made");
    assert_eq!(sent.appeared().len(), 1);
    let key = world.cast.mallory.certificate().to_armored();
    make("keys/mallory.asc", file).unwrap();
    world.rig.write("keys/mallory.asc", &key).unwrap();
    assert_eq!(world.rig.list("messages/mallory"), Ok(Vec::new()));
    for (path, kind, errno, why) in [
        (
            "notes/me/p",
            FileType::Fifo,
            libc::EPERM,
            "named pipes cannot be made here",
        ),
        (
            "notes/me/s",
            FileType::Socket,
            libc::EPERM,
            "sockets cannot be made here",
        ),
        ("notes/x", file, libc::EPERM, "notes go into notes/NAME/"),
        (
            "messages/x",
            FileType::Fifo,
            libc::EPERM,
            "messages go into messages/NAME/",
        ),
        (
            "software/x",
            file,
            libc::EROFS,
            "software/ is read-only here",
        ),
        (
            "notes/me/.Trash-1",
            file,
            libc::EPERM,
            "there is no trash here",
        ),
    ] {
        assert_eq!(make(path, kind), Err(errno), "{path}");
        let told = String::from_utf8(world.rig.read(".dds/errors").unwrap()).unwrap();
        let last = told.lines().last().unwrap_or_default();
        assert!(last.contains(&format!("{path}: {why}")), "{last}");
    }
    // tar makes a file so to set its attributes before it opens it.
    world.run("mkdir $OUT/t; echo a > $OUT/t/plain; echo b > $OUT/t/tagged");
    let tagged = world.rig.home.path("elsewhere/t/tagged");
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(&tagged, "user.comment", b"hi", flags).is_ok() {
        world
            .run("tar --xattrs -C $OUT/t -cf $OUT/t.tar plain tagged; tar --xattrs -xf $OUT/t.tar");
        world.rig.remount();
        world.run("[[ $(cat plain tagged made) == $'a\\nb\\nhi' ]]");
    }
}

#[test]
fn what_is_not_offered_is_answered_as_programs_expect() {
    needs!(mount, "fallocate", "truncate", "cp");
    let mut world = World::new();
    world.run("seq 1000 > file; (seq 10; head -c 200000 /dev/zero; seq 10) > holes");
    for (script, sentence) in [
        ("fallocate -l 10000 file", "not supported"),
        ("fallocate -p -o 0 -l 100 file", "not supported"),
        ("fallocate -d holes", "not supported"),
        ("cp --reflink=always file clone", "not supported"),
        ("ln file hard", "not permitted"),
        ("ln -s file soft", "not permitted"),
        ("mkfifo fifo", "not permitted"),
        ("mkdir ../../messages/bob/sub", "not permitted"),
        ("mkdir ../nobody", "No such file"),
    ] {
        let (code, said) = world.attempt(script);
        let said = said.replace("unsupported", "not supported");
        assert_eq!(code, Some(1), "{script}: {said}");
        assert!(said.contains(sentence), "{script}: {said}");
    }
    world.run("rm -f clone");
    world.run(
        "cp --reflink=auto file reflink; cp --sparse=always holes sparse; cp --sparse=always holes $OUT/sparse
         cp --sparse=auto holes plain; truncate -s 5 reflink; truncate -s 3000 reflink; truncate -r file plain",
    );
    world.holds(
        "cmp holes sparse; cmp holes $OUT/sparse
         cmp <(printf '1\\n2\\n3'; head -c 2995 /dev/zero) reflink; cmp -n $(stat -c %s file) holes plain
         [[ $(stat -c %s plain) == $(stat -c %s file) ]]",
    );
    let path = std::ffi::CString::new(world.path("notes/me").into_os_string().into_encoded_bytes());
    // SAFETY: a valid C string; O_TMPFILE takes a mode.
    let nameless = unsafe {
        libc::open(
            path.unwrap().as_ptr(),
            libc::O_TMPFILE | libc::O_RDWR,
            0o600,
        )
    };
    let error = std::io::Error::last_os_error().raw_os_error();
    assert_eq!((nameless, error), (-1, Some(libc::EOPNOTSUPP)));

    let options = &mut File::options();
    let file = options
        .read(true)
        .write(true)
        .open(world.path("notes/me/file"))
        .unwrap();
    let size = i64::try_from(file.metadata().unwrap().len()).unwrap();
    // SAFETY: the descriptors are open; none of these calls takes a pointer that is not null.
    unsafe {
        // The C library emulates it by writing.
        assert_eq!(libc::posix_fallocate(file.as_raw_fd(), 0, size + 100), 0);
        // A file without holes has one at its end.
        assert_eq!(
            libc::lseek(file.as_raw_fd(), 0, libc::SEEK_HOLE),
            size + 100
        );
        assert_eq!(libc::lseek(file.as_raw_fd(), 5, libc::SEEK_DATA), 5);
        assert_eq!(
            libc::lseek(file.as_raw_fd(), size + 100, libc::SEEK_DATA),
            -1
        );
        assert_eq!(
            std::io::Error::last_os_error().raw_os_error(),
            Some(libc::ENXIO)
        );
        let copy = File::create(world.path("notes/me/copied")).unwrap();
        let (from, to) = (&mut 10_i64, &mut 0_i64);
        let copied = libc::copy_file_range(file.as_raw_fd(), from, copy.as_raw_fd(), to, 50, 0);
        assert_eq!((copied, *from, *to), (50, 60, 50));
    }
    drop(file);
    world.holds(
        "cmp <(seq 1000; head -c 100 /dev/zero) file; cmp <(tail -c +11 file | head -c 50) copied",
    );
}
