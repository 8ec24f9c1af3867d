//! The messages of a mount that ends: on the terminal, and in syslog.

use std::fs::File;
use std::io::Write as _;

use crate::support::mount::skipped;
use crate::support::scene::Scene;

#[test]
fn in_the_foreground_it_says_what_was_not_saved() {
    needs!(mount);
    let scene = Scene::new(&["Bob"]);
    let mount = scene.mount();
    let mut dirty = File::create(scene.path("notes/me/draft.txt")).unwrap();
    dirty.write_all(b"half").unwrap();
    let (code, said) = mount.end_by(libc::SIGINT);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("not saved: notes/me/draft.txt (kept for you in"),
        "{said}"
    );
    scene.assert_locked();
    if !rustix::process::geteuid().is_root() {
        skipped("the immutable flag of a bare mountpoint: only root can set it");
    }
}

/// Listens on a log socket in a mount namespace of its own, mounts, kills the keeper, and prints
/// the lines that the daemon logs.
const LOGGING: &str = "
import os, signal, socket, subprocess, sys, time
where, mountpoint, command = sys.argv[1], sys.argv[2], sys.argv[3:]
sink = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sink.settimeout(20)
sink.bind(where)
done = subprocess.run(command + [mountpoint], env=os.environ)
assert done.returncode == 0, done
def named(name):
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            line = open(f'/proc/{pid}/cmdline').read().split(chr(0))
            if mountpoint in line and open(f'/proc/{pid}/comm').read().strip() == name:
                return int(pid)
        except OSError:
            pass
with open(mountpoint + '/notes/me/nobody shall know this name', 'w') as file:
    file.write('nor this text')
daemon = named('dds-mount')
os.kill(named('dds-keeper'), signal.SIGKILL)
said = ''
while 'keeper is gone' not in said:
    said += sink.recv(65536).decode(errors='replace')
os.kill(daemon, signal.SIGTERM)
while os.path.exists(f'/proc/{daemon}'):
    time.sleep(0.01)
sink.settimeout(0.01)
try:
    while True:
        said += sink.recv(65536).decode(errors='replace')
except TimeoutError:
    pass
print(said)
";

#[test]
fn in_the_background_it_logs_to_syslog() {
    needs!(mount, "python3");
    if !rustix::process::geteuid().is_root() {
        skipped("logging in the background: only root can make a log of its own");
        return;
    }
    let socket = "/dev/log";
    let directory = "mount -t tmpfs none /mnt && cd /mnt && mknod null c 1 3 &&
         mknod urandom c 1 9 && mknod fuse c 10 229 && chmod 666 * && cd / &&
         mount --bind /mnt /dev";
    let scene = Scene::new(&["Bob"]);
    let mut command = scene.home.command("unshare");
    let script = format!("{directory} && exec \"$@\"");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
        "sh",
    ]);
    command.env("DDS_LOG", "trace");
    command
        .args(["python3", "-c", LOGGING, socket])
        .arg(scene.mountpoint());
    let mount = scene.command();
    command.arg(mount.get_program()).args(mount.get_args());
    let ended = command.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(
        ended.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    assert!(said.contains("dds-mount"), "{said}");
    assert!(said.contains("the keeper is gone"), "{said}");
    assert!(
        !said.contains("nobody shall know") && !said.contains("nor this"),
        "{said}"
    );
}
