//! `dds init`: the files that it makes, its questions, and its refusals.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::ended::*;
use crate::support::gnupg::{Gnupg, installed, piped};
use crate::support::mount::{Home, Mount, can_mount};
use crate::support::tree::below;

/// Every file below a directory, with its mode and content.
fn everything_in(directory: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let all = below(directory).into_iter();
    all.map(|path| {
        let bytes = match path.is_dir() {
            true => Vec::new(),
            false => std::fs::read(&path).unwrap(),
        };
        let mode = mode(&path);
        (path, mode, bytes)
    })
    .collect()
}

#[test]
fn init_makes_everything_for_me_alone_and_never_again() {
    let home = Home::new();
    let said = init(&home, None, &[]).out;
    assert!(said.contains("IT HAS NO PASSPHRASE"), "{said}");
    assert!(said.contains("back up"), "{said}");
    assert!(said.contains("dds-mount ~/secure"), "{said}");
    let config = home.path(".config/dds");
    assert_eq!(mode(&config), 0o700);
    for name in ["identity.asc", "identity.rev.asc", "config.toml"] {
        assert_eq!(mode(&config.join(name)), 0o600, "{name}");
    }
    let store = home.path("documents-btsync");
    for folder in ["", "keys", "messages", "notes", "software"] {
        assert_eq!(mode(&store.join(folder)), 0o700, "{folder}");
    }
    assert_eq!(std::fs::read_dir(store.join("keys")).unwrap().count(), 1);
    let before = everything_in(home.dir.path());
    // Again: nothing changes. What could only be heeded in a new identity is refused.
    let again = run(with(home.dds(), "init"));
    assert_eq!((again.code, &*again.err), (Some(0), ""), "{}", again.out);
    for wish in [
        &["--user-id", "Bob <bob@example.org>"][..],
        &["--modern"],
        &["--no-passphrase"],
        &["--passphrase-command", "echo another"],
    ] {
        let mut command = home.dds();
        command.arg("init").args(wish);
        assert_tells("dds", command, 2, "is for a new identity");
    }
    assert!(everything_in(home.dir.path()) == before);
    // A lost key beside its revocation certificate: that is not overwritten either.
    std::fs::remove_file(config.join("identity.asc")).unwrap();
    let before = everything_in(home.dir.path());
    let mut command = home.dds();
    command.args(["init", "--no-passphrase"]);
    assert_tells("dds", command, 3, "identity.rev.asc");
    assert!(everything_in(home.dir.path()) == before);
}

/// Certificates in the default store's `keys/`.
fn announced(home: &Home) -> usize {
    std::fs::read_dir(home.path("documents-btsync/keys"))
        .unwrap()
        .count()
}

#[test]
fn init_with_a_key_keeps_to_it() {
    let other = prepared(None);
    let key = other.path(".config/dds/identity.asc");
    let with_key = |home: &Home, key: &Path, more: &[&str]| {
        let mut command = home.dds();
        command.args(["init", "--key"]).arg(key).args(more);
        command
    };
    // A copy: the file may go. Another init finds it, and makes nothing.
    let home = Home::new();
    let given = home.path("export.asc");
    std::fs::copy(&key, &given).unwrap();
    let made = run(with_key(&home, &given, &[]));
    assert_eq!((made.code, &*made.err), (Some(0), ""));
    let copy = home.path(".config/dds/identity.asc");
    assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&key).unwrap());
    assert_eq!(mode(&copy), 0o600);
    std::fs::remove_file(&given).unwrap();
    let before = everything_in(home.dir.path());
    for again in [with(home.dds(), "init"), with_key(&home, &key, &[])] {
        let again = run(again);
        assert_eq!((again.code, &*again.err), (Some(0), ""));
    }
    assert!(everything_in(home.dir.path()) == before);
    // Somebody else's key is not mine all of a sudden.
    let third = prepared(None);
    let stranger = third.path(".config/dds/identity.asc");
    let command = with_key(&home, &stranger, &[]);
    assert_tells("dds", command, 3, "there is another identity");
    assert!(everything_in(home.dir.path()) == before);
    // In place: the configuration names the file, and the next init goes by it.
    let home = Home::new();
    let made = run(with_key(&home, &key, &["--key-in-place"]));
    assert_eq!((made.code, &*made.err), (Some(0), ""));
    assert!(!home.path(".config/dds/identity.asc").exists());
    let before = everything_in(home.dir.path());
    let again = run(with(home.dds(), "init"));
    assert_eq!((again.code, &*again.err), (Some(0), ""));
    let mut command = home.dds();
    command.args(["init", "--no-passphrase"]);
    assert_tells("dds", command, 2, "is for a new identity");
    let command = with_key(&home, &stranger, &[]);
    assert_tells("dds", command, 3, "there is another identity");
    assert!(everything_in(home.dir.path()) == before);
    assert_eq!(announced(&home), 1);
    // The file went: nothing takes its place.
    std::fs::remove_file(&key).unwrap();
    let command = with(home.dds(), "init");
    assert_tells("dds", command, 3, "identity.asc: ");
    assert!(everything_in(home.dir.path()) == before);
    // A configuration that names no key is not changed.
    let home = Home::new();
    std::fs::create_dir_all(home.path(".config/dds")).unwrap();
    std::fs::write(home.path(".config/dds/config.toml"), "").unwrap();
    let command = with_key(&home, &stranger, &["--key-in-place"]);
    let told = assert_tells("dds", command, 3, "names no key");
    assert!(told.contains("keys = ["), "{told}");
}

