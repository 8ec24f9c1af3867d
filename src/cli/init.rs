//! `dds init`: an identity, a store, a configuration. Never overwrites anything.

use std::fs::{self, File};
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use super::config::{Config, find_store};
use super::passphrase::Source;
use super::unlock::configured;
use super::{Exit, Failure, Outcome, paths};
use crate::daemon::unlock::{must_be_private, read_key_file, unusable};
use crate::error::{Error, Kind, printable};
use crate::openpgp::{self, Certificate, Identity, Profile};
use crate::process::account;
use crate::store::{DirStore, FileName, Store as _};

/// Make an identity, a store and a configuration
///
/// Makes a secret key, the store's four folders with your certificate in keys/, and the
/// configuration. What exists already is used as it is and never overwritten.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The synced folder; made if it is missing [default: as dds-mount finds it]
    #[arg(short, long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Who you are: "Name <mail>" [default: the login name]
    #[arg(long, value_name = "USER ID", conflicts_with = "key")]
    user_id: Option<String>,
    /// Use a copy of this secret key instead of making one
    #[arg(short, long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Use the file of --key where it is; do not copy it
    #[arg(long, requires = "key")]
    key_in_place: bool,
    /// Make a key for SEIPDv2 (AEAD), which GnuPG 2.2 cannot write to
    #[arg(long, conflicts_with = "key")]
    modern: bool,
    /// Leave the secret key without a passphrase
    #[arg(long, conflicts_with_all = ["key", "passphrase_command", "passphrase_fd"])]
    no_passphrase: bool,
    #[command(flatten)]
    passphrase: Source,
    /// Do not ask whether to go on
    #[arg(short, long)]
    yes: bool,
}

const EXAMPLES: &str = "Examples:
  dds init --user-id 'Alice <alice@example.org>'
  dds init --store ~/sync --key ~/my-secret-key.asc";

/// Where my identity comes from.
enum Origin {
    /// It is made.
    New {
        user_id: String,
        /// The user gave no name.
        is_login_name: bool,
    },
    /// It is there already.
    Kept(Certificate),
    /// It is in a file that is copied.
    Copied(Certificate, Zeroizing<Vec<u8>>),
    /// It is in a file that the configuration shall name.
    InPlace(Certificate),
}

/// The plan, found out without changing anything.
struct Plan {
    store: PathBuf,
    /// The file that holds my identity, or will.
    identity: PathBuf,
    origin: Origin,
    config_file: PathBuf,
}

/// Runs `dds init`.
pub fn run(arguments: &Arguments) -> Outcome<()> {
    crate::process::memory::conceal()?;
    let config = Config::load(None)?;
    let plan = Plan::new(arguments, &config)?;
    let asks = !arguments.yes && std::io::stdin().is_terminal();
    if asks && !plan.is_confirmed()? {
        return Err(
            Failure::new(Exit::Failure, "nothing was done").hint("dds init again, when you like")
        );
    }
    let config_dir = paths::config_dir()?;
    if !exists(&config_dir) {
        let mut make = fs::DirBuilder::new();
        let made = make.recursive(true).mode(0o700).create(&config_dir);
        made.map_err(|error| Error::io(&config_dir.display().to_string(), error))?;
    }
    let identity = plan.identity.display();
    let (certificate, in_place) = match &plan.origin {
        Origin::New { user_id, .. } => (make_identity(arguments, &plan.identity, user_id)?, None),
        Origin::Kept(certificate) => (certificate.clone(), None),
        Origin::InPlace(certificate) => (certificate.clone(), Some(&*plan.identity)),
        Origin::Copied(certificate, secret) => {
            write_new(&plan.identity, secret)?;
            println!("secret key: copied to {identity}");
            (certificate.clone(), None)
        }
    };
    let store = make_store(&plan.store)?;
    add_certificate(&store, &certificate)?;
    let config_file = plan.config_file.display();
    let mut other_store = None;
    if exists(&plan.config_file) {
        println!("configuration: {config_file} is kept as it is");
        other_store = Some(store.path()).filter(|path| !is_configured(path, &config));
    } else {
        write_config(&plan.config_file, store.path(), in_place)?;
        println!("configuration: {config_file}");
    }
    println!("store: {}", store.path().display());
    println!("identity: {}", certificate.fingerprint());
    if !asks {
        plan.warn();
        plan.tell_name(&config_dir, store.path(), &certificate);
    }
    let secret = read_key_file(&plan.identity)?;
    for shortcoming in Identity::shortcomings_of(&secret).unwrap_or_default() {
        eprintln!("dds: warning: {shortcoming}");
    }
    if let Origin::New { .. } = plan.origin {
        println!();
        println!(
            "back up {identity} on paper or a stick, and its passphrase with it: without both"
        );
        println!("nothing here can be read again. The revocation certificate beside it is for the");
        println!("day when the key is lost or stolen; keep a copy of it apart from the key.");
    }
    println!();
    println!(
        "next: share {} with the others by your syncer, then",
        store.path().display()
    );
    match other_store {
        Some(path) => println!("  dds-mount --store {} ~/secure", path.display()),
        None => println!("  dds-mount ~/secure"),
    }
    Ok(())
}

