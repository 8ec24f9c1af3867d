//! Makes new identities.

use sequoia_openpgp as pgp;

use pgp::Packet;
use pgp::armor::Kind as Armor;
use pgp::cert::prelude::*;
use pgp::crypto::{Password, S2K};
use pgp::packet::Key;
use pgp::packet::key::{KeyRole, SecretParts};
use pgp::serialize::SerializeInto as _;
use pgp::types::{Features, HashAlgorithm, KeyFlags, SymmetricAlgorithm};
use zeroize::Zeroizing;

use super::certificate::armored;
use super::{Certificate, failed};
use crate::error::{Kind, Result};
use crate::plaintext::Passphrase;

/// Bytes hashed for each try of a passphrase: the most that the format can say.
const HASHED: u32 = 0x3e0_0000;

/// The programs that will be able to write to a new identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Everybody, GnuPG 2.2 included: announces SEIPD version 1 only.
    Compatible,
    /// Readers of RFC 9580 only: announces SEIPD version 2 as well. The keys are the same.
    Modern,
}

/// A new identity, to be written to files.
pub struct NewIdentity {
    /// The armored secret key, under the passphrase if one was given.
    pub secret: Zeroizing<Vec<u8>>,
    /// The public part.
    pub certificate: Certificate,
    /// The armored, revoked certificate: publishing it revokes the identity.
    pub revocation: Vec<u8>,
}

/// Makes an identity: version 4, Ed25519 for signing, a Curve25519 subkey for encryption, as
/// GnuPG 2.2 makes them, without expiry.
///
/// The passphrase protects each key by AES-256 (CFB with SHA-1 check) and iterated, salted
/// SHA-256 over 65,011,712 bytes, in both profiles, so that GnuPG 2.2 imports the secret key.
///
/// # Errors
/// `Invalid` if the user id cannot be used, `Io` if there is no randomness.
pub fn generate(
    user_id: &str,
    passphrase: Option<&Passphrase>,
    profile: Profile,
) -> Result<NewIdentity> {
    if user_id.trim().is_empty() || user_id.chars().any(char::is_control) {
        return Err(failed(
            Kind::Invalid,
            "not a user id",
            "empty, or not one line",
        ));
    }
    make(user_id, passphrase, profile).map_err(|why| failed(Kind::Io, "making a key", why))
}

fn make(
    user_id: &str,
    passphrase: Option<&Passphrase>,
    profile: Profile,
) -> pgp::Result<NewIdentity> {
    let features = Features::empty().set_seipdv1();
    let features = match profile {
        Profile::Compatible => features,
        Profile::Modern => features.set_seipdv2(),
    };
    let encryption = KeyFlags::empty();
    let encryption = encryption
        .set_transport_encryption()
        .set_storage_encryption();
    let (cert, revocation) = CertBuilder::new()
        .set_profile(pgp::Profile::RFC4880)?
        .set_cipher_suite(CipherSuite::Cv25519)
        .set_features(features)?
        .set_primary_key_flags(KeyFlags::empty().set_certification().set_signing())
        .add_userid(user_id)
        .add_subkey(encryption, None, None)
        .generate()?;
    let (revoked, _) = cert.clone().insert_packets([revocation])?;
    let revoked = revoked.strip_secret_key_material();
    let certificate = Certificate::new(cert.clone())?;
    let cert = match passphrase {
        Some(passphrase) => lock(cert, &Password::from(passphrase.expose()))?,
        None => cert,
    };
    let secret = Zeroizing::new(cert.as_tsk().to_vec()?);
    let fingerprint = format!("for the key {}", certificate.fingerprint());
    let comments = [
        "This revokes a key for ever, once it is published. Keep it",
        "where you can find it if the key or its passphrase is lost,",
        fingerprint.as_str(),
    ];
    Ok(NewIdentity {
        secret: Zeroizing::new(armored(Armor::SecretKey, &[], &secret)),
        certificate,
        revocation: armored(Armor::PublicKey, &comments, &revoked.to_vec()?),
    })
}

/// Puts all secret keys of a certificate under a passphrase.
fn lock(cert: Cert, password: &Password) -> pgp::Result<Cert> {
    let mut locked: Vec<Packet> = Vec::new();
    for key in cert.keys().secret() {
        let secret = lock_key(key.key().clone(), password)?;
        locked.push(if key.primary() {
            Packet::from(secret.role_into_primary())
        } else {
            Packet::from(secret.role_into_subordinate())
        });
    }
    Ok(cert.insert_packets(locked)?.0)
}

fn lock_key<R: KeyRole>(
    key: Key<SecretParts, R>,
    password: &Password,
) -> pgp::Result<Key<SecretParts, R>> {
    let (public, secret) = key.take_secret();
    let s2k = S2K::new_iterated(HashAlgorithm::SHA256, HASHED)?;
    let cipher = SymmetricAlgorithm::AES256;
    let secret = secret.encrypt_with(&public, s2k, cipher, None, password)?;
    Ok(public.add_secret(secret).0)
}

/// Finds the mail address in a user id, as certificates are searched for it.
pub fn email_of(user_id: &str) -> Option<String> {
    let user_id = pgp::packet::UserID::from(user_id);
    user_id.email().ok().flatten().map(str::to_owned)
}
