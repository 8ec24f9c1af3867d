//! Decides by a blob's facts and by the pins where it stands in the view, and who vouches for it.
//!
//! Facts are cryptographic and never change; judgements are made anew whenever the pins change.

use crate::ids::{BlobKind, Fingerprint, Folder};
use crate::openpgp::{Facts, SignatureFacts, SignatureStatus};
use crate::vault::audience::{Audience, People, Who};

/// Where a blob stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Placement {
    /// Under the directory of this audience, which its signature proves.
    Audience(Audience),
    /// Under `unverified/`: readable, but nobody whom I know vouches for it.
    Unverified,
}

/// Value of the attribute `user.dds.signature`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vouched {
    /// Good, by me or by a contact whose pin is confirmed.
    Good,
    /// Good, by a contact whose pin is not confirmed.
    GoodUnverified,
    /// No signature at all.
    Unsigned,
    /// Signed by a key that I do not have.
    UnknownKey,
    /// No signature is good.
    Bad,
}

impl Vouched {
    /// Returns the attribute's value.
    pub fn name(self) -> &'static str {
        match self {
            Vouched::Good => "good",
            Vouched::GoodUnverified => "good-unverified",
            Vouched::Unsigned => "unsigned",
            Vouched::UnknownKey => "unknown-key",
            Vouched::Bad => "bad",
        }
    }
}

/// A judgement: place, and the signature that decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Where the blob stands.
    pub place: Placement,
    /// Index of the deciding signature among the facts. `None` in `unverified/`.
    pub decided_by: Option<usize>,
    /// The word of its signer.
    pub vouched: Vouched,
    /// The signature names its intended recipients.
    pub addressee_proven: bool,
}

/// Judges a blob found in `folder`: its directory is the audience that its signature proves.
///
/// Of several good signatures the first that proves an audience decides. dds(7) has the rules.
pub fn judge(facts: &Facts, folder: Folder, people: &People) -> Judgement {
    for (index, signature) in facts.signatures.iter().enumerate() {
        if let Some((audience, vouched)) = proven_audience(signature, folder, people) {
            return Judgement {
                place: Placement::Audience(audience),
                decided_by: Some(index),
                vouched,
                addressee_proven: !signature.intended.is_empty(),
            };
        }
    }
    Judgement {
        place: Placement::Unverified,
        decided_by: None,
        vouched: unverified_label(&facts.signatures, people),
        addressee_proven: false,
    }
}

/// Returns the audience that one signature proves, if it does.
fn proven_audience(
    signature: &SignatureFacts,
    folder: Folder,
    people: &People,
) -> Option<(Audience, Vouched)> {
    let signer = good_signer(signature)?;
    let kind = signature.notations.kind;
    if kind.is_some_and(|kind: BlobKind| kind.folder() != folder) {
        return None;
    }
    let (from_me, vouched) = match people.owner(signer) {
        Who::Me => (true, Vouched::Good),
        Who::Contact(contact) if contact.frozen => return None,
        Who::Contact(contact) if contact.verified => (false, Vouched::Good),
        Who::Contact(_) => (false, Vouched::GoodUnverified),
        Who::Unknown => return None,
    };
    let intended = &signature.intended;
    let audience = if intended.is_empty() {
        // Plain gpg names no intended recipients. My own signature then proves nothing.
        if from_me {
            return None;
        }
        people.audience(std::slice::from_ref(signer))
    } else {
        if !intended.iter().any(|key| people.owner(key) == Who::Me) {
            return None;
        }
        let audience = people.audience(intended);
        if from_me {
            audience
        } else if audience.is_me() {
            // sq names me alone where a contact wrote to me.
            people.audience(std::slice::from_ref(signer))
        } else {
            let signer = people.audience(std::slice::from_ref(signer));
            audience.includes(&signer).then_some(audience)?
        }
    };
    // There is no `messages/me`.
    if folder == Folder::Messages && audience.is_me() {
        return None;
    }
    Some((audience, vouched))
}

fn good_signer(signature: &SignatureFacts) -> Option<&Fingerprint> {
    match signature.status {
        SignatureStatus::Good => signature.signer.as_ref(),
        SignatureStatus::UnknownKey | SignatureStatus::Bad(_) => None,
    }
}

/// Labels a blob in `unverified/` by the best that can be said of its signatures.
fn unverified_label(signatures: &[SignatureFacts], people: &People) -> Vouched {
    let mut label = Vouched::Unsigned;
    for signature in signatures {
        match signature.status {
            SignatureStatus::Good => {
                return match signature.signer.as_ref().map(|key| people.owner(key)) {
                    Some(Who::Me) => Vouched::Good,
                    Some(Who::Contact(contact)) if contact.verified => Vouched::Good,
                    Some(Who::Contact(_)) => Vouched::GoodUnverified,
                    Some(Who::Unknown) | None => Vouched::UnknownKey,
                };
            }
            SignatureStatus::UnknownKey => label = Vouched::UnknownKey,
            SignatureStatus::Bad(_) if label == Vouched::Unsigned => label = Vouched::Bad,
            SignatureStatus::Bad(_) => {}
        }
    }
    label
}