/// Tells whether `dds-mount` finds a store without an argument.
fn is_configured(store: &Path, config: &Config) -> bool {
    let found = find_store(None, config).ok();
    found.and_then(|found| found.canonicalize().ok()).as_deref() == Some(store)
}

impl Plan {
    /// Looks at the files that exist, and refuses options that are impossible or would be ignored.
    fn new(arguments: &Arguments, config: &Config) -> Outcome<Plan> {
        let config_dir = paths::config_dir()?;
        let config_file = config_dir.join("config.toml");
        let store = find_store(arguments.store.as_deref(), config)?;
        let store = std::path::absolute(&store).map_err(|e| Error::io("the store's path", e))?;
        // The identity that dds-mount uses: the configured file, else identity.asc.
        let mine = configured(config)?.swap_remove(0);
        let is_there = exists(&mine) || !config.keys.is_empty();
        let (identity, origin) = match &arguments.key {
            None if is_there => {
                arguments.refuse_wishes(&mine)?;
                must_be_private(&mine)?;
                let (certificate, _) = read_identity(&mine)?;
                (mine, Origin::Kept(certificate))
            }
            None => {
                let given = arguments.user_id.clone();
                let new = Origin::New {
                    is_login_name: given.is_none(),
                    user_id: given.unwrap_or_else(login_name),
                };
                (mine, new)
            }
            Some(_) if arguments.passphrase.is_given() => {
                let why = "a passphrase is for a new identity; --key keeps that of its key";
                return Err(Failure::new(Exit::Usage, why).hint("leave it out"));
            }
            Some(given) => {
                let given =
                    std::path::absolute(given).map_err(|e| Error::io("the key's path", e))?;
                let (certificate, secret) = read_identity(&given)?;
                if is_there {
                    let (kept, known) = read_identity(&mine)?;
                    refuse_another(&mine, &kept, &certificate)?;
                    if known != secret {
                        println!(
                            "{} is kept as it is, though {} differs from it",
                            mine.display(),
                            given.display()
                        );
                    }
                    (mine, Origin::Kept(kept))
                } else if !arguments.key_in_place {
                    (mine, Origin::Copied(certificate, secret))
                } else if exists(&config_file) {
                    let why = format!("{} exists and names no key", config_file.display());
                    let line = format!("add the line keys = [\"{}\"] to it", given.display());
                    return Err(Failure::new(Exit::Setup, why).hint(line));
                } else {
                    must_be_private(&given)?;
                    (given, Origin::InPlace(certificate))
                }
            }
        };
        Ok(Plan {
            store,
            identity,
            origin,
            config_file,
        })
    }

    /// The user ids that others will see, the first one first.
    fn user_ids(&self) -> Vec<(String, bool)> {
        match &self.origin {
            Origin::New { user_id, .. } => {
                let email = openpgp::email_of(user_id);
                vec![(user_id.clone(), email.is_some())]
            }
            Origin::Kept(certificate)
            | Origin::Copied(certificate, _)
            | Origin::InPlace(certificate) => certificate
                .user_ids()
                .into_iter()
                .map(|user_id| (user_id.text, user_id.email.is_some()))
                .collect(),
        }
    }

    /// Tells whether nobody gave a name for the user.
    fn has_login_name(&self) -> bool {
        match self.origin {
            Origin::New { is_login_name, .. } => is_login_name,
            Origin::Kept(_) | Origin::Copied(..) | Origin::InPlace(_) => false,
        }
    }

