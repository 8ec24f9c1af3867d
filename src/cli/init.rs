//! `dds init`: an identity, a store, a configuration. Never overwrites anything.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use super::config::{Config, find_store};
use super::passphrase::Source;
use super::{Exit, Failure, Outcome, paths};
use crate::error::{Error, Kind};
use crate::openpgp::{self, Certificate, Identity, Profile};
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
    #[arg(long, value_name = "USER ID")]
    user_id: Option<String>,
    /// Use this secret key instead of making one
    #[arg(short, long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Make a key for SEIPDv2 (AEAD), which GnuPG 2.2 cannot write to
    #[arg(long, conflicts_with = "key")]
    modern: bool,
    /// Leave the secret key without a passphrase
    #[arg(long, conflicts_with_all = ["passphrase_command", "passphrase_fd"])]
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

/// Runs `dds init`.
pub fn run(arguments: &Arguments) -> Outcome<()> {
    crate::process::memory::conceal()?;
    let config = Config::load(None)?;
    let config_dir = paths::config_dir()?;
    let store = find_store(arguments.store.as_deref(), &config)?;
    let store = std::path::absolute(&store).map_err(|e| Error::io("the store's path", e))?;
    let key_file = match &arguments.key {
        Some(file) => std::path::absolute(file).map_err(|e| Error::io("the key's path", e))?,
        None => config_dir.join("identity.asc"),
    };
    let makes_key = arguments.key.is_none() && !exists(&key_file);
    let user_id = arguments.user_id.clone().unwrap_or_else(login_name);
    if !confirmed(arguments, &store, &key_file, makes_key.then_some(&user_id))? {
        return Err(
            Failure::new(Exit::Failure, "nothing was done").hint("dds init again, when you like")
        );
    }
    if !exists(&config_dir) {
        let mut make = fs::DirBuilder::new();
        let made = make.recursive(true).mode(0o700).create(&config_dir);
        made.map_err(|error| Error::io(&config_dir.display().to_string(), error))?;
    }
    let certificate = if makes_key {
        make_identity(arguments, &key_file, &user_id)?
    } else {
        if arguments.user_id.is_some() {
            println!("using the identity in {} as it is", key_file.display());
        }
        certificate_of(&key_file)?
    };
    let store = make_store(&store)?;
    add_certificate(&store, &certificate)?;
    let config_file = config_dir.join("config.toml");
    if exists(&config_file) {
        println!("configuration: {} is kept as it is", config_file.display());
    } else {
        write_config(
            &config_file,
            store.path(),
            arguments.key.as_ref().map(|_| &*key_file),
        )?;
        println!("configuration: {}", config_file.display());
    }
    println!("store: {}", store.path().display());
    println!("identity: {}", certificate.fingerprint());
    if makes_key {
        println!();
        println!(
            "back up {} on paper or a stick: without it",
            key_file.display()
        );
        println!("nothing here can be read again. The revocation certificate beside it is for the");
        println!("day when the key is lost or stolen; keep a copy of it apart from the key.");
    }
    println!();
    println!(
        "next: share {} with the others by your syncer, then",
        store.path().display()
    );
    println!("  dds-mount ~/secure");
    Ok(())
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn login_name() -> String {
    ["USER", "LOGNAME"]
        .into_iter()
        .find_map(|variable| std::env::var(variable).ok().filter(|name| !name.is_empty()))
        .unwrap_or_else(|| "me".to_owned())
}

/// Asks on the terminal before anything is made. Without one, `--yes` is implied.
fn confirmed(
    arguments: &Arguments,
    store: &Path,
    key_file: &Path,
    new_user_id: Option<&String>,
) -> Outcome<bool> {
    use std::io::IsTerminal as _;
    if arguments.yes || !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    match new_user_id {
        Some(user_id) => println!("new identity {user_id:?} in {}", key_file.display()),
        None => println!("identity in {}", key_file.display()),
    }
    println!("store in {}", store.display());
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

fn certificate_of(file: &Path) -> Outcome<Certificate> {
    let failed =
        |error: Error| Failure::new(Exit::Setup, format!("key {}: {error}", file.display()));
    let bytes = fs::read(file).map(Zeroizing::new);
    let bytes = bytes.map_err(|error| failed(Error::io("cannot be read", error)))?;
    Identity::certificate_of(&bytes).map_err(failed)
}

fn make_store(path: &Path) -> Outcome<DirStore> {
    let failed =
        |error: Error| Failure::new(Exit::Setup, format!("store {}: {error}", path.display()));
    if let Some(parent) = path.parent() {
        let made = fs::create_dir_all(parent);
        made.map_err(|error| failed(Error::io("its parent directory", error)))?;
    }
    DirStore::create(path).map_err(failed)
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
    let name = FileName::new(format!("{fingerprint}.gpg"))?;
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
