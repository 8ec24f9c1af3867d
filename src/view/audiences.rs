//! Audience directories: the one canonical name of each, and the other spellings.

use sha2::{Digest as _, Sha256};

use crate::contacts::Contact;
use crate::ids::{Fingerprint, Folder};
use crate::vault::{Audience, People, Who};
use crate::view::names::{AUDIENCE_NAME_MAX, hex};

/// The directory for me alone, in `notes/`.
pub(super) const ME: &str = "me";
/// The directory for what nobody I know vouches for.
pub(super) const UNVERIFIED: &str = "unverified";

/// Returns the canonical name of an audience: a configured group's, else the local names in
/// order, joined by commas, unknown keys by their full fingerprints.
pub(super) fn canonical_name(people: &People, audience: &Audience) -> String {
    if audience.is_me() {
        return ME.to_owned();
    }
    if let Some(group) = people.group_name(audience) {
        return group.to_string();
    }
    let mut names: Vec<_> = audience.members().map(|key| people.name(key)).collect();
    names.sort();
    let joined = names.join(",");
    if joined.len() <= AUDIENCE_NAME_MAX {
        return joined;
    }
    let mut digest = Sha256::new();
    for member in audience.members() {
        digest.update(member.as_bytes());
    }
    format!("{}-people-{}", audience.len(), hex(&digest.finalize()[..8]))
}

/// Finds the audience that somebody spells: names, addresses or full fingerprints of contacts in
/// any order, or a group. Short key ids are never understood.
pub(super) fn resolve(people: &People, folder: Folder, spelled: &str) -> Option<Audience> {
    if let Some(group) = people.group(spelled) {
        return Some(group);
    }
    if spelled == ME {
        return (folder == Folder::Notes).then(Audience::me);
    }
    let members = spelled
        .split(',')
        .map(|member| Some(find(people, member)?.fingerprint.clone()));
    members.collect()
}

fn find<'a>(people: &'a People, spelled: &str) -> Option<&'a Contact> {
    if let Some(contact) = people.by_name(spelled) {
        return Some(contact);
    }
    if spelled.contains('@') {
        return people.by_address(spelled);
    }
    let fingerprint: Fingerprint = spelled.parse().ok()?;
    match people.who(&fingerprint) {
        Who::Contact(contact) => Some(contact),
        Who::Me | Who::Unknown => None,
    }
}
