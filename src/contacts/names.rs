//! Local names: their form, and how a newcomer gets one.

use std::fmt;
use std::str::FromStr;

use super::Claimed;
use crate::error::{Error, Kind, Result, printable};
use crate::ids::Fingerprint;

/// Bytes in the longest name.
const LONGEST: usize = 64;
/// Addresses that are kept of one contact; a certificate may claim any number.
pub(super) const MOST_ADDRESSES: usize = 32;
/// Names that the view uses itself.
const RESERVED: [&str; 2] = ["me", "unverified"];

/// Local name of a contact or group: a component of audience names in the view.
///
/// ASCII letters, digits and `. _ + -`, starting with a letter or digit, at most 64 bytes.
/// Never something that could be taken for a key (8, 16, 40 or 64 hex digits), for a large
/// audience (`5-people-...`) or for `me` or `unverified`, in whatever case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContactName(String);

impl ContactName {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether people could take one name for the other: they differ at most in case.
    pub fn resembles(&self, other: &ContactName) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl fmt::Display for ContactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ContactName {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let fault = if is_reserved(text) {
            Some("it is reserved")
        } else {
            fault(text)
        };
        match fault {
            None => Ok(ContactName(text.to_owned())),
            Some(fault) => {
                let shown: String = text.chars().take(LONGEST).collect();
                let sentence = format!("{} is no contact name: {fault}", printable(&shown));
                Err(Error::new(Kind::Invalid, sentence))
            }
        }
    }
}

fn is_reserved(text: &str) -> bool {
    RESERVED.iter().any(|word| word.eq_ignore_ascii_case(text))
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._+-".contains(&byte)
}

/// Names the fault in the form of a name, if it has one.
fn fault(text: &str) -> Option<&'static str> {
    let bytes = text.as_bytes();
    if bytes.is_empty() || bytes.len() > LONGEST {
        return Some("it must have 1 to 64 characters");
    }
    if !bytes.iter().copied().all(is_name_byte) {
        return Some("only letters, digits and . _ + - are allowed");
    }
    if !bytes[0].is_ascii_alphanumeric() {
        return Some("it must start with a letter or digit");
    }
    if matches!(bytes.len(), 8 | 16 | 40 | 64) && bytes.iter().all(u8::is_ascii_hexdigit) {
        return Some("it looks like a key id or fingerprint");
    }
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    if rest.len() < text.len() && rest.to_ascii_lowercase().starts_with("-people-") {
        return Some("it looks like the name of a large audience");
    }
    None
}

/// Tells whether text is one e-mail address: printable ASCII, `local@domain`, at most 254 bytes,
/// and none of the characters that quote or separate addresses.
pub fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    let plain = |b: u8| b.is_ascii_graphic() && !b"\"\\(),:;<>@[]`".contains(&b);
    text.len() <= 254
        && !local.is_empty()
        && local.bytes().all(plain)
        && !domain.is_empty()
        && domain
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
}

/// Returns the addresses that a certificate claims, in lower case, each once.
pub(super) fn addresses(claimed: &Claimed) -> Vec<String> {
    let emails = claimed.user_ids.iter().filter_map(|id| id.email.as_deref());
    let mut found: Vec<String> = Vec::new();
    for email in emails.filter(|email| is_address(email)) {
        let email = email.to_ascii_lowercase();
        if !found.contains(&email) {
            found.push(email);
        }
        if found.len() == MOST_ADDRESSES {
            break;
        }
    }
    found
}