#[test]
fn init_says_what_is_wrong_with_an_export_before_it_makes_anything() {
    let home = Home::new();
    let public = prepared(None);
    let keys = std::fs::read_dir(public.path("documents-btsync/keys")).unwrap();
    let certificate = keys.map(|entry| entry.unwrap().path()).next().unwrap();
    let export = home.path("export.asc");
    for (bytes, sentence, helps) in [
        (Vec::new(), "is empty: nothing was exported", "export again"),
        (
            b"\n".to_vec(),
            "is empty: nothing was exported",
            "export again",
        ),
        (
            b"gpg: no key\n".to_vec(),
            "not a secret key",
            "export-secret-keys",
        ),
        (
            std::fs::read(&certificate).unwrap(),
            "no secret key in it",
            "only the certificate",
        ),
    ] {
        std::fs::write(&export, bytes).unwrap();
        let before = everything_in(home.dir.path());
        let mut command = home.dds();
        command.args(["init", "--key"]).arg(&export);
        let told = assert_tells("dds", command, 3, sentence);
        assert!(told.contains(helps), "{told}");
        assert!(everything_in(home.dir.path()) == before);
    }
    // The same where the identity would be.
    std::fs::create_dir_all(home.path(".config/dds")).unwrap();
    std::fs::write(home.path(".config/dds/identity.asc"), "").unwrap();
    let identity = home.path(".config/dds/identity.asc");
    std::fs::set_permissions(identity, std::fs::Permissions::from_mode(0o600)).unwrap();
    let command = with(home.dds(), "init");
    assert_tells("dds", command, 3, "identity.asc: the file is empty");
    assert!(!home.path("documents-btsync").exists());
}

