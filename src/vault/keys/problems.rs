//! Sentences about the state of keys, mine and others', each with a remedy.

use std::time::{Duration, SystemTime};

use crate::contacts::Contact;
use crate::error::printable;
use crate::ids::{Fingerprint, Timestamp};
use crate::openpgp::Condition;
use crate::vault::Vault;

/// How long before a certificate expires it is reported.
const AHEAD: Duration = Duration::from_secs(31 * 24 * 3600);

impl Vault {
    /// Sentences about keys that cannot be used, or soon cannot.
    pub(in crate::vault) fn key_problems(&self) -> Vec<String> {
        let people = self.people();
        let contacts = people.contacts();
        let mut problems: Vec<String> = self.my_key_problem().into_iter().collect();
        problems.extend(contacts.filter_map(|contact| self.contact_problem(contact)));
        problems
    }

    /// Names how far a contact can be relied on: `in dispute`, `revoked`, `expired`,
    /// `unusable`, `verified` or `not verified`.
    pub fn standing(&self, contact: &Contact) -> &'static str {
        match self.condition(&contact.fingerprint) {
            _ if contact.frozen => "in dispute",
            Some(Condition::Revoked { .. }) => "revoked",
            Some(Condition::Expired(_)) => "expired",
            Some(Condition::Usable(_)) if contact.verified => "verified",
            Some(Condition::Usable(_)) => "not verified",
            Some(_) | None => "unusable",
        }
    }

    fn condition(&self, key: &Fingerprint) -> Option<Condition> {
        let certificate = self.known().recipients.get(key).cloned();
        certificate.map(|certificate| certificate.condition())
    }

    fn my_key_problem(&self) -> Option<String> {
        let me = self.signer();
        let key = me.fingerprint();
        let prolong = format!(
            "prolong it (`gpg --quick-set-expire {key} 2y`, and the same with '*' behind it for \
             its subkeys), export it as at first, and mount again"
        );
        let trouble = match me.certificate().condition() {
            Condition::Revoked { reason, .. } => format!(
                "is revoked{}: nothing can be written, as nobody would accept it, and what it opens \
                 can be read; make a new key with `dds init --key FILE`, and tell the others its \
                 fingerprint by another way",
                in_brackets(&reason)
            ),
            Condition::Expired(since) => format!(
                "expired on {}: nothing can be written, and what it opens can be read; {prolong}",
                day(since)
            ),
            Condition::Usable(Some(until)) if is_soon(until) => {
                format!("expires on {}: {prolong}", day(until))
            }
            Condition::Usable(_) => match me.can_sign() {
                Ok(()) => return None,
                Err(error) => format!(
                    "cannot sign ({error}): nothing can be written, and what it opens can be read; \
                     {prolong}"
                ),
            },
            Condition::NoEncryption(why) => format!(
                "cannot be written to ({why}): nothing can be written, and what it opens can be \
                 read; add a subkey (`gpg --quick-add-key {key} cv25519 encr`) or prolong one that \
                 expired (`gpg --quick-set-expire {key} 2y '*'`), export it as at first, and mount \
                 again"
            ),
            other => format!(
                "cannot be written to ({other}): nothing can be written, and what it opens can be \
                 read; make a new key with `dds init --key FILE`"
            ),
        };
        Some(format!("your own key {trouble}"))
    }

    fn contact_problem(&self, contact: &Contact) -> Option<String> {
        if contact.frozen {
            return Some(self.dispute(contact));
        }
        let condition = self.condition(&contact.fingerprint)?;
        let (name, key) = (&contact.name, &contact.fingerprint);
        let ask = format!("ask {name} by another way");
        let prolong = format!(
            "{ask} to prolong it (`gpg --quick-set-expire {key} 2y`, and the same with '*' behind \
             it for the subkeys) and to put the export into keys/"
        );
        let trouble = match condition {
            Condition::Usable(Some(until)) if is_soon(until) => {
                format!("expires on {}: {prolong}", day(until))
            }
            Condition::Usable(_) => return None,
            Condition::Expired(since) => format!(
                "expired on {}: nothing can be written to {name}; {prolong}",
                day(since)
            ),
            Condition::Revoked { reason, retired } => {
                let since = if retired { "since then " } else { "" };
                format!(
                    "is revoked{}: nothing can be written to {name}, and what {name} signed \
                     {since}is shown as unverified; {ask} for the new certificate, and copy it \
                     into keys/",
                    in_brackets(&reason)
                )
            }
            Condition::WeakSignatures(digest) => format!(
                "cannot be used, because it is signed with {digest}, which is too weak: nothing \
                 can be written to {name}, and what {name} signs is shown as unverified; {ask} to \
                 renew it with GnuPG 2.2 or later (`gpg --quick-set-expire {key} 2y`, and the \
                 same with '*' behind it for the subkeys) and to put the export into keys/"
            ),
            Condition::UnsupportedKey(kind) => format!(
                "cannot be used, because its key is {kind}, which is not supported: nothing can be \
                 written to {name}, and what {name} signs is shown as unverified; {ask} for a new \
                 key (`dds init` or `gpg --quick-gen-key` makes one)"
            ),
            Condition::WeakKey(kind) => format!(
                "cannot be used, because its key is {kind}, which is too weak: nothing can be \
                 written to {name}, and what {name} signs is shown as unverified; {ask} for a new \
                 key (`dds init` or `gpg --quick-gen-key` makes one)"
            ),
            Condition::Unsigned => format!(
                "cannot be used, because its key has signed nothing in it: {ask} for an export of \
                 the whole certificate, and copy it into keys/"
            ),
            Condition::NoEncryption(why) => {
                format!("cannot be written to: {why}; {prolong}")
            }
        };
        Some(format!("the certificate of {name} {trouble}"))
    }
}

