//! `scripts/relay`: its dry run, and, for root, a real run in which `/etc`, `/var/lib` and `/run`
//! are private copies that end with the test.

use std::path::PathBuf;
use std::process::Output;

use crate::support::mount::{Home, skipped};
use crate::support::programs::installed;

const RELAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/relay");
const USER: &str = "dds-relay-test";
const PEER: &str = "UQ7OX74-LJE52DC-YBTVCXV-MWTLQ2H-V4RJGWC-MDUGDM6-B4X6M5Z-7JSP2QR";

/// Makes what the script changes private to this process and its children.
const PRIVATE: &str = r#"
set -euo pipefail
private=$1
mount --make-rprivate /
mount -t tmpfs tmpfs "$private"
mkdir "$private"/{etc,dpkg}
cp -a /etc/. "$private/etc/"
mount --bind "$private/etc" /etc
mount --bind /var/lib/dpkg "$private/dpkg"
mount -t tmpfs -o mode=755 tmpfs /var/lib
mkdir /var/lib/dpkg
mount --bind "$private/dpkg" /var/lib/dpkg
mount -t tmpfs -o mode=755 tmpfs /run
config=/var/lib/$2/.config/syncthing/config.xml
"#;

fn run(arguments: &[&str]) -> Output {
    let home = Home::new();
    home.command(RELAY).args(arguments).output().unwrap()
}

