//! Secret keys in every form in which they are locked, made octet by octet.

use std::io::Write as _;

use dds::error::Kind;
use dds::openpgp::*;
use dds::plaintext::Passphrase;
use pgp::crypto::symmetric::{BlockCipherMode, Encryptor, PaddingMode};
use pgp::crypto::{S2K, SessionKey as Key};
use pgp::packet::key::SecretKeyMaterial;
use pgp::parse::Parse as _;
use pgp::serialize::{MarshalInto, SerializeInto};
use pgp::types::{AEADAlgorithm, HashAlgorithm, SymmetricAlgorithm as Cipher};
use sequoia_openpgp as pgp;
use sha2::Digest as _;

use super::{Person, SMALL, content, literal, packet};

/// How a secret key is locked, after its public part.
struct Lock {
    usage: u8,
    cipher: Cipher,
    s2k: S2K,
    /// The numbers have leading zeros.
    zeros: bool,
}

const PASSPHRASE: &str = "correct horse";

impl Lock {
    /// What everybody writes: CFB, a digest, iterated and salted.
    fn usual() -> Lock {
        Lock {
            usage: 254,
            cipher: Cipher::AES256,
            s2k: S2K::Iterated {
                hash: HashAlgorithm::SHA256,
                salt: [7; 8],
                hash_bytes: 65536,
            },
            zeros: false,
        }
    }

    fn key(&self, passphrase: &str) -> Key {
        let size = self.cipher.key_size().unwrap_or(16);
        self.s2k.derive_key(&passphrase.into(), size).unwrap()
    }

    /// The octets that say how the passphrase becomes a key.
    fn s2k(&self) -> Vec<u8> {
        #[allow(deprecated)]
        match &self.s2k {
            S2K::Implicit => vec![],
            S2K::Simple { hash } => vec![0, u8::from(*hash)],
            S2K::Salted { hash, salt } => [&[1, u8::from(*hash)], &salt[..]].concat(),
            S2K::Iterated { hash, salt, .. } => {
                [&[3, u8::from(*hash)], &salt[..], &[0x60]].concat()
            }
            S2K::Argon2 { salt, t, p, m } => [&[4], &salt[..], &[*t, *p, *m]].concat(),
            _ => unreachable!("not made here"),
        }
    }

    fn numbers(&self, numbers: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = numbers;
        while self.zeros && !rest.is_empty() {
            let bits = u16::from_be_bytes([rest[0], rest[1]]);
            let (number, after) = rest[2..].split_at(usize::from(bits).div_ceil(8));
            let longer = u16::try_from(number.len() * 8 + 16).unwrap();
            out.extend([&longer.to_be_bytes()[..], &[0, 0], number].concat());
            rest = after;
        }
        out.extend(rest);
        out
    }

    fn cfb(&self, passphrase: &str, numbers: &[u8]) -> Vec<u8> {
        let check = match self.usage {
            254 => sha1::Sha1::digest(numbers).to_vec(),
            _ => sum(numbers).to_vec(),
        };
        let iv = vec![0x5A; self.cipher.block_size().unwrap_or(16)];
        let key = self.key(passphrase);
        let encryptor = Encryptor::new(
            self.cipher,
            BlockCipherMode::CFB,
            PaddingMode::None,
            &key,
            Some(&iv),
            Vec::new(),
        );
        let plain = [numbers, &check].concat();
        let sealed = match encryptor {
            Ok(mut encryptor) => {
                encryptor.write_all(&plain).unwrap();
                encryptor.finalize().unwrap()
            }
            // What nobody here can encrypt is refused before anybody looks at it.
            Err(_) => plain,
        };
        let mut form = match self.usage {
            254 | 255 => vec![self.usage, self.cipher.into()],
            _ => vec![self.cipher.into()],
        };
        form.extend(self.s2k());
        [form, iv, sealed].concat()
    }
}

fn sum(bytes: &[u8]) -> [u8; 2] {
    let add = |sum: u16, byte: &u8| sum.wrapping_add(u16::from(*byte));
    bytes.iter().fold(0, add).to_be_bytes()
}

/// One form of authenticated encryption of a secret key.
struct Aead {
    mode: AEADAlgorithm,
    /// As RFC 9580 has it; else as its drafts had it.
    is_standard: bool,
    /// Octets of the initial vector.
    vector: usize,
}