/// Chooses an unused name for a newcomer.
///
/// The wanted name is the lower-cased local part of the primary user id's address, else its
/// first word, else `fpr-` and 40 hex digits of the fingerprint (which alone is no name, so that
/// names and fingerprints cannot be confused). Characters that no name may have are left out. If the
/// wanted name is taken, or with `qualified`, it gets 8 or more hex digits of the fingerprint.
pub(super) fn choose(
    claimed: &Claimed,
    qualified: bool,
    is_taken: impl Fn(&ContactName) -> bool,
) -> ContactName {
    let hex = claimed.fingerprint.to_string().to_ascii_lowercase();
    let of_fingerprint = of_fingerprint(&claimed.fingerprint);
    let wanted = wanted(claimed).unwrap_or_else(|| of_fingerprint.clone());
    let unused = |text: String| text.parse().ok().filter(|name| !is_taken(name));
    let plain = (!qualified).then(|| unused(wanted.clone())).flatten();
    let bases = [wanted, of_fingerprint];
    plain
        .or_else(|| {
            bases.iter().find_map(|base| {
                [8, 16, 24, 32, 40]
                    .iter()
                    .find_map(|&digits| unused(with_tail(base, &hex[..digits])))
            })
        })
        .or_else(|| {
            // A person chose all of these for other contacts. Names are finitely many.
            (2_u32..).find_map(|n| unused(with_tail(&bases[1], &n.to_string())))
        })
        .expect("there are more numbers than contacts")
}

fn of_fingerprint(fingerprint: &Fingerprint) -> String {
    let hex = fingerprint.to_string().to_ascii_lowercase();
    format!("fpr-{}", &hex[..40])
}

/// Tells whether a name is made of the fingerprint, as for a certificate that names nobody.
pub(super) fn is_of_fingerprint(name: &ContactName, fingerprint: &Fingerprint) -> bool {
    name.as_str() == of_fingerprint(fingerprint)
}

/// Tells whether a name ends in digits that [`choose`] added because the wanted name was taken.
pub(super) fn ends_in_digits_of(name: &ContactName, fingerprint: &Fingerprint) -> bool {
    let hex = fingerprint.to_string().to_ascii_lowercase();
    let tail = name.as_str().rsplit_once('-').map(|(_, tail)| tail);
    tail.is_some_and(|tail| tail.len() >= 8 && hex.starts_with(tail))
}

/// Tells whether a name can be made of a certificate's claims.
pub(super) fn names_somebody(claimed: &Claimed) -> bool {
    wanted(claimed).is_some()
}

/// The name that a certificate gets where no other contact has it yet.
pub fn first_name(claimed: &Claimed) -> ContactName {
    choose(claimed, false, |_| false)
}

/// Joins a name and a tail, cutting the name where both would be too long.
fn with_tail(base: &str, tail: &str) -> String {
    let room = LONGEST - 1 - tail.len();
    format!("{}-{tail}", &base[..base.len().min(room)])
}

/// Returns the name that a certificate should get by its primary user id; it may be a reserved
/// word.
fn wanted(claimed: &Claimed) -> Option<String> {
    let primary = claimed.user_ids.first()?;
    let email = primary.email.as_deref();
    let local = email.and_then(|email| Some(email.rsplit_once('@')?.0));
    let name = primary.name.as_deref().unwrap_or(&primary.text);
    let word = name.split_whitespace().next();
    [local, word].into_iter().flatten().find_map(allowed)
}

