//! What lies below a directory.

use std::path::{Path, PathBuf};

/// Every path below a directory, directories too, in order. Links are not followed; nothing is
/// below a directory that is missing.
pub fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = std::fs::read_dir(directory) else {
            continue;
        };
        for entry in entries {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// Every path below a directory that is no directory itself, in order.
pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = below(directory);
    found.retain(|path| !path.symlink_metadata().is_ok_and(|found| found.is_dir()));
    found
}
