//! My own certificates: taking over others' news of them, and publishing mine.

use crate::contacts::Contacts;
use crate::error::printable;
use crate::ids::BlobId;
use crate::openpgp::Certificate;
use crate::store::FileName;
use crate::vault::Vault;
use crate::vault::keys::folder::KeyFolder;

/// Bytes of my own certificate up to which it is published with others' signatures in it.
const LARGEST_PUBLISHED: usize = 256 << 10;

impl Vault {
    /// Takes over others' news of my own certificates: a revocation above all.
    pub(in crate::vault) fn learn_mine(
        &self,
        contacts: &mut Contacts,
        arrived: &[Certificate],
    ) -> Vec<String> {
        let mut notices = Vec::new();
        for identity in self.identities.iter() {
            let key = identity.fingerprint();
            let kept = contacts.my_certificate(&key);
            let kept = kept.ok().flatten();
            let kept = kept.and_then(|bytes| Certificate::read_kept(&bytes).ok());
            let copies = arrived.iter().filter(|copy| copy.fingerprint() == key);
            let mut news = false;
            for copy in copies {
                news |= identity.learn(copy).unwrap_or(false);
            }
            let own = identity.certificate();
            let all = match &kept {
                Some(kept) => {
                    // It cannot be of another key, since its file is named by the key.
                    let _ = identity.learn(kept);
                    kept.grown(&own)
                }
                None => own.grown(&own),
            };
            // Without news it holds nothing but my key file.
            let Ok(all) = all else { continue };
            if (news || kept.is_some()) && kept.as_ref() != Some(&all) {
                if let Err(error) = contacts.keep_my_certificate(&key, &all.to_bytes()) {
                    notices.push(
                        error
                            .context("keeping a copy of your certificate")
                            .to_string(),
                    );
                }
            }
        }
        notices
    }

    /// Writes my certificate to `keys/` where the copy there is older: others would not know of a new
    /// expiry or key. It does so once for each state of it, so that nobody can make us do it for ever.
    pub(in crate::vault) fn publish_mine(&self, folder: &mut KeyFolder) -> Vec<String> {
        let mut notices = Vec::new();
        if !folder.is_complete() {
            return notices;
        }
        for (position, identity) in self.identities.iter().enumerate() {
            let key = identity.fingerprint();
            let Some((there, file)) = folder.mine(&key) else {
                if position == 0 {
                    notices.push(
                        "your certificate is not in keys/, so nobody can begin to write to you: \
                         copy it there (`dds init` does)"
                            .to_owned(),
                    );
                }
                continue;
            };
            let own = identity.certificate();
            let Ok(newer) = there.grown(&own.as_its_owner_says()) else {
                continue;
            };
            if newer == there {
                continue;
            }
            let name = file.or_else(|| FileName::new(format!("{key}.asc")).ok());
            let Some(name) = name else { continue };
            let armored = name.as_bytes().ends_with(b".asc");
            // With others' signatures in my own copy, such as that of my former key.
            let whole = newer.merge(&own).ok();
            let whole = whole.filter(|one| one.to_bytes().len() < LARGEST_PUBLISHED);
            let newer = whole.unwrap_or(newer);
            let bytes = match armored {
                true => newer.to_armored(),
                false => newer.to_bytes(),
            };
            let shown = printable(&name.as_os_str().to_string_lossy());
            if !folder.published.insert(BlobId::of(&bytes)) {
                notices.push(format!(
                    "keys/{shown} is older than your certificate, which was written there before: \
                     somebody puts the old one back"
                ));
                continue;
            }
            if let Err(error) = self.store.put_key(&name, &bytes) {
                notices.push(format!(
                    "your certificate is newer than the one in keys/, and cannot be written to \
                     keys/{shown}: {error}"
                ));
            }
        }
        notices
    }
}
