//! Why a whole OpenPGP file is not opened, and the remedy.

use std::fmt;

use sequoia_openpgp as pgp;

use pgp::crypto::mpi;
use pgp::packet::Key;
use pgp::packet::key::{KeyParts, KeyRole};
use pgp::types::{AEADAlgorithm, PublicKeyAlgorithm, SymmetricAlgorithm};

/// The object identifier of the curve (SEC 2, 1.3.132.0.10).
const SECP256K1: &[u8] = &[0x2B, 0x81, 0x04, 0x00, 0x0A];

/// Why a whole OpenPGP file is refused. Shown as a sentence without its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Encrypted for passphrases only.
    SymmetricOnly,
    /// Signed, not encrypted; also a detached signature.
    SignedOnly,
    /// A cleartext signature.
    CleartextSigned,
    /// A bare literal data packet.
    Literal,
    /// A bare compressed data packet.
    Compressed,
    /// Encrypted without integrity protection (packet type 9).
    NoIntegrity,
    /// Encrypted in a container of an unknown version.
    UnknownEncryption,
    /// Encrypted for me with a cipher that is not read, by its name.
    Cipher(&'static str),
    /// Encrypted for me in a mode of authenticated encryption that is not read, by its name.
    Mode(&'static str),
    /// Encrypted for me in authenticated chunks that are too large to be held in memory.
    LargeChunks,
    /// Encrypted to a key of mine whose algorithm is not read, by its name.
    KeyAlgorithm(&'static str),
    /// An encrypted container without any recipient.
    NoRecipient,
    /// A certificate or a secret key.
    KeyFile,
    /// Several messages in one file.
    Several,
    /// Armored, but as text of two bytes for each character.
    Utf16,
    /// Packets that do not make a message.
    Malformed,
}

impl Refusal {
    /// Refuses a cipher that is not read.
    pub(super) fn of_cipher(cipher: SymmetricAlgorithm) -> Option<Refusal> {
        use SymmetricAlgorithm as Cipher;
        #[allow(deprecated)]
        match cipher {
            Cipher::AES128 | Cipher::AES192 | Cipher::AES256 => None,
            Cipher::Camellia128 | Cipher::Camellia192 | Cipher::Camellia256
                if cipher.is_supported() =>
            {
                None
            }
            // Senders fall back to it for a key without preferences. Its blocks are small,
            // but the digest at the end protects the content.
            Cipher::TripleDES if cipher.is_supported() => None,
            _ => Some(Refusal::Cipher(cipher_name(cipher))),
        }
    }

    /// Refuses a mode of authenticated encryption that is not read.
    pub(super) fn of_mode(mode: AEADAlgorithm) -> Option<Refusal> {
        match mode {
            AEADAlgorithm::OCB | AEADAlgorithm::GCM if mode.is_supported() => None,
            AEADAlgorithm::OCB => Some(Refusal::Mode("OCB")),
            AEADAlgorithm::GCM => Some(Refusal::Mode("GCM")),
            AEADAlgorithm::EAX => Some(Refusal::Mode("EAX")),
            _ => Some(Refusal::Mode("unknown")),
        }
    }

    /// As [`Refusal::of_cipher`], with authenticated encryption: only AES is read so.
    pub(super) fn of_aead_cipher(cipher: SymmetricAlgorithm) -> Option<Refusal> {
        use SymmetricAlgorithm as Cipher;
        match cipher {
            Cipher::AES128 | Cipher::AES192 | Cipher::AES256 => None,
            other => Some(Refusal::Cipher(cipher_name(other))),
        }
    }

    /// Refuses an algorithm of a key, if messages to it are not read.
    pub(super) fn of_key<P: KeyParts, R: KeyRole>(key: &Key<P, R>) -> Option<Refusal> {
        #[allow(deprecated)]
        let name = match (key.pk_algo(), key.mpis()) {
            (_, mpi::PublicKey::ECDH { curve, .. } | mpi::PublicKey::ECDSA { curve, .. }) => {
                if curve.is_supported() {
                    return None;
                }
                if curve.oid() == SECP256K1 {
                    "secp256k1"
                } else {
                    "elliptic curve"
                }
            }
            (algorithm, _) if algorithm.is_supported() => return None,
            (PublicKeyAlgorithm::ElGamalEncrypt | PublicKeyAlgorithm::ElGamalEncryptSign, _) => {
                "Elgamal"
            }
            _ => "unknown",
        };
        Some(Refusal::KeyAlgorithm(name))
    }

    /// Returns the remedy, for the sender or for me.
    pub fn remedy(self) -> &'static str {
        match self {
            Refusal::SymmetricOnly
            | Refusal::SignedOnly
            | Refusal::CleartextSigned
            | Refusal::Literal
            | Refusal::Compressed
            | Refusal::NoRecipient => {
                "ask for it again, encrypted to your key (gpg --sign --encrypt -r YOU)"
            }
            Refusal::NoIntegrity => {
                "ask for it again from a program that protects integrity, as GnuPG does since 2.1"
            }
            Refusal::UnknownEncryption | Refusal::Mode(_) => {
                "ask for it again in the form that everybody reads (gpg --rfc4880)"
            }
            Refusal::LargeChunks => "ask for it again with gpg --rfc4880 or --chunk-size 22",
            Refusal::Cipher(_) => {
                "ask for it again with AES (gpg --cipher-algo AES256), and see that your own \
                 key asks for AES first (gpg --edit-key YOU setpref)"
            }
            Refusal::KeyAlgorithm(_) => {
                "add a subkey that can be read (gpg --quick-add-key FINGERPRINT cv25519 encr), \
                 give the others your certificate, and ask for it again"
            }
            Refusal::KeyFile => "a certificate belongs into keys/, a secret key nowhere here",
            Refusal::Several => {
                "ask for each in a file of its own, or take the file out of the store and split it"
            }
            Refusal::Utf16 => {
                "ask for it again as gpg --armor --output FILE writes it, or save it as ASCII or \
                 UTF-8 (in PowerShell, > writes UTF-16)"
            }
            Refusal::Malformed => "ask for it again",
        }
    }
}

/// The name of a cipher.
pub(super) fn cipher_name(cipher: SymmetricAlgorithm) -> &'static str {
    use SymmetricAlgorithm as Cipher;
    #[allow(deprecated)]
    match cipher {
        Cipher::AES128 | Cipher::AES192 | Cipher::AES256 => "AES",
        Cipher::Camellia128 | Cipher::Camellia192 | Cipher::Camellia256 => "Camellia",
        Cipher::TripleDES => "3DES",
        Cipher::IDEA => "IDEA",
        Cipher::CAST5 => "CAST5",
        Cipher::Blowfish => "Blowfish",
        Cipher::Twofish => "Twofish",
        _ => "an unknown cipher",
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::SymmetricOnly => f.write_str("encrypted with a passphrase only"),
            Refusal::SignedOnly | Refusal::CleartextSigned => {
                f.write_str("only signed, not encrypted")
            }
            Refusal::Literal | Refusal::Compressed => f.write_str("not encrypted"),
            Refusal::NoIntegrity => {
                f.write_str("encrypted without integrity protection (packet type 9)")
            }
            Refusal::UnknownEncryption => f.write_str("encrypted in an unknown form"),
            Refusal::Cipher(name) => write!(f, "encrypted with {name}, which is not read here"),
            Refusal::Mode(name) => {
                write!(
                    f,
                    "encrypted in a mode (AEAD, {name}) that is not read here"
                )
            }
            Refusal::LargeChunks => f.write_str("encrypted in chunks of more than 4 MiB"),
            Refusal::KeyAlgorithm(name) => {
                write!(f, "encrypted to your {name} key, which is not read here")
            }
            Refusal::NoRecipient => f.write_str("encrypted for nobody"),
            Refusal::KeyFile => f.write_str("a key, not a message"),
            Refusal::Several => f.write_str("several messages in one file"),
            Refusal::Utf16 => f.write_str("text in UTF-16, which no program decrypts"),
            Refusal::Malformed => f.write_str("OpenPGP packets that do not make a message"),
        }
    }
}
