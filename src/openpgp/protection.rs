//! How secret keys are locked by a passphrase, and opens those that the library does not.
//!
//! The library says of most failures that the passphrase may be wrong. Here each form is known
//! before a passphrase is asked for, and the check that the form has (a digest, a sum or the tag of
//! authenticated encryption) alone decides whether the passphrase is right.
//!
//! ```text
//! usage 0          not locked; then a sum of 16 bits
//! usage 254, 255   a cipher in CFB mode over numbers and their SHA-1, or their sum of 16 bits
//! usage 1 to 252   the same with a sum; the octet is the cipher, and MD5 hashes the passphrase
//! usage 253        authenticated encryption; as RFC 9580 says (HKDF, and the public key is
//!                  authenticated), or as its drafts said and OpenPGP.js 5 wrote (neither)
//! ```

use std::io::Read as _;

use hkdf::Hkdf;
use sequoia_openpgp as pgp;

use pgp::crypto::symmetric::{BlockCipherMode, Decryptor, UnpaddingMode};
use pgp::crypto::{Password, S2K, SessionKey, mpi};
use pgp::packet::Key;
use pgp::packet::key::{Encrypted, KeyParts, KeyRole, SecretKeyMaterial, SecretParts};
use pgp::parse::{Cookie, buffered_reader};
use pgp::serialize::MarshalInto as _;
use pgp::types::{HashAlgorithm, PublicKeyAlgorithm};
use sha2::Digest as _;
use zeroize::Zeroizing;

use super::packets::tag;
use super::refusal::{Refusal, cipher_name};
use super::ring::packets;

/// Largest memory that Argon2 may take, as the power of two of its KiB: 4 GiB.
const MOST_MEMORY: u8 = 22;
/// Bytes of an initial vector in the drafts of authenticated encryption, whatever the nonce has.
const DRAFT_VECTOR: usize = 16;

/// Why a locked key stays locked.
pub(super) enum Locked {
    /// The passphrase is wrong.
    Wrong,
    /// Something else than the passphrase; a sentence.
    Form(String),
}

/// Names the obstacle to opening a secret key, whatever the passphrase is.
pub(super) fn obstacle<P: KeyParts, R: KeyRole>(key: &Key<P, R>) -> Option<String> {
    let Some(SecretKeyMaterial::Encrypted(secret)) = key.optional_secret() else {
        return None;
    };
    let how = unsupported(key.version(), secret)?;
    let id = key.keyid();
    Some(format!(
        "the secret of the key {id} is protected {how}, which is not supported"
    ))
}

fn unsupported(version: u8, secret: &Encrypted) -> Option<String> {
    let cipher = secret.algo();
    let mode = secret.aead_algo();
    if let Some(mode) = mode {
        if let Some(Refusal::Mode(name)) = Refusal::of_mode(mode) {
            return Some(format!("by authenticated encryption (AEAD) in {name} mode"));
        }
        if Refusal::of_aead_cipher(cipher).is_some() {
            let name = cipher_name(cipher);
            return Some(format!("by authenticated encryption (AEAD) with {name}"));
        }
    }
    if !cipher.is_supported() {
        return Some(format!("with {}", cipher_name(cipher)));
    }
    let hash = match secret.s2k() {
        S2K::Argon2 { .. } if mode.is_none() => {
            return Some("with Argon2 but without authenticated encryption".to_owned());
        }
        S2K::Argon2 { m, .. } if *m > MOST_MEMORY => {
            return Some("with Argon2 that needs more than 4 GiB of memory".to_owned());
        }
        S2K::Argon2 { .. } => return None,
        #[allow(deprecated)]
        S2K::Simple { hash } if version < 6 => *hash,
        #[allow(deprecated)]
        S2K::Salted { hash, .. } | S2K::Iterated { hash, .. } => *hash,
        #[allow(deprecated)]
        S2K::Implicit if version < 6 => HashAlgorithm::MD5,
        S2K::Unknown { .. } | S2K::Private { .. } => return Some("in an unknown way".to_owned()),
        _ => return Some("by a passphrase without salt".to_owned()),
    };
    if !hash.is_supported() {
        return Some(format!("by a passphrase hashed with {hash}"));
    }
    let sum_only = mode.is_none() && secret.checksum() != Some(mpi::SecretKeyChecksum::SHA1);
    (version >= 6 && sum_only).then(|| "with a sum of 16 bits".to_owned())
}

