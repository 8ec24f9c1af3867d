//! The name and the place of a blob, derived from the facts inside it and from the pins.

use crate::ids::{BlobId, BlobKind, BlobName, DocId, Folder, Timestamp, VersionId};
use crate::openpgp::{Facts, Notations, SignatureFacts, SignatureStatus};
use crate::store::Entry;
use crate::vault::audience::{People, Who};
use crate::vault::documents::{DocKey, Unreadable, Version};
use crate::vault::judge::{Judgement, Placement, Vouched, judge};

/// Derives a version from facts and pins.
pub(super) fn describe(
    entry: Entry,
    blob: BlobName,
    file_id: BlobId,
    facts: &Facts,
    people: &People,
) -> Version {
    let folder = entry.folder;
    let judgement = judge(facts, folder, people);
    let signature = match judgement.decided_by {
        Some(index) => facts.signatures.get(index),
        None => facts.signatures.first(),
    };
    let proven = judgement.decided_by.and(signature);
    let none = Notations::default();
    let notations = proven.map_or(&none, |signature| &signature.notations);
    let kind = notations.kind.unwrap_or(match folder {
        Folder::Messages => BlobKind::Message,
        Folder::Notes => BlobKind::Note,
    });
    let signer = signature.and_then(|signature| signature.signer.clone());
    let mine = proven.is_some()
        && signer
            .as_ref()
            .is_some_and(|key| people.owner(key) == Who::Me);
    let literal_name = facts.name.clone().filter(|name| !name.is_empty());
    let literal_date = facts.date.filter(|date| *date > 0);
    let signed_at = signature.and_then(|signature| signature.created);
    let id = proven.and_then(|signature| signature.version);
    let id = id.unwrap_or(facts.inside);
    let signed_for_others = proven.and_then(|signature| is_for_others(signature, kind, people));
    Version {
        key: doc_key(&judgement, kind, notations.doc, signer.clone(), folder, id),
        id,
        ids: ids(id, facts),
        file_id,
        blob,
        place: judgement.place,
        kind,
        path: notations
            .path
            .clone()
            .map(String::into_bytes)
            .or(literal_name),
        size: facts.size,
        digest: Some(facts.digest),
        mtime: notations
            .mtime
            .or_else(|| literal_date.and_then(|date| Timestamp::new(date.into(), 0).ok()))
            .unwrap_or(entry.stamp.mtime),
        mode: notations.mode,
        signed_at: signed_at.map_or(entry.stamp.mtime, Timestamp::from),
        signer,
        vouched: judgement.vouched,
        reason: why_bad(facts, judgement.vouched),
        addressee_proven: judgement.addressee_proven,
        recipients: facts.recipients,
        signed_for_others,
        reader: notations.copy.clone().filter(|_| kind == BlobKind::Message),
        replaces: notations.replaces.clone(),
        newer_format: notations
            .version
            .is_some_and(|version| version > Notations::VERSION),
        mine,
        keepable: is_keepable(facts, folder, kind),
        unreadable: None,
        entry,
    }
}

/// Returns the reason why the signature of a blob is bad.
fn why_bad(facts: &Facts, vouched: Vouched) -> Option<String> {
    let mut bad = facts.signatures.iter().filter_map(|one| match &one.status {
        SignatureStatus::Bad(why) => Some(why.clone()),
        SignatureStatus::Good | SignatureStatus::UnknownKey => None,
    });
    bad.next().filter(|_| vouched == Vouched::Bad)
}

/// All ids that a version may have, by any pins.
fn ids(id: VersionId, facts: &Facts) -> Vec<VersionId> {
    let signatures = facts.signatures.iter();
    let good = signatures.filter(|one| one.status == SignatureStatus::Good);
    let signed = good.filter_map(|one| one.version);
    let mut ids = vec![id];
    for other in signed.chain([facts.inside]) {
        if !ids.contains(&other) {
            ids.push(other);
        }
    }
    ids
}

/// Tells whether a signature is for others than its maker and me. `None` if it names no readers.
fn is_for_others(signature: &SignatureFacts, kind: BlobKind, people: &People) -> Option<bool> {
    let copy = signature.notations.copy.as_ref();
    if let Some(reader) = copy.filter(|_| kind == BlobKind::Message) {
        return Some(people.owner(reader) != Who::Me);
    }
    if signature.intended.is_empty() {
        return None;
    }
    let readers = people.audience(&signature.intended);
    let writer = people.audience(signature.signer.as_slice());
    Some(!writer.includes(&readers))
}

/// Tells whether the history keeps a version. It never keeps a message, in whatever folder it is.
fn is_keepable(facts: &Facts, folder: Folder, kind: BlobKind) -> bool {
    let mut signatures = facts.signatures.iter();
    let message = signatures.any(|one| one.notations.kind == Some(BlobKind::Message));
    folder == Folder::Notes && kind == BlobKind::Note && !message
}

fn doc_key(
    judgement: &Judgement,
    kind: BlobKind,
    doc: Option<DocId>,
    signer: Option<crate::ids::Fingerprint>,
    folder: Folder,
    id: VersionId,
) -> DocKey {
    match (&judgement.place, doc) {
        (Placement::Audience(audience), Some(doc)) => DocKey::Placed {
            kind,
            audience: audience.clone(),
            doc,
            signer: signer.filter(|_| kind == BlobKind::Message),
        },
        (Placement::Audience(_) | Placement::Unverified, _) => DocKey::Single(folder, id),
    }
}

/// A whole blob of which nothing may be shown.
pub(super) fn refused(
    entry: Entry,
    blob: BlobName,
    file_id: BlobId,
    recipients: usize,
    why: Unreadable,
) -> Version {
    let id = VersionId::of_unopened(file_id);
    Version {
        key: DocKey::Single(entry.folder, id),
        id,
        ids: vec![id],
        file_id,
        blob,
        place: Placement::Unverified,
        kind: match entry.folder {
            Folder::Messages => BlobKind::Message,
            Folder::Notes => BlobKind::Note,
        },
        path: None,
        size: 0,
        digest: None,
        mtime: entry.stamp.mtime,
        mode: None,
        signed_at: entry.stamp.mtime,
        signer: None,
        vouched: Vouched::Unsigned,
        reason: None,
        addressee_proven: false,
        recipients,
        signed_for_others: None,
        reader: None,
        replaces: Vec::new(),
        newer_format: false,
        mine: false,
        keepable: false,
        unreadable: Some(why),
        entry,
    }
}