    /// Says how an identity that was made under the login name gets another.
    fn tell_name(&self, config_dir: &Path, store: &Path, certificate: &Certificate) {
        if !self.has_login_name() {
            return;
        }
        let user_ids = self.user_ids();
        let name = user_ids.first().map_or("", |(user_id, _)| user_id);
        println!(
            "name: {}, the login name; for one with a mail address, before you mount the store:",
            printable(name)
        );
        let (config, store) = (config_dir.display(), store.display());
        println!(
            "  mv {config} {config}.old && rm {store}/keys/{}",
            key_file(certificate)
        );
        println!("  dds init --store {store} --user-id 'Name <mail>'");
    }

    /// Warns of a user id that will make trouble for others.
    fn warn(&self) {
        if self.has_login_name() {
            return;
        }
        let user_ids = self.user_ids();
        if user_ids.iter().any(|(_, has_email)| *has_email) {
            return;
        }
        let it_has = match user_ids.first() {
            Some((user_id, _)) => format!("{:?} has", printable(user_id)),
            None => "this key has".to_owned(),
        };
        eprintln!(
            "dds: warning: {it_has} no mail address, by which others find a key and tell two apart"
        );
        eprintln!(
            "dds: hint: --user-id 'Name <mail>' names one; for a key of gpg, gpg --quick-add-uid"
        );
    }

    /// Asks on the terminal before anything is made.
    fn is_confirmed(&self) -> Outcome<bool> {
        self.warn();
        let identity = self.identity.display();
        let user_ids = self.user_ids();
        let user_id = user_ids.first().map_or("", |(user_id, _)| user_id);
        let user_id = printable(user_id);
        match &self.origin {
            Origin::New { is_login_name, .. } => {
                println!("new identity {user_id:?} in {identity}");
                if *is_login_name {
                    println!("  --user-id 'Name <mail>' gives a name and a mail address instead");
                }
            }
            Origin::Kept(certificate) => {
                println!("identity {user_id:?} in {identity}, as it is");
                println!("  {}", certificate.fingerprint().in_groups());
            }
            Origin::Copied(certificate, _) => {
                println!("identity {user_id:?}: the secret key is copied to {identity}");
                println!("  {}", certificate.fingerprint().in_groups());
            }
            Origin::InPlace(certificate) => {
                println!("identity {user_id:?} in {identity}, where it stays");
                println!("  {}", certificate.fingerprint().in_groups());
            }
        }
        println!("store in {}", self.store.display());
        print!("go on? [Y/n] ");
        let io = |error| Failure::from(Error::io("terminal", error));
        std::io::stdout().flush().map_err(io)?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map_err(io)?;
        Ok(matches!(
            answer.trim().to_lowercase().as_str(),
            "" | "y" | "yes"
        ))
    }
}

impl Arguments {
    /// Refuses options that only a new identity can heed.
    fn refuse_wishes(&self, identity: &Path) -> Outcome<()> {
        let wishes = [
            ("--user-id", self.user_id.is_some()),
            ("--modern", self.modern),
            ("--no-passphrase", self.no_passphrase),
            ("the passphrase", self.passphrase.is_given()),
        ];
        let Some((wish, _)) = wishes.iter().find(|(_, wished)| *wished) else {
            return Ok(());
        };
        let why = format!(
            "{wish} is for a new identity, and there is one in {}",
            identity.display()
        );
        Err(Failure::new(Exit::Usage, why)
            .hint("dds init without it uses that one; to begin anew, move ~/.config/dds away"))
    }
}

/// Refuses to replace my identity.
fn refuse_another(mine: &Path, kept: &Certificate, given: &Certificate) -> Outcome<()> {
    if kept.fingerprint() == given.fingerprint() {
        return Ok(());
    }
    let why = format!(
        "there is another identity in {}: {}",
        mine.display(),
        kept.fingerprint().in_groups()
    );
    Err(Failure::new(Exit::Setup, why)
        .hint("dds init never overwrites; to become somebody else, move ~/.config/dds away first"))
}

