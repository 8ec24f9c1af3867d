//! The set of people that a directory stands for, and the people whom I know.
//!
//! [`People`] is an unchanging snapshot of the pins, shared by all code that has to name keys.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use crate::contacts::{Contact, ContactName, Contacts, holder_of};
use crate::ids::Fingerprint;

/// The set of people, apart from me, that a directory stands for.
///
/// Members are current fingerprints of contacts, or fingerprints that no contact has. The empty
/// audience is me alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Audience(BTreeSet<Fingerprint>);

impl Audience {
    /// Returns the audience that is me alone.
    pub fn me() -> Self {
        Self::default()
    }

    /// Tells whether nobody but me is in it.
    pub fn is_me(&self) -> bool {
        self.0.is_empty()
    }

    /// The members, in order of their fingerprints.
    pub fn members(&self) -> impl Iterator<Item = &Fingerprint> {
        self.0.iter()
    }

    /// Number of members, without me.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether nobody but me is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells whether everybody in `other` is in this audience too.
    pub fn includes(&self, other: &Audience) -> bool {
        other.0.is_subset(&self.0)
    }
}

impl FromIterator<Fingerprint> for Audience {
    fn from_iter<I: IntoIterator<Item = Fingerprint>>(members: I) -> Self {
        Audience(members.into_iter().collect())
    }
}

/// The owner of a fingerprint, as I see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who<'a> {
    /// One of my own keys.
    Me,
    /// A current or past key of a contact.
    Contact(&'a Contact),
    /// Nobody I know.
    Unknown,
}

/// Everybody I know by name: a snapshot of the pins and the configured groups.
pub struct People {
    /// My keys, the signing one first, with the names that others give me for them.
    mine: Vec<(Fingerprint, ContactName)>,
    /// Mail addresses in my certificates, in lower case.
    my_addresses: Vec<String>,
    contacts: BTreeMap<String, Contact>,
    by_fingerprint: HashMap<Fingerprint, String>,
    groups: Groups,
}

/// Configured names of audiences: `[groups]` in the configuration.
#[derive(Clone, Debug, Default)]
pub struct Groups(BTreeMap<ContactName, BTreeSet<ContactName>>);

impl Groups {
    /// Takes the configured groups.
    pub fn new(groups: BTreeMap<ContactName, BTreeSet<ContactName>>) -> Self {
        Groups(groups)
    }

    /// The names, which no contact may take.
    pub fn names(&self) -> impl Iterator<Item = &ContactName> {
        self.0.keys()
    }
}

impl People {
    /// Takes a snapshot of the pins. `mine` are my keys, the signing one first, each with the name
    /// that others give it on first sight.
    pub fn new(mine: Vec<(Fingerprint, ContactName)>, contacts: &Contacts, groups: Groups) -> Self {
        let contacts: BTreeMap<_, _> = contacts
            .iter()
            .map(|contact| (contact.name.to_string(), contact.clone()))
            .collect();
        let mut by_fingerprint = HashMap::new();
        for contact in contacts.values() {
            for past in &contact.past {
                by_fingerprint.insert(past.clone(), contact.name.to_string());
            }
        }
        // A current key outranks the same key in somebody's past.
        for contact in contacts.values() {
            by_fingerprint.insert(contact.fingerprint.clone(), contact.name.to_string());
        }
        People {
            mine,
            my_addresses: Vec::new(),
            contacts,
            by_fingerprint,
            groups,
        }
    }

    /// Adds the addresses by which others may spell me.
    #[must_use]
    pub fn with_my_addresses(mut self, addresses: Vec<String>) -> Self {
        self.my_addresses = addresses;
        self
    }

    /// Tells whether the spelling of an audience's member means me: the name that others give me,
    /// unless it is somebody else's here; an address that only I have; or a full fingerprint. So one
    /// member can give a path to another.
    pub fn means_me(&self, spelled: &str) -> bool {
        if spelled.contains('@') {
            let mut mine = self.my_addresses.iter();
            return mine.any(|address| address.eq_ignore_ascii_case(spelled))
                && !self.has_address(spelled);
        }
        if let Ok(key) = spelled.parse::<Fingerprint>() {
            return self.owner(&key) == Who::Me;
        }
        let called = self.mine.iter().any(|(_, name)| name.as_str() == spelled);
        let is_group = self.groups.names().any(|name| name.as_str() == spelled);
        called && !is_group && self.by_name(spelled).is_none()
    }

