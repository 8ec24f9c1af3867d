//! A mount of an ordinary user, who may neither mount(2) nor lock much memory: vim is open
//! when the mount is locked, the daemon is killed, secrets stay hidden. Tests that run as root
//! become one, in a mount namespace where `/dev/fuse` is open to everybody.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use crate::support::mount::{Home, skipped};
use crate::support::people::{Person, make_store};

/// Nobody.
const USER: u32 = 65534;

/// Runs a shell script as an ordinary user whose home is `home`, and returns its output.
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
    needs!(mount, "setpriv", "unshare", "fusermount3");
    let Some(home) = prepared() else {
        return;
    };
    needs!("vim");
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
    needs!(mount, "setpriv", "unshare", "fusermount3");
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
    needs!(mount, "setpriv", "unshare", "fusermount3");
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

#[test]
fn mount_8_mounts_what_fstab_says_for_an_ordinary_user_and_for_root() {
    needs!(mount, "setpriv", "unshare", "fusermount3");
    let Some(home) = prepared() else {
        return;
    };
    if !rustix::process::geteuid().is_root() || !Path::new("/sbin/mount.fuse3").exists() {
        skipped("mount(8) and /etc/fstab: needs root and mount.fuse3");
        return;
    }
    // The whole of it in a mount namespace of its own, where the password database knows the user
    // and mount.fuse3 finds the program.
    let script = format!(
        r#"set -eu
        cd {home}
        mknod fuse c 10 229; chmod 666 fuse; mount --bind fuse /dev/fuse
        grep -v ':{USER}:' /etc/passwd > passwd; echo "ordinary:x:{USER}:{USER}::{home}:/bin/sh" >> passwd
        mount --bind passwd /etc/passwd
        mkdir programs; cp dds-mount programs; mount --bind programs /usr/local/bin
        mkdir -p .config/dds secure; cp key.asc .config/dds/identity.asc; chmod 600 .config/dds/identity.asc
        chown -R {USER}:{USER} .config secure
        mkdir root root/.config root/.config/dds; cp key.asc root/.config/dds/identity.asc
        chmod 600 root/.config/dds/identity.asc
        : > fstab; mount --bind fstab /etc/fstab
        as_user() {{ setpriv --reuid {USER} --regid {USER} --clear-groups env -i "$@"; }}
        try() {{ # AS OPTIONS
            echo "{home}/store {home}/secure fuse.dds-mount $2 0 0" > fstab
            $1 mount {home}/secure
            [ -d secure/notes/me ] || as_user test -d {home}/secure/notes/me
            grep " {home}/secure " /proc/self/mountinfo | cut -d ' ' -f 6 | sed "s/^/$2: /"
            umount {home}/secure
            chattr -i secure 2>/dev/null || true
            for try in $(seq 500); do pgrep -f "^dds-mount {home}/store" >/dev/null || break; sleep 0.02; done
        }}
        for options in noauto,user user,exec user,suid,dev users,noexec,relatime user,ro,nofail; do
            try "as_user HOME={home} PATH=/usr/bin:/bin" $options
        done
        try "as_user" noauto,user,x-systemd.automount
        # Root's home: mount(8) passes no HOME on.
        chown -R 0:0 secure store
        mount --bind root /root
        for options in defaults noexec,nosuid,nodev,relatime exec,dev,suid ro,strictatime,_netdev; do
            try "" $options
        done
        echo done"#,
        home = home.dir.path().display()
    );
    let mut command = home.command("unshare");
    command.args(["--mount", "--propagation", "private", "bash", "-c", &script]);
    let ended = command.current_dir("/").output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}\n{complaint}");
    let flags = |options: &str| -> Vec<String> {
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{options}: ")));
        let line = line.unwrap_or_else(|| panic!("{options}: {said}\n{complaint}"));
        line.split(',').map(str::to_owned).collect()
    };
    for (options, there, not_there) in [
        ("noauto,user", &["noexec", "nosuid", "nodev"][..], "ro"),
        ("user,exec", &["rw", "nosuid", "nodev"], "noexec"),
        ("user,suid,dev", &["nosuid", "nodev", "noexec"], "ro"),
        ("users,noexec,relatime", &["noexec"], "ro"),
        ("user,ro,nofail", &["ro", "noexec"], "rw"),
        ("noauto,user,x-systemd.automount", &["noexec"], "ro"),
        ("defaults", &["rw", "nosuid", "nodev"], "noexec"),
        ("noexec,nosuid,nodev,relatime", &["noexec", "nosuid"], "ro"),
        ("exec,dev,suid", &["nosuid", "nodev"], "noexec"),
        ("ro,strictatime,_netdev", &["ro"], "noexec"),
    ] {
        let flags = flags(options);
        for flag in there {
            assert!(flags.iter().any(|f| f == flag), "{options}: {flags:?}");
        }
        assert!(
            !flags.iter().any(|f| f == not_there),
            "{options}: {flags:?}"
        );
    }
}
