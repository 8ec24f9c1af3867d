//! `$XDG_CONFIG_HOME/dds/config.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Exit, Failure, Outcome, paths};
use crate::contacts::{ContactName, Trust};
use crate::store::DirStore;
use crate::vault::{Groups, HistoryLimits};

/// The configuration. Every key is optional; an unknown one is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The synced folder.
    pub store: Option<PathBuf>,
    /// Key files: mine first, then older ones that only decrypt.
    #[serde(default)]
    pub keys: Vec<PathBuf>,
    /// `"first-sight"` or `"explicit"`.
    #[serde(default)]
    pub trust: TrustSetting,
    /// `"anonymous"` or `"named"`.
    #[serde(default)]
    pub recipients: RecipientsSetting,
    /// Notes shared with others may be removed.
    #[serde(default)]
    pub remove_shared_notes: bool,
    /// Largest file, in MiB; 65536 by default.
    pub max_file_mib: Option<u64>,
    /// Days for which notes that were replaced or removed are kept; 30 by default, 0 for none.
    pub history_days: Option<u32>,
    /// Names of audiences: `team = ["alice", "bob"]`.
    #[serde(default)]
    pub groups: BTreeMap<String, Vec<String>>,
}

/// When new certificates are pinned.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrustSetting {
    /// When they are first seen.
    #[default]
    FirstSight,
    /// Only when I say so.
    Explicit,
}

/// Whether blobs say whose keys open them.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum RecipientsSetting {
    /// They do not.
    #[default]
    Anonymous,
    /// They do: some clients and cards need it.
    Named,
}

/// Where the configuration is explained.
const DESCRIBED: &str = "the configuration is described in dds-mount(1)";

impl Config {
    /// Reads the configuration: `given`, which must exist, or the default file, which need not.
    pub(super) fn load(given: Option<&Path>) -> Outcome<Config> {
        let path = match given {
            Some(path) => path.to_owned(),
            None => paths::config_dir()?.join("config.toml"),
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && given.is_none() => {
                return Ok(Config::default());
            }
            Err(error) => {
                let why = format!("{}: {error}", path.display());
                return Err(Failure::new(Exit::Setup, why).hint(DESCRIBED));
            }
        };
        let parsed: Result<Config, toml::de::Error> = toml::from_str(&text);
        let config = parsed.map_err(|error| {
            let before = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..before]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count()
                + 1;
            let why = error.message().replace('\n', " ");
            Failure::new(Exit::Setup, format!("{}:{line}: {why}", path.display())).hint(DESCRIBED)
        })?;
        config.groups_of(&path)?;
        Ok(config)
    }

    fn groups_of(&self, path: &Path) -> Outcome<Groups> {
        let wrong = |why: String| {
            Failure::new(Exit::Setup, format!("{}: {why}", path.display())).hint(DESCRIBED)
        };
        let mut groups: BTreeMap<ContactName, BTreeSet<ContactName>> = BTreeMap::new();
        for (name, members) in &self.groups {
            let group: ContactName = name
                .parse()
                .map_err(|_| wrong(format!("group {name:?}: not a possible name")))?;
            let members: Result<BTreeSet<ContactName>, _> =
                members.iter().map(|member| member.parse()).collect();
            let members =
                members.map_err(|_| wrong(format!("group {name:?}: a member is not a name")))?;
            if members.is_empty() {
                return Err(wrong(format!("group {name:?} has no members")));
            }
            if let Some((other, _)) = groups.iter().find(|(_, known)| **known == members) {
                let twice = format!("groups {other} and {name} are the same people");
                return Err(wrong(twice));
            }
            groups.insert(group, members);
        }
        Ok(Groups::new(groups))
    }

    /// How the vault shall behave.
    pub(super) fn vault_options(&self) -> Outcome<crate::vault::Options> {
        Ok(crate::vault::Options {
            max_file_size: match self.max_file_mib {
                Some(mib) => mib.saturating_mul(1 << 20).min(i64::MAX as u64),
                None => crate::vault::Options::default().max_file_size,
            },
            trust: match self.trust {
                TrustSetting::FirstSight => Trust::FirstSight,
                TrustSetting::Explicit => Trust::Explicit,
            },
            named_recipients: self.recipients == RecipientsSetting::Named,
            groups: self.groups_of(Path::new("config.toml"))?,
            history: self
                .history_days
                .map_or_else(HistoryLimits::default, HistoryLimits::days),
            ..crate::vault::Options::default()
        })
    }

    /// How the view shall behave.
    pub(super) fn view_options(&self) -> crate::view::Options {
        crate::view::Options {
            remove_shared_notes: self.remove_shared_notes,
            ..crate::view::Options::default()
        }
    }
}

/// Finds the store: the argument, `$DDS_STORE`, the configuration, else `~/documents-btsync`.
pub(super) fn find_store(given: Option<&Path>, config: &Config) -> Outcome<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    if let Some(variable) = std::env::var_os("DDS_STORE").filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(variable));
    }
    match &config.store {
        Some(store) => paths::expand(store),
        None => Ok(paths::home()?.join("documents-btsync")),
    }
}

/// Opens a store, which must have a folder `keys`.
pub(super) fn open_store(path: &Path) -> Outcome<DirStore> {
    let failed = |why: String| {
        Failure::new(Exit::Setup, format!("store {}: {why}", path.display()))
            .hint("dds init --store DIR makes one; --store DIR names another")
    };
    let canonical = path
        .canonicalize()
        .map_err(|error| failed(error.to_string()))?;
    if !canonical.join("keys").is_dir() {
        return Err(failed("not a store, as it has no folder keys".to_owned()));
    }
    DirStore::open(&canonical).map_err(|error| failed(error.to_string()))
}
