//! Shortcomings of an identity: operations that fail, and preferences that make others send
//! messages which cannot be read or verified.

use std::time::SystemTime;

use sequoia_openpgp as pgp;

use pgp::Fingerprint;
use pgp::cert::prelude::*;
use pgp::crypto::S2K;
use pgp::packet::key::{KeyParts, KeyRole, PublicParts, SecretKeyMaterial};
use pgp::packet::signature::subpacket::{SubpacketTag, SubpacketValue};
use pgp::packet::{Key, Packet, Signature};
use pgp::policy::{AsymmetricAlgorithm, HashAlgoSecurity, StandardPolicy};
use pgp::serialize::SerializeInto as _;
use pgp::types::{AEADAlgorithm, HashAlgorithm, RevocationStatus};

use super::condition::{digest_name, may_encrypt, may_sign, unsupported};
use super::policy;
use super::refusal::Refusal;
use super::vouched::agrees;

/// Where a secret key is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// Here, locked or not.
    Here,
    /// On a smartcard: the file says so.
    Card,
    /// Kept offline: the file says so.
    Offline,
    /// The file says nothing of it.
    Absent,
    /// Protected in a way that is not known.
    Unknown,
}

impl Whereabouts {
    pub fn of<P: KeyParts, R: KeyRole>(key: &Key<P, R>) -> Whereabouts {
        let secret = match key.optional_secret() {
            None => return Whereabouts::Absent,
            Some(SecretKeyMaterial::Unencrypted(_)) => return Whereabouts::Here,
            Some(SecretKeyMaterial::Encrypted(secret)) => secret,
        };
        match secret.s2k() {
            S2K::Private { .. } => {}
            S2K::Unknown { .. } => return Whereabouts::Unknown,
            _ => return Whereabouts::Here,
        }
        // The bytes after the number of a private method are kept, but can only be written.
        let key = key.parts_as_unspecified().role_as_unspecified().clone();
        let secret = key.parts_into_secret();
        let packet = secret.and_then(|key| Packet::from(key.role_into_subordinate()).to_vec());
        let packet = packet.unwrap_or_default();
        // GnuPG's own marks: 1 for a key that is left out, 2 for one on a card.
        let says = |mark: &[u8]| packet.windows(mark.len()).any(|found| found == mark);
        match (says(b"GNU\x01"), says(b"GNU\x02")) {
            (_, true) => Whereabouts::Card,
            (true, _) => Whereabouts::Offline,
            _ => Whereabouts::Unknown,
        }
    }

    /// Says it of a key; not for one that is here.
    pub fn sentence(self) -> &'static str {
        match self {
            Whereabouts::Here => "is here",
            Whereabouts::Card => "is on a smartcard, which is not supported",
            Whereabouts::Offline => "is offline: only a stub of it is in the key file",
            Whereabouts::Absent => "is elsewhere: it is not in the key file",
            Whereabouts::Unknown => "is protected in an unknown way",
        }
    }
}

/// Names the places of the secret keys of a certificate, if none is here.
pub(super) fn all_elsewhere(cert: &Cert) -> String {
    let mut found = cert
        .keys()
        .map(|key| Whereabouts::of(key.key()))
        .filter(|place| *place != Whereabouts::Absent);
    match found.next() {
        Some(place) => format!("the secret key {}", place.sentence()),
        None => "no secret key in it".to_owned(),
    }
}

/// Says where the secret key is that would sign, if it is not here; `None` if there is none.
pub(super) fn missing_signer(cert: &Cert) -> Option<String> {
    let policy = as_others_see_it();
    let valid = cert.with_policy(&policy, SystemTime::now()).ok()?;
    let signing = valid.keys().alive().revoked(false).filter(may_sign);
    let signing: Vec<_> = signing.collect();
    let newest = signing.iter().max_by_key(|key| key.key().creation_time())?;
    let place = Whereabouts::of(newest.key());
    let id = newest.key().keyid();
    Some(match (Refusal::of_key(newest.key()), place) {
        (Some(Refusal::KeyAlgorithm(name)), _) => {
            format!("the signing key {id} is {name}, which is not supported")
        }
        (_, Whereabouts::Here) => format!("the signing key {id} cannot be used"),
        (_, place) => format!("the secret of the signing key {id} {}", place.sentence()),
    })
}

/// The rules by which others choose a key of mine, be it read here or not.
fn as_others_see_it() -> StandardPolicy<'static> {
    let mut policy = policy();
    for algorithm in [
        AsymmetricAlgorithm::ElGamal1024,
        AsymmetricAlgorithm::ElGamal2048,
        AsymmetricAlgorithm::ElGamal3072,
        AsymmetricAlgorithm::ElGamal4096,
        AsymmetricAlgorithm::Unknown,
    ] {
        policy.accept_asymmetric_algo(algorithm);
    }
    policy
}