/// A key whose protection is not supported is named, and nobody is asked for its passphrase.
#[test]
fn a_key_in_a_form_that_does_not_open_is_named_before_a_passphrase_is_asked_for() {
    use sequoia_openpgp::parse::Parse as _;
    use sequoia_openpgp::serialize::SerializeInto as _;
    let home = prepared(None);
    let passphrase = dds::plaintext::Passphrase::of(PASSPHRASE.as_bytes()).unwrap();
    let profile = dds::openpgp::Profile::Compatible;
    let made = dds::openpgp::generate("carol", Some(&passphrase), profile).unwrap();
    let carol = sequoia_openpgp::Cert::from_bytes(&made.secret).unwrap();
    let mut bytes = carol.as_tsk().to_vec().unwrap();
    // A digest over the numbers, AES-256, an iterated and salted SHA-256: AES becomes Twofish.
    let aes = [254, 9, 3, 8];
    for at in 0..bytes.len() - aes.len() {
        if bytes[at..].starts_with(&aes) {
            bytes[at + 1] = 10;
        }
    }
    let key = home.path("twofish.pgp");
    std::fs::write(&key, bytes).unwrap();
    let asked = home.path("asked");
    let ask = format!("touch {}; echo {PASSPHRASE}", asked.display());
    let named = "is protected with Twofish, which is not supported";
    let before = everything_in(home.dir.path());
    let mut command = home.dds_mount();
    command
        .args(["--passphrase-command", &ask, "--key"])
        .arg(&key);
    let told = assert_tells("dds-mount", with(command, home.path("secure")), 3, named);
    let helps = format!("gpg --import {}", key.display());
    assert!(told.contains(&helps), "{told}");
    assert!(!asked.exists());
    assert_harmless(&home.path("secure"));
    for more in [&[][..], &["--key-in-place"]] {
        let other = Home::new();
        let mut command = other.dds();
        command.args(["init", "--key"]).arg(&key).args(more);
        let told = assert_tells("dds", command, 3, named);
        assert!(told.contains(&helps), "{told}");
        assert!(everything_in(other.dir.path()).is_empty());
    }
    assert!(everything_in(home.dir.path()) == before);
}

#[test]
fn init_warns_of_a_user_id_without_a_mail_address() {
    for (user_id, warned) in [
        ("Alice", true),
        ("Alice (at home)", true),
        ("Alice <alice@example.org>", false),
        ("alice@example.org", false),
    ] {
        let home = Home::new();
        let mut command = home.dds();
        command.args(["init", "--no-passphrase", "--user-id", user_id]);
        let made = run(command);
        assert_eq!(made.code, Some(0), "{}", made.err);
        assert_eq!(made.err.contains("no mail address"), warned, "{}", made.err);
        assert_eq!(made.err.contains("hint: "), warned, "{}", made.err);
    }
}

/// Nobody was asked for a name, so nobody is warned of the one that was found; but told how to
/// choose another.
#[test]
fn init_says_how_to_choose_a_name_where_none_was_given() {
    let login = Command::new("id").arg("-un").output().unwrap();
    let login = String::from_utf8(login.stdout).unwrap();
    for (variable, name) in [(Some("zoe"), "zoe"), (None, login.trim_end())] {
        let home = Home::new();
        let init = || {
            let mut command = home.dds();
            command.env_remove("LOGNAME").env_remove("USER");
            command.args(["init", "--no-passphrase"]);
            command
        };
        let mut command = init();
        if let Some(name) = variable {
            command.env("USER", name);
        }
        let made = run(command);
        assert_eq!(
            (made.code, made.err.as_str()),
            (Some(0), ""),
            "{}",
            made.out
        );
        let said = format!("name: {name}, the login name");
        assert!(made.out.contains(&said), "{}", made.out);
        // As it is said there.
        let lines = made.out.lines().filter_map(|line| line.strip_prefix("  "));
        let lines: Vec<_> = lines
            .filter(|line| !line.starts_with("dds-mount"))
            .collect();
        let [away, again] = lines[..] else {
            panic!("{}", made.out)
        };
        let mut shell = home.command("sh");
        let again =
            format!("{again} --no-passphrase").replace("Name <mail>", "Zoe <zoe@example.org>");
        let program = env!("CARGO_BIN_EXE_dds");
        let again = again.replacen("dds", program, 1);
        shell.arg("-ec").arg(format!("{away}\n{again}"));
        let anew = run(shell);
        assert_eq!(
            (anew.code, anew.err.as_str()),
            (Some(0), ""),
            "{}",
            anew.out
        );
        assert!(!anew.out.contains("login name"), "{}", anew.out);
        let keys = std::fs::read_dir(home.path("documents-btsync/keys")).unwrap();
        assert_eq!(keys.count(), 1);
    }
}

