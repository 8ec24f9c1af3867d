//! The daemon gives up for good, once it has mounted and before it reads anything that others wrote:
//! new privileges, every file but its own, the network, other programs.
//!
//! Three layers of the kernel, each of which may be missing. Landlock limits files to [`Places`];
//! seccomp limits system calls to those of `calls.rs`. Calls that the landlock of an older
//! kernel cannot refuse (the network, signals, `truncate`), seccomp refuses as well: together they are
//! complete with any landlock, as long as nothing may be connected to: an older landlock cannot
//! tell gpg-agent's socket from the session's bus, which starts programs for whoever asks.
//!
//! Neither hides the metadata of files. The keeper stays outside, to unmount.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus,
    PathBeneath, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus,
    Scope,
};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::calls;

/// The newest landlock that was thought of here. Of an older one, all is used that it has.
const NEWEST: ABI = ABI::V9;

/// Files of the machine that are read: the time zone; callers and the table of mounts; the number of
/// processors.
const MACHINE: [&str; 6] = [
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/proc",
    "/dev/urandom",
    "/sys/devices/system/cpu/online",
    "/sys/fs/cgroup",
];

/// Places that stay in reach. One that does not exist yet will not be reached: directories must have
/// been made before.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Directories in which files and directories are read, written, made and removed, and sockets
    /// removed.
    pub writable: Vec<PathBuf>,
    /// Files that are read, and directories with everything in them.
    pub readable: Vec<PathBuf>,
    /// Sockets that are connected to, such as gpg-agent's. Before landlock's ABI 9 the kernel
    /// cannot tell one from another: without any, connecting is refused altogether.
    pub sockets: Vec<PathBuf>,
    /// Our own mount, in which files and directories are made and removed. Nobody answers there
    /// yet: nothing may be asked of it.
    pub mount: Option<PathBuf>,
}

/// A layer's name, if it is active, or a sentence that says why not.
type Layer = Result<String, String>;

/// Which layers are active. There is no way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    layers: [Layer; 3],
}

/// Which of the layers limits files.
const LANDLOCK: usize = 1;

/// Tells whether this kernel can limit files at all.
pub fn confines_files() -> bool {
    const VERSION: libc::c_uint = 1;
    let nothing: *const libc::c_void = std::ptr::null();
    // SAFETY: with this flag the kernel looks at no memory, and only says what it offers.
    let abi =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, VERSION) };
    abi > 0
}

impl Sandbox {
    /// Tells whether everything that was asked for is enforced.
    pub fn is_complete(&self) -> bool {
        self.layers.iter().all(Result::is_ok)
    }

    /// Tells whether all files but the process's own are out of reach.
    pub fn confines_files(&self) -> bool {
        self.layers[LANDLOCK].is_ok()
    }
}

impl std::fmt::Display for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let active: Vec<&str> = self.layers.iter().flatten().map(String::as_str).collect();
        let missing = self.layers.iter().filter_map(|layer| layer.as_ref().err());
        let missing: Vec<&str> = missing.map(String::as_str).collect();
        match (active.join(", "), missing.join("; ")) {
            (active, missing) if missing.is_empty() => f.write_str(&active),
            (active, missing) if active.is_empty() => write!(f, "none: {missing}"),
            (active, missing) => write!(f, "not complete: {missing} (active: {active})"),
        }
    }
}

/// Confines this process, as far as the kernel can. The process must have one thread.
pub fn enter(places: &Places) -> Sandbox {
    let no_new_privs = forgo_privileges();
    forgo_capabilities();
    let landlock = match only_thread() {
        true => confine_files(places),
        false => Err("landlock would not confine the threads that run already".to_owned()),
    };
    let seccomp = confine_calls(!places.sockets.is_empty());
    Sandbox {
        layers: [no_new_privs, landlock, seccomp],
    }
}

fn forgo_privileges() -> Layer {
    rustix::thread::set_no_new_privs(true)
        .map(|()| "no_new_privs".to_owned())
        .map_err(|errno| format!("no_new_privs is refused: {}", io::Error::from(errno)))
}

/// Gives up all of root's rights but ignoring permissions of files and locking memory. An ordinary
/// user has nothing to give up.
fn forgo_capabilities() {
    let kept = CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::DAC_READ_SEARCH
        | CapabilitySet::FOWNER
        | CapabilitySet::IPC_LOCK;
    let less = rustix::thread::capabilities(None).and_then(|sets| {
        let sets = CapabilitySets {
            effective: sets.effective & kept,
            permitted: sets.permitted & kept,
            inheritable: CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, sets)
    });
    if let Err(errno) = less {
        tracing::warn!("capabilities are kept: {}", io::Error::from(errno));
    }
}

/// Where there is no `/proc` the caller's word counts.
pub(super) fn only_thread() -> bool {
    std::fs::read_dir("/proc/self/task").map_or(true, |tasks| tasks.count() == 1)
}