fn said(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

/// Runs a script where all that `scripts/relay` changes is private. Returns its output.
fn in_private(script: &str) -> Option<String> {
    let root = rustix::process::geteuid().is_root();
    let debian = PathBuf::from("/var/lib/dpkg").is_dir();
    if !root || !debian {
        skipped("scripts/relay for real: needs root and Debian");
        return None;
    }
    if !installed(&["syncthing", "unshare", "ip"]) {
        return None;
    }
    let home = Home::new();
    let private = home.path("private");
    std::fs::create_dir(&private).unwrap();
    let mut command = home.command("timeout");
    command.args([
        "--kill-after=1",
        "100",
        "unshare",
        "--mount",
        "--pid",
        "--fork",
    ]);
    command.args(["--kill-child", "--mount-proc", "bash", "-c"]);
    command.arg(format!("{PRIVATE}\n{script}")).arg("bash");
    let ended = command.arg(&private).args([USER, RELAY, PEER]).output();
    let ended = ended.unwrap();
    let (out, err) = (said(&ended.stdout), said(&ended.stderr));
    if err.contains("unshare failed") || err.contains("permission denied") {
        skipped(&format!("scripts/relay for real: {err}"));
        return None;
    }
    assert!(ended.status.success(), "{out}\n{err}");
    Some(out)
}

#[test]
fn a_dry_run_only_tells() {
    let before = std::fs::read("/etc/passwd").unwrap();
    let ended = run(&[
        "--dry-run",
        "--user",
        USER,
        "--folder",
        "/srv/store",
        "--peer",
        PEER,
    ]);
    let out = said(&ended.stdout);
    assert!(ended.status.success(), "{out}{}", said(&ended.stderr));
    for line in [
        "useradd --system --user-group",
        "/srv/store/messages",
        "syncthing generate",
        "fsWatcherDelayS 1, ignorePerms true, no versioning",
        "  globalAnnounceEnabled false\n",
        "127.0.0.1:8384 only",
        "device id: ",
        PEER,
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert!(!PathBuf::from("/srv/store").exists());
    assert!(!PathBuf::from("/var/lib").join(USER).exists());
    assert_eq!(std::fs::read("/etc/passwd").unwrap(), before);

    let out = said(&run(&["--dry-run", "--user", USER, "--global-discovery"]).stdout);
    assert!(out.contains("  globalAnnounceEnabled true\n"), "{out}");
}

#[test]
fn what_it_cannot_understand_it_refuses() {
    for arguments in [
        &["--what"][..],
        &["--user", "a b"],
        &["--user", "-x"],
        &["--peer", "UQ7OX74"],
        &["--folder", "/srv/a\"b"],
        &["--folder", "/srv/a<b"],
    ] {
        let ended = run(&[&["--dry-run"][..], arguments].concat());
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}");
        assert!(!ended.stderr.is_empty() && ended.stdout.is_empty());
    }
    let ended = run(&["--dry-run", "--user", "root"]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(said(&ended.stderr).contains("relay: hint: "));
    let help = run(&["--help"]);
    assert!(help.status.success());
    for option in [
        "--user",
        "--folder",
        "--peer",
        "--global-discovery",
        "--dry-run",
    ] {
        assert!(said(&help.stdout).contains(option), "{option}");
    }
}

#[test]
fn syncthing_takes_the_configuration() {
    let out = in_private(
        r#"
        "$3" --user "$2" >"$private/first"
        grep '^device id: .......-.......-' "$private/first"
        [[ $(stat -c '%U %a' /var/lib/"$2"/store{,/keys,/messages,/notes,/software} | sort -u) == "$2 700" ]]
        test ! -e /var/lib/"$2"/store/.stfolder
        grep -q '<folder id="dds".* path="/var/lib/'"$2"'/store" type="sendreceive".* fsWatcherDelayS="1"' "$config"
        for option in globalAnnounceEnabled localAnnounceEnabled relaysEnabled natEnabled crashReportingEnabled; do
            grep -q "<$option>false</$option>" "$config"
        done
        grep -q '<urAccepted>-1</urAccepted>' "$config"
        grep -q '<autoUpgradeIntervalH>0</autoUpgradeIntervalH>' "$config"

        # Again, with another machine: the same device.
        "$3" --user "$2" --peer "$4" | grep -Fx "$(grep '^device id' "$private/first")"
        cp "$config" "$private/config"
        "$3" --user "$2" --peer "$4" >/dev/null
        cmp "$config" "$private/config"

        # A link that the user put there does not make root give /etc away.
        rmdir /var/lib/"$2"/store/keys
        ln -s /etc /var/lib/"$2"/store/keys
        "$3" --user "$2" >/dev/null
        [[ $(stat -c '%U %a' /etc) == 'root 755' ]]
        rm /var/lib/"$2"/store/keys

        # Real, with no network but its own, until it has looked at the store.
        cat >"$private/serve" <<'EOT'
        ip link set lo up
        runuser -u "$1" -- env -i HOME="/var/lib/$1" PATH=/usr/bin:/bin \
            syncthing serve --no-browser --no-restart >"$2" 2>&1 &
        for _ in {1..400}; do
            ! grep -q 'Completed initial scan.*(dds)' "$2" || break
            sleep 0.1
        done
        kill $! && wait $! || true
        cat "$2"
EOT
        unshare --net bash "$private/serve" "$2" "$private/log"
        cp "$config" "$private/config"
        # Syncthing may have written it anew; then nothing is left to change but what is told.
        "$3" --user "$2" --global-discovery --peer "$4" >/dev/null
        diff "$private/config" "$config" || true
        "#,
    );
    let Some(out) = out else { return };
    assert!(out.contains("Ready to synchronize \"DDS\" (dds)"), "{out}");
    assert!(out.contains("Completed initial scan"), "{out}");
    assert!(out.contains(&format!("Device {PEER}")), "{out}");
    let changes: Vec<_> = out.lines().filter(|line| line.starts_with("> ")).collect();
    let [change] = changes[..] else {
        panic!("{changes:?}")
    };
    assert!(change.contains("<globalAnnounceEnabled>true<"), "{change}");
    assert!(
        !said(&std::fs::read("/etc/passwd").unwrap()).contains(USER),
        "the user is left"
    );
}

#[test]
fn what_belongs_to_somebody_else_is_left_alone() {
    let out = in_private(
        r#"
        mkdir -p /var/lib/others/messages
        ! "$3" --user "$2" --folder /var/lib/others 2>"$private/told" || exit 9
        cat "$private/told"
        stat -c '%U %a' /var/lib/others
        test ! -e /var/lib/others/keys
        "#,
    );
    let Some(out) = out else { return };
    assert!(out.contains("is there already, and not"), "{out}");
    assert!(out.ends_with("root 755\n"), "{out}");
}
