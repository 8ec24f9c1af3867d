//! The key of the sealed state: sealed to me and signed by me, once.

use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};
use crate::openpgp::{
    self, CertIndex, Identity, Keyring, Limits, Notations, Outcome, SealRequest, Sealed,
    SignatureStatus,
};
use crate::plaintext::Plaintext;
use crate::state::KeyWrap;

/// Path notation of the wrapped key, by which it differs from every message and note.
const PURPOSE: &str = "dds state key";

/// Seals data that stay on this machine: to me alone, signed by me.
pub(super) fn for_me_alone<'c>(
    me: &Identity,
    notations: &Notations,
    content: &'c Plaintext,
) -> Result<Sealed<'c>> {
    Sealed::prepare_for_signer(SealRequest {
        signer: me,
        co_signers: &[],
        recipients: &[me.certificate()],
        intended: &[me.fingerprint()],
        named: false,
        name: "",
        notations,
        content,
        created: None,
    })
}

/// Wraps the state's key by the identities of a vault, the first of which signs.
pub struct StateKey<'a>(pub &'a [Identity]);

impl KeyWrap for StateKey<'_> {
    fn wrap(&self, key: &[u8; 32]) -> Result<Vec<u8>> {
        let me = self
            .0
            .first()
            .ok_or_else(|| Error::new(Kind::NoKey, "no secret key"))?;
        let content = Plaintext::from(&key[..]);
        let notations = Notations {
            version: Some(Notations::VERSION),
            path: Some(PURPOSE.to_owned()),
            ..Notations::default()
        };
        let sealed = for_me_alone(me, &notations, &content)?;
        let mut wrapped = Vec::new();
        sealed.write_to(&mut wrapped)?;
        Ok(wrapped)
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>> {
        let refused = |why: &str| Error::new(Kind::BadConfig, why);
        let certificates = CertIndex::default();
        let keyring = Keyring {
            identities: self.0,
            certificates: &certificates,
        };
        let opened = match openpgp::open(wrapped, &keyring, &Limits::default(), None) {
            Outcome::Opened(opened) => opened,
            Outcome::NotMine => {
                let why = "no secret key that is here opens it";
                return Err(Error::new(Kind::NoKey, why));
            }
            _ => return Err(refused("the state's key does not open with this identity")),
        };
        let mine = |signer: &crate::ids::Fingerprint| {
            self.0
                .iter()
                .any(|identity| identity.fingerprint() == *signer)
        };
        // A message of mine must not pass for the key: its readers know its content.
        let signed_by_me = opened.facts.signatures.iter().any(|signature| {
            signature.status == SignatureStatus::Good
                && signature.signer.as_ref().is_some_and(mine)
                && signature.intended.iter().all(mine)
                && !signature.intended.is_empty()
                && signature.notations.kind.is_none()
                && signature.notations.path.as_deref() == Some(PURPOSE)
        });
        if !signed_by_me {
            return Err(refused("the state's key is not signed by this identity"));
        }
        let bytes = opened.content.read_at(0, 33)?;
        let key: &[u8; 32] = bytes
            .as_slice()
            .try_into()
            .map_err(|_| refused("the state's key has a wrong length"))?;
        Ok(Zeroizing::new(*key))
    }

    fn is_current(&self, wrapped: &[u8]) -> bool {
        self.0.first().is_none_or(|me| me.each_key_opens(wrapped))
    }
}