impl Vault {
    /// A sentence about a contact that waits for a decision.
    fn dispute(&self, contact: &Contact) -> String {
        let people = self.people();
        let (name, key) = (&contact.name, &contact.fingerprint);
        if let Some(by) = &contact.certified_by {
            return format!(
                "{name} is in dispute: the certificate {key} was signed by the key {by} of the \
                 same person, and that does not count any more, as it was taken back or that key \
                 was revoked; nothing is written to {name}, and what it signed is shown as \
                 unverified. Ask the person by another way for the fingerprint: if it is this one, \
                 set verified = true and frozen = false for {name} in contacts.toml, if not, leave \
                 it so"
            );
        }
        let shares = |other: &&Contact| {
            let mut addresses = other.addresses.iter();
            other.name != *name && addresses.any(|one| contact.addresses.contains(one))
        };
        let others = people.contacts().filter(shares).take(4);
        let others: Vec<_> = others.map(|other| other.name.to_string()).collect();
        let others = match others.is_empty() {
            true => "you".to_owned(),
            false => others.join(", "),
        };
        format!(
            "{name} is in dispute: the certificate {key} claims the address of {others}; nothing \
             is written to {name}, and what it signed is shown as unverified. Ask the person by \
             another way for the fingerprint: if it is this one, set verified = true and \
             frozen = false for {name} in contacts.toml, if not, leave it so"
        )
    }
}

fn is_soon(until: SystemTime) -> bool {
    until < SystemTime::now() + AHEAD
}

/// Writes a day as in RFC 3339, in UTC.
fn day(time: SystemTime) -> String {
    let seconds = Timestamp::from(time).seconds();
    let day = chrono::DateTime::from_timestamp(seconds, 0);
    day.map_or_else(
        || "a day".to_owned(),
        |day| day.format("%Y-%m-%d").to_string(),
    )
}

fn in_brackets(words: &str) -> String {
    match words.is_empty() {
        true => String::new(),
        false => format!(" ({})", printable(words)),
    }
}