    /// Tells whether any contact is pinned with an address.
    pub fn has_address(&self, address: &str) -> bool {
        let mut all = self
            .contacts
            .values()
            .flat_map(|contact| &contact.addresses);
        all.any(|known| known.eq_ignore_ascii_case(address))
    }

    /// The configured groups' names.
    pub fn groups(&self) -> impl Iterator<Item = &ContactName> {
        self.groups.names()
    }

    /// Members of groups that are no contacts: nothing can be written to these groups.
    pub fn strangers_in_groups(&self) -> impl Iterator<Item = (&ContactName, &ContactName)> {
        let groups = self.groups.0.iter();
        let all =
            groups.flat_map(|(group, members)| members.iter().map(move |member| (group, member)));
        all.filter(|(_, member)| {
            self.by_name(member.as_str()).is_none() && !self.means_me(member.as_str())
        })
    }

    /// All contacts, by name.
    pub fn contacts(&self) -> impl Iterator<Item = &Contact> {
        self.contacts.values()
    }

    /// Tells whose key that is.
    pub fn owner(&self, key: &Fingerprint) -> Who<'_> {
        if self.mine.iter().any(|(mine, _)| mine == key) {
            return Who::Me;
        }
        match self.by_fingerprint.get(key) {
            Some(name) => Who::Contact(&self.contacts[name]),
            None => Who::Unknown,
        }
    }

    /// Fingerprint of my signing key.
    pub fn me(&self) -> &Fingerprint {
        &self.mine[0].0
    }

    /// Finds a contact by its local name.
    pub fn by_name(&self, name: &str) -> Option<&Contact> {
        self.contacts.get(name)
    }

    /// Finds the one contact that stands for an e-mail address, whatever its case.
    pub fn by_address(&self, address: &str) -> Option<&Contact> {
        holder_of(address, self.contacts.values())
    }

    /// Returns the members of a configured group, if all of them but me are contacts.
    pub fn group(&self, name: &str) -> Option<Audience> {
        let (_, members) = self
            .groups
            .0
            .iter()
            .find(|(group, _)| group.as_str() == name)?;
        let others = members.iter().filter(|member| {
            self.by_name(member.as_str()).is_some() || !self.means_me(member.as_str())
        });
        let key = |member: &ContactName| {
            self.contacts
                .get(member.as_str())
                .map(|c: &Contact| c.fingerprint.clone())
        };
        others.map(key).collect()
    }

    /// Returns the configured name of an audience.
    pub fn group_name(&self, audience: &Audience) -> Option<&ContactName> {
        let mut names = self.groups.names();
        names.find(|name| self.group(name.as_str()).as_ref() == Some(audience))
    }

    /// Makes the audience of a set of keys: without me, past keys replaced by current ones.
    pub fn audience(&self, keys: &[Fingerprint]) -> Audience {
        keys.iter()
            .filter_map(|key| match self.owner(key) {
                Who::Me => None,
                Who::Contact(contact) => Some(contact.fingerprint.clone()),
                Who::Unknown => Some(key.clone()),
            })
            .collect()
    }

    /// Names a key for people: `me`, a contact's name, or the full fingerprint.
    pub fn name(&self, key: &Fingerprint) -> String {
        match self.owner(key) {
            Who::Me => "me".to_owned(),
            Who::Contact(contact) => contact.name.to_string(),
            Who::Unknown => key.to_string(),
        }
    }

    /// Names the writer of a version in a file's name, which shall be the same for all readers: as
    /// [`People::name`], but me by the name that others give me, unless somebody else has it here.
    pub fn writer(&self, key: &Fingerprint) -> String {
        let mine = self.mine.iter().find(|(mine, _)| mine == key);
        match mine {
            Some((_, name)) if self.by_name(name.as_str()).is_none() => name.to_string(),
            _ => self.name(key),
        }
    }
}

impl fmt::Debug for People {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "People({} contacts)", self.contacts.len())
    }
}
