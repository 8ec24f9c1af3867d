//! Compares a view that has run for long with a new view of the same store: both must show the
//! same.
//!
//! A running view may differ in three ways only:
//!
//! - A directory that was emptied, or looked up, in this mount is still there.
//! - Of several versions that want one name, the first that was shown keeps it, so another one may
//!   have it than in a new view. But one of them has it, each document has one file that is no
//!   conflict copy, and every other name says whose version it is.
//! - A file that is open, unsaved or renamed away may differ; so callers compare in a quiet moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::mount::Home;
use super::rig::{Errno, InProcess, Rig as _};

/// A file as a view shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub content: Result<Vec<u8>, Errno>,
    pub blob: String,
    /// A conflict copy.
    pub is_conflict: bool,
    pub is_mine: bool,
}

/// The facts of a blob that its signer vouches for.
pub struct Origin {
    pub document: String,
    /// Below the audience, as its writer gave it.
    pub path: String,
}

/// Files and, with a slash at the end, directories.
pub type Shows = BTreeMap<String, Option<Shown>>;

/// A new view of copies of a store, of the state and of the pins.
pub fn fresh(rig: &InProcess) -> InProcess {
    let memory = Path::new("/dev/shm");
    let place = match memory.is_dir() {
        true => memory,
        false => "/tmp".as_ref(),
    };
    let dir = tempfile::Builder::new().prefix("dds").tempdir_in(place);
    let home = Home { dir: dir.unwrap() };
    for part in ["state", "pins"] {
        copy(&rig.home().path(part), &home.path(part));
    }
    let store = home.path("store");
    copy(rig.store(), &store);
    rig.another(home, store)
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        // A file that disappears during the copy is missing in it, as after a crash.
        let _ = fs::copy(from, to);
        return;
    }
    fs::create_dir_all(to).unwrap();
    let mode = fs::metadata(from).unwrap().permissions();
    fs::set_permissions(to, mode).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let name = entry.unwrap().file_name();
        copy(&from.join(&name), &to.join(&name));
    }
}

/// All that a view shows below `messages/` and `notes/`.
pub fn shows(rig: &InProcess) -> Shows {
    let mut found = Shows::new();
    let mut waiting = vec!["messages".to_owned(), "notes".to_owned()];
    while let Some(dir) = waiting.pop() {
        for name in rig.list(&dir).unwrap() {
            let path = format!("{dir}/{name}");
            match rig.read(&path) {
                Err(libc::EISDIR) => {
                    found.insert(format!("{path}/"), None);
                    waiting.push(path);
                }
                content => {
                    let attribute = |name| rig.xattr(&path, name);
                    let shown = Shown {
                        content,
                        blob: attribute("user.dds.blob").unwrap_or_default(),
                        is_conflict: attribute("user.dds.conflict").is_ok(),
                        is_mine: attribute("user.dds.from").as_deref() == Ok("me"),
                    };
                    found.insert(path, Some(shown));
                }
            }
        }
    }
    found
}

/// Checks a running view against a new view. `origin` gives the facts of a blob; a blob without any
/// is a document of its own.
pub fn check(
    running: &Shows,
    fresh: &Shows,
    origin: impl Fn(&str) -> Option<Origin>,
) -> Result<(), String> {
    let names = |shows: &Shows| -> Vec<String> {
        let text = |shown: &Option<Shown>| match shown {
            Some(Shown {
                content: Ok(content),
                ..
            }) => String::from_utf8_lossy(content).into_owned(),
            _ => String::new(),
        };
        let files = shows.iter().filter(|(path, _)| !path.ends_with('/'));
        files
            .map(|(path, shown)| format!("{path}: {:?}", text(shown)))
            .collect()
    };
    compare(running, fresh, origin).map_err(|why| {
        format!(
            "{why}; running: {:?}; fresh: {:?}",
            names(running),
            names(fresh)
        )
    })
}

