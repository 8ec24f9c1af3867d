//! People who have only GnuPG, each with a home of their own, and `sq` beside them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Tells whether a program is installed, prints its version, and says loudly if it is not.
pub fn installed(program: &str) -> bool {
    match Command::new(program).arg("--version").output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            println!("with {}", text.lines().next().unwrap_or_default());
            true
        }
        Err(why) => {
            super::mount::skipped(&format!("{program} cannot be run: {why}"));
            false
        }
    }
}

/// Somebody with a GNUPGHOME, whose agent is stopped at the end.
pub struct Gnupg {
    home: tempfile::TempDir,
    pub passphrase: String,
}

impl Gnupg {
    /// A home with nothing in it. Keys made in it are locked by the passphrase unless it is empty.
    pub fn new(passphrase: &str) -> Gnupg {
        // Sockets need a short path.
        let home = tempfile::Builder::new()
            .prefix("g")
            .tempdir_in("/tmp")
            .unwrap();
        let only_me = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(home.path(), only_me).unwrap();
        // By default a passphrase costs a tenth of a second each time it is used.
        std::fs::write(home.path().join("gpg-agent.conf"), "s2k-count 65536\n").unwrap();
        Gnupg {
            home,
            passphrase: passphrase.to_owned(),
        }
    }

    pub fn path(&self) -> &Path {
        self.home.path()
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(self.home.path());
        command.args(["--batch", "--yes", "--no-options"]);
        command.args(["--trust-model", "always", "--pinentry-mode", "loopback"]);
        command.args(["--passphrase", &self.passphrase]);
        command.env_remove("GNUPGHOME").env("LC_ALL", "C.UTF-8");
        command.env("LANGUAGE", "C");
        command
    }

    /// Runs gpg on the given input. It may fail.
    pub fn attempt(&self, args: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .command()
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // gpg may end before it has read everything; its exit code tells why.
                let _ = stdin.write_all(input);
            });
            child.wait_with_output().unwrap()
        })
    }

    /// Runs gpg on the given input; it must succeed.
    #[track_caller]
    pub fn feed(&self, args: &[&str], input: &[u8]) -> Output {
        let output = self.attempt(args, input);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gpg {args:?}: {told}");
        output
    }

    /// Runs gpg without input; it must succeed. Returns its output.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Vec<u8> {
        self.feed(args, b"").stdout
    }

    /// Makes a key pair; `options` come first, such as a faked time.
    pub fn generate(&self, user_id: &str, algorithm: &str, options: &[&str]) {
        let make = ["--quick-gen-key", user_id, algorithm, "default", "never"];
        self.run(&[options, &make].concat());
        if algorithm.starts_with("rsa") {
            // For a named algorithm gpg makes the signing key only.
            let key = self.fingerprint(user_id);
            let add = ["--quick-add-key", &key, algorithm, "encr", "never"];
            self.run(&[options, &add].concat());
        }
    }

    /// The certificate of the person of that name.
    pub fn certificate(&self, who: &str) -> Vec<u8> {
        let certificate = self.run(&["--export", who]);
        assert!(!certificate.is_empty(), "no certificate of {who}");
        certificate
    }

    /// The secret key, locked as it is here.
    pub fn secret_key(&self, who: &str) -> Vec<u8> {
        let key = self.run(&["--armor", "--export-secret-keys", who]);
        assert!(key.starts_with(b"-----BEGIN PGP PRIVATE KEY BLOCK-----"));
        key
    }

    pub fn import(&self, keys: &[u8]) {
        self.feed(&["--import"], keys);
    }

    pub fn fingerprint(&self, who: &str) -> String {
        let listed = self.run(&["--with-colons", "--list-keys", who]);
        let listed = String::from_utf8(listed).unwrap();
        let line = listed.lines().find(|line| line.starts_with("fpr:"));
        line.unwrap().split(':').nth(9).unwrap().to_owned()
    }

    /// Decrypts as `gpg --decrypt` does; it must succeed, with a good signature by `signer`.
    ///
    /// Where several hidden recipients have ECDH keys, gpg 2.2 counts each one that turns out to
    /// be somebody else as an error, in messages of its own making too, and ends with 2.
    /// Tells by the second value whether it was so.
    #[track_caller]
    pub fn decrypt(&self, blob: &Path, signer: &str) -> (Vec<u8>, bool) {
        let blob = blob.to_str().unwrap();
        let output = self.attempt(&["--status-fd", "2", "--decrypt", blob], b"");
        let told = String::from_utf8_lossy(&output.stderr);
        let tried_another = told.contains("ecdh failed in gcry_cipher_decrypt: Checksum error");
        let expected = if tried_another { 2 } else { 0 };
        assert_eq!(output.status.code(), Some(expected), "{told}");
        for line in ["DECRYPTION_OKAY", "GOODMDC", "GOODSIG ", "VALIDSIG "] {
            assert!(told.contains(&format!("[GNUPG:] {line}")), "{line}: {told}");
        }
        let good = format!("Good signature from \"{signer}\"");
        assert!(told.contains(&good), "no {good}: {told}");
        (output.stdout, tried_another)
    }

    /// The output of `gpg --list-packets`. Its exit code is no more certain than that of
    /// [`Gnupg::decrypt`].
    pub fn packets(&self, blob: &Path) -> String {
        let listed = self.attempt(&["--list-packets", blob.to_str().unwrap()], b"");
        String::from_utf8_lossy(&listed.stdout).into_owned()
    }
}

impl Drop for Gnupg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf")
            .arg("--homedir")
            .arg(self.home.path())
            .args(["--kill", "gpg-agent"])
            .status();
    }
}

/// A passphrase on a file that a process reads as a descriptor: the readable end of a pipe.
pub fn piped(passphrase: &str) -> Stdio {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let line = format!("{passphrase}\n");
    std::fs::File::from(writer)
        .write_all(line.as_bytes())
        .unwrap();
    Stdio::from(reader)
}

/// Decrypts with `sq`, whose options are called differently since 0.27; one good signature is
/// asked for. Returns the content.
#[track_caller]
pub fn sq_decrypt(dir: &Path, key: &Path, signer: &Path, blob: &Path) -> Vec<u8> {
    let out: PathBuf = dir.join("sq-out");
    let run = |key_option: &str, signer_option: &str| {
        let _ = std::fs::remove_file(&out);
        Command::new("sq")
            .env("SEQUOIA_HOME", dir)
            .arg("decrypt")
            .arg(key_option)
            .arg(key)
            .arg(signer_option)
            .arg(signer)
            .args(["--signatures", "1", "--output"])
            .arg(&out)
            .arg(blob)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let first = run("--recipient-key", "--signer-cert");
    if !first.status.success() {
        let second = run("--recipient-file", "--signer-file");
        let told = [first.stderr, second.stderr].concat();
        let told = String::from_utf8_lossy(&told);
        assert!(second.status.success(), "sq decrypt: {told}");
    }
    std::fs::read(&out).unwrap()
}
