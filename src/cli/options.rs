//! `-o`: the options that `mount(8)` and its helper `mount.fuse3(8)` pass on from `/etc/fstab`.

use super::{Exit, Failure, Outcome};

/// Options that are flags for the kernel, each with the option that takes it back.
const FLAGS: [(&str, &str); 4] = [
    ("dirsync", "nodirsync"),
    ("noexec", "exec"),
    ("ro", "rw"),
    ("sync", "async"),
];

/// Options for `mount(8)` itself, options for other programs that read `/etc/fstab`, and options for
/// which this view has no use. It keeps no access times, and devices and set-user-id bits never work in it:
/// `mount.fuse3` adds `dev` and `suid` by itself wherever the opposite is not asked for.
const DROPPED: [&str; 38] = [
    "_netdev",
    "_rnetdev",
    "async",
    "atime",
    "auto",
    "auto_unmount",
    "defaults",
    "dev",
    "diratime",
    "exec",
    "group",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "noauto",
    "nodev",
    "nodirsync",
    "nodiratime",
    "nofail",
    "nogroup",
    "noiversion",
    "nolazytime",
    "nomand",
    "noowner",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nouser",
    "owner",
    "relatime",
    "rw",
    "silent",
    "strictatime",
    "suid",
    "user",
    "users",
];

/// Beginnings of options that carry words for `mount(8)`, or give names that are given here anyway.
const DROPPED_STARTS: [&str; 8] = [
    "X-", "comment=", "fsname=", "helper=", "subtype=", "uhelper=", "user=", "x-",
];

fn is_dropped(option: &str) -> bool {
    DROPPED.contains(&option) || DROPPED_STARTS.iter().any(|start| option.starts_with(start))
}

/// Refuses options that would let others see the view, and drops those without meaning for it. Of
/// two that contradict each other the last counts, as for `mount(8)`.
pub(super) fn mount_options(given: &[String]) -> Outcome<Vec<String>> {
    let mut options: Vec<String> = Vec::new();
    for option in given.iter().filter(|option| !option.is_empty()) {
        if ["allow_other", "allow_root"].contains(&option.as_str()) {
            let refused = format!("option {option} is refused: the view is for you alone");
            return Err(Failure::new(Exit::Usage, refused).hint("leave it out"));
        }
        for (flag, _) in FLAGS.iter().filter(|(_, back)| back == option) {
            options.retain(|earlier| earlier != flag);
        }
        if !is_dropped(option) && !options.contains(option) {
            options.push(option.clone());
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(given: &str) -> Vec<String> {
        let given: Vec<_> = given.split(',').map(str::to_owned).collect();
        mount_options(&given).unwrap()
    }

    #[test]
    fn what_mount_and_its_helper_pass_on_is_understood() {
        for nothing in [
            "",
            "rw,dev,suid",
            "rw,nosuid,nodev,relatime",
            "rw,exec,nosuid,nodev,user=alice,x-systemd.automount",
            "noauto,nofail,_netdev,users,comment=a word,X-mount.mkdir",
            "defaults,strictatime,lazytime,nodiratime,silent,owner,group",
            "noexec,exec",
            "ro,rw",
        ] {
            assert_eq!(kept(nothing), [""; 0], "{nothing}");
        }
        assert_eq!(kept("rw,noexec,nosuid,nodev"), ["noexec"]);
        assert_eq!(kept("ro,noexec,noexec"), ["ro", "noexec"]);
        assert_eq!(
            kept("exec,noexec,max_read=4096"),
            ["noexec", "max_read=4096"]
        );
        // A restriction that cannot be kept is not dropped silently: it is left to the kernel to refuse.
        assert_eq!(kept("nosymfollow"), ["nosymfollow"]);
    }
}
