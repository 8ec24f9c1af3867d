//! The adapter between the kernel and the view: it converts, calls, replies.
//!
//! It decides nothing and keeps no state; requests of our own, by which arrivals reach programs
//! that watch the mount, are answered by `replay` before they reach the view. Calls that the
//! adapter does not offer are answered by fuser with ENOSYS, which the kernel remembers: `poll`, `ioctl`, `bmap`, `getlk`, `setlk`,
//! `fallocate`, `lseek`, `copy_file_range`.

mod caller;
mod convert;
mod errno;
mod panics;
mod replay;
mod session;

use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};

pub use errno::code as errno_of;
pub use panics::lock_at_panic;
pub use session::{Mounted, Serving, check_available, mount};

use self::convert::{
    access, erase, file_type, handle, ino, reply_empty, reply_open, reply_xattr, timestamp,
};
use self::replay::{Replayed, Replaying};
use crate::error::{Kind, Result};
use crate::view::{Attr, RenameMode, SetAttr, View};

/// The kernel remembers nothing: the view cannot tell it of every change.
const TTL: Duration = Duration::ZERO;
/// Bytes in a block, as `stat` counts them.
const BLOCK: u64 = 512;
/// Bytes in the largest write request.
const MAX_WRITE: u32 = 1 << 20;

/// A view, offered to the kernel.
struct Adapter {
    /// There before the first request is answered.
    view: Arc<OnceLock<Arc<View>>>,
    uid: u32,
    gid: u32,
    /// Knows and answers the requests of our own.
    replaying: Arc<Replaying>,
}

