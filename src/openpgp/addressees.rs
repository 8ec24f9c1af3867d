//! For whom a message is, as far as its outside tells: the keys that its session key packets name.

use std::collections::BTreeSet;

use sequoia_openpgp as pgp;

use pgp::packet::PKESK;

use super::packets::Frame;
use super::{Identity, Keyring};
use crate::ids::Fingerprint;

/// Keys of one message that are distinguished; more are only counted.
const MOST: usize = 256;

/// Whom the public-key session key packets of a message name.
#[derive(Clone, Default)]
pub(super) struct Addressees {
    named: BTreeSet<Vec<u8>>,
    /// Packets that name nobody.
    hidden: usize,
    /// Packets that cannot be read, and those beyond the limit.
    others: usize,
}

impl Addressees {
    /// Notes one session key packet (RFC 9580, 5.1).
    pub fn add(&mut self, packet: &Frame) {
        match name_in(packet) {
            Some(name) if name.iter().all(|byte| *byte == 0) => self.hidden += 1,
            Some(name) if self.named.len() < MOST || self.named.contains(name) => {
                self.named.insert(name.to_vec());
            }
            Some(_) | None => self.others += 1,
        }
    }

    /// Returns how many people can read the message. Several keys of one certificate are one.
    ///
    /// A key that several certificates claim counts by itself: a stranger's certificate must not
    /// make two people one.
    pub fn readers(&self, keyring: &Keyring<'_>) -> usize {
        let mut readers = BTreeSet::new();
        for name in &self.named {
            let owner = handle(name).and_then(|key| owner(&key, keyring));
            readers.insert(owner.map_or_else(|| name.clone(), |own| own.as_bytes().to_vec()));
        }
        readers.len() + self.hidden + self.others
    }

    /// Tells whether the message is for none of my keys. `packets` are those of its session key
    /// packets that can be read, of which no more than `most` are tried.
    ///
    /// A message without any session key packet may be for me.
    pub fn exclude_me(&self, packets: &[PKESK], keyring: &Keyring<'_>, most: usize) -> bool {
        let hidden = packets.iter().filter(|packet| packet.recipient().is_none());
        let hidden: Vec<&PKESK> = hidden.take(most).collect();
        let all_read = self.others == 0 && hidden.len() == self.hidden;
        if !all_read || self.named.len() + self.hidden == 0 {
            return false;
        }
        let names_me = |name: &Vec<u8>| {
            let mut mine = keyring.identities.iter().map(Identity::certificate);
            handle(name).is_some_and(|key| mine.any(|own| own.has_key(&key)))
        };
        let opens = |packet: &&PKESK| opens(packet, keyring);
        !self.named.iter().any(names_me) && !hidden.iter().any(opens)
    }
}

/// Tells whether a key of mine may open a session key packet that names nobody.
fn opens(packet: &PKESK, keyring: &Keyring<'_>) -> bool {
    let mut keys = keyring
        .identities
        .iter()
        .flat_map(Identity::decryption_keys);
    // If a key cannot be asked, the message may be for it.
    keys.any(|key| {
        packet.pk_algo() == key.public().pk_algo() && !matches!(key.decrypt(packet, None), Ok(None))
    })
}

/// The certificate that a key belongs to, if only one is known.
fn owner(key: &pgp::KeyHandle, keyring: &Keyring<'_>) -> Option<Fingerprint> {
    let own = keyring.identities.iter().map(Identity::certificate);
    let all = keyring.certificates.with_any_key(key).cloned().chain(own);
    let mut owners: Vec<_> = all
        .filter(|one| one.has_key(key))
        .map(|one| one.fingerprint())
        .collect();
    owners.sort_unstable();
    owners.dedup();
    match &owners[..] {
        [one] => Some(one.clone()),
        _ => None,
    }
}

fn handle(name: &[u8]) -> Option<pgp::KeyHandle> {
    match name.len() {
        8 => Some(pgp::KeyID::from_bytes(name).into()),
        20 => Some(pgp::Fingerprint::from_bytes(4, name).ok()?.into()),
        32 => Some(pgp::Fingerprint::from_bytes(6, name).ok()?.into()),
        _ => None,
    }
}

