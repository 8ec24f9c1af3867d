//! The people of all worlds: their keys are made once.

use dds::ids::Fingerprint;
use dds::openpgp::CertIndex;

use crate::support::people::Person;

pub const NAMES: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];

pub struct Cast {
    people: Vec<Person>,
    /// Nobody knows his certificate.
    pub stranger: Person,
    pub certificates: CertIndex,
}

impl Cast {
    pub fn new() -> Cast {
        let people: Vec<_> = NAMES.iter().map(|name| Person::new(name)).collect();
        let certificates = CertIndex::new(people.iter().map(Person::certificate));
        Cast {
            people,
            stranger: Person::new("Mallory"),
            certificates,
        }
    }

    pub fn of(&self, name: &str) -> &Person {
        let index = NAMES.iter().position(|known| *known == name);
        &self.people[index.unwrap()]
    }

    pub fn name(&self, key: &Fingerprint) -> Option<&'static str> {
        let index = self.people.iter().position(|one| one.fingerprint() == *key);
        index.map(|index| NAMES[index])
    }

    pub fn all(&self) -> Vec<(&'static str, &Person)> {
        NAMES.into_iter().zip(&self.people).collect()
    }
}