impl Adapter {
    /// The view as a request sees it; it is in service until the request is answered.
    fn view(&self, request: &Request) -> Replayed<'_> {
        let view = self.view.get().expect("requests wait for the view");
        Replayed::of(view, &self.replaying, request)
    }

    fn attr(&self, attr: &Attr) -> FileAttr {
        let mtime = SystemTime::from(attr.mtime);
        FileAttr {
            ino: INodeNo(attr.ino.0),
            size: attr.size,
            blocks: attr.size.div_ceil(BLOCK),
            atime: attr.atime.into(),
            mtime,
            ctime: attr.ctime.into(),
            crtime: mtime,
            kind: file_type(attr.kind),
            perm: attr.mode as u16,
            nlink: attr.links,
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn reply_entry(&self, view: &View, result: Result<Attr>, reply: ReplyEntry) {
        match result {
            Ok(attr) => {
                view.remember(attr.ino);
                reply.entry(&TTL, &self.attr(&attr), Generation(0));
            }
            Err(error) => reply.error(errno::of(&error)),
        }
    }

    fn reply_attr(&self, result: Result<Attr>, reply: ReplyAttr) {
        match result {
            Ok(attr) => reply.attr(&TTL, &self.attr(&attr)),
            Err(error) => reply.error(errno::of(&error)),
        }
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // O_TRUNC comes with OPEN, so that it can be told from truncate(2). Kernels without it
        // (before 2.6.24) do not exist any more, so a kernel without it is only reported.
        if config
            .add_capabilities(InitFlags::FUSE_ATOMIC_O_TRUNC)
            .is_err()
        {
            tracing::warn!("the kernel does not pass O_TRUNC to open");
        }
        // The nearest size that the kernel offers is as good.
        let _ = config.set_max_write(MAX_WRITE);
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let view = self.view(req);
        self.reply_entry(&view, view.lookup(ino(parent), name), reply);
    }

    fn forget(&self, req: &Request, number: INodeNo, nlookup: u64) {
        self.view(req).forget(ino(number), nlookup);
    }

    fn getattr(&self, req: &Request, number: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.reply_attr(self.view(req).getattr(ino(number)), reply);
    }

    fn setattr(
        &self,
        req: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = SetAttr {
            mode,
            size,
            atime: atime.map(timestamp),
            mtime: mtime.map(timestamp),
            gives_away: uid.is_some_and(|uid| uid != self.uid)
                || gid.is_some_and(|gid| gid != self.gid),
        };
        let caller = caller::plain(req);
        let changed = self
            .view(req)
            .setattr(ino(number), fh.map(handle), set, caller);
        self.reply_attr(changed, reply);
    }

    fn readlink(&self, req: &Request, number: INodeNo, reply: ReplyData) {
        match self.view(req).readlink(ino(number)) {
            Ok(target) => reply.data(target.as_bytes()),
            Err(error) => reply.error(errno::of(&error)),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        let (view, caller) = (self.view(req), caller::with_group(req));
        let made = view.mknod(ino(parent), name, mode & !umask, caller);
        self.reply_entry(&view, made, reply);
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let view = self.view(req);
        let made = view.mkdir(ino(parent), name, mode & !umask);
        self.reply_entry(&view, made, reply);
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(self.view(req).unlink(ino(parent), name), reply);
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(self.view(req).rmdir(ino(parent), name), reply);
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (view, target) = (self.view(req), target.to_string_lossy());
        let made = view.symlink(ino(parent), name, &target);
        self.reply_entry(&view, made, reply);
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mode = RenameMode {
            no_replace: flags.contains(RenameFlags::RENAME_NOREPLACE),
            exotic: flags.bits() & !RenameFlags::RENAME_NOREPLACE.bits() != 0,
        };
        let (from, to) = (ino(parent), ino(newparent));
        let (view, caller) = (self.view(req), caller::with_group(req));
        reply_empty(view.rename(from, name, to, newname, mode, caller), reply);
    }

    fn link(
        &self,
        req: &Request,
        number: INodeNo,
        parent: INodeNo,
        name: &OsStr,
        reply: ReplyEntry,
    ) {
        let (view, caller) = (self.view(req), caller::with_group(req));
        let made = view.link(ino(number), ino(parent), name, caller);
        self.reply_entry(&view, made, reply);
    }

    fn open(&self, req: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (view, caller) = (self.view(req), caller::with_group(req));
        reply_open(view.open(ino(number), access(flags), caller), reply);
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (view, caller) = (self.view(req), caller::with_group(req));
        let access = access(OpenFlags(flags));
        let created = view.create(ino(parent), name, mode & !umask, access, caller);
        match created {
            Ok((attr, handle)) => {
                view.remember(attr.ino);
                let (attr, handle) = (self.attr(&attr), FileHandle(handle.0));
                reply.created(&TTL, &attr, Generation(0), handle, FopenFlags::empty());
            }
            Err(error) => reply.error(errno::of(&error)),
        }
    }

    fn read(
        &self,
        req: &Request,
        _number: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.view(req).read(handle(fh), offset, size as usize) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(errno::of(&error)),
        }
    }

    fn write(
        &self,
        req: &Request,
        _number: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // Pages of a mapping come through any handle, and belong where they are.
        let in_place = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let written = self.view(req).write(handle(fh), offset, data, in_place);
        let length = data.len() as u32;
        erase(data);
        match written {
            Ok(()) => reply.written(length),
            Err(error) => reply.error(errno::of(&error)),
        }
    }

    fn flush(
        &self,
        req: &Request,
        _number: INodeNo,
        fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let caller = caller::with_group(req);
        reply_empty(self.view(req).flush(handle(fh), caller), reply);
    }

    fn release(
        &self,
        req: &Request,
        _number: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.view(req).release(handle(fh));
        reply.ok();
    }

    fn fsync(
        &self,
        req: &Request,
        _number: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        reply_empty(self.view(req).fsync(handle(fh)), reply);
    }

    fn opendir(&self, req: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply_open(self.view(req).open_dir(ino(number)), reply);
    }

    fn readdir(
        &self,
        req: &Request,
        _number: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        match self.view(req).read_dir(handle(fh), offset) {
            Ok(entries) => {
                for (next, entry) in (offset.saturating_add(1)..).zip(entries) {
                    if reply.add(
                        INodeNo(entry.ino.0),
                        next,
                        file_type(entry.kind),
                        &entry.name,
                    ) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(errno::of(&error)),
        }
    }

    fn releasedir(
        &self,
        req: &Request,
        _number: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.view(req).release(handle(fh));
        reply.ok();
    }

    fn fsyncdir(
        &self,
        req: &Request,
        _number: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        reply_empty(self.view(req).fsync(handle(fh)), reply);
    }

    fn statfs(&self, req: &Request, _number: INodeNo, reply: ReplyStatfs) {
        match self.view(req).space() {
            Ok(space) => {
                let (size, name_max) = (space.block_size, 255);
                let (files, free_files) = (space.files, space.free_files);
                reply.statfs(
                    space.blocks,
                    space.free,
                    space.available,
                    files,
                    free_files,
                    size,
                    name_max,
                    size,
                );
            }
            Err(error) => reply.error(errno::of(&error)),
        }
    }

    fn setxattr(
        &self,
        _req: &Request,
        _number: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(errno::errno(Kind::Unsupported));
    }

    fn removexattr(&self, _req: &Request, _number: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(errno::errno(Kind::Unsupported));
    }

    fn getxattr(&self, req: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let value = self.view(req).xattr(ino(number), name);
        reply_xattr(value.map(String::into_bytes), size, reply);
    }

    fn listxattr(&self, req: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        let names = self.view(req).xattr_names(ino(number)).map(|names| {
            let names = names.iter().flat_map(|name| name.bytes().chain([0]));
            names.collect()
        });
        reply_xattr(names, size, reply);
    }

    fn access(&self, req: &Request, number: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let wants = |flag| mask.contains(flag);
        let (write, execute) = (wants(AccessFlags::W_OK), wants(AccessFlags::X_OK));
        let caller = caller::plain(req);
        let allowed = self
            .view(req)
            .may_access(ino(number), write, execute, caller);
        reply_empty(allowed, reply);
    }
}