/// Lists the shortcomings of an identity, a sentence each, with the remedy.
pub(super) fn shortcomings(cert: &Cert) -> Vec<String> {
    if let Some(name) = unsupported(cert.primary_key().key()) {
        return vec![format!(
            "your key is {name}, which is not supported: nothing can be written, and nobody here \
             can verify what it signs; make a new key (gpg --quick-gen-key, or dds init without \
             --key)"
        )];
    }
    let policy = as_others_see_it();
    let Ok(valid) = cert.with_policy(&policy, SystemTime::now()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let here = |key: &ValidErasedKeyAmalgamation<'_, PublicParts>| {
        Whereabouts::of(key.key()) == Whereabouts::Here
    };
    let signs = valid
        .keys()
        .supported()
        .alive()
        .revoked(false)
        .any(|key| may_sign(&key) && here(&key) && agrees(cert, &key.key().fingerprint()));
    let keys = valid.keys().alive().revoked(false).filter(may_encrypt);
    let keys: Vec<_> = keys.collect();
    let newest = keys.iter().max_by_key(|key| key.key().creation_time());
    let whole =
        valid.alive().is_ok() && !matches!(valid.revocation_status(), RevocationStatus::Revoked(_));
    if !signs && whole {
        let why = missing_signer(cert);
        let why = why.unwrap_or_else(|| "your key has no part that signs".to_owned());
        found.push(format!(
            "{why}: nothing can be written; --key takes a file with its secret \
             (gpg --export-secret-keys where it is)"
        ));
    }
    if let Some(newest) = newest {
        let id = newest.key().keyid();
        let others = match keys.len() {
            1 => "what others encrypt to it cannot be read",
            _ => "what others encrypt to it cannot be read, only what opens with your other keys",
        };
        match (Refusal::of_key(newest.key()), here(newest)) {
            (Some(refusal @ Refusal::KeyAlgorithm(name)), _) => found.push(format!(
                "your newest encryption key {id} is {name}: {others}; {}",
                refusal.remedy()
            )),
            (_, false) => {
                let place = Whereabouts::of(newest.key());
                found.push(format!(
                    "the secret of your newest encryption key {id} {}: {others}; --key takes a \
                     file with its secret (gpg --export-secret-keys where it is)",
                    place.sentence()
                ));
            }
            _ => {}
        }
    }
    found.extend(preferences(&valid));
    found
}

/// Tells which of the preferences that a certificate states make others send messages that are not
/// read here, or are not verified.
fn preferences(valid: &ValidCert<'_>) -> Option<String> {
    let cipher = unread_form(valid)
        .map(|name| format!("asks others to encrypt with {name} first, which is not read here"));
    let complaints: Vec<String> = cipher.into_iter().chain(weak_digest(valid)).collect();
    if complaints.is_empty() {
        return None;
    }
    Some(format!(
        "your key {}: gpg --edit-key {} setpref AES256 AES192 AES SHA512 SHA384 SHA256 ZLIB ZIP, \
         then give the others your certificate",
        complaints.join(", and "),
        valid.cert().fingerprint()
    ))
}

