//! Opens blobs, whoever made them.

mod reader;

use std::io::Read;
use std::time::SystemTime;

use sha2::Digest as _;
use zeroize::Zeroizing;

use self::reader::{Inside, Reader};
use super::key_search::KeySearch;
use super::limits::{Limits, Stop};
use super::outline::Outline;
use super::refusal::Refusal;
use super::signatures::{Judge, SignatureFacts};
use super::source::Source;
use super::{Keyring, SessionKey, version};
use crate::error::{Error, Kind, Result as Fallible};
use crate::ids::{BlobId, BlobName, Fingerprint, VersionId};
use crate::plaintext::Plaintext;

/// As how many readers those of several messages in one file count at least: more than a file has
/// that may be removed for all of them.
const SEVERAL: usize = 64;

/// The result of opening a blob.
pub enum Outcome {
    /// Opened and authenticated to its end.
    Opened(Box<Opened>),
    /// No key of mine opens it.
    NotMine,
    /// Not (yet) a whole OpenPGP message.
    Incomplete,
    /// Whole, but of a kind that is never opened.
    Refused(Refusal),
    /// A key of mine opens it, but it is not authentic, or malformed inside. Nothing of its
    /// content is given out.
    Damaged,
    /// Its content is larger than the limits allow.
    TooLarge,
}

/// A blob's content and the facts about it.
pub struct Opened {
    /// The content.
    pub content: Plaintext,
    /// The facts about it.
    pub facts: Facts,
}

/// Facts about a blob that was opened; no judgements.
pub struct Facts {
    /// Length of the content in bytes.
    pub size: u64,
    /// SHA-256 of the content.
    pub digest: [u8; 32],
    /// The literal's file name, if not empty. Not signed, hostile.
    pub name: Option<Vec<u8>>,
    /// The literal's date in seconds since 1970, if not 0. Not signed.
    pub date: Option<u32>,
    /// Number of readers, as far as the session key packets tell: keys of one certificate are one.
    pub recipients: usize,
    /// Identifies everything inside the encryption.
    pub inside: VersionId,
    /// Each signature over the content, in their order in the blob.
    pub signatures: Vec<SignatureFacts>,
    /// Opens the blob again without a public-key operation.
    pub session_key: SessionKey,
    /// The identity of mine whose key opened it, by its primary key; `None` if a session key was
    /// given.
    pub opened_by: Option<Fingerprint>,
    /// A good signature is more than a minute ahead of our clock (and at most 48 hours).
    pub clock_ahead: bool,
}

/// A blob that was read, whatever it turned out to be.
pub struct Examined {
    /// The result of opening it.
    pub outcome: Outcome,
    /// It was read to its end. A file that cannot be a whole OpenPGP file is not: its digests are
    /// then those of a part.
    pub to_its_end: bool,
    /// SHA-1 of its bytes.
    pub name: BlobName,
    /// SHA-256 of its bytes.
    pub id: BlobId,
    /// Number of readers, as far as the session key packets tell: keys of one certificate are one.
    pub recipients: usize,
}

/// Opens a blob that is in RAM; its content will be there, too. As [`examine`].
pub fn open(
    mut bytes: &[u8],
    keyring: &Keyring<'_>,
    limits: &Limits,
    session_key: Option<&SessionKey>,
) -> Outcome {
    let limits = Limits {
        spill: None,
        ..limits.clone()
    };
    let length = bytes.len() as u64;
    let examined = examine(&mut bytes, length, keyring, &limits, session_key);
    examined.expect("bytes in RAM can be read").outcome
}