/// Answers the questions of `dds init` in a terminal of its own, which `script` gives it.
pub fn typed(home: &Home, answers: &[&str]) -> Ended {
    let mut command = home.command("script");
    let program = env!("CARGO_BIN_EXE_dds");
    let init = format!("{program} init --user-id 'Alice <alice@example.org>'");
    command.args(["--quiet", "--return", "--command"]);
    command.arg(init).arg("/dev/null");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut typing, mut shown) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut out, mut answers) = (String::new(), answers.iter());
    let mut answered = 0;
    let mut some = [0; 4096];
    loop {
        let read = shown.read(&mut some).unwrap();
        if read == 0 {
            break;
        }
        out += &String::from_utf8_lossy(&some[..read]);
        let questions = ["? [Y/n] ", "the new key: ", "the same again: "];
        let is_question = questions.iter().any(|question| out.ends_with(question));
        if is_question && out.len() > answered {
            answered = out.len();
            let answer = answers
                .next()
                .unwrap_or_else(|| panic!("too much is asked: {out}"));
            writeln!(typing, "{answer}").unwrap();
        }
    }
    Ended {
        code: child.wait().unwrap().code(),
        out,
        err: String::new(),
    }
}

#[test]
fn two_passphrases_that_differ_are_asked_for_again() {
    needs!("script");
    let home = Home::new();
    let said = typed(&home, &["y", "first", "second", "third", "third"]);
    assert_eq!(said.code, Some(0), "{}", said.out);
    assert_eq!(
        said.out.matches("the two differ").count(),
        1,
        "{}",
        said.out
    );
    assert!(home.path(".config/dds/identity.asc").exists());
    // Not for ever.
    let home = Home::new();
    let said = typed(&home, &["y", "a", "b", "c", "d", "e", "f"]);
    assert_eq!(said.code, Some(4), "{}", said.out);
    assert!(
        said.out.contains("the two passphrases differ"),
        "{}",
        said.out
    );
    assert!(!home.path(".config/dds/identity.asc").exists());
}

#[test]
fn init_without_a_passphrase_to_be_had_makes_no_key() {
    let home = Home::new();
    let mut command = home.command("setsid");
    command.arg("--wait").arg(env!("CARGO_BIN_EXE_dds"));
    command.arg("init");
    assert_tells("dds", command, 4, "there is no terminal");
    let mut command = home.dds();
    command.args(["init", "--passphrase-fd", "0"]);
    command.stdin(piped(""));
    assert_tells("dds", command, 4, "the passphrase is empty");
    assert!(!home.path(".config/dds/identity.asc").exists());
    assert!(!home.path("documents-btsync").exists());
}

#[test]
fn what_init_makes_is_mounted_and_imported_by_gpg() {
    for more in [&[][..], &["--modern"]] {
        let home = Home::new();
        init(&home, Some(PASSPHRASE), more);
        if can_mount() {
            let mut command = home.dds_mount();
            command
                .args(["--passphrase-fd", "0"])
                .stdin(piped(PASSPHRASE));
            let mount = Mount::start(command, &home.path("secure"));
            std::fs::write(mount.path("notes/me/a"), "a").unwrap();
            mount.unmount();
        }
        if !installed("gpg") {
            continue;
        }
        let gnupg = Gnupg::new(PASSPHRASE);
        let keys = std::fs::read_dir(home.path("documents-btsync/keys")).unwrap();
        let files: Vec<_> = keys.map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1);
        let certificate = std::fs::read(&files[0]).unwrap();
        gnupg.import(&certificate);
        let fingerprint = gnupg.fingerprint("Alice <alice@example.org>");
        let name = files[0].file_stem().unwrap().to_str().unwrap();
        assert_eq!(name, fingerprint);
        let packets = gnupg.packets(&files[0]);
        assert!(!packets.contains("secret"), "{packets}");
        let secret = std::fs::read(home.path(".config/dds/identity.asc")).unwrap();
        gnupg.import(&secret);
        let listed = gnupg.run(&["--with-colons", "--list-secret-keys"]);
        let listed = String::from_utf8(listed).unwrap();
        assert!(listed.contains(&fingerprint), "{listed}");
        // The passphrase is the one that was given.
        gnupg.run(&["--armor", "--export-secret-keys", "Alice"]);
        let revocation = std::fs::read(home.path(".config/dds/identity.rev.asc")).unwrap();
        gnupg.import(&revocation);
        let listed = gnupg.run(&["--with-colons", "--list-keys"]);
        assert!(String::from_utf8(listed).unwrap().contains("pub:r:"));
    }
}
