//! Which file names are syncers' own, and which files may be OpenPGP.

use std::ffi::OsString;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::os::unix::ffi::OsStringExt as _;

use super::FileName;
use crate::error::{Error, Kind, Result};

/// Names that syncers keep for themselves.
const EXACT: [&[u8]; 8] = [
    b".stfolder",
    b".stversions",
    b".stignore",
    b".sync",
    b".syncid",
    b".syncignore",
    b".syncarchive",
    b".synctrash",
];
/// Beginnings of syncers' names for files that are not whole yet.
const PREFIXES: [&[u8]; 2] = [b".syncthing.", b"~syncthing~"];
/// Ends of syncers' names for files that are not whole yet.
const SUFFIXES: [&[u8]; 4] = [b".!sync", b".bts", b".syncpart", b".synctemp"];
/// How OpenPGP files end.
const OPENPGP: [&[u8]; 3] = [b".asc", b".gpg", b".pgp"];

const OURS_START: &[u8] = b".syncthing.";
const OURS_END: &[u8] = b".!sync";

/// Tells whether a name is a syncer's own: never shown, never touched.
///
/// Case is ignored: syncers write `.!sync` and `.!Sync`, and their folders travel through file
/// systems that do not keep case.
pub fn is_syncers(name: &FileName) -> bool {
    let lower = name.as_bytes().to_ascii_lowercase();
    EXACT.contains(&lower.as_slice())
        || PREFIXES.iter().any(|start| lower.starts_with(start))
        || SUFFIXES.iter().any(|end| lower.ends_with(end))
}

/// Tells whether a file of that name may be a blob or a certificate.
///
/// Conflict copies are candidates. Names starting `#` are not: the kernel's file notifications
/// use them for files that are being written and have no name yet.
pub fn is_candidate(name: &FileName) -> bool {
    let lower = name.as_bytes().to_ascii_lowercase();
    OPENPGP.iter().any(|end| lower.ends_with(end)) && !lower.starts_with(b"#") && !is_syncers(name)
}

/// Tells whether a syncer made the name, for one of two files that both wanted another name.
///
/// Syncthing writes `a.sync-conflict-20261121-160900-ABCDEF7.asc`, Resilio `a.Conflict.asc`,
/// `a.Conflict1.asc` and so on.
pub fn is_conflict_copy(name: &FileName) -> bool {
    let lower = name.as_bytes().to_ascii_lowercase();
    let contains = |part: &[u8]| lower.windows(part.len()).any(|found| found == part);
    let stem = lower.iter().rposition(|byte| *byte == b'.');
    let stem = &lower[..stem.unwrap_or(0)];
    let digits = stem.iter().rev().take_while(|byte| byte.is_ascii_digit());
    let stem = &stem[..stem.len() - digits.count()];
    contains(b".sync-conflict-") || stem.ends_with(b".conflict")
}

/// Refuses a name under which a certificate would not be seen again.
pub(super) fn require_candidate(name: &FileName) -> Result<()> {
    if is_candidate(name) {
        return Ok(());
    }
    let sentence =
        format!("{name} is no name for a certificate: it must end in .gpg, .asc or .pgp");
    Err(Error::new(Kind::Invalid, sentence))
}

/// Makes a new name for a file that is not whole yet, `.syncthing.<32 hex>.!sync`: every syncer
/// ignores it.
pub(super) fn temporary() -> FileName {
    // Each RandomState is keyed anew. The name need only be unused: files are made with O_EXCL.
    let random = || RandomState::new().build_hasher().finish();
    let name = format!(".syncthing.{:016x}{:016x}.!sync", random(), random());
    FileName(OsString::from_vec(name.into_bytes()))
}

/// Tells whether [`temporary`] may have made a name.
pub(super) fn is_temporary(name: &FileName) -> bool {
    name.as_bytes()
        .strip_prefix(OURS_START)
        .and_then(|rest| rest.strip_suffix(OURS_END))
        .is_some_and(|middle| {
            middle.len() == 32
                && middle
                    .iter()
                    .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> FileName {
        FileName::new(text).unwrap()
    }

    #[test]
    fn names_of_syncers_are_never_candidates() {
        for text in [
            ".stfolder",
            ".stversions",
            ".stignore",
            ".sync",
            ".SyncID",
            ".SyncIgnore",
            ".SyncArchive",
            ".SyncTrash",
            ".syncthing.0a.asc.tmp",
            ".syncthing.0a.asc",
            "~syncthing~0a.asc.tmp",
            "~syncthing~0a.asc",
            "0a.asc.!sync",
            "0a.asc.!Sync",
            "0a.asc.bts",
            "0a.asc.SyncPart",
            "0a.asc.SyncTemp",
        ] {
            assert!(is_syncers(&name(text)), "{text}");
            assert!(!is_candidate(&name(text)), "{text}");
        }
    }

    #[test]
    fn openpgp_files_of_any_name_are_candidates() {
        for text in [
            "da39a3ee5e6b4b0d3255bfef95601890afd80709.asc",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709.sync-conflict-20261121-160900-ABCDEF7.asc",
            "da39a3ee.Conflict.asc",
            "letter.gpg",
            "letter.PGP",
            "a b.asc",
            ".hidden.asc",
            "syncthing.asc",
            ".stfolder.asc",
        ] {
            assert!(!is_syncers(&name(text)), "{text}");
            assert!(is_candidate(&name(text)), "{text}");
        }
    }

    #[test]
    fn conflict_copies_are_known_by_their_names() {
        for text in [
            "da39a3ee.sync-conflict-20261121-160900-ABCDEF7.asc",
            "da39a3ee.Conflict.asc",
            "da39a3ee.Conflict12.gpg",
        ] {
            assert!(is_conflict_copy(&name(text)), "{text}");
        }
        for text in [
            "da39a3ee.asc",
            "conflict.asc",
            "a.conflict",
            "a.conflicts.asc",
        ] {
            assert!(!is_conflict_copy(&name(text)), "{text}");
        }
    }

    #[test]
    fn everything_else_is_no_candidate() {
        for text in [
            "#123.asc",
            "plan.txt",
            "asc",
            "x.asc~",
            "x.asc.tmp",
            "x.sig",
        ] {
            assert!(!is_candidate(&name(text)), "{text}");
        }
    }

    #[test]
    fn our_temporary_names_are_ignored_by_syncers_and_known_again() {
        let made = temporary();
        assert!(is_temporary(&made) && is_syncers(&made));
        assert_ne!(made, temporary());
        let hex = "0123456789abcdef0123456789abcdef";
        assert!(is_temporary(&name(&format!(".syncthing.{hex}.!sync"))));
        for text in [
            format!(".syncthing.{hex}.tmp"),
            format!(".syncthing.{hex}0.!sync"),
            format!(".syncthing.{}.!sync", &hex[1..]),
            format!(".syncthing.{}.!sync", hex.to_uppercase()),
            ".syncthing.da39a3ee.asc.!sync".to_owned(),
            ".syncthing..!sync".to_owned(),
        ] {
            assert!(!is_temporary(&name(&text)), "{text}");
        }
    }
}
