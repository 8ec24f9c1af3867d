//! The name of a document among all, which its versions share.

/// A digest that all versions of one document have in common, and no others.
///
/// It is computed from everything by which a version may replace another: kind, audience, document,
/// and for messages the signer. So a message cannot make others vanish by naming them as its
/// ancestors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lineage(pub(super) [u8; 32]);

impl Lineage {
    /// Takes a finished SHA-256 digest.
    pub fn from_digest(digest: [u8; 32]) -> Self {
        Lineage(digest)
    }
}
