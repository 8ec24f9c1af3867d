//! The confined daemon: everything that it needs still works, and everything else is forbidden.
//!
//! No test can run code in the daemon, so the forbidden calls are tried in a forked child of this
//! process that is confined in the same way. A fork copies every lock and descriptor of the
//! process: so these tests have a binary of their own.

#[macro_use]
mod support;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use dds::process::sandbox::{self, Places};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use support::mount::{Home, Mount, daemon_of, is_mounted, process_of, skipped, unmount, wait_for};

/// Larger than a content may be in RAM.
const LARGE: usize = 80 << 20;

/// Tells whether this kernel has landlock; says loudly if not.
fn has_landlock() -> bool {
    const VERSION: u32 = 1;
    // SAFETY: this asks for the version; no structure is read.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0,
            VERSION,
        )
    };
    if abi < 1 {
        skipped("the sandbox: this kernel offers no landlock");
    }
    abi >= 1
}

fn init(mut command: Command) {
    command.args([
        "init",
        "--user-id",
        "Alice <alice@example.org>",
        "--no-passphrase",
    ]);
    let ended = command.output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
}

fn prepared() -> Home {
    let home = Home::new();
    init(home.dds());
    home
}

fn confined(home: &Home) -> Command {
    let mut command = home.dds_mount();
    command.arg("--require-sandbox");
    command
}

/// Asserts how every thread of a process is confined, by the kernel's own account.
#[track_caller]
fn assert_confined(pid: i32) {
    let mut threads = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
        assert!(status.contains("Seccomp:\t2\n"), "{status}");
        threads += 1;
    }
    assert!(threads > 4, "{threads} threads");
}

#[track_caller]
fn assert_told(status: &str) {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("sandbox: "));
    let layers: Vec<_> = line.expect("a line on the sandbox").split(", ").collect();
    let [no_new_privs, landlock, seccomp] = layers[..] else {
        panic!("{status}");
    };
    assert_eq!((no_new_privs, seccomp), ("no_new_privs", "seccomp"));
    assert!(landlock.starts_with("landlock (ABI "), "{landlock}");
}

#[test]
fn every_thread_is_confined_and_the_status_says_so() {
    needs!(mount);
    if !has_landlock() {
        return;
    }
    let home = prepared();
    let mountpoint = home.path("secure");
    let ended = confined(&home).arg(&mountpoint).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_told(&std::fs::read_to_string(mountpoint.join(".dds/status")).unwrap());
    let daemon = daemon_of(&mountpoint);
    assert_confined(daemon);
    std::fs::write(mountpoint.join("notes/me/plan.txt"), "at noon").unwrap();
    assert_confined(daemon);
    // The keeper, which has no secret, must be free to unmount.
    let keeper = process_of(&mountpoint, "dds-keeper").unwrap();
    let status = std::fs::read_to_string(format!("/proc/{keeper}/status")).unwrap();
    assert!(status.contains("Seccomp:\t0\n"), "{status}");
    unmount(&mountpoint);
    wait_for("the daemon's end", || {
        process_of(&mountpoint, "dds-mount").is_none()
    });
}

#[test]
fn everything_works_inside() {
    needs!(mount);
    if !has_landlock() {
        return;
    }
    let home = prepared();
    let mount = Mount::start(confined(&home), &home.path("secure"));
    let note = mount.path("notes/me/plan.txt");
    std::fs::write(&note, "at noon").unwrap();
    assert_eq!(std::fs::read(&note).unwrap(), b"at noon");
    std::fs::create_dir(mount.path("notes/me/old")).unwrap();
    let moved = mount.path("notes/me/old/plan.txt");
    std::fs::rename(&note, &moved).unwrap();
    let mut file = std::fs::File::options().append(true).open(&moved).unwrap();
    file.write_all(b", sharp").unwrap();
    file.sync_all().unwrap();
    drop(file);
    assert_eq!(std::fs::read(&moved).unwrap(), b"at noon, sharp");
    let large = mount.path("notes/me/large.bin");
    let mut file = std::fs::File::create(&large).unwrap();
    for round in 0..(LARGE >> 20) {
        file.write_all(&vec![round as u8; 1 << 20]).unwrap();
    }
    drop(file);
    let (code, said) = mount.end_by(libc::SIGTERM);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert!(!is_mounted(&home.path("secure")));

    let mount = Mount::start(confined(&home), &home.path("secure"));
    let mut file = std::fs::File::open(&large).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start((LARGE - 1) as u64)).unwrap();
    file.read_exact(&mut byte).unwrap();
    assert_eq!(usize::from(byte[0]), (LARGE >> 20) - 1);
    drop(file);
    assert_eq!(std::fs::read(&moved).unwrap(), b"at noon, sharp");
    std::fs::remove_file(&large).unwrap();
    std::fs::remove_file(&moved).unwrap();
    std::fs::remove_dir(mount.path("notes/me/old")).unwrap();
    let (code, said) = mount.unmount();
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let left = std::fs::read_dir(home.path("documents-btsync/notes"));
    assert_eq!(left.map_or(0, Iterator::count), 0);
}

