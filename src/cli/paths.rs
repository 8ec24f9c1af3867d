//! Where things are: XDG directories and the store's own subdirectories of them.

use std::env;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{Exit, Failure, Outcome};
use crate::daemon::{Directories, SocketPath};
use crate::ids::hex_digits;
use crate::process::account;

/// The user's home directory: `HOME`, unless it is missing or somebody else's, as under `mount(8)`,
/// whose helper sets that of root, and under `sudo`; then that of the password database.
pub(super) fn home() -> Outcome<PathBuf> {
    let set = absolute("HOME");
    set.clone()
        .filter(|home| !is_somebody_elses(home))
        .or_else(account::home_directory)
        .or(set)
        .ok_or_else(|| Failure::new(Exit::Setup, "HOME is not set").hint("export HOME=/home/you"))
}

/// Tells whether a directory belongs to another user, or lies where this one may not look. One
/// that does not exist yet may be made.
fn is_somebody_elses(home: &Path) -> bool {
    match std::fs::metadata(home) {
        Ok(directory) => directory.uid() != rustix::process::geteuid().as_raw(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// `$XDG_CONFIG_HOME/dds`, by default `~/.config/dds`.
pub(super) fn config_dir() -> Outcome<PathBuf> {
    let base = match absolute("XDG_CONFIG_HOME") {
        Some(base) => base,
        None => home()?.join(".config"),
    };
    Ok(base.join("dds"))
}

/// `$XDG_CONFIG_HOME/dds/<store>`: the pins of a store.
pub(super) fn pins_dir(store: &Path) -> Outcome<PathBuf> {
    Ok(config_dir()?.join(store_name(store)))
}

/// `$XDG_CACHE_HOME/dds/<store>`, by default `~/.cache/dds/<store>`: files that may be deleted
/// at any time, and the area for large drafts.
pub(super) fn cache_dir(store: &Path) -> Outcome<PathBuf> {
    let base = match absolute("XDG_CACHE_HOME") {
        Some(base) => base,
        None => home()?.join(".cache"),
    };
    Ok(base.join("dds").join(store_name(store)))
}

/// `$XDG_STATE_HOME/dds/<store>`, by default `~/.local/state/dds/<store>`: files that must not
/// be lost.
pub(super) fn state_dir(store: &Path) -> Outcome<PathBuf> {
    Ok(all_state_dirs()?.join(store_name(store)))
}

/// `$XDG_STATE_HOME/dds`, by default `~/.local/state/dds`: one directory for each store.
pub(super) fn all_state_dirs() -> Outcome<PathBuf> {
    let base = match absolute("XDG_STATE_HOME") {
        Some(base) => base,
        None => home()?.join(".local/state"),
    };
    Ok(base.join("dds"))
}

/// `$XDG_RUNTIME_DIR/dds`, if there is such a session: files that last as long as a mount. A
/// variable that `su` left over from another user counts as none.
pub(super) fn runtime_dir() -> Option<PathBuf> {
    let dir = absolute("XDG_RUNTIME_DIR")?;
    let owner = std::fs::metadata(&dir)
        .ok()
        .filter(|dir| dir.is_dir())?
        .uid();
    (owner == rustix::process::geteuid().as_raw()).then(|| dir.join("dds"))
}

/// All of a store's directories, and its control socket: in the session's directory, else in the
/// store's state.
pub(super) fn directories(store: &Path) -> Outcome<Directories> {
    let (state, runtime) = (state_dir(store)?, runtime_dir());
    let socket = match &runtime {
        Some(runtime) => SocketPath {
            directory: runtime.clone(),
            name: format!("{}.sock", store_name(store)),
        },
        None => SocketPath {
            directory: state.clone(),
            name: "control.sock".to_owned(),
        },
    };
    Ok(Directories {
        pins: pins_dir(store)?,
        state,
        cache: cache_dir(store)?,
        runtime,
        socket,
    })
}

/// Names a store: the first 16 hex digits of the SHA-256 of its canonical path.
pub(super) fn store_name(store: &Path) -> String {
    let digest = Sha256::digest(store.as_os_str().as_encoded_bytes());
    hex_digits(&digest[..8])
}

/// Replaces a leading `~/` by the home directory, as shells do, for paths in the configuration.
pub(super) fn expand(path: &Path) -> Outcome<PathBuf> {
    match path.strip_prefix("~") {
        Ok(rest) => Ok(home()?.join(rest)),
        Err(_) => Ok(path.to_owned()),
    }
}

/// A path from the environment; relative ones are ignored, as the XDG specification says.
fn absolute(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(variable)?);
    path.is_absolute().then_some(path)
}