/// Opens a secret key; one that is not locked is returned as it is.
///
/// # Errors
/// [`Locked::Wrong`] only if the form is known and its check fails.
pub(super) fn unlock<R: KeyRole>(
    key: Key<SecretParts, R>,
    is_primary: bool,
    password: &Password,
) -> Result<Key<SecretParts, R>, Locked> {
    let SecretKeyMaterial::Encrypted(secret) = key.secret() else {
        return Ok(key);
    };
    if let Some(why) = obstacle(&key) {
        return Err(Locked::Form(why));
    }
    let id = key.keyid();
    let unusable = |why: &str| Locked::Form(format!("the secret of the key {id} {why}"));
    let check = match (secret.aead_algo(), secret.checksum()) {
        (Some(mode), _) => mode.digest_size().unwrap_or(usize::MAX),
        (None, Some(mpi::SecretKeyChecksum::Sum16)) => 2,
        (None, _) => 20,
    };
    let ciphertext = secret.ciphertext().unwrap_or_default();
    if ciphertext.len() < check {
        return Err(unusable("is cut off"));
    }
    if let Ok(opened) = key.clone().decrypt_secret(password) {
        return Ok(opened);
    }
    let derived = secret.algo().key_size().and_then(|size| {
        let derived = secret.s2k().derive_key(password, size);
        derived.map(|derived| (derived, size))
    });
    let (derived, size) = derived.map_err(|why| {
        unusable(&format!(
            "cannot be opened, be the passphrase right or wrong: {why}"
        ))
    })?;
    let numbers = match secret.aead_algo() {
        None => by_cipher(secret, &derived, check)?,
        Some(_) => by_aead(&key, secret, is_primary, &derived, size).ok_or(Locked::Wrong)?,
    };
    let numbers = canonical(key.pk_algo(), &numbers).map(|(numbers, _)| numbers);
    let material = numbers
        .and_then(|numbers| mpi::SecretKeyMaterial::from_bytes(key.pk_algo(), &numbers).ok())
        .ok_or_else(|| unusable("opens by the passphrase, but what is in it is damaged"))?;
    let (public, _) = key.take_secret();
    Ok(public.add_secret(material.into()).0)
}

/// Decrypts numbers and checks their digest or sum, which takes `check` bytes.
fn by_cipher(
    secret: &Encrypted,
    key: &SessionKey,
    check: usize,
) -> Result<Zeroizing<Vec<u8>>, Locked> {
    let cipher = secret.algo();
    let decrypted = || {
        let (vector, sealed) = secret
            .ciphertext()
            .ok()?
            .split_at_checked(cipher.block_size().ok()?)?;
        let source = buffered_reader::Memory::with_cookie(sealed, Cookie::default());
        let mut decryptor = Decryptor::new(
            cipher,
            BlockCipherMode::CFB,
            UnpaddingMode::None,
            key,
            Some(vector),
            source,
        )
        .ok()?;
        let mut plain = Zeroizing::new(vec![0; sealed.len()]);
        decryptor.read_exact(&mut plain).ok()?;
        Some(plain)
    };
    let mut plain = decrypted().ok_or_else(|| {
        let name = cipher_name(cipher);
        Locked::Form(format!("the secret key cannot be decrypted with {name}"))
    })?;
    let length = plain.len().checked_sub(check).ok_or(Locked::Wrong)?;
    let (numbers, given) = plain.split_at(length);
    let fits = match check {
        2 => sum(numbers) == given,
        _ => sha1::Sha1::digest(numbers)[..] == *given,
    };
    if !fits {
        return Err(Locked::Wrong);
    }
    plain.truncate(length);
    Ok(plain)
}

/// The sum of 16 bits (RFC 9580, 5.5.3).
fn sum(bytes: &[u8]) -> [u8; 2] {
    let add = |sum: u16, byte: &u8| sum.wrapping_add(u16::from(*byte));
    bytes.iter().fold(0, add).to_be_bytes()
}

