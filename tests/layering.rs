//! Reads `src` and proves that imports point one way only, and that each foreign crate is named
//! in its one place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What a module may import of the crate. `ids`, `locks` and `error` are for everybody.
const MAY_IMPORT: [(&str, &[&str]); 13] = [
    ("error", &[]),
    ("locks", &[]),
    ("process", &[]),
    ("ids", &[]),
    ("plaintext", &[]),
    ("openpgp", &["plaintext"]),
    ("contacts", &["plaintext"]),
    ("store", &[]),
    ("state", &["plaintext"]),
    (
        "vault",
        &["store", "openpgp", "contacts", "state", "plaintext"],
    ),
    // The view names a few types of the layers that the vault stands on; never ciphertext.
    ("view", &["vault", "plaintext"]),
    ("fuse", &["view", "process"]),
    // It puts all of them together.
    (
        "daemon",
        &[
            "fuse",
            "view",
            "vault",
            "store",
            "openpgp",
            "contacts",
            "state",
            "plaintext",
            "process",
        ],
    ),
];

/// Exceptions, item by item.
const ALSO: [(&str, &str); 10] = [
    ("store", "openpgp::{Ciphertext, Receipt, Sealed}"),
    ("store", "openpgp::Sealed"),
    ("store", "openpgp::Receipt"),
    ("view", "store::FileName"),
    ("view", "store::SoftwareFile"),
    ("view", "store::{FileName, SoftwareEntry, SoftwareKind}"),
    ("view", "store::Space"),
    ("view", "store::{Change, Watch}"),
    ("view", "contacts::{Contact, ContactName}"),
    ("ids", "error"),
];

/// Where a crate or a part of std may be named.
const ONLY_IN: [(&str, &[&str]); 10] = [
    ("fuser", &["src/fuse/"]),
    ("sequoia_openpgp", &["src/openpgp/"]),
    (
        "std::fs",
        &[
            "src/store/",
            "src/state/",
            "src/contacts/",
            "src/cli/",
            "src/daemon/",
            "src/fuse/",
            "src/process/",
            // Files without a name, outside the store.
            "src/plaintext/spill.rs",
        ],
    ),
    ("std::env", &["src/cli/", "src/fuse/session.rs"]),
    ("println!", &["src/cli/"]),
    ("process::exit", &["src/cli/", "src/process/keeper.rs"]),
    ("clap", &["src/cli/"]),
    ("zbus", &["src/process/logind/"]),
    (
        "serde",
        &["src/cli/", "src/contacts/pins.rs", "src/daemon/protocol.rs"],
    ),
    ("serde_json", &["src/cli/", "src/daemon/protocol.rs"]),
];

/// The parts of `src/view`, from the ground up: each names only those before it and itself. The
/// operations (`ops`) stand on drafts (`draft`), and those on the tree, which knows neither the
/// view nor the vault, but only the types of the documents that it shows.
const PARTS_OF_THE_VIEW: [&str; 30] = [
    "ranks",
    "local_time",
    "reader",
    "tree",
    "rules",
    "spot",
    "facts",
    "error_log",
    "draft::scratch",
    "draft::scratch_limit",
    "draft::state",
    "draft::open_file",
    "draft::handles",
    "draft::load",
    "draft::made_here",
    "draft::moved_here",
    "draft::read_set",
    "draft::takeover",
    "draft::conflict",
    "draft::publish",
    "draft::directory",
    "draft::later",
    "special",
    "ops",
    "events",
    "arrivals",
    "looking",
    "history",
    "close",
    "background",
];

/// The parts of `src/vault`, from the ground up: each names only those before it. Every other file
/// there is an operation of the vault, which names `Vault`, parts, and files of its own folder.
const PARTS_OF_THE_VAULT: [&str; 23] = [
    "ranks",
    "disk",
    "worker",
    "wakeup",
    "file_clock",
    "state_key",
    "audience",
    "judge",
    "documents",
    "describe",
    "learn",
    "changes",
    "known",
    "reports",
    "history::keep",
    "history::facts",
    "durability",
    "scan::clock",
    "scan::openings",
    "scan::progress",
    "keys::folder",
    "keys::claims",
    "publish::publication",
];

/// Rooms in which no file names one that names it, in however many steps. Only the room's own `mod.rs`
/// names all of them, and may be named by all.
const WITHOUT_CIRCLES: [&str; 4] = ["plaintext", "openpgp", "store", "state"];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.to_str().unwrap().ends_with("tests.rs")
        {
            found.push(path);
        }
    }
}

