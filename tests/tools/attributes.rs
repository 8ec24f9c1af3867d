//! chmod, touch and stat.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::desk::World;
use crate::support::mount::wait_for;
use crate::support::people::blobs;
use crate::support::programs::assert_quiet;
use crate::support::rig::Rig as _;
use crate::support::watch::Watch;
use dds::ids::Folder;

#[test]
fn modes_and_times_are_kept() {
    needs!(mount, "touch", "chmod", "stat");
    let mut world = World::new();
    world.run(
        "umask 022; echo a > usual; umask 177; echo b > narrow; umask 777; echo c > none; umask 077
         echo d > mode; chmod 755 mode; chmod u-w,go=rwx usual; chmod 4700 narrow
         touch -d '1980-01-01 00:00:01.5' mode; touch -d '2100-01-01' usual; touch -r mode narrow
         touch -a none; touch new; touch -d @0 epoch; touch -d @-1 before
         echo e > old; touch -d '1969-12-31 23:59:58.25' old; touch -d '1901-12-14 12:00:00.9' new",
    );
    let facts = world.run("stat -c '%n %a %y %s' *");
    for line in [
        "mode 700 1980-01-01 00:00:01.500000000 +0000 2",
        "usual 400 2100-01-01 00:00:00.000000000 +0000 2",
        "narrow 700 1980-01-01 00:00:01.500000000 +0000 2",
        "old 600 1969-12-31 23:59:58.250000000 +0000 2",
        "new 600 1901-12-14 12:00:00.900000000 +0000 0",
        "before 600 1969-12-31 23:59:59.000000000 +0000 0",
    ] {
        assert!(facts.lines().any(|said| said == line), "{line}: {facts}");
    }
    assert!(facts.contains("\nnone 0 "), "{facts}");
    assert_quiet(&world.rig);
    world.rig.remount();
    assert_eq!(world.run("stat -c '%n %a %y %s' *"), facts);
    // Owner and group are the mount's; giving files away is refused.
    let mode = std::fs::metadata(world.path("notes/me/mode")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o7777, 0o700);
    world.run(&format!(
        "chown {} mode; chgrp {} mode",
        mode.uid(),
        mode.gid()
    ));
    if mode.uid() == 0 {
        let (code, said) = world.attempt("chown 1 mode");
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("Operation not permitted"), "{said}");
    }
    // touch and chmod of a message never send it again.
    world.run("echo hi > ../../messages/bob/hi.txt");
    let before = blobs(world.rig.store(), Folder::Messages);
    world.run("touch ../../messages/bob/hi.txt; chmod 400 ../../messages/bob/hi.txt");
    world.rig.settle();
    assert_eq!(blobs(world.rig.store(), Folder::Messages), before);
}

#[test]
fn a_message_keeps_the_time_that_it_is_given_before_it_is_sent() {
    needs!(mount, "cp", "mv", "tar", "rsync", "touch", "stat");
    let mut world = World::new();
    let sent = Watch::new(&world.rig.store().join("messages"));
    world.run(
        "echo photo > $OUT/p; chmod 400 $OUT/p; touch -d '2001-02-03 04:05:06.75' $OUT/p
         to=../../messages/bob
         cp -p $OUT/p $to/cp; cp -a $OUT/p $to/archive; cp $OUT/p $OUT/q; touch -r $OUT/p $OUT/q
         mv $OUT/q $to/mv; cp -p $OUT/p mine; mv mine $to/note
         cp -p $OUT/p $OUT/tar; tar -C $OUT --format=posix -cf $OUT/t.tar tar; tar -C $to -xf $OUT/t.tar
         rsync -a $OUT/p $to/rsync
         touch -r $OUT/p $to/empty",
    );
    let mut open = File::create(world.path("messages/bob/open")).unwrap();
    open.write_all(b"x").unwrap();
    let photo = std::fs::metadata(world.rig.home.path("elsewhere/p")).unwrap();
    open.set_modified(photo.modified().unwrap()).unwrap();
    drop(open);
    let count = 8;
    wait_for("the empty message, which nobody closes", || {
        blobs(world.rig.store(), Folder::Messages).len() == count
    });
    assert_eq!(sent.appeared().len(), count, "each is sent once");
    let before = blobs(world.rig.store(), Folder::Messages);
    world.run("touch -d '1999-09-09' ../../messages/bob/*");
    assert_eq!(blobs(world.rig.store(), Folder::Messages), before);
    world.holds(&format!(
        "[[ $(stat -c %y ../../messages/bob/* | sort -u) == '2001-02-03 04:05:06.750000000 +0000' ]]
         [[ $(ls ../../messages/bob | wc -l) == {count} ]]"
    ));
    assert!(sent.appeared().is_empty());
}