/// Decrypts authenticated bytes, in the standard's form or the drafts'; `None` if it is not
/// authentic in any.
fn by_aead<R: KeyRole>(
    key: &Key<SecretParts, R>,
    secret: &Encrypted,
    is_primary: bool,
    derived: &SessionKey,
    size: usize,
) -> Option<Zeroizing<Vec<u8>>> {
    let (mode, nonce) = (secret.aead_algo()?, secret.aead_iv()?);
    let sealed = secret.ciphertext().ok()?;
    let tag_size = mode.digest_size().ok()?;
    let decrypt = |key: &SessionKey, additional: &[u8], sealed: &[u8]| {
        let mut plain = Zeroizing::new(vec![0; sealed.len().checked_sub(tag_size)?]);
        let context = mode.context(secret.algo(), key, additional, nonce).ok()?;
        let mut context = context.for_decryption().ok()?;
        context.decrypt_verify(&mut plain, sealed).ok()?;
        Some(plain)
    };
    let packet = 0xC0
        | match is_primary {
            true => tag::SECRET_KEY,
            false => tag::SECRET_SUBKEY,
        };
    let info = [packet, key.version(), secret.algo().into(), mode.into()];
    let mut standard = Zeroizing::new(expand(derived, &info).to_vec());
    standard.truncate(size);
    let standard = SessionKey::from(standard.as_slice());
    let public = key.parts_as_public().to_vec().ok()?;
    let rest = sealed.get(DRAFT_VECTOR.saturating_sub(nonce.len())..);
    decrypt(&standard, &[&[packet][..], &public].concat(), sealed)
        .or_else(|| decrypt(derived, &[], sealed))
        .or_else(|| decrypt(derived, &[], rest?))
}

/// HKDF with SHA-256 and without salt (RFC 5869), for 32 bytes.
fn expand(from: &[u8], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let expanded = Hkdf::<sha2::Sha256>::new(None, from).expand(info, &mut key[..]);
    expanded.expect("one digest is no more than 255");
    key
}

/// Writes the secret numbers of a key as the standard asks for and the library insists on: without
/// leading zeros, and with their true lengths. Returns them and the rest; `None` if they
/// are cut off.
fn canonical(algorithm: PublicKeyAlgorithm, bytes: &[u8]) -> Option<(Zeroizing<Vec<u8>>, &[u8])> {
    use PublicKeyAlgorithm as Algorithm;
    #[allow(deprecated)]
    let count = match algorithm {
        Algorithm::RSAEncryptSign | Algorithm::RSAEncrypt | Algorithm::RSASign => 4,
        Algorithm::DSA
        | Algorithm::ECDSA
        | Algorithm::ECDH
        | Algorithm::EdDSA
        | Algorithm::ElGamalEncrypt
        | Algorithm::ElGamalEncryptSign => 1,
        // Strings of octets, of fixed lengths.
        _ => return Some((Zeroizing::new(bytes.to_vec()), &[])),
    };
    let mut rest = bytes;
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len()));
    for _ in 0..count {
        let (number, after) = rest.split_at_checked(number(rest)?)?;
        rest = after;
        let number = &number[2..];
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let number = &number[zeros..];
        let unused = number.first().map_or(0, |first| first.leading_zeros());
        let bits = u16::try_from(number.len() * 8 - unused as usize).ok()?;
        out.extend_from_slice(&bits.to_be_bytes());
        out.extend_from_slice(number);
    }
    Some((out, rest))
}

/// Bytes that a number (RFC 9580, 3.2) takes with its length.
fn number(bytes: &[u8]) -> Option<usize> {
    let bits = bytes.first_chunk()?;
    Some(2 + usize::from(u16::from_be_bytes(*bits)).div_ceil(8))
}

