//! A mount for other people's programs: scripts are run in it, and the blobs that appear are
//! counted.

use std::path::PathBuf;

use crate::support::people::blobs;
use crate::support::programs::{assert_only_blobs, assert_quiet, attempt, run};
use crate::support::rig::{Cast, Mounted, Rig as _};
use crate::support::watch::Watch;
use dds::ids::Folder;

/// A mount with its store, and a directory elsewhere with something in it.
pub struct World {
    pub rig: Mounted,
    pub cast: Cast,
    pub watch: Watch,
}

impl World {
    pub fn new() -> World {
        let cast = Cast::new();
        let rig = Mounted::new(&cast, "");
        std::fs::create_dir(rig.home.path("elsewhere")).unwrap();
        let watch = Watch::new(&rig.store().join("notes"));
        World { rig, cast, watch }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.rig.mount().path(name)
    }

    /// Runs a script in a directory of the view. `$OUT` is the directory elsewhere, `$VIEW` the
    /// mountpoint.
    #[track_caller]
    pub fn run_in(&self, directory: &str, script: &str) -> String {
        let directory = self.path(directory);
        run(&self.rig.home, &directory, &self.with_places(script))
    }

    #[track_caller]
    pub fn run(&self, script: &str) -> String {
        self.run_in("notes/me", script)
    }

    /// Runs a script, which may fail. Returns its exit code and its output.
    pub fn attempt(&self, script: &str) -> (Option<i32>, String) {
        let script = self.with_places(script);
        let output = attempt(&self.rig.home, &self.path("notes/me"), &script);
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    pub fn with_places(&self, script: &str) -> String {
        let out = self.rig.home.path("elsewhere");
        let view = self.rig.mount().path("");
        format!(
            "export OUT='{}' VIEW='{}'\n{script}",
            out.display(),
            view.display()
        )
    }

    /// Runs checks, and again after a remount.
    #[track_caller]
    pub fn holds(&mut self, script: &str) {
        self.run(script);
        assert_quiet(&self.rig);
        self.rig.remount();
        self.run(script);
        assert_quiet(&self.rig);
    }

    /// Names in the notes of the store, once everything is settled.
    pub fn notes(&self) -> Vec<String> {
        self.rig.settle();
        blobs(self.rig.store(), Folder::Notes)
    }

    /// Asserts that a change appeared to the store as one new blob in place of an old one.
    #[track_caller]
    pub fn assert_one_save(&self, what: &str, change: impl FnOnce()) {
        self.assert_saves(1, what, change);
    }

    /// Asserts that so many new blobs appeared, one after the other, in place of an old one.
    #[track_caller]
    pub fn assert_saves(&self, saves: usize, what: &str, change: impl FnOnce()) {
        let before = self.notes();
        self.watch.appeared();
        change();
        let after = self.notes();
        let appeared = self.watch.appeared();
        assert_eq!(appeared.len(), saves, "{what}: {appeared:?}");
        let last = appeared.last().unwrap();
        assert!(!before.contains(last) && after.contains(last), "{what}");
        assert_eq!(after.len(), before.len(), "{what}");
        assert_only_blobs(self.rig.store());
    }
}
