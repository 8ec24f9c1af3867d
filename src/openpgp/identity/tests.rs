//! Identities whose keys are elsewhere, and their roles.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::openpgp::{
    CertIndex, Facts, Keyring, Limits, Notations, Outcome, Profile, SealRequest, Sealed, examine,
    generate, open,
};
use crate::plaintext::Plaintext;

/// A key that can be asked at some times only, as one that waits for its owner.
struct Remote {
    key: Box<dyn SecretKey>,
    answers: Arc<AtomicBool>,
}

impl Remote {
    fn asked(&self) -> Result<()> {
        match self.answers.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err(Error::new(Kind::NoKey, "the key waits for its owner")),
        }
    }
}

impl SecretKey for Remote {
    fn public(&self) -> &PublicKey {
        self.key.public()
    }

    fn decrypt(
        &self,
        packet: &PKESK,
        cipher: Option<SymmetricAlgorithm>,
    ) -> Result<Option<Session>> {
        self.asked()?;
        self.key.decrypt(packet, cipher)
    }

    fn sign(&self, signature: SignatureBuilder, digested: Context) -> Result<Signature> {
        self.asked()?;
        self.key.sign(signature, digested)
    }
}

fn identity(name: &str) -> Identity {
    let made = generate(name, None, Profile::Compatible).unwrap();
    Identity::unlock(&made.secret, None).unwrap()
}

/// An identity whose keys are elsewhere, and the switch that makes them answer.
fn remote(name: &str) -> (Identity, Arc<AtomicBool>) {
    let mut identity = identity(name);
    let answers = Arc::new(AtomicBool::new(true));
    let keys = std::mem::take(&mut identity.keys).into_iter();
    let remote = |key| {
        let answers = Arc::clone(&answers);
        Box::new(Remote { key, answers }) as Box<dyn SecretKey>
    };
    identity.keys = keys.map(remote).collect();
    (identity, answers)
}

fn seal(by: &Identity, to: &[&Identity]) -> Result<Vec<u8>> {
    let recipients: Vec<_> = to.iter().map(|identity| identity.certificate()).collect();
    let intended: Vec<_> = to.iter().map(|identity| identity.fingerprint()).collect();
    let content = Plaintext::from(&b"content"[..]);
    let sealed = Sealed::prepare(SealRequest {
        signer: by,
        co_signers: &[],
        recipients: &recipients,
        intended: &intended,
        named: false,
        name: "a",
        notations: &Notations::default(),
        content: &content,
        created: None,
    })?;
    let mut blob = Vec::new();
    sealed.write_to(&mut blob)?;
    Ok(blob)
}

fn facts(blob: &[u8], identities: &[Identity]) -> Result<Option<Facts>> {
    let certificates = CertIndex::default();
    let keyring = Keyring {
        identities,
        certificates: &certificates,
    };
    let (length, limits) = (blob.len() as u64, Limits::default());
    let examined = examine(&mut { blob }, length, &keyring, &limits, None)?;
    Ok(match examined.outcome {
        Outcome::Opened(opened) => Some(opened.facts),
        _ => None,
    })
}

#[test]
fn a_blob_says_whose_key_opened_it() {
    let writer = identity("Bob <bob@example.org>");
    let mine = [
        identity("Me <me@example.org>"),
        identity("Me, once <old@example.org>").into_former(),
    ];
    for me in &mine {
        let blob = seal(&writer, &[me]).unwrap();
        let opened = facts(&blob, &mine).unwrap().unwrap();
        assert_eq!(opened.opened_by, Some(me.fingerprint()));
        // A session key that is known needs no key of mine.
        let certificates = CertIndex::default();
        let keyring = Keyring {
            identities: &mine,
            certificates: &certificates,
        };
        let limits = Limits::default();
        let Outcome::Opened(again) = open(&blob, &keyring, &limits, Some(&opened.session_key))
        else {
            panic!("it opens by its session key");
        };
        assert_eq!(again.facts.opened_by, None);
    }
}

#[test]
fn a_former_identity_reads_and_does_not_sign() {
    let me = identity("Me <me@example.org>");
    assert_eq!(me.role(), Role::Signer);
    let blob = seal(&me, &[&me]).unwrap();
    let former = me.into_former();
    assert_eq!(former.role(), Role::Former);
    let refused = former.can_sign().unwrap_err();
    assert_eq!(refused.kind(), Kind::NoKey);
    assert_eq!(seal(&former, &[&former]).unwrap_err().kind(), Kind::NoKey);
    let opened = facts(&blob, &[former]).unwrap();
    assert!(opened.is_some());
}

#[test]
fn a_key_that_cannot_be_asked_is_no_answer() {
    let (me, answers) = remote("Me <me@example.org>");
    let other = identity("Me, too <too@example.org>");
    let to_me = seal(&me, &[&me]).unwrap();
    let to_both = seal(&me, &[&me, &other]).unwrap();
    answers.store(false, Ordering::Relaxed);

    let unsigned = seal(&me, &[&me]).unwrap_err();
    assert_eq!(unsigned.to_string(), "the key waits for its owner");
    let mine = [me, other];
    let unknown = facts(&to_me, &mine).err().expect("not called another's");
    assert_eq!(unknown.to_string(), "the key waits for its owner");
    let opened = facts(&to_both, &mine).unwrap().unwrap();
    assert_eq!(opened.opened_by, Some(mine[1].fingerprint()));

    answers.store(true, Ordering::Relaxed);
    let opened = facts(&to_me, &mine).unwrap().unwrap();
    assert_eq!(opened.opened_by, Some(mine[0].fingerprint()));
}
