//! Finds the session key of a container among its session key packets.

use sequoia_openpgp as pgp;

use pgp::packet::PKESK;
use pgp::types::SymmetricAlgorithm;

use super::budget::Budget;
use super::limits::Stop;
use super::refusal::Refusal;
use super::{Identity, SessionKey};
use crate::ids::Fingerprint;

/// Private-key operations on the session key packets of one blob.
const MOST_ATTEMPTS: usize = 256;

/// The keys that open session key packets.
pub(super) struct KeySearch<'a> {
    /// My own keys, tried in this order.
    pub identities: &'a [Identity],
    /// How many packets are tried with them.
    pub most: usize,
    /// The session key, if the container was opened before.
    pub known: Option<&'a SessionKey>,
}

impl KeySearch<'_> {
    /// Finds the session key: the known one if it fits, else one that a key of mine decrypts.
    pub fn find(
        &self,
        keys: &[PKESK],
        cipher: Option<SymmetricAlgorithm>,
        budget: &Budget<'_>,
        mut attempt: impl FnMut(
            Option<SymmetricAlgorithm>,
            &pgp::crypto::SessionKey,
        ) -> Result<SymmetricAlgorithm, Misfit>,
    ) -> Result<ContainerKey, Stop> {
        if let Some(known) = self.known {
            let key = known.key();
            if let Ok(used) = attempt(known.cipher, &key) {
                return Ok(ContainerKey {
                    cipher: used,
                    key,
                    opened_by: None,
                });
            }
        }
        self.try_keys(keys, cipher, budget, attempt)
    }

    /// Tries my keys: first on packets that name them, then on packets that name nobody.
    fn try_keys(
        &self,
        keys: &[PKESK],
        cipher: Option<SymmetricAlgorithm>,
        budget: &Budget<'_>,
        mut attempt: impl FnMut(
            Option<SymmetricAlgorithm>,
            &pgp::crypto::SessionKey,
        ) -> Result<SymmetricAlgorithm, Misfit>,
    ) -> Result<ContainerKey, Stop> {
        let (mut failure, mut unasked) = (Stop::NotMine, None);
        let named = keys.iter().filter(|key| key.recipient().is_some());
        let hidden = keys.iter().filter(|key| key.recipient().is_none());
        let (mut tried, mut attempts) = (0, 0);
        for packet in named.chain(hidden) {
            let mut counted = false;
            let identities = self.identities.iter();
            let keys =
                identities.flat_map(|mine| mine.decryption_keys().map(move |key| (mine, key)));
            for (mine, secret) in keys {
                let handle = pgp::KeyHandle::from(secret.public().fingerprint());
                let for_me = packet.recipient().is_none_or(|to| to.aliases(&handle));
                if !for_me || packet.pk_algo() != secret.public().pk_algo() {
                    continue;
                }
                if let Some(refusal) = Refusal::of_key(secret.public()) {
                    // Only its name tells whether it is for this key.
                    if packet.recipient().is_some() {
                        failure = Stop::Refused(refusal);
                    }
                    continue;
                }
                tried += usize::from(!counted);
                counted = true;
                attempts += 1;
                if tried > self.most || attempts > MOST_ATTEMPTS {
                    return Err(unasked.unwrap_or(failure));
                }
                budget.time()?;
                let (found, key) = match secret.decrypt(packet, cipher) {
                    Ok(Some(session)) => session,
                    Ok(None) => continue,
                    // Another key may open it, so this counts only if none does.
                    Err(why) => {
                        unasked = unasked.or(Some(Stop::Failed(why)));
                        continue;
                    }
                };
                // The session key was meant for me, so if it does not fit the container is
                // broken.
                failure = match attempt(found, &key) {
                    Ok(used) => {
                        return Ok(ContainerKey {
                            cipher: used,
                            key,
                            opened_by: Some(mine.fingerprint()),
                        });
                    }
                    Err(Misfit::Wrong) => Stop::Damaged,
                    Err(Misfit::Refused(refusal)) => Stop::Refused(refusal),
                };
            }
        }
        Err(unasked.unwrap_or(failure))
    }
}

/// A session key that opens a container.
pub(super) struct ContainerKey {
    pub cipher: SymmetricAlgorithm,
    pub key: pgp::crypto::SessionKey,
    /// The identity whose key opened its packet; `None` if it was known.
    pub opened_by: Option<Fingerprint>,
}

/// Why a session key does not open the container.
pub(super) enum Misfit {
    /// It is another one's, or the container is damaged.
    Wrong,
    /// The container is of a kind that is not read.
    Refused(Refusal),
}
