//! Audience directories: the one canonical name of each, and the other spellings.

use sha2::{Digest as _, Sha256};

use crate::contacts::{Contact, ContactName};
use crate::ids::{Fingerprint, Folder, hex_digits};
use crate::vault::{Audience, People, Who};
use crate::view::tree::names::AUDIENCE_NAME_MAX;

/// The directory for me alone, in `notes/`.
pub(in crate::view) const ME: &str = "me";
/// The directory for files without a known signer.
pub(in crate::view) const UNVERIFIED: &str = "unverified";

/// Returns the canonical name of an audience: a configured group's, else the local names in
/// order, joined by commas, unknown keys by their full fingerprints.
pub(in crate::view) fn canonical_name(people: &People, audience: &Audience) -> String {
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
    format!(
        "{}-people-{}",
        audience.len(),
        hex_digits(&digest.finalize()[..8])
    )
}

/// Finds the audience that somebody spells: names, addresses or full fingerprints of contacts in
/// any order, or a group. Short key ids are never understood.
pub(in crate::view) fn resolve(people: &People, folder: Folder, spelled: &str) -> Option<Audience> {
    // There are no messages to myself.
    let is_possible = |audience: &Audience| !audience.is_me() || folder == Folder::Notes;
    if let Some(group) = people.group(spelled) {
        return Some(group).filter(is_possible);
    }
    if spelled == ME {
        return Some(Audience::me()).filter(is_possible);
    }
    let members = spelled
        .split(',')
        .filter_map(|member| match find(people, member) {
            Some(contact) => Some(Some(contact.fingerprint.clone())),
            // I am in every audience: whoever names me says nothing more.
            None if people.means_me(member) => None,
            None => Some(None),
        });
    let audience: Option<Audience> = members.collect();
    audience.filter(is_possible)
}

/// Says why a name spells no audience, and suggests one: one line.
pub(in crate::view) fn why_unknown(people: &People, folder: Folder, spelled: &str) -> String {
    if spelled == ME || (people.means_me(spelled) && folder == Folder::Messages) {
        return "there are no messages to yourself: notes/me/ is for you alone".to_owned();
    }
    let mut strangers = people.strangers_in_groups();
    if let Some((group, member)) = strangers.find(|(group, _)| group.as_str() == spelled) {
        return format!(
            "the group {group} has a member {member}, who is no contact: mend [groups] in \
             config.toml, or copy the certificate into keys/"
        );
    }
    let members: Vec<&str> = spelled.split(',').collect();
    let several = members.len() > 1;
    let (mut reasons, mut meant, mut is_sure) = (Vec::new(), Vec::new(), true);
    for member in members {
        if find(people, member).is_some() {
            meant.push(member.to_owned());
        } else if several && (member == ME || people.means_me(member)) {
            if member == ME {
                reasons.push("you are in every audience, and are not named in it".to_owned());
            }
        } else if several && people.groups().any(|group| group.as_str() == member) {
            reasons.push(format!("the group {member} stands alone, never in a list"));
            is_sure = false;
        } else {
            reasons.push(why_nobody(people, member));
            match nearest(people, member, !several) {
                Some(near) => meant.push(near.to_owned()),
                None => is_sure = false,
            }
        }
    }
    let helps = match is_sure && !meant.is_empty() {
        true => format!("did you mean {}/{}", folder.name(), meant.join(",")),
        false => {
            "dds status lists the contacts; a certificate copied into keys/ adds one".to_owned()
        }
    };
    if reasons.is_empty() {
        reasons.push("not an audience".to_owned());
    }
    format!("{}; {helps}", reasons.join("; "))
}

/// Says why one member is nobody.
fn why_nobody(people: &People, member: &str) -> String {
    let is_key_id = matches!(member.len(), 8 | 16) && member.bytes().all(|b| b.is_ascii_hexdigit());
    if member.is_empty() {
        "there is a comma too many".to_owned()
    } else if people.has_address(member) {
        format!("more than one has the address {member}: use their names")
    } else if member.contains('@') {
        format!("no contact has the address {member}")
    } else if is_key_id {
        format!("{member} is a short key id, which names nobody for sure")
    } else {
        format!("no contact is called {member}")
    }
}

/// Finds the contact or group whose name is the nearest to a word.
fn nearest<'a>(people: &'a People, word: &str, with_groups: bool) -> Option<&'a str> {
    // An address that nobody has may be an old one of somebody.
    let word = word.split('@').next().unwrap_or_default().to_lowercase();
    let groups = people.groups().map(ContactName::as_str);
    let groups = groups.filter(|group| with_groups && people.group(group).is_some());
    let contacts = people.contacts().map(|contact| contact.name.as_str());
    let near = contacts.chain(groups).filter_map(|name| {
        let lower = name.to_lowercase();
        let distance = distance(&word, &lower);
        let begins = |long: &str, short: &str| short.len() > 2 && long.starts_with(short);
        let is_near = distance <= (word.chars().count().min(lower.len()) / 3).clamp(1, 3)
            || begins(&word, &lower)
            || begins(&lower, &word);
        is_near.then_some((distance, name))
    });
    near.min().map(|(_, name)| name)
}

/// How many characters must be added, removed, changed, or swapped with their neighbours to make
/// one word of another.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<usize>>()];
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let changed = rows[i][j] + usize::from(a != b);
            let mut least = changed.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

fn find<'a>(people: &'a People, spelled: &str) -> Option<&'a Contact> {
    if let Some(contact) = people.by_name(spelled) {
        return Some(contact);
    }
    if spelled.contains('@') {
        return people.by_address(spelled);
    }
    let fingerprint: Fingerprint = spelled.parse().ok()?;
    match people.owner(&fingerprint) {
        Who::Contact(contact) => Some(contact),
        Who::Me | Who::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn the_distance_of_words_counts_what_fingers_get_wrong() {
        for (from, to, wanted) in [
            ("carol", "carol", 0),
            ("carl", "carol", 1),
            ("craol", "carol", 1),
            ("karol", "carol", 1),
            ("", "bob", 3),
            ("j\u{fc}rgen", "jurgen", 1),
        ] {
            assert_eq!(distance(from, to), wanted, "{from} {to}");
            assert_eq!(distance(to, from), wanted, "{to} {from}");
        }
    }
}