/// Opens a blob of `length` bytes, armored or binary, reading it once and with little memory.
///
/// Armor may have text before and after it, any line ends, and no CRC24 line or a wrong one.
/// Every signature is reported by itself, whatever the others are, and also one that is meant
/// for others: its intended recipients are for the caller to judge. A bad signature does not
/// make a blob damaged.
///
/// A signature made up to 48 hours ahead of our clock is verified as if now were its time;
/// expiry and revocation of keys are judged at the time of signing, expiry of signatures now.
/// A `session_key` that does not fit is ignored.
///
/// # Errors
/// Errors of reading `from`; `NoSpace` or `Io` if the content cannot be spilled; `Busy` if the work
/// was to be given up; the error of a key of mine that cannot be asked, if no other opens the blob.
pub fn examine(
    from: &mut (dyn Read + Send + Sync),
    length: u64,
    keyring: &Keyring<'_>,
    limits: &Limits,
    session_key: Option<&SessionKey>,
) -> Fallible<Examined> {
    let search = KeySearch {
        identities: keyring.identities,
        most: limits.max_tried,
        known: session_key,
    };
    let reader = Reader::new(search, limits, length);
    let mut source = Source::while_it_may_be_whole(from, length);
    let mut keys = Vec::new();
    let inside = reader.read(&mut source, &mut keys);
    // Only the end tells whether the file is whole, and nothing else, on the outside.
    source.skip_rest();
    let to_its_end = source.was_read_to_its_end();
    let (name, id) = source.digests()?;
    let addressees = source.addressees();
    let recipients = addressees.readers(keyring);
    // Called only for blobs that were not opened: it may cost key operations.
    let of_others = {
        let addressees = addressees.clone();
        move || addressees.exclude_me(&keys, keyring, limits.max_tried)
    };
    // Nobody has looked for whom the others are: this keeps them from being removed unseen.
    let unseen = source.has_another();
    let outcome = match source.outline() {
        Outline::Message { .. } => match finish(inside, recipients, keyring, limits)? {
            Outcome::Damaged if of_others() => Outcome::NotMine,
            outcome => outcome,
        },
        Outline::Refused(_) if !unseen && of_others() => Outcome::NotMine,
        Outline::Refused(refusal) => Outcome::Refused(refusal),
        Outline::Incomplete => Outcome::Incomplete,
    };
    let recipients = match outcome {
        Outcome::Refused(Refusal::Several) => recipients.max(SEVERAL),
        _ => recipients,
    };
    Ok(Examined {
        outcome,
        to_its_end,
        name,
        id,
        recipients,
    })
}

/// Judges the signatures of a content that was read to its authenticated end.
fn finish(
    inside: Result<Inside, Stop>,
    recipients: usize,
    keyring: &Keyring<'_>,
    limits: &Limits,
) -> Fallible<Outcome> {
    let inside = match inside {
        Ok(inside) => inside,
        Err(Stop::NotMine) => return Ok(Outcome::NotMine),
        Err(Stop::Damaged) => return Ok(Outcome::Damaged),
        Err(Stop::Refused(refusal)) => return Ok(Outcome::Refused(refusal)),
        Err(Stop::TooLarge) => return Ok(Outcome::TooLarge),
        Err(Stop::GivenUp) => {
            return Err(Error::new(Kind::Busy, "reading a blob was given up"));
        }
        Err(Stop::Failed(error)) => return Err(error),
    };
    let (Some(content), Some(session_key)) = (inside.content, inside.session_key) else {
        return Ok(Outcome::Damaged);
    };
    let now = SystemTime::now();
    let mut judge = Judge::new(&content, inside.digest, keyring, now);
    let signatures = inside.signatures.iter();
    let signatures = signatures.map(|signature| match signature {
        Some(signature) => judge.judge(signature),
        None => SignatureFacts::unreadable(),
    });
    let signatures: Vec<_> = signatures.collect();
    if let Some(failure) = judge.failure {
        return Err(failure);
    }
    let header = version::literal_header(
        inside.format,
        inside.name.as_deref().unwrap_or_default(),
        inside.date.unwrap_or(0),
    );
    let packets = inside.signatures.iter().map(Option::as_ref);
    let version = version::inside(&header, &inside.digest, packets);
    // The signatures are over the text as it came.
    let (content, digest) = match inside.format {
        b't' | b'u' => with_plain_line_ends(&content, limits)?,
        _ => (content, inside.digest),
    };
    let facts = Facts {
        inside: version,
        size: content.len(),
        digest,
        name: inside.name,
        date: inside.date,
        recipients,
        clock_ahead: signatures.iter().any(|signature| signature.ahead_of(now)),
        signatures,
        session_key,
        opened_by: inside.opened_by,
    };
    Ok(Outcome::Opened(Box::new(Opened { content, facts })))
}

/// Copies a text without its carriage returns, as GnuPG gives it out, with the copy's digest.
fn with_plain_line_ends(text: &Plaintext, limits: &Limits) -> Fallible<(Plaintext, [u8; 32])> {
    let area = limits.spill.as_ref();
    let mut plain = area.map_or_else(Plaintext::new, Plaintext::spilling);
    let mut digest = sha2::Sha256::new();
    let copied: Fallible<()> = text.pieces(|piece| {
        let mut kept = Zeroizing::new(Vec::with_capacity(piece.len()));
        kept.extend(piece.iter().filter(|byte| **byte != b'\r'));
        digest.update(&*kept);
        plain.append(&kept)
    });
    copied?;
    Ok((plain, digest.finalize().into()))
}
