//! Names: the rules for those that programs give, and how hostile ones are made safe.

use sha2::{Digest as _, Sha256};

use crate::error::judged;
use crate::ids::{Timestamp, hex_digits};

/// Bytes in the longest name, as on every Linux filesystem.
pub(in crate::view) const NAME_MAX: usize = 255;
/// Bytes in the longest audience name before it becomes `N-people-<16 hex>`.
pub(in crate::view) const AUDIENCE_NAME_MAX: usize = 200;
/// Bytes in the longest path below an audience directory, as PATH_MAX.
pub(in crate::view) const PATH_LIMIT: usize = 4096;
/// Stands for a character that may not be shown.
const REPLACEMENT: char = '\u{FFFD}';

/// Tells whether a name can be shown as it is.
pub(in crate::view) fn is_safe(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX
        && name != "."
        && name != ".."
        && !name.contains(['/', REPLACEMENT])
        && judged(name).all(|(_, shown)| shown)
}

/// Makes a name from inside a blob safe, injectively.
///
/// A safe name stays as it is. Of any other, the printable part is shown, followed by `~` and 16
/// hex digits of the SHA-256 of the original, so that two hostile names never become one. It has a
/// replacement character, which no safe name has, so that it is no other name either.
pub(in crate::view) fn safe(name: &[u8]) -> String {
    if let Some(name) = std::str::from_utf8(name).ok().filter(|name| is_safe(name)) {
        return name.to_owned();
    }
    let digest = hex_digits(&Sha256::digest(name)[..8]);
    let text = String::from_utf8_lossy(name);
    let shown: String = judged(&text)
        .map(|(c, shown)| if shown && c != '/' { c } else { REPLACEMENT })
        .collect();
    let room = NAME_MAX - 1 - digest.len() - REPLACEMENT.len_utf8();
    let shown = truncate(&shown, room);
    match shown.contains(REPLACEMENT) {
        true => format!("{shown}~{digest}"),
        false => format!("{shown}{REPLACEMENT}~{digest}"),
    }
}

/// Splits a `path@` into safe components. Empty components vanish as they do in POSIX.
pub(in crate::view) fn safe_path(path: &[u8]) -> Vec<String> {
    let components = path.split(|byte| *byte == b'/');
    components.filter(|c| !c.is_empty()).map(safe).collect()
}

fn truncate(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Puts words in parentheses before a name's extension: `lunch (bob).txt`.
pub(in crate::view) fn with_remark(name: &str, remark: &str) -> String {
    let (stem, extension) = match name.rfind('.') {
        Some(dot) if dot > 0 => name.split_at(dot),
        _ => (name, ""),
    };
    let room = NAME_MAX.saturating_sub(remark.len() + 3 + extension.len());
    if room == 0 {
        return format!("{} ({remark})", truncate(name, NAME_MAX - remark.len() - 3));
    }
    format!("{} ({remark}){extension}", truncate(stem, room))
}

/// Remark on a concurrent version: `conflict, bob 2026-11-21 10.15 UTC`.
pub(in crate::view) fn conflict_remark(who: &str, when: Timestamp) -> String {
    let when = utc(when, "%Y-%m-%d %H.%M UTC");
    format!("conflict, {who} {when}")
}

/// Formats a time in UTC by a `strftime` pattern.
pub(in crate::view) fn utc(time: Timestamp, pattern: &str) -> String {
    chrono::DateTime::from_timestamp(time.seconds(), 0)
        .map_or_else(|| time.to_string(), |time| time.format(pattern).to_string())
}

/// Tells whether a name is refused because a file manager would hide "deleted" files under it.
pub(in crate::view) fn is_trash(name: &str) -> bool {
    name.starts_with(".Trash")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_become_safe_and_stay_different() {
        let hostile: [&[u8]; 9] = [
            b".",
            b"..",
            b"a/b",
            b"a\0b",
            b"a\nb",
            "a\u{202e}b".as_bytes(),
            b"a\xffb",
            b"",
            &[b'x'; 300],
        ];
        let safe_names: std::collections::HashSet<_> = hostile.iter().map(|n| safe(n)).collect();
        assert_eq!(safe_names.len(), hostile.len());
        assert!(safe_names.iter().all(|name| name.len() <= NAME_MAX
            && !name.contains(['/', '\0', '\n', '\u{202e}'])
            && name != "."
            && name != ".."));
        assert_eq!(
            safe("na\u{ef}ve 100%25.txt".as_bytes()),
            "na\u{ef}ve 100%25.txt"
        );
        // The safe form of a hostile name is itself no safe name.
        for name in hostile {
            assert_ne!(safe(safe(name).as_bytes()), safe(name));
        }
    }

    #[test]
    fn paths_lose_nothing_but_empty_components() {
        assert_eq!(safe_path(b"trip//plan.md"), ["trip", "plan.md"]);
        let up = safe_path(b"../../etc/passwd");
        assert_eq!(up.len(), 4);
        assert!(up.iter().all(|part| part != ".."));
    }

    #[test]
    fn remarks_stand_before_the_extension_and_fit() {
        assert_eq!(with_remark("lunch.txt", "bob"), "lunch (bob).txt");
        assert_eq!(with_remark(".profile", "bob"), ".profile (bob)");
        assert_eq!(with_remark("notes", "bob"), "notes (bob)");
        let long = format!("{}.txt", "x".repeat(251));
        assert!(with_remark(&long, "bob").len() <= NAME_MAX);
        assert!(with_remark(&format!("a.{}", "x".repeat(250)), "bob").len() <= NAME_MAX);
        let when = Timestamp::new(1_795_256_100, 0).unwrap();
        let conflict = with_remark("plan.md", &conflict_remark("bob", when));
        assert_eq!(conflict, "plan (conflict, bob 2026-11-21 10.15 UTC).md");
    }
}
