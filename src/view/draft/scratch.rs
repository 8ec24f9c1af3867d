//! Scratch: files that editors and tools make for themselves, which stay in RAM.
//!
//! A name alone decides only where people give no such names. Where they do, the way in which the
//! file was made has to agree: vim's probe is empty, and mkstemp(3) makes a file exclusively, for
//! reading and writing, for its owner alone. A browser's download is known by its name, but it
//! is renamed in the end: such a file is held back, and becomes a file like any other if it stays.

use std::ffi::OsStr;

use crate::view::Access;

/// Bytes in the largest lock file of LibreOffice, which names its user and machine.
const MAX_LOCK: u64 = 4096;

/// The kind of a new file, by its name and by the way in which it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::view) enum Birth {
    /// It stays in RAM under this name.
    Scratch,
    /// It is published.
    File(Hold),
}

/// The event for which a file waits before it is published, if it may be a temporary one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::view) enum Hold {
    /// It is published when it is closed.
    No,
    /// Its first byte: until then it may be vim's probe, or was made only to be opened.
    WhileEmpty,
    /// Its last name.
    UntilRenamed,
}

impl Birth {
    /// Decides the kind of a new file. `mode` has its permission bits, the umask taken off.
    pub(in crate::view) fn of(name: &OsStr, access: Access, mode: u32) -> Birth {
        let Some(name) = name.to_str() else {
            return Birth::File(Hold::No);
        };
        let by_mkstemp = access.exclusive && access.read && access.write && mode & 0o77 == 0;
        if is_scratch(name) || (is_temporary(name) && by_mkstemp) {
            Birth::Scratch
        } else if is_vim_probe(name) && access.exclusive {
            Birth::File(Hold::WhileEmpty)
        } else {
            Birth::File(Hold::under(name))
        }
    }

    pub(in crate::view) fn hold(self) -> Hold {
        match self {
            Birth::Scratch => Hold::No,
            Birth::File(hold) => hold,
        }
    }
}

impl Hold {
    /// The event for which a file waits after it is renamed to a name.
    pub(in crate::view) fn under(name: &str) -> Hold {
        match is_download(name) {
            true => Hold::UntilRenamed,
            false => Hold::No,
        }
    }
}

/// Tells whether a name is given by editors and tools to their scratch, and by nobody else.
pub(in crate::view) fn is_scratch(name: &str) -> bool {
    // Databases put data that they need again under these names.
    if name.ends_with("-journal") || name.ends_with("-wal") {
        return false;
    }
    let starts = [
        ".#",
        ".goutputstream-",
        "~$",
        "tmp_obj_",
        ".nfs",
        ".fuse_hidden",
        "._",
    ];
    name == ".DS_Store"
        || is_vim_swap(name)
        || (name.len() > 1 && name.ends_with('~'))
        || starts
            .iter()
            .any(|start| name.len() > start.len() && name.starts_with(start))
        || is_between(name, "#", "#")
        || is_between(name, ".~lock.", "#")
        || is_between(name, "", ".kate-swp")
}

/// Tells whether a name may be that of a temporary file which takes another name once it is whole.
fn is_temporary(name: &str) -> bool {
    is_sed_temporary(name) || is_rsync_temporary(name) || is_between(name, "lu", ".tmp")
}

/// Tells whether a name is that of a download which has not ended.
fn is_download(name: &str) -> bool {
    is_between(name, "", ".part") || is_between(name, "", ".crdownload")
}

/// Tells whether the content of scratch fits its name, so that it holds nobody's work: vim's undo
/// files, LibreOffice's locks, and the files that macOS puts beside others. `start` is how its
/// content begins.
pub(in crate::view) fn is_leftover(name: &str, size: u64, start: &[u8]) -> bool {
    let is = |magic: &[u8]| start.starts_with(magic);
    (name.ends_with(".un~") && is(b"Vim\x9fUnDo\xe5"))
        || (is_between(name, ".~lock.", "#") && is(b",") && size <= MAX_LOCK)
        || (name.starts_with("._") && is(b"\x00\x05\x16\x07"))
        || (name == ".DS_Store" && is(b"\x00\x00\x00\x01Bud1"))
}

fn is_between(name: &str, start: &str, end: &str) -> bool {
    name.len() > start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
}

/// `4913` and its successors (each 123 more), with which vim tests whether it may create files.
fn is_vim_probe(name: &str) -> bool {
    let digits = name.len() <= 5 && name.bytes().all(|byte| byte.is_ascii_digit());
    digits
        && !name.starts_with('0')
        && name
            .parse::<u32>()
            .is_ok_and(|n| n >= 4913 && (n - 4913) % 123 == 0)
}

/// `.NAME.swp`, `.NAME.swo` and so on.
fn is_vim_swap(name: &str) -> bool {
    let bytes = name.as_bytes();
    match bytes {
        [b'.', middle @ .., b'.', b's', b'a'..=b'z', b'a'..=b'z'] => {
            let swap = bytes[bytes.len() - 2] == b'w';
            !middle.is_empty() && swap
        }
        _ => false,
    }
}