/// All files below `src`, by path, without comments and without their unit tests.
fn code() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    assert!(files.len() > 20, "found only {files:?}");
    let mut code = BTreeMap::new();
    for file in files {
        let name = file
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        code.insert(name, lines.collect::<Vec<_>>().join("\n"));
    }
    code
}

fn module(file: &str) -> Option<&str> {
    let below = file.strip_prefix("src/")?;
    let name = below.split('/').next()?;
    Some(name.strip_suffix(".rs").unwrap_or(name))
}

#[test]
fn imports_point_one_way() {
    let mut wrong = Vec::new();
    for (file, text) in code() {
        let Some((module, allowed)) = MAY_IMPORT
            .iter()
            .find(|(name, _)| module(&file) == Some(name))
        else {
            continue; // `lib.rs`, `cli` and the binaries may use everything.
        };
        for part in text.split("crate::").skip(1) {
            let target: String = part
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            let fine = target == *module
                || ["error", "ids", "locks"].contains(&target.as_str()) && *module != "error"
                || allowed.contains(&target.as_str())
                || ALSO
                    .iter()
                    .any(|(from, item)| from == module && part.starts_with(item));
            if !fine {
                wrong.push(format!("{file}: crate::{}", part.lines().next().unwrap()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports against the layers:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn foreign_crates_stay_in_their_place() {
    let mut wrong = Vec::new();
    for (file, text) in code() {
        for (what, places) in ONLY_IN {
            let named = text.match_indices(what).any(|(at, _)| {
                let word = |c: char| c.is_alphanumeric() || c == '_';
                let before = text[..at].chars().next_back().is_some_and(word);
                let after = text[at + what.len()..].chars().next().is_some_and(word);
                !before && !after
            });
            if named && !places.iter().any(|place| file.starts_with(place)) {
                wrong.push(format!("{file} names {what}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The files of the daemon, each of which may use those before it.
const PARTS_OF_THE_DAEMON: [&str; 9] = [
    "protocol",
    "socket",
    "idle",
    "unlock",
    "watchers",
    "client",
    "control",
    "bootstrap",
    "mod",
];

#[test]
fn the_parts_of_the_daemon_stand_on_each_other_in_one_order() {
    let floor = |name: &str| PARTS_OF_THE_DAEMON.iter().position(|part| *part == name);
    let (mut wrong, mut found) = (Vec::new(), 0);
    for (file, text) in code() {
        let Some(name) = file.strip_prefix("src/daemon/") else {
            continue;
        };
        let own = floor(name.trim_end_matches(".rs"));
        assert!(own.is_some(), "{file} has no floor");
        found += 1;
        let own_room = text.split("crate::daemon::").skip(1);
        let named = text.split("super::").skip(1).chain(own_room);
        for part in named {
            let is_name = |c: &char| c.is_alphanumeric() || *c == '_';
            let target: String = part.chars().take_while(is_name).collect();
            if floor(&target).is_some_and(|target| Some(target) >= own) {
                wrong.push(format!("{file}: {}", part.lines().next().unwrap()));
            }
        }
    }
    assert_eq!(found, PARTS_OF_THE_DAEMON.len());
    assert!(wrong.is_empty(), "against the order:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_says_its_duty() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in code().keys() {
        let text = fs::read_to_string(root.join(file)).unwrap();
        assert!(
            text.starts_with("//!"),
            "{file} does not open with its duty"
        );
    }
}

#[test]
fn the_parts_of_the_vault_stand_on_each_other_in_one_order() {
    let floor = |path: &str| {
        let is_in = |part: &str| {
            let below = path.strip_prefix(part);
            below.is_some_and(|below| below.is_empty() || below.starts_with("::"))
        };
        PARTS_OF_THE_VAULT.iter().position(|part| is_in(part))
    };
    let folder = |path: &str| path.split("::").next().map(str::to_owned);
    let mut wrong = Vec::new();
    let mut found = BTreeSet::new();
    for (file, text) in code() {
        let Some(name) = file.strip_prefix("src/vault/") else {
            continue;
        };
        let name = name.trim_end_matches(".rs").trim_end_matches("/mod");
        let room = name.replace('/', "::");
        let own = floor(&room);
        found.extend(own);
        for part in text.split("crate::vault::").skip(1) {
            let is_path = |c: &char| c.is_alphanumeric() || ['_', ':'].contains(c);
            let target: String = part.chars().take_while(is_path).collect();
            let fine = match (own, floor(&target)) {
                (Some(own), Some(named)) => named <= own,
                (Some(_), None) => false,
                (None, Some(_)) => true,
                (None, None) => target == "Vault" || folder(&room) == folder(&target),
            };
            if !fine {
                wrong.push(format!("{file}: {}", part.lines().next().unwrap()));
            }
        }
    }
    assert_eq!(found.len(), PARTS_OF_THE_VAULT.len(), "found {found:?}");
    assert!(wrong.is_empty(), "against the order:\n{}", wrong.join("\n"));
}

/// The paths below a module that a text names: `use` trees are written out.
fn paths_below(module: &str, text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for part in text.split(module).skip(1) {
        let is_path = |c: &char| c.is_alphanumeric() || ['_', ':'].contains(c);
        let path: String = part.chars().take_while(is_path).collect();
        match part[path.len()..].strip_prefix('{') {
            Some(list) => {
                let list = list.split('}').next().unwrap_or_default();
                let names = list
                    .split(',')
                    .map(str::trim)
                    .filter(|name| !name.is_empty());
                paths.extend(names.map(|name| format!("{path}{name}")));
            }
            None => paths.push(path),
        }
    }
    paths
}

#[test]
fn the_parts_of_the_view_stand_on_each_other_in_one_order() {
    let floor = |path: &str| {
        let is_in = |part: &str| {
            let below = path.strip_prefix(part);
            below.is_some_and(|below| below.is_empty() || below.starts_with("::"))
        };
        PARTS_OF_THE_VIEW.iter().position(|part| is_in(part))
    };
    let (mut wrong, mut found) = (Vec::new(), BTreeSet::new());
    for (file, text) in code() {
        let Some(name) = file.strip_prefix("src/view/") else {
            continue;
        };
        let room = name.trim_end_matches(".rs").trim_end_matches("/mod");
        let room = room.replace('/', "::");
        let Some(own) = floor(&room) else {
            // The roof: the view itself, and what uses it as others do.
            assert!(
                ["mod", "paths", "draft"].contains(&room.as_str()),
                "{room} has no floor"
            );
            continue;
        };
        found.insert(own);
        let is_below_the_view = own <= floor("tree").unwrap();
        for target in paths_below("crate::view::", &text) {
            let fine = match floor(&target) {
                Some(named) => named <= own,
                // The types that everybody speaks of: `View`, `Caller`, `Attr`.
                None => target.starts_with(char::is_uppercase) && !is_below_the_view,
            };
            if !fine {
                wrong.push(format!("{file}: {target}"));
            }
        }
        let vault_itself = paths_below("crate::vault::", &text);
        if is_below_the_view && vault_itself.iter().any(|name| name == "Vault") {
            wrong.push(format!("{file}: the vault"));
        }
    }
    assert_eq!(found.len(), PARTS_OF_THE_VIEW.len(), "found {found:?}");
    assert!(wrong.is_empty(), "against the order:\n{}", wrong.join("\n"));
}

/// The paths of a `use` declaration, without its braces: `a::{b, c::{d, e}}` is `a::b`, `a::c::d`,
/// `a::c::e`.
fn expand(tree: &str, before: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((path, inner)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap().trim();
        paths.push(format!("{before}{path}"));
        return;
    };
    let (mut depth, mut start) = (0, 0);
    let inner = inner.strip_suffix('}').expect("braces in pairs");
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[start..at].trim().is_empty() {
                    expand(&inner[start..at], &format!("{before}{path}"), paths);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// All paths that a file names from `super`, `self` or `crate` on, and whether in a `pub use`.
fn named_paths(text: &str) -> Vec<(bool, String)> {
    let mut all = Vec::new();
    let mut rest = String::new();
    for statement in text.split_inclusive(';') {
        let is_use = |line: &str| {
            let line = line.trim_start();
            let line = line.strip_prefix("pub").map_or(line, |line| {
                line.strip_prefix("(super)")
                    .or_else(|| line.strip_prefix("(in crate::openpgp)"))
                    .unwrap_or(line)
            });
            line.trim_start().strip_prefix("use ").map(str::to_owned)
        };
        let last = statement.rfind("\n\n").map_or(0, |at| at + 2);
        let tail = statement[last..].trim_end_matches(';');
        let mut begins = tail.match_indices('\n').map(|(at, _)| at + 1);
        let begins = std::iter::once(0).chain(&mut begins);
        let found = begins.filter_map(|at| is_use(&tail[at..]).map(|tree| (at, tree)));
        match found.last() {
            Some((at, tree)) => {
                let public = tail[at..].trim_start().starts_with("pub");
                let mut paths = Vec::new();
                expand(&tree.replace('\n', " "), "", &mut paths);
                all.extend(paths.into_iter().map(|path| (public, path)));
            }
            None => rest.push_str(statement),
        }
    }
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for word in rest.split(|c| !is_path(c)) {
        if ["super::", "self::", "crate::"]
            .iter()
            .any(|start| word.starts_with(start))
        {
            all.push((false, word.to_owned()));
        }
    }
    all
}

/// The module of a file, as `state::removals::ledger`.
fn module_of(file: &str) -> String {
    let name = file.strip_prefix("src/").unwrap_or(file);
    let name = name.trim_end_matches(".rs").trim_end_matches("/mod");
    name.replace('/', "::")
}

/// A path from the root of the crate; `None` for one of another crate.
fn absolute(path: &str, module: &str, modules: &BTreeSet<String>) -> Option<String> {
    let mut at: Vec<&str> = module.split("::").collect();
    let mut parts = path.split("::").peekable();
    match *parts.peek()? {
        "crate" => {
            parts.next();
            at.clear();
        }
        "self" => drop(parts.next()),
        "super" => {
            while parts.next_if_eq(&"super").is_some() {
                at.pop();
            }
        }
        // Of a module beside it, as `mod.rs` names those below it.
        first if modules.contains(&format!("{module}::{first}")) => {}
        _ => return None,
    }
    at.extend(parts.filter(|part| !part.is_empty()));
    Some(at.join("::"))
}

#[test]
fn no_file_of_a_lower_room_names_one_that_names_it() {
    let code = code();
    let modules: BTreeSet<String> = code.keys().map(|file| module_of(file)).collect();
    // Where the names come from that a `mod.rs` passes on.
    let mut passed_on: BTreeMap<String, String> = BTreeMap::new();
    for (file, text) in &code {
        let module = module_of(file);
        for (public, path) in named_paths(text) {
            if let (true, Some(path)) = (public, absolute(&path, &module, &modules)) {
                let name = path.rsplit("::").next().unwrap().to_owned();
                passed_on.insert(format!("{module}::{name}"), path);
            }
        }
    }
    let home = |path: &str| -> Option<String> {
        let mut path = path.to_owned();
        for _ in 0..4 {
            match passed_on.get(&path) {
                Some(further) => path = further.clone(),
                None => break,
            }
        }
        loop {
            if modules.contains(&path) {
                return Some(path);
            }
            path.truncate(path.rfind("::")?);
        }
    };
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, text) in &code {
        let module = module_of(file);
        let room = module.split("::").next().unwrap().to_owned();
        if !WITHOUT_CIRCLES.contains(&&*room) || module == room {
            continue;
        }
        for (_, path) in named_paths(text) {
            let target = absolute(&path, &module, &modules).and_then(|path| home(&path));
            if let Some(target) = target.filter(|target| target.starts_with(&format!("{room}::"))) {
                if target != module {
                    arrows.entry(module.clone()).or_default().insert(target);
                }
            }
        }
    }
    for (from, to) in [
        ("openpgp::open::reader", "openpgp::key_search"),
        ("openpgp::vouched", "openpgp::certificate"),
        ("state::removals", "state::removals::ledger"),
        ("state::key", "state::private_dir"),
        ("plaintext::content", "plaintext::spill"),
    ] {
        assert!(arrows[from].contains(to), "not seen: {from} names {to}");
    }
    let folder = |module: &String| {
        let parts: Vec<&str> = module.split("::").take(2).collect();
        parts.join("::")
    };
    let mut folders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to) in &arrows {
        let others = to.iter().map(folder).filter(|to| *to != folder(from));
        folders.entry(folder(from)).or_default().extend(others);
    }
    for arrows in [arrows, folders] {
        let circles = circles(arrows);
        assert!(circles.is_empty(), "circles among: {circles:#?}");
    }
}

/// Takes away every file that names none of those that are left, until only circles are left.
fn circles(mut arrows: BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    let count = |arrows: &BTreeMap<_, BTreeSet<_>>| arrows.values().map(BTreeSet::len).sum();
    loop {
        let before: usize = count(&arrows);
        let left: BTreeSet<String> = arrows.keys().cloned().collect();
        arrows
            .values_mut()
            .for_each(|to| to.retain(|one| left.contains(one)));
        arrows.retain(|_, to| !to.is_empty());
        if count(&arrows) == before {
            return arrows;
        }
    }
}

#[test]
fn a_circle_is_found() {
    let arrow = |(from, to): (&str, &str)| (from.to_owned(), BTreeSet::from([to.to_owned()]));
    let round = [("a", "b"), ("b", "c"), ("c", "a"), ("x", "a")].map(arrow);
    let straight = [("a", "b"), ("b", "c"), ("x", "a")].map(arrow);
    assert_eq!(circles(BTreeMap::from(round)).len(), 4);
    assert!(circles(BTreeMap::from(straight)).is_empty());
}
