//! What an ordinary user sees, who may neither mount by himself nor lock much memory: vim is open
//! when the mount is locked, the daemon is killed, secrets stay hidden. Tests that run as root
//! become one, in a mount namespace where `/dev/fuse` is open to everybody.

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use support::mount::{Home, can_mount, skipped};
use support::people::{Person, make_store};
use support::programs::installed;

/// Nobody.
const USER: u32 = 65534;

/// Runs a shell script as an ordinary user whose home is `home`, and returns what it prints.
#[track_caller]
fn run(home: &Home, script: &str) -> String {
    let mut command = home.command("unshare");
    if rustix::process::geteuid().is_root() {
        let device = home.path("fuse");
        let ordinary = format!(
            "mknod {0} c 10 229 && chmod 666 {0} && mount --bind {0} /dev/fuse &&
             exec setpriv --reuid {USER} --regid {USER} --clear-groups bash -c \"$1\"",
            device.display()
        );
        command.args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            &ordinary,
            "sh",
        ]);
        command.arg(script);
    } else {
        command = home.command("bash");
        command.arg("-c").arg(script);
    }
    command
        .current_dir("/")
        .env("PATH", "/usr/local/bin:/usr/bin:/bin");
    let ended = command.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}\n{complaint}");
    said
}

/// A home with a store and a key, and the program where everybody may run it.
fn prepared() -> Option<Home> {
    if !can_mount() || !installed(&["setpriv", "unshare", "fusermount3"]) {
        return None;
    }
    let home = Home::new();
    let me = Person::new("Alice");
    make_store(
        home.dir.path(),
        &[("me", &me), ("bob", &Person::new("Bob"))],
    );
    fs::write(home.path("key.asc"), &me.secret).unwrap();
    let program = home.path("dds-mount");
    fs::copy(env!("CARGO_BIN_EXE_dds-mount"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    if rustix::process::geteuid().is_root() {
        give_away(home.dir.path());
        if !fs::metadata("/usr/bin/fusermount3")
            .is_ok_and(|file| file.permissions().mode() & 0o4000 != 0)
        {
            skipped("mounting as an ordinary user: fusermount3 is not set-uid");
            return None;
        }
    }
    Some(home)
}

fn give_away(path: &Path) {
    chown(path, Some(USER), Some(USER)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give_away(&entry.unwrap().path());
        }
    }
}

/// Functions for the scripts.
const FUNCTIONS: &str = r#"
set -eu
mount_it() { ~/dds-mount --store ~/store --key ~/key.asc ~/secure; }
process() {
    local directory
    for directory in /proc/[0-9]*; do
        [[ $(cat "$directory/comm" 2>/dev/null) == "$1" ]] || continue
        if tr '\0' '\n' <"$directory/cmdline" 2>/dev/null | grep -qxF ~/secure; then
            echo "${directory#/proc/}"
        fi
    done
}
until_gone() {
    local name
    for name in dds-mount dds-keeper; do
        until [[ -z $(process $name) ]]; do sleep 0.02; done
    done
}
"#;

#[test]
fn vim_cannot_save_plaintext_after_locking() {
    let Some(home) = prepared() else {
        return;
    };
    if !installed(&["vim"]) {
        return;
    }
    let said = run(
        &home,
        &format!(
            r#"{FUNCTIONS}
mount_it; echo first > ~/secure/notes/me/plan.md; export DAEMON=$(process dds-mount)
cat > ~/session.vim <<'END'
call setline(1, 'what nobody must see')
call system('kill ' . $DAEMON . '; while [ -e /proc/' . $DAEMON . ' ]; do sleep 0.02; done')
let told = []
for command in ['w', 'w!', 'w! ' . $HOME . '/secure/plan.md', 'w! ' . $HOME . '/secure/notes/me/plan.md']
    try | execute command | call add(told, 'saved by ' . command)
    catch | call add(told, 'refused') | endtry
endfor
call add(told, &modified . ' ' . getline(1))
call writefile(told, $HOME . '/told')
qa!
END
cd ~/secure/notes/me
vim -N -es -u NONE -i NONE --cmd 'set swapfile directory=.' -S ~/session.vim plan.md || true
cd ~; until_gone; cat ~/told; echo "--"; ls -A ~/secure; stat -c %a ~/secure
mount_it; cat ~/secure/notes/me/plan.md; kill "$(process dds-mount)"; until_gone"#
        ),
    );
    let refused = "refused\n".repeat(4);
    let expected = format!("{refused}1 what nobody must see\n--\n500\nfirst\n");
    assert_eq!(said, expected);
}

#[test]
fn a_killed_daemon_leaves_a_clean_mountpoint() {
    let Some(home) = prepared() else {
        return;
    };
    let said = run(
        &home,
        &format!(
            r#"{FUNCTIONS}
mount_it; echo saved > ~/secure/notes/me/a; kill -9 "$(process dds-mount)"; until_gone
ls -A ~/secure; mount_it; cat ~/secure/notes/me/a; cat ~/secure/.dds/status >&2
fusermount3 -u ~/secure; until_gone; ls -A ~/secure; stat -c %a ~/secure"#
        ),
    );
    assert_eq!(said, "saved\n500\n");
}

#[test]
fn files_belong_to_the_user_and_the_daemon_is_hidden_from_him() {
    let Some(home) = prepared() else {
        return;
    };
    let said = run(
        &home,
        &format!(
            r#"{FUNCTIONS}
mount_it; echo a > ~/secure/notes/me/a
[[ $(stat -c %u ~/secure/notes/me/a) == $(id -u) ]] && echo mine
daemon=$(process dds-mount)
cat /proc/$daemon/mem >/dev/null 2>&1 || echo hidden memory
cat /proc/$daemon/environ >/dev/null 2>&1 || echo hidden environment
ls /proc/$daemon/fd/ >/dev/null 2>&1 || echo hidden files
grep VmLck /proc/$daemon/status | grep -qv ' 0 kB' && echo locked
kill "$daemon"; until_gone"#
        ),
    );
    let expected = "mine\nhidden memory\nhidden environment\nhidden files\nlocked\n";
    assert_eq!(said, expected);
}
