//! What can happen: my programs' calls, other devices' and people's deliveries, crashes, remounts.

use proptest::prelude::*;

use super::reference::How;

/// A path. A last part `*n` stands for the nth file there whose name has a remark.
pub type At = &'static str;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Opens with O_CREAT and O_TRUNC, writes bytes of its own, closes.
    Write(At),
    /// The same with no bytes.
    Touch(At),
    Append(At),
    WriteAt(At, usize),
    /// Writes the bytes that the file already holds.
    Rewrite(At),
    Truncate(At, usize),
    Chmod(At, u32),
    /// Reads the one and writes the other.
    Copy(At, At),
    Remove(At),
    Mkdir(At),
    Rmdir(At),
    Rename(At, At),
    Link(At, At),
    /// Opens into a slot.
    Open(usize, At, How),
    Put(usize),
    Flush(usize),
    Fsync(usize),
    /// Closes: FLUSH and RELEASE.
    Close(usize),
    /// RELEASE alone, as when a descriptor was inherited.
    Release(usize),
    /// Somebody else's new note or message.
    Deliver(At),
    /// Another device saves the shown version anew; the replaced blob is removed, or stays for now.
    Edit(At, Stays),
    /// Somebody else saved the version before.
    Diverge(At, Sooner),
    /// Another device renames the shown version from the first path to the second.
    Move(At, At),
    /// Somebody else's `rm`: of one blob only.
    Vanish(At),
    /// Somebody else's mkdir.
    DeliverDir(At),
    /// A stale peer brings back the nth blob of those that once were.
    Return(usize),
    Settle,
    Remount,
    /// The daemon dies; blobs that were replaced and not yet unlinked are there again.
    Crash,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stays {
    Gone,
    Kept,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sooner {
    Before,
    After,
}

/// Makes the paths of a list of names in every directory.
fn paths(names: &[&str], areas: &[&str], dirs: &[&str]) -> Vec<At> {
    let mut all = Vec::new();
    for area in areas {
        for dir in dirs {
            if dir.is_empty() || area.starts_with("notes/") {
                all.extend(names.iter().map(|name| leak(format!("{area}/{dir}{name}"))));
            }
        }
    }
    all
}

pub fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

const REAL: &[&str] = &["a.md", "b.md"];
const ANY: &[&str] = &["a.md", "a.md", "b.md", "a.md~", "tmp_obj_1", "*0", "*1"];
const CREATED: &[&str] = &["a.md", "b.md", "a.md~", "tmp_obj_1"];
const SHOWN: &[&str] = &["a.md", "b.md", "*0"];

pub fn how() -> impl Strategy<Value = How> {
    let how = |write, append, truncate| How {
        write,
        append,
        truncate,
    };
    prop::sample::select(vec![
        how(false, false, false),
        how(true, false, false),
        how(true, true, false),
        how(true, false, true),
        how(true, false, true),
    ])
}

/// A step in a few of the areas, so that steps meet each other.
fn step(
    areas: &'static [&'static str],
    dirs: &'static [&'static str],
) -> impl Strategy<Value = Step> {
    let of = |names| prop::sample::select(paths(names, areas, dirs));
    let folders = || {
        let names: &[&str] = &["d", "d/s", "e"];
        let all = areas
            .iter()
            .flat_map(|area| names.iter().map(move |name| leak(format!("{area}/{name}"))));
        prop::sample::select(all.collect::<Vec<At>>())
    };
    let slot = || 0..3usize;
    // A rename mostly stays in one directory.
    let pair = move |from, to| {
        (of(from), of(to), 0..4u8).prop_map(|(from, to, far)| {
            if far == 0 {
                return (from, to);
            }
            let (dir, _) = from.rsplit_once('/').unwrap();
            let (_, name) = to.rsplit_once('/').unwrap();
            (from, leak(format!("{dir}/{name}")))
        })
    };
    let write = prop_oneof![
        4 => of(CREATED).prop_map(Step::Write),
        1 => of(SHOWN).prop_map(Step::Write),
        1 => of(CREATED).prop_map(Step::Touch),
        2 => of(SHOWN).prop_map(Step::Append),
        1 => (of(ANY), 0..9usize).prop_map(|(at, offset)| Step::WriteAt(at, offset)),
        1 => of(ANY).prop_map(Step::Rewrite),
        1 => (of(ANY), 0..9usize).prop_map(|(at, size)| Step::Truncate(at, size)),
        1 => (of(ANY), prop::sample::select(vec![0o4u32, 0o6, 0o7])).prop_map(|(at, mode)| Step::Chmod(at, mode)),
        1 => (of(ANY), of(REAL)).prop_map(|(from, to)| Step::Copy(from, to)),
    ];
    let shape = prop_oneof![
        3 => of(ANY).prop_map(Step::Remove),
        2 => folders().prop_map(Step::Mkdir),
        1 => folders().prop_map(Step::Rmdir),
        8 => pair(ANY, CREATED).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => (folders(), folders()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => pair(&["tmp_obj_1", "a.md"], CREATED).prop_map(|(from, to)| Step::Link(from, to)),
    ];
    let handle = prop_oneof![
        4 => (slot(), of(ANY), how()).prop_map(|(slot, at, how)| Step::Open(slot, at, how)),
        3 => slot().prop_map(Step::Put),
        1 => slot().prop_map(Step::Flush),
        1 => slot().prop_map(Step::Fsync),
        2 => slot().prop_map(Step::Close),
        1 => slot().prop_map(Step::Release),
    ];
    let peer = prop_oneof![
        3 => of(REAL).prop_map(Step::Deliver),
        3 => (of(SHOWN), prop_oneof![Just(Stays::Gone), Just(Stays::Kept)]).prop_map(|(at, stays)| Step::Edit(at, stays)),
        3 => (of(SHOWN), prop_oneof![Just(Sooner::Before), Just(Sooner::After)]).prop_map(|(at, sooner)| Step::Diverge(at, sooner)),
        1 => pair(SHOWN, REAL).prop_map(|(from, to)| Step::Move(from, to)),
        2 => of(SHOWN).prop_map(Step::Vanish),
        1 => folders().prop_map(Step::DeliverDir),
        1 => (0..40usize).prop_map(Step::Return),
    ];
    prop_oneof![
        8 => write,
        8 => shape,
        6 => handle,
        6 => peer,
        1 => Just(Step::Settle),
        1 => Just(Step::Remount),
        1 => Just(Step::Crash),
    ]
}

/// Sequences of steps in these areas.
pub fn steps(areas: &'static [&'static str]) -> impl Strategy<Value = Vec<Step>> {
    // Half of them with few names, so that steps meet each other.
    let wide = &["", "", "", "d/", "d/", "d/s/", "e/"];
    prop_oneof![
        prop::collection::vec(step(areas, &[""]), 1..50),
        prop::collection::vec(step(areas, wide), 1..50),
    ]
}