/// Names the cipher or the mode that a certificate asks for first, if it is not read.
fn unread_form(valid: &ValidCert<'_>) -> Option<&'static str> {
    let by_id = valid.primary_userid().ok();
    let by_id = by_id.as_ref().map(|id| id.binding_signature());
    let signatures = [by_id, valid.direct_key_signature().ok()];
    let signatures: Vec<&Signature> = signatures.into_iter().flatten().collect();
    let ciphers = signatures
        .iter()
        .find_map(|signature| signature.preferred_symmetric_algorithms());
    let cipher = ciphers.and_then(|ciphers| ciphers.first().copied());
    let suites_count = valid
        .features()
        .is_some_and(|features| features.supports_seipdv2());
    let refusal = cipher.and_then(Refusal::of_cipher).or_else(|| {
        let mut signatures = signatures.iter();
        signatures.find_map(|signature| mode(signature, suites_count))
    })?;
    match refusal {
        Refusal::Cipher(name) | Refusal::Mode(name) => Some(name),
        _ => None,
    }
}

/// Complains if gpg signs messages to a certificate with a digest that is too weak.
///
/// It takes the first digest of the user id that it was given as the reader, and SHA-1 where that
/// names none. It knows no keys of version 6.
fn weak_digest(valid: &ValidCert<'_>) -> Option<String> {
    let policy = policy();
    if valid.primary_key().key().version() > 4 {
        return None;
    }
    let first = |id: &Signature| {
        let digests = id.preferred_hash_algorithms().unwrap_or_default().iter();
        let mut known = digests.filter(|digest| digest.is_supported());
        known.next().copied()
    };
    let is_weak = |digest: HashAlgorithm| {
        let cutoff = policy.hash_cutoff(digest, HashAlgoSecurity::CollisionResistance);
        cutoff.is_some_and(|cutoff| cutoff <= SystemTime::now())
    };
    let ids = valid.userids().revoked(false);
    let mut digests = ids.map(|id| first(id.binding_signature()));
    let (says, digest) = digests.find_map(|digest| match digest {
        None => Some(("names no digest", "SHA-1")),
        Some(digest) if is_weak(digest) => Some(("asks for a weak digest", digest_name(digest))),
        Some(_) => None,
    })?;
    Some(format!(
        "{says}, so that gpg signs with {digest} what it encrypts to you, which is too weak to \
         tell who wrote it: such a message stands in unverified/"
    ))
}

/// Refuses the mode of authenticated encryption that is asked for first, if it is not read. Pairs
/// of cipher and mode (RFC 9580, 5.2.3.15) count only beside the feature that they are for.
fn mode(signature: &Signature, suites_count: bool) -> Option<Refusal> {
    if let (Some(suites), true) = (signature.preferred_aead_ciphersuites(), suites_count) {
        let (cipher, mode) = suites.first()?;
        return Refusal::of_mode(*mode).or_else(|| Refusal::of_aead_cipher(*cipher));
    }
    // As draft-ietf-openpgp-rfc4880bis had it, of which GnuPG writes OCB only.
    #[allow(deprecated)]
    let old = signature.hashed_area().iter().find_map(|subpacket| {
        match (subpacket.tag(), subpacket.value()) {
            (SubpacketTag::PreferredAEADAlgorithms, SubpacketValue::Unknown { body, .. }) => {
                body.first().copied()
            }
            _ => None,
        }
    });
    match old.map(AEADAlgorithm::from) {
        Some(AEADAlgorithm::EAX) => Refusal::of_mode(AEADAlgorithm::EAX),
        _ => None,
    }
}

/// Keys of mine that encrypt to me, with their secrets here, the newest last.
pub(super) fn encryption_keys_here(
    cert: &Cert,
    here: &[Fingerprint],
) -> Vec<super::certificate::PublicKey> {
    let policy = policy();
    let Ok(valid) = cert.with_policy(&policy, SystemTime::now()) else {
        return Vec::new();
    };
    let keys = valid.keys().supported().alive().revoked(false);
    let keys = keys.filter(may_encrypt);
    let keys = keys.filter(|key| here.contains(&key.key().fingerprint()));
    let mut keys: Vec<_> = keys
        .map(|key| key.key().clone().role_into_unspecified())
        .collect();
    keys.sort_by_key(|key| key.creation_time());
    keys
}

#[cfg(test)]
mod tests {
    use pgp::packet::signature::SignatureBuilder;
    use pgp::packet::signature::subpacket::Subpacket;
    use pgp::types::{Features, SignatureType, SymmetricAlgorithm};

    use super::*;

    /// The preferences of a certificate, in their order.
    #[derive(Default)]
    struct Stated {
        ciphers: Vec<SymmetricAlgorithm>,
        digests: Vec<HashAlgorithm>,
        suites: Vec<(SymmetricAlgorithm, AEADAlgorithm)>,
        /// By the numbers of draft-ietf-openpgp-rfc4880bis.
        modes: Vec<u8>,
        seipdv2: bool,
    }

    /// A certificate made by Sequoia whose one user id states this.
    fn stating(stated: Stated) -> Cert {
        let made = CertBuilder::new()
            .set_primary_key_flags(
                pgp::types::KeyFlags::empty()
                    .set_certification()
                    .set_signing(),
            )
            .add_transport_encryption_subkey()
            .generate();
        let (cert, _) = made.unwrap();
        let mut features = Features::empty().set_seipdv1();
        if stated.seipdv2 {
            features = features.set_seipdv2();
        }
        let mut binding = SignatureBuilder::new(SignatureType::PositiveCertification)
            .set_primary_userid(true)
            .unwrap()
            .set_features(features)
            .unwrap()
            .set_key_flags(
                pgp::types::KeyFlags::empty()
                    .set_certification()
                    .set_signing(),
            )
            .unwrap()
            .set_preferred_symmetric_algorithms(stated.ciphers)
            .unwrap()
            .set_preferred_hash_algorithms(stated.digests)
            .unwrap();
        if !stated.suites.is_empty() {
            binding = binding
                .set_preferred_aead_ciphersuites(stated.suites)
                .unwrap();
        }
        if !stated.modes.is_empty() {
            #[allow(deprecated)]
            let tag = SubpacketTag::PreferredAEADAlgorithms;
            let body = stated.modes;
            let value = SubpacketValue::Unknown { tag, body };
            let modes = Subpacket::new(value, false).unwrap();
            binding.hashed_area_mut().add(modes).unwrap();
        }
        let id = pgp::packet::UserID::from("Bob <bob@example.org>");
        let primary = cert.primary_key().key().clone().parts_into_secret();
        let mut primary = primary.unwrap().into_keypair().unwrap();
        let binding = id.bind(&mut primary, &cert, binding).unwrap();
        let packets = [Packet::from(id), binding.into()];
        cert.insert_packets(packets).unwrap().0
    }

    /// Preferences that a key may announce, and the words of the warning; as the table in dds(7).
    #[test]
    fn preferences_that_hide_messages_are_warned_of() {
        use AEADAlgorithm::{EAX, GCM, OCB};
        use HashAlgorithm::{MD5, RipeMD, SHA1, SHA224, SHA256, SHA512};
        use SymmetricAlgorithm::*;

        let good = || Stated {
            ciphers: vec![AES256],
            digests: vec![SHA512],
            ..Stated::default()
        };
        let ciphers = |ciphers: &[SymmetricAlgorithm]| Stated {
            ciphers: ciphers.to_vec(),
            ..good()
        };
        let digests = |digests: &[HashAlgorithm]| Stated {
            digests: digests.to_vec(),
            ..good()
        };
        let suites = |suites: &[(SymmetricAlgorithm, AEADAlgorithm)]| Stated {
            suites: suites.to_vec(),
            seipdv2: true,
            ..good()
        };
        let modes = |modes: &[u8]| Stated {
            modes: modes.to_vec(),
            ..good()
        };
        let old = Stated {
            seipdv2: false,
            ..suites(&[(AES256, EAX)])
        };
        #[allow(deprecated)]
        let table = [
            ("nothing special", good(), ""),
            ("AES-128 first", ciphers(&[AES128]), ""),
            ("3DES first", ciphers(&[TripleDES, AES256]), ""),
            ("no cipher", ciphers(&[]), ""),
            ("CAST5 first", ciphers(&[CAST5, AES256]), "with CAST5 first"),
            ("CAST5 last", ciphers(&[AES256, CAST5]), ""),
            ("IDEA first", ciphers(&[IDEA]), "with IDEA first"),
            (
                "Blowfish first",
                ciphers(&[Blowfish]),
                "with Blowfish first",
            ),
            ("Twofish first", ciphers(&[Twofish]), "with Twofish first"),
            ("SEIPDv2 alone", suites(&[]), ""),
            ("AES-256 in OCB", suites(&[(AES256, OCB)]), ""),
            ("AES-128 in GCM", suites(&[(AES128, GCM)]), ""),
            ("EAX first", suites(&[(AES256, EAX)]), "with EAX first"),
            ("EAX last", suites(&[(AES256, OCB), (AES256, EAX)]), ""),
            ("EAX without SEIPDv2", old, ""),
            (
                "Camellia in OCB",
                suites(&[(Camellia256, OCB)]),
                "with Camellia first",
            ),
            (
                "Twofish in OCB",
                suites(&[(Twofish, OCB)]),
                "with Twofish first",
            ),
            ("EAX, as once drafted", modes(&[1]), "with EAX first"),
            ("OCB, as GnuPG has it", modes(&[2]), ""),
            ("no digest", digests(&[]), "names no digest"),
            ("SHA-1 alone", digests(&[SHA1]), "gpg signs with SHA-1"),
            (
                "SHA-1 first",
                digests(&[SHA1, SHA512]),
                "gpg signs with SHA-1",
            ),
            ("SHA-1 last", digests(&[SHA512, SHA1]), ""),
            ("MD5 first", digests(&[MD5]), "gpg signs with MD5"),
            (
                "RIPEMD-160",
                digests(&[RipeMD]),
                "gpg signs with RIPEMD-160",
            ),
            ("SHA-224", digests(&[SHA224, SHA256]), ""),
        ];
        for (case, stated, words) in table {
            let cert = stating(stated);
            let said = shortcomings(&cert);
            if words.is_empty() {
                assert!(said.is_empty(), "{case}: {said:?}");
                continue;
            }
            assert_eq!(said.len(), 1, "{case}: {said:?}");
            let command = format!("gpg --edit-key {} setpref AES256", cert.fingerprint());
            assert!(said[0].contains(words), "{case}: {said:?}");
            assert!(said[0].contains(&command), "{case}: {said:?}");
        }
        let both = Stated {
            digests: Vec::new(),
            ..ciphers(&[Twofish])
        };
        let said = shortcomings(&stating(both));
        assert!(said.len() == 1 && said[0].contains("Twofish") && said[0].contains("SHA-1"));
    }
}