#[test]
fn a_confined_daemon_that_is_killed_leaves_no_mount() {
    needs!(mount);
    if !has_landlock() {
        return;
    }
    let home = prepared();
    let mountpoint = home.path("secure");
    let mount = Mount::start(confined(&home), &mountpoint);
    let keeper_done = || !is_mounted(&mountpoint);
    assert!(!keeper_done());
    let pid = i32::try_from(mount.pid()).unwrap();
    // SAFETY: the process is a child of this one and has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
    wait_for("the keeper to unmount", keeper_done);
}

/// Run by root in a mount namespace of its own, where everybody may use `/dev/fuse`.
const AS_NOBODY: &str = r#"
    home=$1; shift
    mknod "$home/fuse" c 10 229 && chmod 666 "$home/fuse" || exit 99
    mount --bind "$home/fuse" /dev/fuse || exit 99
    exec setpriv --reuid 65534 --regid 65534 --clear-groups sh -ec "$@"
"#;

/// Mounts, says how the daemon is confined, writes, reads, and unmounts.
const SESSION: &str = r#"
    bin/dds init --user-id 'Alice <alice@example.org>' --no-passphrase >init.log
    bin/dds-mount --require-sandbox --foreground secure &
    until [ -e secure/.dds/status ] || ! kill -0 $!; do sleep 0.01; done
    cat secure/.dds/status
    cat /proc/$!/task/*/status | grep -E '^(NoNewPrivs|Seccomp):' | sort -u
    echo hi >secure/notes/me/a
    cat secure/notes/me/a
    fusermount3 -u secure
    wait $!
    echo unmounted
"#;

#[test]
fn an_ordinary_user_s_daemon_is_confined() {
    needs!(mount);
    if !has_landlock() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        // Then the other tests are about an ordinary user.
        return;
    }
    let home = Home::new();
    std::fs::create_dir(home.path("bin")).unwrap();
    for program in [env!("CARGO_BIN_EXE_dds"), env!("CARGO_BIN_EXE_dds-mount")] {
        // The build's directory may be closed to others.
        let name = Path::new(program).file_name().unwrap();
        std::fs::copy(program, home.path("bin").join(name)).unwrap();
    }
    std::os::unix::fs::chown(home.dir.path(), Some(65534), Some(65534)).unwrap();
    let session = |script: &str| {
        let mut command = home.command("timeout");
        command.args(["20", "unshare", "--mount", "sh", "-c", AS_NOBODY, "sh"]);
        command.arg(home.dir.path()).args([script, "sh"]);
        command.current_dir(home.dir.path()).output().unwrap()
    };
    let probe = session("exec 3<>/dev/fuse && command -v fusermount3");
    if !probe.status.success() {
        skipped("the sandbox of an ordinary user: another user cannot mount here");
        return;
    }
    std::fs::remove_file(home.path("fuse")).unwrap();
    let ended = session(SESSION);
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.stderr.is_empty(), "{ended:?}");
    let told = String::from_utf8(ended.stdout).unwrap();
    assert_told(&told);
    let rest = "NoNewPrivs:\t1\nSeccomp:\t2\nhi\nunmounted\n";
    assert!(told.ends_with(rest), "{told}");
}

/// Makes a program believe that the kernel does not have a system call.
fn without(command: &mut Command, call: i64) {
    let errno = SeccompAction::Errno(libc::ENOSYS as u32);
    let machine = std::env::consts::ARCH.try_into().unwrap();
    let missing = BTreeMap::from([(call, Vec::new())]);
    let filter = SeccompFilter::new(missing, SeccompAction::Allow, errno, machine).unwrap();
    let filter = BpfProgram::try_from(filter).unwrap();
    let install = move || seccompiler::apply_filter(&filter).map_err(std::io::Error::other);
    // SAFETY: after the fork this makes two system calls, and allocates nothing if they succeed.
    unsafe { command.pre_exec(install) };
}

#[test]
fn where_the_kernel_lacks_a_layer_it_mounts_and_says_so_or_insists() {
    needs!(mount);
    if !has_landlock() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        skipped("the sandbox of a lesser kernel: without new privileges fusermount3 cannot mount");
        return;
    }
    let lesser = [
        (
            libc::SYS_landlock_create_ruleset,
            "not complete: landlock is not offered by this kernel (active: no_new_privs, seccomp)",
        ),
        (
            libc::SYS_seccomp,
            "not complete: seccomp is not offered by this kernel (active: no_new_privs, landlock",
        ),
    ];
    for (call, sentence) in lesser {
        let home = prepared();
        let mut command = home.dds_mount();
        command.arg("--allow-unconfined");
        without(&mut command, call);
        let mount = Mount::start(command, &home.path("secure"));
        let status = std::fs::read_to_string(mount.path(".dds/status")).unwrap();
        assert!(
            status.contains(&format!("\nsandbox: {sentence}")),
            "{status}"
        );
        std::fs::write(mount.path("notes/me/plan.txt"), "at noon").unwrap();
        assert_eq!(mount.unmount().0, Some(0));

        let home = prepared();
        let mut command = confined(&home);
        without(&mut command, call);
        let ended = command.arg(home.path("secure")).output().unwrap();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(
            said.starts_with(&format!("dds-mount: the sandbox is {sentence}")),
            "{said}"
        );
        assert!(said.contains("\ndds-mount: hint: "), "{said}");
        assert!(!home.path("secure").exists(), "what was made is gone again");
    }
}

#[test]
fn root_does_not_mount_where_the_kernel_cannot_confine_it_to_its_files() {
    needs!(mount);
    if !rustix::process::geteuid().is_root() {
        skipped("root without landlock: needs root");
        return;
    }
    let home = prepared();
    let asked = home.path("asked");
    for background in [true, false] {
        let mut command = home.dds_mount();
        without(&mut command, libc::SYS_landlock_create_ruleset);
        if !background {
            command.arg("--foreground");
        }
        command.arg("--passphrase-command");
        command.arg(format!("touch {}", asked.display()));
        let ended = command.arg(home.path("secure")).output().unwrap();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let said = String::from_utf8(ended.stderr).unwrap();
        let mut lines = said.lines();
        assert!(lines.next().unwrap().contains("has no landlock"), "{said}");
        assert!(
            lines.next().unwrap().contains("--allow-unconfined"),
            "{said}"
        );
        assert!(!home.path("secure").exists() && !asked.exists());
    }
}

/// Where the confined child tries things: `inside` is a place, `outside` is not.
struct Ground {
    home: Home,
    inside: CString,
    inside_other: CString,
    inside_moved: CString,
    outside: CString,
    outside_new: CString,
    socket: CString,
}

impl Ground {
    fn new() -> Ground {
        let home = Home::new();
        for dir in ["inside", "inside/below", "outside"] {
            std::fs::create_dir(home.path(dir)).unwrap();
        }
        std::fs::write(home.path("inside/file"), "text").unwrap();
        std::fs::write(home.path("outside/file"), "text").unwrap();
        let path = |name: &str| CString::new(home.path(name).as_os_str().as_bytes()).unwrap();
        Ground {
            inside: path("inside/file"),
            inside_other: path("inside/other"),
            inside_moved: path("inside/below/moved"),
            outside: path("outside/file"),
            outside_new: path("outside/new"),
            socket: path("outside/socket"),
            home,
        }
    }

    fn places(&self) -> Places {
        Places {
            writable: vec![self.home.path("inside"), self.home.path("not there")],
            ..Places::default()
        }
    }
}

/// Runs a closure in a child of one thread. Returns what it returned, or the signal's number
/// above 255.
///
/// The child may only make system calls and `enter`, which allocates: glibc's allocator can be
/// used after a fork.
fn in_child(run: impl FnOnce() -> u8) -> i32 {
    // SAFETY: the child never returns from here; see above for what it does.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or(255);
        // SAFETY: always allowed.
        unsafe { libc::_exit(code.into()) };
    }
    let mut status = 0;
    // SAFETY: the process is our child, and status is ours.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    match libc::WIFEXITED(status) {
        true => libc::WEXITSTATUS(status),
        false => 256 + libc::WTERMSIG(status),
    }
}

/// What a call answered: 0, or its errno.
fn errno(answer: i64) -> u8 {
    match answer {
        -1 => std::io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(254) as u8,
        _ => 0,
    }
}

/// A call, its answer without the sandbox, and its answer with it.
type Trial = (&'static str, fn(&Ground) -> i64, i32, i32);

fn open(path: &CString, flags: i32) -> i64 {
    // SAFETY: the path ends with zero.
    unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, 0o600) }.into()
}

fn trials() -> Vec<Trial> {
    use libc::{AF_INET, AF_UNIX, EACCES, EPERM, SOCK_STREAM};
    // SAFETY, for all: the paths end with zero, and pointers are to what lives through the call.
    #[allow(clippy::undocumented_unsafe_blocks)]
    let trials: Vec<Trial> = vec![
        ("read inside", |g| open(&g.inside, libc::O_RDONLY), 0, 0),
        (
            "write inside",
            |g| open(&g.inside, libc::O_RDWR | libc::O_TRUNC),
            0,
            0,
        ),
        (
            "make inside",
            |g| open(&g.inside_other, libc::O_CREAT | libc::O_WRONLY),
            0,
            0,
        ),
        (
            "rename inside, to another directory",
            |g| unsafe { libc::rename(g.inside.as_ptr(), g.inside_moved.as_ptr()) }.into(),
            0,
            0,
        ),
        (
            "unlink inside",
            |g| unsafe { libc::unlink(g.inside.as_ptr()) }.into(),
            0,
            0,
        ),
        (
            "read outside",
            |g| open(&g.outside, libc::O_RDONLY),
            0,
            EACCES,
        ),
        (
            "write outside",
            |g| open(&g.outside, libc::O_WRONLY),
            0,
            EACCES,
        ),
        (
            "make outside",
            |g| open(&g.outside_new, libc::O_CREAT | libc::O_WRONLY),
            0,
            EACCES,
        ),
        (
            "unlink outside",
            |g| unsafe { libc::unlink(g.outside.as_ptr()) }.into(),
            0,
            EACCES,
        ),
        (
            "truncate outside",
            |g| unsafe { libc::truncate(g.outside.as_ptr(), 0) }.into(),
            0,
            EPERM,
        ),
        (
            "chmod outside",
            |g| unsafe { libc::chmod(g.outside.as_ptr(), 0o777) }.into(),
            0,
            EPERM,
        ),
        (
            "link from outside to inside",
            |g| unsafe { libc::link(g.outside.as_ptr(), g.inside_other.as_ptr()) }.into(),
            0,
            libc::EXDEV,
        ),
        (
            "read /proc",
            |_| open(&c"/proc/self/mountinfo".into(), libc::O_RDONLY),
            0,
            0,
        ),
        (
            "write /dev/null",
            |_| open(&c"/dev/null".into(), libc::O_RDWR),
            0,
            0,
        ),
        (
            "read /etc",
            |_| open(&c"/etc/passwd".into(), libc::O_RDONLY),
            0,
            EACCES,
        ),
        (
            "a local socket",
            |_| unsafe { libc::socket(AF_UNIX, SOCK_STREAM, 0) }.into(),
            0,
            0,
        ),
        (
            "an internet socket",
            |_| unsafe { libc::socket(AF_INET, SOCK_STREAM, 0) }.into(),
            0,
            EPERM,
        ),
        ("connect", |g| connect(&g.socket), 0, EPERM),
        ("another process", |_| new_process(), 0, EPERM),
        (
            "execute",
            |_| {
                unsafe {
                    let nothing = [std::ptr::null()];
                    libc::execve(c"/nonexistent".as_ptr(), nothing.as_ptr(), nothing.as_ptr())
                }
                .into()
            },
            libc::ENOENT,
            EPERM,
        ),
        (
            "signal itself",
            |_| unsafe { libc::kill(libc::getpid(), 0) }.into(),
            0,
            0,
        ),
        (
            "signal another",
            |_| unsafe { libc::kill(libc::getppid(), 0) }.into(),
            0,
            EPERM,
        ),
        ("map memory", |_| map(0), 0, 0),
        ("map executable memory", |_| map(libc::PROT_EXEC), 0, EPERM),
        (
            "a mount",
            |_| unsafe { libc::umount2(c"/nonexistent".as_ptr(), 0) }.into(),
            -1,
            EPERM,
        ),
        (
            "a thread",
            |_| std::thread::spawn(|| 0).join().unwrap_or(-1),
            0,
            0,
        ),
    ];
    trials
}

fn map(more: i32) -> i64 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let protection = libc::PROT_READ | more;
    // SAFETY: a new mapping, which nobody uses.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
    i64::from(address != libc::MAP_FAILED) - 1
}

fn new_process() -> i64 {
    // SAFETY: the child ends at once.
    match unsafe { libc::fork() } {
        // SAFETY: always allowed.
        0 => unsafe { libc::_exit(0) },
        pid => pid.into(),
    }
}

fn connect(path: &CString) -> i64 {
    // SAFETY: all zero is an address; its path is shorter than the field.
    unsafe {
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = libc::AF_UNIX as u16;
        let bytes = path.as_bytes_with_nul();
        std::ptr::copy_nonoverlapping(
            bytes.as_ptr(),
            address.sun_path.as_mut_ptr().cast(),
            bytes.len(),
        );
        let socket = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0);
        let size = std::mem::size_of_val(&address) as u32;
        libc::connect(socket, (&raw const address).cast(), size).into()
    }
}

#[test]
fn the_sandbox_forbids_what_it_says() {
    if !has_landlock() {
        return;
    }
    let is_root = rustix::process::geteuid().is_root();
    for (what, call, free, confined) in trials() {
        let ground = Ground::new();
        let _listener = std::os::unix::net::UnixListener::bind(ground.home.path("outside/socket"));
        let answer = in_child(|| errno(call(&ground)));
        // Unmounting is refused to an ordinary user anyhow, with one errno or another.
        if free >= 0 {
            assert_eq!(answer, free, "{what}, without the sandbox");
        } else if is_root {
            assert_ne!(answer, confined, "{what}, without the sandbox");
        }
        let ground = Ground::new();
        let _listener = std::os::unix::net::UnixListener::bind(ground.home.path("outside/socket"));
        let places = ground.places();
        let answer = in_child(|| match sandbox::enter(&places).is_complete() {
            true => errno(call(&ground)),
            false => 253,
        });
        assert_eq!(answer, confined, "{what}, with the sandbox");
    }
}

/// As gpg-agent's: the one thing outside that may be talked to.
#[test]
fn a_socket_that_is_named_can_be_connected_to() {
    if !has_landlock() {
        return;
    }
    let ground = Ground::new();
    let path = ground.home.path("outside/socket");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let places = Places {
        sockets: vec![path],
        ..ground.places()
    };
    let answer = in_child(|| {
        let complete = sandbox::enter(&places).is_complete();
        if complete {
            errno(connect(&ground.socket))
        } else {
            253
        }
    });
    assert_eq!(answer, 0);
}

#[test]
fn a_listening_socket_goes_on_accepting() {
    if !has_landlock() {
        return;
    }
    let ground = Ground::new();
    let path = ground.home.path("outside/socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    client.write_all(b"?").unwrap();
    let places = ground.places();
    let answer = in_child(|| {
        let complete = sandbox::enter(&places).is_complete();
        let mut byte = [0];
        let accepted = listener.accept().and_then(|(mut peer, _)| {
            peer.read_exact(&mut byte)?;
            peer.write_all(b"!")
        });
        u8::from(!complete || accepted.is_err() || byte != *b"?")
    });
    assert_eq!(answer, 0);
    let mut byte = [0];
    client.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"!");
}

/// A sandbox that cannot be complete: landlock has no hold on threads that run already.
#[test]
fn what_is_missing_is_told() {
    if !has_landlock() {
        return;
    }
    let answer = in_child(|| {
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let waiting = std::thread::spawn(move || ends.recv().is_err());
        let sandbox = sandbox::enter(&Places::default());
        drop(end);
        let told = sandbox.to_string();
        let right = !sandbox.is_complete()
            && told.starts_with("not complete: landlock ")
            && told.ends_with("(active: no_new_privs, seccomp)");
        u8::from(!right || !waiting.join().unwrap_or(false))
    });
    assert_eq!(answer, 0);
}