/// Copies the packets of a key file, with the numbers of those secret keys that are not locked in
/// the form that the library insists on.
pub(super) fn with_canonical_numbers(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let (found, _) = packets(bytes);
    // A header may become longer, numbers do not; growing would leave a copy behind.
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len() + 6 * found.len()));
    let mut end = 0;
    for packet in &found {
        end = packet.all.end;
        let is_secret = matches!(packet.tag, tag::SECRET_KEY | tag::SECRET_SUBKEY);
        let body = is_secret.then(|| with_canonical_secret(&bytes[packet.body.clone()]));
        match body.flatten() {
            Some(body) => {
                let length = u32::try_from(body.len()).expect("it was shorter than that");
                out.extend_from_slice(&[0xC0 | packet.tag, 255]);
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(&body);
            }
            None => out.extend_from_slice(&bytes[packet.all.clone()]),
        }
    }
    out.extend_from_slice(&bytes[end..]);
    out
}

/// The body of a secret key packet that is not locked; `None` if it is well as it is, or nothing
/// that could be made so.
fn with_canonical_secret(body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let algorithm = PublicKeyAlgorithm::from(*body.get(5)?);
    let (start, check) = match body[0] {
        4 => (6 + public_length(algorithm, &body[6..])?, 2),
        6 => {
            let length = u32::from_be_bytes(body.get(6..10)?.try_into().ok()?);
            (usize::try_from(length).ok()?.checked_add(10)?, 0)
        }
        _ => return None,
    };
    let (0, secret) = body.get(start..)?.split_first()? else {
        return None;
    };
    let (numbers, given) = canonical(algorithm, secret)?;
    let original = &secret[..secret.len() - given.len()];
    if numbers[..] == *original || given.len() != check {
        return None;
    }
    if check > 0 && sum(original) != given {
        return None;
    }
    let mut new = Zeroizing::new(Vec::with_capacity(body.len()));
    new.extend_from_slice(&body[..=start]);
    new.extend_from_slice(&numbers);
    if check > 0 {
        new.extend_from_slice(&sum(&numbers));
    }
    Some(new)
}

/// Bytes that the public numbers of a version 4 key take; `None` for an algorithm whose secrets
/// are strings of octets.
fn public_length(algorithm: PublicKeyAlgorithm, bytes: &[u8]) -> Option<usize> {
    use PublicKeyAlgorithm as Algorithm;
    let string = |at: usize| Some(at + 1 + usize::from(*bytes.get(at)?));
    let numbers = |at: usize, count: usize| {
        (0..count).try_fold(at, |at, _| Some(at + number(bytes.get(at..)?)?))
    };
    #[allow(deprecated)]
    match algorithm {
        Algorithm::RSAEncryptSign | Algorithm::RSAEncrypt | Algorithm::RSASign => numbers(0, 2),
        Algorithm::ElGamalEncrypt | Algorithm::ElGamalEncryptSign => numbers(0, 3),
        Algorithm::DSA => numbers(0, 4),
        Algorithm::ECDSA | Algorithm::EdDSA => numbers(string(0)?, 1),
        Algorithm::ECDH => string(numbers(string(0)?, 1)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_expanded_as_rfc_5869_has_it() {
        // Its third example, as far as 32 bytes go.
        let expected = [
            0x8d, 0xa4, 0xe7, 0x75, 0xa5, 0x63, 0xc1, 0x8f, 0x71, 0x5f, 0x80, 0x2a, 0x06, 0x3c,
            0x5a, 0x31, 0xb8, 0xa1, 0x1f, 0x5c, 0x5e, 0xe1, 0x87, 0x9e, 0xc3, 0x45, 0x4e, 0x5f,
            0x3c, 0x73, 0x8d, 0x2d,
        ];
        assert_eq!(*expand(&[0x0b; 22], &[]), expected);
    }

    #[test]
    fn numbers_lose_their_leading_zeros_and_wrong_lengths() {
        let algorithm = PublicKeyAlgorithm::EdDSA;
        for (given, expected) in [
            (&[0, 16, 0, 1, 7][..], Some((&[0, 1, 1][..], &[7][..]))),
            (&[0, 7, 0xFF], Some((&[0, 8, 0xFF], &[]))),
            (&[0, 8, 0], Some((&[0, 0], &[]))),
            (&[0, 0], Some((&[0, 0], &[]))),
            (&[0, 9, 1], None),
            (&[0], None),
        ] {
            let found = canonical(algorithm, given);
            let found = found.as_ref().map(|(numbers, rest)| (&numbers[..], *rest));
            assert_eq!(found, expected, "{given:?}");
        }
    }
}