fn is_sed_temporary(name: &str) -> bool {
    name.len() == 9 && name.starts_with("sed") && is_random(&name[3..])
}

/// `.NAME.XXXXXX`, as mkstemp makes it for rsync and others.
fn is_rsync_temporary(name: &str) -> bool {
    let Some((stem, random)) = name.rsplit_once('.') else {
        return false;
    };
    stem.len() > 1 && stem.starts_with('.') && random.len() == 6 && is_random(random)
}

/// Six characters of mkstemp's alphabet.
fn is_random(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `open(path, flags)` of a shell, of cp and of mkstemp make a file.
    fn access(exclusive: bool, read: bool) -> Access {
        Access {
            exclusive,
            read,
            write: true,
            ..Access::default()
        }
    }

    fn birth(name: &str, access: Access, mode: u32) -> Birth {
        Birth::of(OsStr::new(name), access, mode)
    }

    const FILE: Birth = Birth::File(Hold::No);

    #[test]
    fn what_only_programs_call_so_is_scratch() {
        for name in [
            ".plan.md.swp",
            ".plan.md.swo",
            ".x.swx",
            "plan.md~",
            "#plan.md#",
            ".#plan.md",
            ".goutputstream-Q1W2E3",
            ".~lock.a.odt#",
            "~$a.docx",
            ".a.kate-swp",
            "tmp_obj_abc",
            ".nfs000123",
            ".fuse_hidden0001",
            "._a",
            ".DS_Store",
        ] {
            assert_eq!(
                birth(name, access(false, false), 0o644),
                Birth::Scratch,
                "{name}"
            );
        }
        for name in [
            "plan.md",
            "a-journal",
            "a.db-wal",
            ".db~-wal",
            "~",
            "#",
            "##",
            "4914",
            "4913.txt",
            ".vimrc",
            ".swp",
            "swap.swp",
            "sed",
            ".bashrc",
            "lu.txt",
            "a.tmp",
            "a.bak",
            "a.lock",
            "lost+found",
            "49130",
            ".bashrc.backup.old",
            "tmpAbC123",
        ] {
            assert_eq!(birth(name, access(true, true), 0o600), FILE, "{name}");
        }
    }

    #[test]
    fn what_people_call_so_too_is_scratch_only_if_mkstemp_made_it() {
        for name in [
            "sedAbC123",
            "sedan2024",
            ".a.txt.Xy12Zw",
            ".env.202411",
            ".bashrc.backup",
            "lu1234.tmp",
            "lunch.tmp",
        ] {
            assert_eq!(
                birth(name, access(true, true), 0o600),
                Birth::Scratch,
                "{name}"
            );
            // GNU sed takes all bits off until the file is whole.
            assert_eq!(birth(name, access(true, true), 0), Birth::Scratch, "{name}");
            for (access, mode) in [
                (access(false, false), 0o600),
                (access(true, false), 0o600),
                (access(false, true), 0o600),
                (access(true, true), 0o644),
            ] {
                assert_eq!(birth(name, access, mode), FILE, "{name}");
            }
        }
    }

    #[test]
    fn scratch_without_anybody_s_work_is_known_by_name_and_content() {
        let undo = b"Vim\x9fUnDo\xe5\x00\x02";
        assert!(is_leftover(".plan.md.un~", 500, undo));
        assert!(!is_leftover("plan.md~", 500, undo));
        assert!(!is_leftover(".plan.md.un~", 4, b"text"));
        assert!(is_leftover(".~lock.a.odt#", 60, b",me,host,28.11.2026"));
        assert!(!is_leftover(".~lock.a.odt#", 6, b"needle"));
        assert!(!is_leftover(".~lock.a.odt#", 1 << 20, b","));
        assert!(is_leftover("._a", 4096, b"\x00\x05\x16\x07\x00\x02"));
        assert!(!is_leftover("._a", 4, b"mine"));
        assert!(is_leftover(".DS_Store", 6148, b"\x00\x00\x00\x01Bud1"));
        assert!(!is_leftover(".plan.md.swp", 4096, b"b0VIM 9.0"));
    }

    #[test]
    fn probes_wait_for_a_byte_and_downloads_for_a_name() {
        for name in ["4913", "5036", "5159"] {
            let probe = birth(name, access(true, false), 0o644);
            assert_eq!(probe, Birth::File(Hold::WhileEmpty), "{name}");
            assert_eq!(birth(name, access(false, false), 0o644), FILE, "{name}");
        }
        for name in ["05036", "4914", "49131", "123"] {
            assert_eq!(birth(name, access(true, false), 0o644), FILE, "{name}");
        }
        for name in ["a.iso.part", "a.crdownload"] {
            let download = birth(name, access(false, false), 0o644);
            assert_eq!(download, Birth::File(Hold::UntilRenamed), "{name}");
        }
        assert_eq!(birth(".part", access(false, false), 0o644), FILE);
    }
}
