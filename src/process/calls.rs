//! The system calls that the confined daemon needs, and no others.
//!
//! Where a call as such would allow too much, its arguments are checked. Calls that change a file by
//! its name alone (`chmod`, `chown`, `truncate`, `setxattr`, `utimensat` with a path) are missing:
//! landlock does not, or did not, limit them. On a file that is open they are harmless.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

/// This machine, if its calls are known here.
const MACHINE: Option<TargetArch> = if cfg!(target_arch = "x86_64") {
    Some(TargetArch::x86_64)
} else if cfg!(target_arch = "aarch64") {
    Some(TargetArch::aarch64)
} else {
    None
};

/// Allowed with any arguments.
const PLAIN: &[i64] = &[
    // Open files.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fchmod,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_syncfs,
    libc::SYS_sync_file_range,
    libc::SYS_flock,
    libc::SYS_getdents64,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_pipe2,
    libc::SYS_memfd_create,
    // Names: landlock decides which.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_mkdirat,
    libc::SYS_linkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_umask,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    // Memory. Mapping and protecting are below.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_msync,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_membarrier,
    // Threads. `clone3` is answered by the other filter; see `programs`.
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    // Signals. Sending is below.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Waiting and time.
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    // Sockets that are there; none is bound any more. Connecting and sending is below.
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
    // Itself.
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_setsid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// The older forms that C libraries still use on this machine.
#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_link,
    libc::SYS_rename,
    libc::SYS_unlink,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_time,
    // Sets up a thread's own storage.
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

const FCNTL: [i32; 16] = [
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_GETLK,
    libc::F_SETLK,
    libc::F_SETLKW,
    libc::F_OFD_GETLK,
    libc::F_OFD_SETLK,
    libc::F_OFD_SETLKW,
    libc::F_ADD_SEALS,
    libc::F_GET_SEALS,
    libc::F_GETPIPE_SZ,
    libc::F_SETPIPE_SZ,
];

const PRCTL: [i32; 5] = [
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_GET_DUMPABLE,
    libc::PR_GET_NO_NEW_PRIVS,
    // Names memory for /proc/PID/maps: allocators do.
    libc::PR_SET_VMA,
];

/// Everything that a thread shares with its process; a new process shares less.
const THREAD: i32 =
    libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;

/// Builds the filters, in the order in which they are to be installed.
///
/// They are two, as one filter has a single answer to all calls that it refuses. `clone3` hides its flags from any
/// filter: it is answered as by a kernel that does not have it, and C libraries then use `clone`.
///
/// # Errors
/// A sentence, if there is no list for this machine or it cannot be compiled.
pub(super) fn programs(connects: bool) -> Result<[BpfProgram; 2], String> {
    let machine = MACHINE.ok_or("seccomp has no list of calls for this kind of processor")?;
    let build = || -> Result<[BpfProgram; 2], BackendError> {
        let no_clone3 = SeccompFilter::new(
            BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
            SeccompAction::Allow,
            SeccompAction::Errno(libc::ENOSYS as u32),
            machine,
        )?;
        let allowed = SeccompFilter::new(
            allowed(connects)?,
            SeccompAction::Errno(libc::EPERM as u32),
            SeccompAction::Allow,
            machine,
        )?;
        Ok([no_clone3.try_into()?, allowed.try_into()?])
    };
    build().map_err(|error| format!("the seccomp filter cannot be built: {error}"))
}

fn allowed(connects: bool) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let own = std::process::id();
    let unix = || is(0, libc::AF_UNIX as u32);
    let not_executable = || masked(2, libc::PROT_EXEC as u64, 0);
    let mut rules = BTreeMap::new();
    for call in PLAIN.iter().chain(OLDER) {
        rules.insert(*call, Vec::new());
    }
    if connects {
        rules.insert(libc::SYS_connect, Vec::new());
        rules.insert(libc::SYS_sendmsg, Vec::new());
    }
    // To whom the socket is connected: no address, which for datagrams is as good as connecting.
    rules.insert(libc::SYS_sendto, vec![masked(4, u64::MAX, 0)?]);
    rules.insert(libc::SYS_socket, vec![unix()?]);
    rules.insert(libc::SYS_socketpair, vec![unix()?]);
    rules.insert(libc::SYS_mmap, vec![not_executable()?]);
    rules.insert(libc::SYS_mprotect, vec![not_executable()?]);
    rules.insert(
        libc::SYS_clone,
        vec![masked(0, THREAD as u64, THREAD as u64)?],
    );
    // To itself: `abort` and `raise` do.
    rules.insert(libc::SYS_kill, vec![is(0, own)?]);
    rules.insert(libc::SYS_tgkill, vec![is(0, own)?]);
    rules.insert(libc::SYS_prlimit64, vec![is(0, 0)?]);
    // Of a file that is open: the path is null.
    rules.insert(libc::SYS_utimensat, vec![masked(1, u64::MAX, 0)?]);
    rules.insert(
        libc::SYS_fcntl,
        one_of(1, FCNTL.map(|command| command as u32))?,
    );
    let terminal = [libc::TCGETS, libc::FIONBIO, libc::FIONREAD, libc::FIOCLEX];
    rules.insert(
        libc::SYS_ioctl,
        one_of(1, terminal.map(|request| request as u32))?,
    );
    rules.insert(
        libc::SYS_prctl,
        one_of(0, PRCTL.map(|option| option as u32))?,
    );
    Ok(rules)
}

fn one_of<const N: usize>(
    argument: u8,
    values: [u32; N],
) -> Result<Vec<SeccompRule>, BackendError> {
    values
        .into_iter()
        .map(|value| is(argument, value))
        .collect()
}

/// An argument of which the kernel reads 32 bits.
fn is(argument: u8, value: u32) -> Result<SeccompRule, BackendError> {
    rule(
        argument,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        value.into(),
    )
}

fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompRule, BackendError> {
    rule(
        argument,
        SeccompCmpArgLen::Qword,
        SeccompCmpOp::MaskedEq(mask),
        value,
    )
}

fn rule(
    argument: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(
        argument, length, operator, value,
    )?])
}