#[test]
fn what_stat_says_of_names_links_times_and_modes_is_as_posix_says() {
    needs!(mount, "touch");
    let world = World::new();
    let stat = |path: &str| std::fs::metadata(world.path(path)).unwrap();
    let long = format!("notes/me/{}", "x".repeat(256));
    let number = |error: std::io::Error| error.raw_os_error();
    let inside = world.path(&format!("{long}/x"));
    assert_eq!(
        std::fs::metadata(&inside).map_err(number).err(),
        Some(Some(libc::ENAMETOOLONG))
    );
    assert_eq!(
        std::fs::remove_file(&inside).map_err(number),
        Err(Some(libc::ENAMETOOLONG))
    );
    assert_eq!(world.rig.rmdir(&long), Err(libc::ENAMETOOLONG));
    assert_eq!(world.rig.mkdir(&long), Err(libc::ENAMETOOLONG));
    world.rig.write("notes/me/f", b"1").unwrap();
    assert_eq!(
        world.rig.rename("notes/me/f", &long),
        Err(libc::ENAMETOOLONG)
    );
    assert_eq!(
        world.rig.size(&format!("messages/{}", "x".repeat(256))),
        Err(libc::ENAMETOOLONG)
    );

    // Each directory in it has a `..`.
    assert_eq!(stat("notes/me").nlink(), 2);
    world.run("mkdir a a/b a/c; touch a/file");
    assert_eq!(
        (stat("notes/me").nlink(), stat("notes/me/a").nlink()),
        (3, 4)
    );
    world.run("mv a/b .; rmdir a/c");
    assert_eq!(
        (stat("notes/me").nlink(), stat("notes/me/a").nlink()),
        (4, 2)
    );

    // Whatever changes an attribute or the name is a change; what fails is none.
    let times = |path: &str| {
        let found = stat(path);
        let changed = (found.ctime(), found.ctime_nsec());
        ((found.mtime(), found.mtime_nsec()), changed)
    };
    let mut before = times("notes/me/f");
    let mut changes = |what: &str, written: bool, change: &dyn Fn()| {
        change();
        let after = times("notes/me/f");
        assert!(after.1 > before.1, "{what}: {before:?} {after:?}");
        assert_eq!(after.0 != before.0, written, "{what}");
        before = after;
    };
    changes("chmod", false, &|| {
        world.rig.chmod("notes/me/f", 0o400).unwrap()
    });
    changes("chmod", false, &|| {
        world.rig.chmod("notes/me/f", 0o600).unwrap()
    });
    changes("rename", false, &|| {
        world.rig.rename("notes/me/f", "notes/me/g").unwrap();
        world.rig.rename("notes/me/g", "notes/me/f").unwrap();
    });
    changes("utimes", true, &|| drop(world.run("touch -d 2001-01-01 f")));
    changes("write", true, &|| {
        world.rig.append("notes/me/f", b"2").unwrap()
    });
    assert_eq!(
        world.rig.rename("notes/me/f", "notes/bob/f"),
        Err(libc::EXDEV)
    );
    assert_eq!(
        world.rig.rename("notes/me/f", "notes/me/a"),
        Err(libc::EISDIR)
    );
    assert_eq!(times("notes/me/f"), before);

    // Of a directory's mode the owner's bits are kept, as of a file's.
    world.run("umask 027; mkdir wide; mkdir -m 500 narrow; umask 0777; mkdir none; umask 077");
    world.run("mkdir wider; chmod 555 wide; chmod 755 wider; mkdir implied; touch implied/x");
    let modes = ["wide", "narrow", "none", "wider", "implied"]
        .map(|name| stat(&format!("notes/me/{name}")).mode() & 0o7777);
    assert_eq!(modes, [0o500, 0o500, 0, 0o700, 0o700]);
    let before = times("notes/me/wider").1;
    world.run("chmod 300 wider");
    assert!(times("notes/me/wider").1 > before);
    let mut world = world;
    world.rig.remount();
    let stat = |path: &str| std::fs::metadata(world.path(path)).unwrap();
    let modes = ["wide", "narrow", "none", "wider", "implied"]
        .map(|name| stat(&format!("notes/me/{name}")).mode() & 0o7777);
    assert_eq!(modes, [0o500, 0o500, 0, 0o300, 0o700]);
}
