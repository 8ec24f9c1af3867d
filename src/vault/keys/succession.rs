//! New keys of contacts: the statements of pinned keys about certificates with the same address.

use crate::contacts::{Contact, Contacts, Notice, Standing, Statement};
use crate::error::Result;
use crate::ids::Fingerprint;
use crate::openpgp::{Certificate, Condition, Endorsers};
use crate::vault::Vault;
use crate::vault::keys::folder::KeyFolder;

impl Vault {
    /// Acts on the statements of contacts' keys about others' certificates.
    pub(in crate::vault) fn follow_successors(
        &self,
        folder: &KeyFolder,
        contacts: &mut Contacts,
    ) -> Result<Vec<Notice>> {
        let standing = |key: &Fingerprint| match folder.kept.get(key) {
            Some(copy) => standing(&copy.condition()),
            None => Standing::Unusable,
        };
        let said = statements(folder, contacts);
        contacts.follow(&said, standing, &self.my_addresses(), self.options.trust)
    }
}

/// The people whose signatures in others' certificates matter: contacts, and myself.
pub(in crate::vault) fn endorsers(
    folder: &KeyFolder,
    contacts: &Contacts,
    mine: &[Certificate],
) -> Endorsers {
    let relied_on = contacts.iter().filter(|contact| !contact.frozen);
    let keys = relied_on.flat_map(Contact::certificates);
    let theirs = keys.filter_map(|key| folder.kept.get(key));
    Endorsers::new(theirs.chain(mine))
}

/// Revokes certificates of contacts, and mine, for which `keys/` has a revocation by a key that the
/// owner named for that. Certificates with news only.
pub(in crate::vault) fn revoked_by_others(
    folder: &KeyFolder,
    mine: &[Certificate],
) -> Vec<Certificate> {
    let all = || folder.kept.values().chain(mine);
    let revoked = |of: &Certificate| {
        let said = folder.endorsements(&of.fingerprint());
        if said.is_empty() {
            return None;
        }
        let revokers = of.revokers();
        let mut revokers = all().filter(|one| revokers.contains(&one.fingerprint()));
        revokers.find_map(|revoker| said.revocation(revoker, of))
    };
    all().filter_map(revoked).collect()
}

/// Checks the statements of contacts about each other, where they matter.
fn statements(folder: &KeyFolder, contacts: &Contacts) -> Vec<Statement> {
    let mut said = Vec::new();
    for contact in contacts.iter().filter(|contact| !contact.verified) {
        let of = &contact.fingerprint;
        let endorsements = folder.endorsements(of);
        let Some(certificate) = folder.kept.get(of).filter(|_| !endorsements.is_empty()) else {
            continue;
        };
        let shares = |other: &&Contact| {
            let mut addresses = other.addresses.iter();
            other.name != contact.name && addresses.any(|one| contact.addresses.contains(one))
        };
        let rivals = contacts.iter().filter(shares);
        let rivals = rivals
            .filter(|other| !other.frozen)
            .map(|other| &other.fingerprint);
        for by in rivals.chain(&contact.certified_by) {
            let Some(endorser) = folder.kept.get(by) else {
                continue;
            };
            said.extend(
                endorsements
                    .by(endorser, certificate)
                    .into_iter()
                    .map(|one| Statement {
                        of: of.clone(),
                        by: by.clone(),
                        address: one.address,
                        withdrawn: one.withdrawn,
                    }),
            );
        }
    }
    said
}

fn standing(condition: &Condition) -> Standing {
    match condition {
        Condition::Usable(_) => Standing::InForce,
        Condition::Expired(_) | Condition::Revoked { retired: true, .. } => Standing::Over,
        Condition::Revoked { retired: false, .. } => Standing::Stolen,
        Condition::UnsupportedKey(_)
        | Condition::WeakKey(_)
        | Condition::WeakSignatures(_)
        | Condition::Unsigned
        | Condition::NoEncryption(_) => Standing::Unusable,
    }
}
