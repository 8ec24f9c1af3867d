//! `.dds/rescued/`: drafts that earlier mounts could not save.

use std::ffi::OsStr;

use crate::vault::Rescued;
use crate::view::tree::names::{safe, with_remark};
use crate::view::tree::{FileRole, Ino, Role, Stat};
use crate::view::{Tree, View};

impl View {
    /// Shows the drafts that earlier mounts rescued.
    pub(in crate::view) fn show_rescued(&self) {
        let rescued = match self.vault.rescued() {
            Ok(rescued) => rescued,
            Err(error) => {
                self.errors.add(".dds/rescued", &error);
                return;
            }
        };
        let mut tree = self.tree();
        let dds = tree.dir_named(Ino::ROOT, ".dds", Role::Dds);
        let parent = tree.dir_named(dds, "rescued", Role::Rescued);
        for one in rescued {
            show(&mut tree, parent, &one);
        }
    }
}

fn show(tree: &mut Tree, parent: Ino, one: &Rescued) {
    let base = safe(one.path.rsplit('/').next().unwrap_or_default().as_bytes());
    let free = |name: &str| tree.child(parent, OsStr::new(name)).is_none();
    let blob = one.blob.to_string();
    let mut names = std::iter::once(base.clone())
        .chain([8, 40].map(|digits| with_remark(&base, &blob[..digits])));
    let Some(name) = names.find(|name| free(name)) else {
        return; // The same blob twice.
    };
    let ino = tree.attach_file(parent, name, FileRole::Rescued(one.blob));
    if let Some(file) = tree.file_mut(ino) {
        file.stat = Some(Stat {
            size: one.size,
            mtime: one.mtime,
            mode: 0o4,
        });
    }
}
