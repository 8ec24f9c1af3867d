//! What certificates say of their owners, as the contacts take it.

use crate::contacts::{self, Claimed, ClaimedUserId, ContactName};
use crate::ids::Fingerprint;
use crate::openpgp::{Certificate, Identity};

/// My keys with the names that others give them on first sight.
pub(in crate::vault) fn called(identities: &[Identity]) -> Vec<(Fingerprint, ContactName)> {
    let called = |identity: &Identity| {
        let name = contacts::first_name(&claim(&identity.certificate()));
        (identity.fingerprint(), name)
    };
    identities.iter().map(called).collect()
}

pub(in crate::vault) fn claim(certificate: &Certificate) -> Claimed {
    let user_ids = certificate.user_ids().into_iter();
    Claimed {
        fingerprint: certificate.fingerprint(),
        user_ids: user_ids
            .map(|user_id| ClaimedUserId {
                text: user_id.text,
                email: user_id.email,
                name: user_id.name,
            })
            .collect(),
        certificate: certificate.to_bytes(),
    }
}