/// Leaves out the characters that no name may have; `None` if the rest is no name.
fn allowed(text: &str) -> Option<String> {
    let name: String = text
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .filter(|c| u8::try_from(*c).is_ok_and(is_name_byte))
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(LONGEST)
        .collect();
    // With a tail it must be a name, too.
    (fault(&name).is_none() && fault(&with_tail(&name, "x")).is_none()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contacts::ClaimedUserId;

    fn claimed(email: Option<&str>, name: Option<&str>) -> Claimed {
        Claimed {
            fingerprint: Fingerprint::from_bytes(&[0xab; 20]).unwrap(),
            user_ids: vec![ClaimedUserId {
                text: name.unwrap_or_default().to_owned(),
                email: email.map(str::to_owned),
                name: name.map(str::to_owned),
            }],
            certificate: Vec::new(),
        }
    }

    fn chosen(email: Option<&str>, name: Option<&str>) -> String {
        choose(&claimed(email, name), false, |_| false).to_string()
    }

    #[test]
    fn names_that_could_mislead_are_refused() {
        let hex = "0123456789abcdefABCDEF0123456789abcdef0123456789abcdef0123456789";
        for good in [
            "bob",
            "Bob",
            "b",
            "4913",
            "bob.smith+x_y-z",
            "abcdef0",
            "abcdef012",
            "people",
            "5-people",
            "x5-people-1",
            &"g".repeat(64),
        ] {
            assert_eq!(good.parse::<ContactName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".bob",
            "-bob",
            "_b",
            "+b",
            "bob smith",
            "b,c",
            "b/c",
            "b\0",
            "j\u{fc}rgen",
            "bob@example.org",
            "me",
            "ME",
            "unverified",
            "Unverified",
            &hex[..8],
            &hex[..16],
            &hex[..40],
            hex,
            "5-people-x",
            "12-PEOPLE-0",
            &"g".repeat(65),
        ] {
            assert!(bad.parse::<ContactName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_name_comes_from_the_address_else_the_first_word_else_the_fingerprint() {
        let fpr = format!("fpr-{}", "ab".repeat(20));
        assert_eq!(
            chosen(Some("Bob.Smith@example.org"), Some("Robert")),
            "bob.smith"
        );
        assert_eq!(chosen(None, Some("Robert Smith")), "robert");
        assert_eq!(chosen(None, None), fpr);
        assert_eq!(
            chosen(Some("deadbeef@example.org"), Some("Robert")),
            "robert"
        );
        assert_eq!(
            chosen(Some("7-people-x@example.org"), Some("12345678")),
            fpr
        );
        assert_eq!(chosen(Some("7-people@example.org"), None), fpr);
        let mut none = claimed(None, None);
        none.user_ids.clear();
        assert_eq!(choose(&none, false, |_| false).as_str(), fpr);
        none.fingerprint = Fingerprint::from_bytes(&[0xab; 32]).unwrap();
        assert_eq!(choose(&none, false, |_| false).as_str(), fpr);
    }

    #[test]
    fn hostile_user_ids_yield_valid_names() {
        assert_eq!(chosen(Some("..b\u{200b}\x1b[1mo,b@x"), None), "b1mob");
        assert_eq!(chosen(Some("a@b@c"), None), "ab");
        assert_eq!(
            chosen(Some("no-at-sign"), Some("\u{202e}\u{430}")),
            chosen(None, None)
        );
        assert_eq!(chosen(None, Some("-+.")), chosen(None, None));
        assert_eq!(chosen(Some(&"z".repeat(65536)), Some("B\u{f6}b")), "bb");
        let long = format!("{}@example.org", "z".repeat(65536));
        assert_eq!(chosen(Some(&long), None), "z".repeat(64));
    }

    #[test]
    fn a_taken_name_gets_digits_of_the_fingerprint() {
        let bob = claimed(Some("bob@example.org"), None);
        let taken = |names: &[&str]| {
            let names: Vec<ContactName> = names.iter().map(|n| n.parse().unwrap()).collect();
            choose(&bob, false, |name| names.contains(name)).to_string()
        };
        assert_eq!(taken(&["bob"]), "bob-abababab");
        assert_eq!(taken(&["bob", "bob-abababab"]), "bob-abababababababab");
        assert_eq!(choose(&bob, true, |_| false).as_str(), "bob-abababab");
        assert_eq!(chosen(Some("me@example.org"), None), "me-abababab");
        assert_eq!(
            chosen(Some("UNVERIFIED@example.org"), None),
            "unverified-abababab"
        );
        let long = claimed(Some(&format!("{}@x", "z".repeat(64))), None);
        let name = choose(&long, true, |_| false);
        assert_eq!(name.as_str(), format!("{}-abababab", "z".repeat(55)));
        let last = choose(&bob, false, |name| !name.as_str().ends_with("-7"));
        assert_eq!(last.as_str(), format!("fpr-{}-7", "ab".repeat(20)));
    }

    #[test]
    fn only_one_plain_address_is_an_address() {
        for good in ["bob@example.org", "b+x.y_z@a-b.c", "O'Neil@x"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "bob",
            "@x",
            "bob@",
            "a@b@c",
            "a b@c",
            "a,b@c",
            "<a@b>",
            "a@b\n",
            "\u{e9}@x",
            "a@\u{e9}",
            "\"a\"@x",
            &format!("{}@x", "a".repeat(254)),
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
