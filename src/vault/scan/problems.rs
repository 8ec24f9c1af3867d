//! Sentences about folders and files of the store that cannot be shown, for `.dds/status`.

use crate::error::{Kind, printable};
use crate::vault::Vault;
use crate::vault::audience::People;
use crate::vault::documents::Version;
use crate::vault::known::Slot;
use crate::vault::known::store_file::{Blob, Holds};

/// Files with bad signatures that are listed one by one.
const MOST_BAD_LISTED: usize = 16;

impl Vault {
    /// Sentences about folders of the store that cannot be used.
    pub fn broken_folders(&self) -> Vec<String> {
        let mut broken: Vec<String> = self.known().broken.values().cloned().collect();
        if let Err(error) = self.store.software_metadata(&[]) {
            if error.kind() != Kind::NotFound {
                broken.push(error.to_string());
            }
        }
        broken
    }

    /// Sentences about files that cannot be shown.
    pub(in crate::vault) fn file_problems(&self) -> Vec<String> {
        let people = self.people();
        let (mut problems, mut bad) = (Vec::new(), Vec::new());
        for (slot, file) in &self.known().files {
            match &file.holds {
                Holds::Incomplete(since) if since.elapsed() >= self.options.report_incomplete => {
                    let name = shown(slot);
                    problems.push(format!("{name} is not a whole OpenPGP message"));
                }
                Holds::Unreadable(why) => {
                    problems.push(format!("{} cannot be read: {why}", shown(slot)));
                }
                Holds::Blob(Blob {
                    facts: Some(facts), ..
                }) if facts.clock_ahead => {
                    let name = shown(slot);
                    problems.push(format!("{name} was signed ahead of this machine's clock"));
                }
                Holds::Blob(Blob { version, .. }) if version.reason.is_some() => {
                    bad.push(bad_signature(&shown(slot), version, &people));
                }
                Holds::Incomplete(_) | Holds::NotMine | Holds::Hidden | Holds::Blob(_) => {}
            }
        }
        problems.sort();
        bad.sort();
        if bad.len() > MOST_BAD_LISTED {
            let more = bad.len() - MOST_BAD_LISTED;
            bad.truncate(MOST_BAD_LISTED);
            bad.push(format!("{more} more files have bad signatures"));
        }
        problems.extend(bad);
        problems
    }
}

fn shown((folder, name): &Slot) -> String {
    let name = printable(&name.as_os_str().to_string_lossy());
    format!("{}/{name}", folder.name())
}

fn bad_signature(name: &str, version: &Version, people: &People) -> String {
    let signer = version.signer.as_ref().map(|key| people.name(key));
    let signer = signer.map_or_else(String::new, |signer| format!(" of {signer}"));
    let reason = version.reason.as_deref().unwrap_or_default();
    format!(
        "{name}: the signature{signer} is bad: {}",
        printable(reason)
    )
}