fn compare(
    running: &Shows,
    fresh: &Shows,
    origin: impl Fn(&str) -> Option<Origin>,
) -> Result<(), String> {
    if let Some((missing, _)) = fresh
        .iter()
        .find(|(path, shown)| shown.is_none() && !running.contains_key(*path))
    {
        return Err(format!("{missing} is not there"));
    }
    let contents = |shows: &Shows| {
        let files = files(shows);
        let files = files.map(|(path, shown)| (own_name(path, shown, &origin), shown));
        let contents = files.map(|(path, shown)| (path, shown.content.clone()));
        let mut contents: Vec<_> = contents.collect();
        contents.sort_by_key(|(path, content)| (path.clone(), format!("{content:?}")));
        contents
    };
    if contents(running) != contents(fresh) {
        return Err("the files differ".to_owned());
    }
    for (whose, shows) in [("a running", running), ("a fresh", fresh)] {
        check_names(shows, &origin).map_err(|why| format!("{whose} view: {why}"))?;
    }
    for (path, shown) in files(running).filter(|(_, shown)| shown.is_conflict && !shown.is_mine) {
        let same = files(fresh).filter(|(_, other)| other.content == shown.content);
        let same: Vec<_> = same.collect();
        if let [(other, one)] = &same[..] {
            if one.is_conflict && without_digits(other) != without_digits(path) {
                return Err(format!("{path} is called {other}"));
            }
        }
    }
    Ok(())
}

fn files(shows: &Shows) -> impl Iterator<Item = (&String, &Shown)> {
    shows
        .iter()
        .filter_map(|(path, shown)| Some((path, shown.as_ref()?)))
}

/// Each document has one file that is no conflict copy; of those that want a name, one has it.
fn check_names(shows: &Shows, origin: impl Fn(&str) -> Option<Origin>) -> Result<(), String> {
    let mut documents: BTreeMap<String, Vec<&Shown>> = BTreeMap::new();
    let mut wanted = BTreeSet::new();
    for (path, shown) in files(shows) {
        let own_name = own_name(path, shown, &origin);
        if !shown.is_conflict {
            wanted.insert(own_name);
        } else if !path.contains(" (conflict, ") || *path == own_name {
            return Err(format!("{path} is a conflict copy"));
        }
        let vouched = vouched(path, shown, &origin);
        let document = vouched.map_or_else(|| path.clone(), |known| known.document);
        documents.entry(document).or_default().push(shown);
    }
    for (document, shown) in documents {
        let own = shown.iter().filter(|one| !one.is_conflict).count();
        if own != 1 {
            return Err(format!("document {document} has its name {own} times"));
        }
    }
    match wanted.iter().find(|path| !shows.contains_key(*path)) {
        Some(free) => Err(format!("{free} is free")),
        None => Ok(()),
    }
}

/// The facts of a file's blob. A blob that nobody vouches for is a document of its own, whatever
/// its notations say.
fn vouched(path: &str, shown: &Shown, origin: impl Fn(&str) -> Option<Origin>) -> Option<Origin> {
    origin(&shown.blob).filter(|_| !path.contains("/unverified/"))
}

/// The path that a file has if nothing else has it.
fn own_name(path: &str, shown: &Shown, origin: impl Fn(&str) -> Option<Origin>) -> String {
    let Some(known) = vouched(path, shown, origin) else {
        return without_remark(path);
    };
    let area: Vec<&str> = path.splitn(3, '/').take(2).collect();
    let below = match area[0] {
        "messages" => known.path.rsplit('/').next().unwrap(),
        _ => &known.path,
    };
    format!("{}/{below}", area.join("/"))
}

/// A path without the remark in parentheses.
fn without_remark(path: &str) -> String {
    match (path.rfind(" ("), path.rfind(')')) {
        (Some(begin), Some(end)) if begin < end => {
            format!("{}{}", &path[..begin], &path[end + 1..])
        }
        _ => path.to_owned(),
    }
}

/// A conflict copy's name without the digits that tell two of the same minute apart.
fn without_digits(path: &str) -> String {
    match (path.find(" UTC"), path.rfind(')')) {
        (Some(begin), Some(end)) if begin < end => {
            format!("{}{}", &path[..begin], &path[end..])
        }
        _ => path.to_owned(),
    }
}