/// The key id or fingerprint that a session key packet names; empty or zeros for nobody.
fn name_in(packet: &Frame) -> Option<&[u8]> {
    let length = usize::try_from(packet.length).unwrap_or(usize::MAX);
    let body = &packet.head[..packet.head.len().min(length)];
    match body {
        [2 | 3, name @ ..] => name.get(..8),
        [6, 0, ..] => Some(&[]),
        [6, length, version, name @ ..] => {
            let length = usize::from(*length).checked_sub(1)?;
            let fits = matches!((*version, length), (4, 20) | (6, 32));
            name.get(..length).filter(|_| fits)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        CertIndex, Limits, Outcome, Outline, Profile, Refusal, generate, open, outline, packets,
    };
    use super::*;
    use crate::openpgp::Certificate;

    struct Scene {
        me: Identity,
        certificates: CertIndex,
        bob: Certificate,
    }

    fn scene() -> Scene {
        let made = |name: &str| generate(name, None, Profile::Compatible).unwrap();
        let identity = |name| Identity::unlock(&made(name).secret, None).unwrap();
        let bob = identity("Bob <bob@example.org>").certificate().clone();
        Scene {
            me: identity("Me <me@example.org>"),
            certificates: CertIndex::new([bob.clone()]),
            bob,
        }
    }

    impl Scene {
        fn keyring(&self) -> Keyring<'_> {
            Keyring {
                identities: std::slice::from_ref(&self.me),
                certificates: &self.certificates,
            }
        }

        fn opened(&self, keys: &[Vec<u8>], container: &[u8]) -> Outcome {
            let blob = [&keys.concat(), container].concat();
            open(&blob, &self.keyring(), &Limits::default(), None)
        }
    }

    /// A session key packet of version 3 or 6 that names a key.
    fn session_key(
        version: u8,
        key: &pgp::packet::Key<impl pgp::packet::key::KeyParts, impl pgp::packet::key::KeyRole>,
    ) -> Vec<u8> {
        let name = match version {
            3 => key.keyid().as_bytes().to_vec(),
            _ => [&[21, 4], key.fingerprint().as_bytes()].concat(),
        };
        let body = [&[version][..], &name, &[1, 0, 8, 255]].concat();
        [&[0xC1, body.len() as u8][..], &body].concat()
    }

    fn containers() -> Vec<Vec<u8>> {
        let framed = |tag: u8, body: &[u8]| {
            let body = [body, &[7; 150]].concat();
            [&[0xC0 | tag, body.len() as u8][..], &body].concat()
        };
        vec![
            framed(9, &[]),
            framed(20, &[1, 9, 2, 16]),
            // AES-256 in EAX, and an unknown version.
            framed(18, &[&[2, 9, 1, 6][..], &[1; 32]].concat()),
            framed(18, &[3]),
            // Something after the container.
            [
                framed(18, &[1]),
                vec![0xCA, 3, b'P', b'G', b'P'],
                framed(11, b"b"),
            ]
            .concat(),
            framed(11, b"b"),
        ]
    }

    #[test]
    fn what_names_only_others_is_not_mine_whatever_is_inside() {
        let scene = scene();
        let keys = |of: &Certificate, version| {
            let keys = of.cert().keys();
            keys.map(|key| session_key(version, key.key()))
                .collect::<Vec<_>>()
        };
        for container in containers() {
            for version in [3, 6] {
                let others = keys(&scene.bob, version);
                let outcome = scene.opened(&others, &container);
                assert!(matches!(outcome, Outcome::NotMine), "for others");
                let mine = keys(&scene.me.certificate(), version);
                let outcome = scene.opened(&[others, mine].concat(), &container);
                let outside = matches!(outline(&container), Outline::Refused(refusal)
                    if refusal != Refusal::NoRecipient);
                let shown = matches!(outcome, Outcome::Refused(_));
                assert_eq!(shown, outside, "for me, too");
            }
        }
        let nobody = scene.opened(&[], &containers()[0]);
        assert!(matches!(nobody, Outcome::Refused(_)), "nothing is told");
    }

    #[test]
    fn keys_of_one_certificate_are_one_reader() {
        let scene = scene();
        let count = |keyring: &Keyring<'_>, keys: &[Vec<u8>]| {
            let mut addressees = Addressees::default();
            packets::walk(&keys.concat(), |step| {
                if let packets::Step::Whole(frame) = step {
                    addressees.add(&frame);
                }
            })
            .unwrap();
            addressees.readers(keyring)
        };
        let keyring = scene.keyring();
        let bobs: Vec<_> = scene
            .bob
            .cert()
            .keys()
            .map(|key| session_key(3, key.key()))
            .collect();
        let mine: Vec<_> = scene
            .me
            .certificate()
            .cert()
            .keys()
            .map(|key| session_key(6, key.key()))
            .collect();
        assert!(bobs.len() > 1);
        assert_eq!(count(&keyring, &[&bobs[..], &bobs].concat()), 1);
        assert_eq!(count(&keyring, &[&bobs[..], &mine].concat()), 2);
        let stranger = generate("Eve <eve@example.org>", None, Profile::Compatible).unwrap();
        let stranger = Identity::unlock(&stranger.secret, None).unwrap();
        let strange: Vec<_> = stranger
            .certificate()
            .cert()
            .keys()
            .map(|key| session_key(3, key.key()))
            .collect();
        assert_eq!(
            count(&keyring, &[&bobs[..], &strange].concat()),
            1 + strange.len()
        );
        let hidden = [&[0xC1, 13, 3][..], &[0; 8], &[1, 0, 8, 255]].concat();
        assert_eq!(
            count(&keyring, &[hidden.clone(), hidden]),
            2,
            "these cannot be told apart"
        );
    }
}
