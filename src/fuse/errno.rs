//! The one table from kinds of errors to errnos, which dds-mount(1) lists. Exhaustive on purpose.

use crate::error::{Error, Kind};

/// Returns the errno of an error, for the kernel.
pub(super) fn of(error: &Error) -> fuser::Errno {
    errno(error.kind())
}

/// Returns the errno of a kind of error, for the kernel.
pub(super) fn errno(kind: Kind) -> fuser::Errno {
    fuser::Errno::from_i32(code(kind))
}

/// Returns the number of the errno that a program sees for a kind of error.
pub fn code(kind: Kind) -> i32 {
    match kind {
        Kind::NotFound => libc::ENOENT,
        Kind::Exists => libc::EEXIST,
        Kind::NotDirectory => libc::ENOTDIR,
        Kind::IsDirectory => libc::EISDIR,
        Kind::NotEmpty => libc::ENOTEMPTY,
        Kind::Forbidden => libc::EPERM,
        Kind::ReadOnlyFile => libc::EACCES,
        Kind::ReadOnlyTree => libc::EROFS,
        // mv then copies and deletes, which encrypts anew for the other audience.
        Kind::CrossAudience => libc::EXDEV,
        Kind::Busy => libc::EBUSY,
        Kind::Invalid => libc::EINVAL,
        Kind::NameTooLong => libc::ENAMETOOLONG,
        Kind::TooLarge => libc::EFBIG,
        Kind::Unsupported => libc::EOPNOTSUPP,
        Kind::NoAttribute => libc::ENODATA,
        Kind::BufferTooSmall => libc::ERANGE,
        Kind::BadHandle => libc::EBADF,
        Kind::NoKey => libc::ENOKEY,
        Kind::KeyExpired => libc::EKEYEXPIRED,
        Kind::KeyRevoked => libc::EKEYREVOKED,
        Kind::KeyRejected => libc::EKEYREJECTED,
        Kind::Damaged => libc::EBADMSG,
        // Cannot come from a mounted view; if it did, my key could not be used.
        Kind::WrongPassphrase => libc::ENOKEY,
        // As above: pins that cannot be saved are a fault of the disk as far as programs go.
        Kind::BadConfig => libc::EIO,
        Kind::NoSpace => libc::ENOSPC,
        Kind::DiskReadOnly => libc::EROFS,
        Kind::DiskForbids => libc::EACCES,
        Kind::Io => libc::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_s_errnos() {
        for (kind, expected) in [
            (Kind::NoKey, libc::ENOKEY),
            (Kind::KeyExpired, libc::EKEYEXPIRED),
            (Kind::KeyRevoked, libc::EKEYREVOKED),
            (Kind::KeyRejected, libc::EKEYREJECTED),
            (Kind::Damaged, libc::EBADMSG),
            (Kind::TooLarge, libc::EFBIG),
            (Kind::CrossAudience, libc::EXDEV),
            (Kind::Forbidden, libc::EPERM),
            (Kind::ReadOnlyTree, libc::EROFS),
            (Kind::ReadOnlyFile, libc::EACCES),
            (Kind::NoSpace, libc::ENOSPC),
            (Kind::DiskReadOnly, libc::EROFS),
            (Kind::DiskForbids, libc::EACCES),
        ] {
            assert_eq!(code(kind), expected, "{kind:?}");
        }
    }
}