fn confine_calls(connects: bool) -> Layer {
    for program in calls::programs(connects)? {
        seccompiler::apply_filter_all_threads(&program).map_err(|error| match error {
            seccompiler::Error::Seccomp(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                "seccomp is not offered by this kernel".to_owned()
            }
            error => format!("seccomp is refused: {error}"),
        })?;
    }
    Ok("seccomp".to_owned())
}

fn confine_files(places: &Places) -> Layer {
    let status = rules(places).and_then(landlock::RulesetCreated::restrict_self);
    let status = status.map_err(|error| format!("landlock is refused: {error}"))?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
            Err("landlock is not enabled in this kernel".to_owned())
        }
        (RulesetStatus::NotEnforced, _) => Err("landlock is not offered by this kernel".to_owned()),
        (
            _,
            LandlockStatus::Available {
                effective_abi,
                kernel_abi,
                ..
            },
        ) => {
            let abi = kernel_abi.unwrap_or(effective_abi as i32);
            Ok(format!("landlock (ABI {abi})"))
        }
        (_, _) => Err("landlock is not offered by this kernel".to_owned()),
    }
}

/// Forbids everything that landlock knows of, but for the places.
fn rules(places: &Places) -> Result<landlock::RulesetCreated, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::WriteFile | AccessFs::Truncate;
    // No links, pipes, devices or sockets: none is ever made.
    let change = AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer;
    let null = [PathBuf::from("/dev/null")];
    let machine = MACHINE.map(PathBuf::from);
    let groups: [(&[PathBuf], BitFlags<AccessFs>); 5] = [
        (&places.writable, read | write | change),
        (&places.readable, read),
        (&places.sockets, AccessFs::ResolveUnix.into()),
        (&machine, read),
        (&null, read | write),
    ];
    for (paths, access) in groups {
        for path in paths {
            if let Some((place, fits)) = open(path) {
                rules = rules.add_rule(PathBeneath::new(place, access & fits))?;
            }
        }
    }
    if let Some(mount) = &places.mount {
        allow_mount(&rules, mount).unwrap_or_else(|error| {
            tracing::warn!("programs that watch the mount are not told of arrivals: {error}");
        });
    }
    Ok(rules)
}

/// Allows making, writing and removing in the mount. The crate would ask for the mount's type,
/// which nobody answers yet; the kernel itself needs nothing but its root.
fn allow_mount(rules: &landlock::RulesetCreated, mount: &Path) -> io::Result<()> {
    /// `struct landlock_path_beneath_attr` of linux/landlock.h.
    #[repr(C, packed)]
    struct Rule {
        allowed_access: u64,
        parent_fd: i32,
    }
    const PATH_BENEATH: libc::c_int = 1;
    let rules: Option<OwnedFd> = rules.try_clone()?.into();
    let Some(rules) = rules else {
        return Ok(()); // There is no landlock that would forbid it.
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(mount, flags, Mode::empty())?;
    // All of them are in the first landlock, so the rules know them.
    let access = AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::WriteFile
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir;
    let rule = Rule {
        allowed_access: access.bits(),
        parent_fd: root.as_raw_fd(),
    };
    // SAFETY: the kernel reads the rule, which lives until the call returns.
    let added = unsafe {
        let call = libc::SYS_landlock_add_rule;
        libc::syscall(call, rules.as_raw_fd(), PATH_BENEATH, &raw const rule, 0)
    };
    match added {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Opens a place, and returns the rights that its kind of file can have.
fn open(path: &Path) -> Option<(OwnedFd, BitFlags<AccessFs>)> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let stat = opened.and_then(|place| Ok((rustix::fs::fstat(&place)?, place)));
    match stat {
        Ok((stat, place)) => {
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let fits = match is_dir {
                true => AccessFs::from_all(NEWEST),
                false => AccessFs::from_file(NEWEST),
            };
            Some((place, fits))
        }
        Err(errno) => {
            tracing::debug!("a place outside the sandbox: {}", io::Error::from(errno));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told() {
        let of = |layers: [Result<&str, &str>; 3]| Sandbox {
            layers: layers.map(|layer| layer.map(str::to_owned).map_err(str::to_owned)),
        };
        let complete = of([Ok("no_new_privs"), Ok("landlock (ABI 7)"), Ok("seccomp")]);
        assert!(complete.is_complete());
        let told = complete.to_string();
        assert_eq!(told, "no_new_privs, landlock (ABI 7), seccomp");
        let without = of([Ok("no_new_privs"), Err("no landlock"), Ok("seccomp")]);
        assert!(!without.is_complete());
        let told = without.to_string();
        assert_eq!(
            told,
            "not complete: no landlock (active: no_new_privs, seccomp)"
        );
        let nothing = of([Err("one"), Err("two"), Err("three")]);
        assert_eq!(nothing.to_string(), "none: one; two; three");
    }
}