/// Reads a secret key file, and the certificate in it.
fn read_identity(file: &Path) -> Outcome<(Certificate, Zeroizing<Vec<u8>>)> {
    let bytes = read_key_file(file)?;
    let certificate =
        Identity::certificate_of(&bytes).map_err(|error| unusable(file, &bytes, error))?;
    Ok((certificate, bytes))
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn login_name() -> String {
    ["USER", "LOGNAME"]
        .into_iter()
        .find_map(|variable| std::env::var(variable).ok().filter(|name| !name.is_empty()))
        .or_else(account::login_name)
        .unwrap_or_else(|| "me".to_owned())
}

fn make_identity(arguments: &Arguments, file: &Path, user_id: &str) -> Outcome<Certificate> {
    let passphrase = match arguments.no_passphrase {
        true => None,
        false => {
            let passphrase = arguments
                .passphrase
                .get("passphrase for the new key: ", true);
            let passphrase = passphrase.map_err(|failure| {
                failure.hint("--no-passphrase leaves the key unprotected; else --passphrase-fd N")
            })?;
            if passphrase.expose().is_empty() {
                return Err(Failure::new(Exit::Passphrase, "the passphrase is empty")
                    .hint("--no-passphrase leaves the key unprotected"));
            }
            Some(passphrase)
        }
    };
    let profile = match arguments.modern {
        true => Profile::Modern,
        false => Profile::Compatible,
    };
    let new = openpgp::generate(user_id, passphrase.as_ref(), profile)?;
    // The revocation certificate first: a crash in between must not leave a key without one.
    write_new(&file.with_extension("rev.asc"), &new.revocation)?;
    write_new(file, &new.secret)?;
    println!("new secret key: {}", file.display());
    if passphrase.is_none() {
        println!("IT HAS NO PASSPHRASE: whoever can read that file can read everything");
    }
    Ok(new.certificate)
}

fn make_store(path: &Path) -> Outcome<DirStore> {
    let failed = |error: Error| {
        Failure::new(Exit::Setup, format!("store {}: {error}", path.display()))
            .hint("--store DIR names a folder of yours, or a new one in such a folder")
    };
    if let Some(parent) = path.parent() {
        let made = fs::create_dir_all(parent);
        made.map_err(|error| failed(Error::io("its parent directory", error)))?;
    }
    DirStore::create(path).map_err(failed)
}

/// The name of my certificate in `keys/`.
fn key_file(certificate: &Certificate) -> String {
    format!("{}.gpg", certificate.fingerprint())
}

/// Puts my certificate into `keys/` under its fingerprint, unless it is there already.
fn add_certificate(store: &DirStore, certificate: &Certificate) -> Outcome<()> {
    let fingerprint = certificate.fingerprint();
    for key in store.keys()? {
        let bytes = store
            .read_key(&key.name, crate::vault::KEY_FILE_LIMIT)
            .unwrap_or_default();
        let known = Certificate::parse_all(&bytes).unwrap_or_default();
        if known.iter().any(|known| known.fingerprint() == fingerprint) {
            return Ok(());
        }
    }
    let name = FileName::new(key_file(certificate))?;
    Ok(store.put_key(&name, &certificate.to_bytes())?)
}

fn write_config(file: &Path, store: &Path, key: Option<&Path>) -> Outcome<()> {
    let utf8 = |path: &Path| {
        let text = path
            .to_str()
            .map(|text| toml::Value::from(text).to_string());
        text.ok_or_else(|| Failure::new(Exit::Setup, format!("{}: not UTF-8", path.display())))
    };
    let mut text = "# Configuration of DDS; see dds-mount(1).\n".to_owned();
    text += &format!("store = {}\n", utf8(store)?);
    if let Some(key) = key {
        text += &format!("keys = [{}]\n", utf8(key)?);
    }
    write_new(file, text.as_bytes())
}

/// Writes a file that must not exist, readable by me alone, durably.
fn write_new(path: &Path, bytes: &[u8]) -> Outcome<()> {
    let failed = |error: std::io::Error| {
        let error = Error::io(&path.display().to_string(), error);
        match error.kind() {
            Kind::Exists => Failure::new(Exit::Setup, error.to_string())
                .hint("dds init never overwrites; move that file away first"),
            _ => Failure::from(error),
        }
    };
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // A part of a key is worse than none.
        let _ = fs::remove_file(path);
        return Err(failed(error));
    }
    let parent = path.parent().map(File::open);
    parent
        .transpose()
        .and_then(|dir| dir.map_or(Ok(()), |dir| dir.sync_all()))
        .map_err(failed)
}