impl Aead {
    fn lock(&self, lock: &Lock, tag: u8, public: &[u8], numbers: &[u8]) -> Vec<u8> {
        let derived = lock.key(PASSPHRASE);
        let vector = vec![0x33; self.vector];
        let fixed = [lock.cipher.into(), self.mode.into()];
        let (key, additional) = match self.is_standard {
            true => {
                let secret = hmac(&[0; 32], &derived);
                let info = [&[0xC0 | tag, 4], &fixed[..], &[1]].concat();
                let key = hmac(&secret, &info);
                let key = Key::from(&key[..lock.cipher.key_size().unwrap()]);
                (key, [&[0xC0 | tag], public].concat())
            }
            false => (derived, Vec::new()),
        };
        let nonce = &vector[..self.mode.nonce_size().unwrap_or(self.vector)];
        let mut sealed = vec![0; numbers.len() + 16];
        if let Ok(context) = self.mode.context(lock.cipher, &key, &additional, nonce) {
            let mut context = context.for_encryption().unwrap();
            context.encrypt_seal(&mut sealed, numbers).unwrap();
        }
        [&[253], &fixed[..], &lock.s2k(), &vector, &sealed].concat()
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let digest = |pad: u8, message: &[u8]| {
        let mut block = [pad; 64];
        block.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
        sha2::Sha256::new()
            .chain_update(block)
            .chain_update(message)
            .finalize()
    };
    digest(0x5C, &digest(0x36, message)).into()
}

/// Writes a secret key file whose keys are locked so: `form` gives what follows the public part.
fn locked(secret: &[u8], form: impl Fn(u8, &[u8], &[u8]) -> Vec<u8>) -> Vec<u8> {
    let cert = pgp::Cert::from_bytes(secret).unwrap();
    let numbers = |secret: &SecretKeyMaterial| match secret {
        SecretKeyMaterial::Unencrypted(secret) => {
            secret.map(|numbers| MarshalInto::to_vec(numbers).unwrap())
        }
        SecretKeyMaterial::Encrypted(_) => panic!("it has a passphrase already"),
    };
    let mut out = Vec::new();
    let packets = SerializeInto::to_vec(&cert.as_tsk()).unwrap();
    let packets = pgp::PacketPile::from_bytes(&packets).unwrap();
    for one in packets.into_children() {
        let (tag, public, numbers) = match &one {
            pgp::Packet::SecretKey(key) => (
                5,
                MarshalInto::to_vec(key.parts_as_public()).unwrap(),
                numbers(key.secret()),
            ),
            pgp::Packet::SecretSubkey(key) => (
                7,
                MarshalInto::to_vec(key.parts_as_public()).unwrap(),
                numbers(key.secret()),
            ),
            other => {
                out.extend(MarshalInto::to_vec(other).unwrap());
                continue;
            }
        };
        let rest = form(tag, &public, &numbers);
        out.extend(packet(tag, &[public, rest].concat()));
    }
    out
}

/// The form in which a key is locked, the file, and the words that name the form if it is not
/// opened.
fn forms(secret: &[u8]) -> Vec<(String, Vec<u8>, Option<&'static str>)> {
    let salted = [7; 8];
    let iterated = |hash| S2K::Iterated {
        hash,
        salt: salted,
        hash_bytes: 65536,
    };
    #[allow(deprecated)]
    let unsalted = |hash| S2K::Simple { hash };
    #[allow(deprecated)]
    let salt = S2K::Salted {
        hash: HashAlgorithm::SHA1,
        salt: salted,
    };
    let argon = S2K::Argon2 {
        salt: [9; 16],
        t: 1,
        p: 4,
        m: 12,
    };
    let huge = S2K::Argon2 {
        salt: [9; 16],
        t: 1,
        p: 4,
        m: 31,
    };
    let mut forms = Vec::new();
    let mut cfb = |usage, cipher: Cipher, s2k: S2K, words| {
        for zeros in [false, true] {
            let s2k = s2k.clone();
            let name = format!("{usage} {cipher} {s2k} {zeros}");
            let lock = Lock {
                usage,
                cipher,
                s2k,
                zeros,
            };
            let file = locked(secret, |_, _, numbers| {
                lock.cfb(PASSPHRASE, &lock.numbers(numbers))
            });
            forms.push((name, file, words));
        }
    };
    let sha256 = HashAlgorithm::SHA256;
    #[allow(deprecated)]
    for usage in [254, 255] {
        for (cipher, name) in [
            (Cipher::AES128, "AES"),
            (Cipher::AES192, "AES"),
            (Cipher::AES256, "AES"),
            (Cipher::Camellia128, "Camellia"),
            (Cipher::Camellia256, "Camellia"),
            (Cipher::TripleDES, "3DES"),
            (Cipher::CAST5, "CAST5"),
            (Cipher::Blowfish, "Blowfish"),
            (Cipher::IDEA, "IDEA"),
            (Cipher::Twofish, "Twofish"),
            (Cipher::from(77), "an unknown cipher"),
        ] {
            let words = Some(name).filter(|_| !cipher.is_supported());
            cfb(usage, cipher, iterated(sha256), words);
        }
        cfb(usage, Cipher::AES128, unsalted(HashAlgorithm::SHA1), None);
        cfb(usage, Cipher::AES256, salt.clone(), None);
        cfb(usage, Cipher::AES256, iterated(HashAlgorithm::SHA512), None);
        let md5 = Some("hashed with MD5").filter(|_| !HashAlgorithm::MD5.is_supported());
        cfb(usage, Cipher::AES256, iterated(HashAlgorithm::MD5), md5);
    }
    let usual = Lock::usual();
    #[allow(deprecated)]
    {
        for (cipher, name) in [
            (Cipher::AES128, "AES"),
            (Cipher::IDEA, "IDEA"),
            (Cipher::CAST5, "CAST5"),
            (Cipher::Twofish, "Twofish"),
        ] {
            let supported = cipher.is_supported() && HashAlgorithm::MD5.is_supported();
            let words = Some(name).filter(|_| !supported);
            cfb(u8::from(cipher), cipher, S2K::Implicit, words);
        }
    }
    cfb(254, Cipher::AES256, argon.clone(), Some("Argon2"));
    let ocb = AEADAlgorithm::OCB;
    let mut aead = |mode, cipher: Cipher, s2k: &S2K, is_standard, vector, words| {
        for zeros in [false, true] {
            let form = Aead {
                mode,
                is_standard,
                vector,
            };
            let name = format!("{mode} {cipher} {s2k} {is_standard} {vector} {zeros}");
            let lock = Lock {
                usage: 253,
                cipher,
                s2k: s2k.clone(),
                zeros,
            };
            let file = locked(secret, |tag, public, numbers| {
                form.lock(&lock, tag, public, &lock.numbers(numbers))
            });
            forms.push((name, file, words));
        }
    };
    for s2k in [&usual.s2k, &argon] {
        for cipher in [Cipher::AES128, Cipher::AES256] {
            aead(ocb, cipher, s2k, true, 15, None);
            aead(AEADAlgorithm::GCM, cipher, s2k, true, 12, None);
            aead(ocb, cipher, s2k, false, 15, None);
            aead(ocb, cipher, s2k, false, 16, None);
            aead(AEADAlgorithm::EAX, cipher, s2k, true, 16, Some("EAX"));
            aead(AEADAlgorithm::EAX, cipher, s2k, false, 16, Some("EAX"));
        }
    }
    aead(ocb, Cipher::Twofish, &usual.s2k, true, 15, Some("Twofish"));
    aead(
        ocb,
        Cipher::Camellia256,
        &usual.s2k,
        true,
        15,
        Some("Camellia"),
    );
    aead(
        AEADAlgorithm::from(9),
        Cipher::AES256,
        &usual.s2k,
        true,
        15,
        Some("unknown mode"),
    );
    let lock = Lock {
        usage: 253,
        cipher: Cipher::AES256,
        s2k: usual.s2k.clone(),
        zeros: false,
    };
    let form = Aead {
        mode: ocb,
        is_standard: true,
        vector: 15,
    };
    let unaffordable = locked(secret, |tag, public, numbers| {
        let mut form = form.lock(&lock, tag, public, numbers);
        let mut whole = form.split_off(3);
        let s2k = Lock {
            s2k: huge.clone(),
            ..Lock::usual()
        }
        .s2k();
        whole.splice(..lock.s2k().len(), s2k);
        [form, whole].concat()
    });
    forms.push(("huge".to_owned(), unaffordable, Some("4 GiB")));
    forms
}

/// A secret key opens in whatever form it is protected, or the form is named before anybody is
/// asked for a passphrase; a right passphrase is never called wrong.
#[test]
fn a_right_passphrase_is_never_called_wrong() {
    let made = generate("alice", None, Profile::Compatible).unwrap();
    let right = Passphrase::of(PASSPHRASE.as_bytes()).unwrap();
    let wrong = Passphrase::of(&b"battery staple"[..]).unwrap();
    let (mut opened, mut named) = (0, 0);
    for (form, file, words) in forms(&made.secret) {
        let Some(words) = words else {
            assert!(Identity::is_locked(&file).unwrap(), "{form}");
            let refused = Identity::unlock(&file, Some(&wrong)).err().unwrap();
            assert_eq!(refused.kind(), Kind::WrongPassphrase, "{form}");
            let identity = Identity::unlock(&file, Some(&right));
            let identity = identity.unwrap_or_else(|why| panic!("{form}: {why}"));
            identity.can_sign().unwrap();
            let alice = Person {
                cert: pgp::Cert::from_bytes(&made.certificate.to_bytes()).unwrap(),
                identity: [identity],
            };
            let read = content(alice.read(&SMALL.encrypt(&alice, &literal(b"hello"))));
            assert_eq!(read.as_deref(), Ok(&b"hello"[..]), "{form}");
            opened += 1;
            continue;
        };
        for refused in [
            Identity::is_locked(&file).err(),
            Identity::certificate_of(&file).err(),
            Identity::unlock(&file, Some(&right)).err(),
            Identity::unlock(&file, Some(&wrong)).err(),
        ] {
            let refused = refused.unwrap_or_else(|| panic!("{form} is accepted"));
            assert_eq!(refused.kind(), Kind::Unsupported, "{form}: {refused}");
            assert!(refused.to_string().contains(words), "{form}: {refused}");
        }
        named += 1;
    }
    assert!(opened > 40 && named > 10, "{opened} opened, {named} named");
}

#[test]
fn keys_without_a_passphrase_open_whatever_zeros_their_numbers_have() {
    let made = generate("alice", None, Profile::Compatible).unwrap();
    let lock = Lock {
        zeros: true,
        ..Lock::usual()
    };
    let form = |_: u8, _: &[u8], numbers: &[u8]| {
        let numbers = lock.numbers(numbers);
        [&[0], &numbers[..], &sum(&numbers)].concat()
    };
    let file = locked(&made.secret, form);
    assert!(!Identity::is_locked(&file).unwrap());
    let alice = Person {
        cert: pgp::Cert::from_bytes(&made.certificate.to_bytes()).unwrap(),
        identity: [Identity::unlock(&file, None).unwrap()],
    };
    alice.identity[0].can_sign().unwrap();
    let read = content(alice.read(&SMALL.encrypt(&alice, &literal(b"hello"))));
    assert_eq!(read.as_deref(), Ok(&b"hello"[..]));
}

#[test]
fn keys_with_several_passphrases_are_told() {
    let made = generate("alice", None, Profile::Compatible).unwrap();
    let lock = Lock::usual();
    let file = locked(&made.secret, |tag, _, numbers| {
        lock.cfb(if tag == 5 { PASSPHRASE } else { "another" }, numbers)
    });
    let cert = pgp::Cert::from_bytes(&file).unwrap();
    let ids: Vec<_> = cert
        .keys()
        .map(|key| key.key().keyid().to_string())
        .collect();
    for (passphrase, kind) in [
        (PASSPHRASE, Kind::Invalid),
        ("another", Kind::Invalid),
        ("neither", Kind::WrongPassphrase),
    ] {
        let passphrase = Passphrase::of(passphrase.as_bytes()).unwrap();
        let refused = Identity::unlock(&file, Some(&passphrase)).err().unwrap();
        assert_eq!(refused.kind(), kind);
        let named = ids.iter().all(|id| refused.to_string().contains(id));
        assert_eq!(named, kind == Kind::Invalid, "{refused}");
    }
}

#[test]
fn what_is_damaged_inside_is_not_a_wrong_passphrase() {
    let made = generate("alice", None, Profile::Compatible).unwrap();
    let lock = Lock::usual();
    let right = Passphrase::of(PASSPHRASE.as_bytes()).unwrap();
    let file = locked(&made.secret, |_, _, _| lock.cfb(PASSPHRASE, &[1, 0, 7]));
    let refused = Identity::unlock(&file, Some(&right)).err().unwrap();
    assert_eq!(refused.kind(), Kind::Unsupported);
    assert!(refused.to_string().contains("damaged"), "{refused}");
    // Cut off within the check.
    let file = locked(&made.secret, |_, _, _| vec![253, 9, 2, 0, 8]);
    let refused = Identity::unlock(&file, Some(&right)).err().unwrap();
    assert_ne!(refused.kind(), Kind::WrongPassphrase, "{refused}");
}
