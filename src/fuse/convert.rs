//! Converts between the kernel's types and the view's, and sends answers.

use std::time::{SystemTime, UNIX_EPOCH};

use fuser::{
    FileHandle, FileType, FopenFlags, INodeNo, OpenAccMode, OpenFlags, ReplyEmpty, ReplyOpen,
    ReplyXattr, TimeOrNow,
};

use super::errno;
use crate::error::{Kind, Result};
use crate::ids::Timestamp;
use crate::view::{Access, HandleId, Ino, NodeKind};

pub(super) fn ino(number: INodeNo) -> Ino {
    Ino(number.0)
}

pub(super) fn handle(number: FileHandle) -> HandleId {
    HandleId(number.0)
}

pub(super) fn file_type(kind: NodeKind) -> FileType {
    match kind {
        NodeKind::Directory => FileType::Directory,
        NodeKind::File => FileType::RegularFile,
        NodeKind::Symlink => FileType::Symlink,
    }
}

pub(super) fn access(flags: OpenFlags) -> Access {
    let mode = flags.acc_mode();
    let has = |flag: i32| flags.0 & flag != 0;
    Access {
        read: mode != OpenAccMode::O_WRONLY,
        write: mode != OpenAccMode::O_RDONLY,
        append: has(libc::O_APPEND),
        truncate: has(libc::O_TRUNC),
        exclusive: has(libc::O_EXCL),
    }
}

pub(super) fn timestamp(time: TimeOrNow) -> Timestamp {
    match time {
        TimeOrNow::SpecificTime(time) => sent(time),
        TimeOrNow::Now => Timestamp::now(),
    }
}

/// Returns the time that the kernel sent: for a time before 1970 fuser subtracts the fraction, which
/// has to be added.
fn sent(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(_) => time.into(),
        Err(before) => {
            let before = before.duration();
            let seconds = 0_i64.saturating_sub_unsigned(before.as_secs());
            Timestamp::new(seconds, before.subsec_nanos()).expect("a fraction of a second")
        }
    }
}

/// Zeroes the bytes that a program wrote. Otherwise they would stay in the buffer of the thread that
/// received them until that thread gets a request of the same size.
pub(super) fn erase(received: &[u8]) {
    // SAFETY: fuser lends its buffer as shared, and so the language forbids this write: a known
    // exception, for want of an interface. The buffer is writable and no other thread has it;
    // nobody reads these bytes again before the kernel overwrites them; and as the write happens
    // in the C library, the compiler can assume nothing about it. `tests/mount/leaks.rs`
    // shows that it works.
    unsafe { libc::explicit_bzero(received.as_ptr().cast_mut().cast(), received.len()) };
}

pub(super) fn reply_empty(result: Result<()>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno::of(&error)),
    }
}

pub(super) fn reply_open(result: Result<HandleId>, reply: ReplyOpen) {
    match result {
        Ok(id) => reply.opened(FileHandle(id.0), FopenFlags::empty()),
        Err(error) => reply.error(errno::of(&error)),
    }
}

/// Answers a request for an attribute: its size if none is offered, else its bytes.
pub(super) fn reply_xattr(result: Result<Vec<u8>>, size: u32, reply: ReplyXattr) {
    match result {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() <= size as usize => reply.data(&value),
        Ok(_) => reply.error(errno::errno(Kind::BufferTooSmall)),
        Err(error) => reply.error(errno::of(&error)),
    }
}
