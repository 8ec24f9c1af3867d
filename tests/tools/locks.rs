//! flock and fcntl.

use std::fs::File;
use std::os::fd::AsRawFd as _;

use super::desk::World;
use crate::support::programs::assert_quiet;

#[test]
fn locks_hold_between_processes() {
    needs!(mount, "flock", "perl");
    let world = World::new();
    world.run(
        "exec 3> lock; flock 3
         flock -n lock true && exit 1
         flock -n -s lock true && exit 1
         exec 3>&-; flock -n lock true
         exec 3< lock 4< lock; flock -s 3; flock -n -s 4; flock -n lock true && exit 1; true",
    );
    // This process has bytes 10 to 19; another one asks for parts.
    let file = File::create(world.path("notes/me/ranges")).unwrap();
    let lock = |kind: libc::c_int| {
        // SAFETY: all zero is a valid flock.
        let mut range: libc::flock = unsafe { std::mem::zeroed() };
        range.l_type = kind as libc::c_short;
        range.l_whence = libc::SEEK_SET as libc::c_short;
        (range.l_start, range.l_len) = (10, 10);
        // SAFETY: the descriptor is open, and fcntl only reads the flock.
        let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const range) };
        assert_eq!(done, 0);
    };
    // Perl's module converts no structs; this is how Linux lays them out on 64 bits.
    let ask = |start: u32, len: u32| {
        let script = format!(
            "perl -MFcntl -e 'open my $f, \"+<\", \"ranges\" or die $!; \
             my $l = pack(\"s s x4 q q l x4\", F_WRLCK, 0, {start}, {len}, 0); \
             exit(fcntl($f, F_SETLK, $l) ? 0 : $!{{EAGAIN}} || $!{{EACCES}} ? 9 : die $!)'"
        );
        world.attempt(&script)
    };
    lock(libc::F_WRLCK);
    for (start, len, code) in [(0, 10, 0), (20, 5, 0), (10, 1, 9), (15, 10, 9), (0, 0, 9)] {
        assert_eq!(
            ask(start, len),
            (Some(code), String::new()),
            "{start}+{len}"
        );
    }
    lock(libc::F_UNLCK);
    assert_eq!(ask(0, 0), (Some(0), String::new()));
    drop(file);
    assert_quiet(&world.rig);
}
