//! `fsx` on a note: thousands of random reads, writes, truncations and mappings, each read checked
//! by fsx itself. The same seed on an ordinary file gives the content that must be left.

use std::path::Path;
use std::process::Command;

use crate::support::programs::{assert_quiet, full, of_crates_io};
use crate::support::rig::{Cast, Mounted, Rig as _};

/// Operations that a filesystem without holes answers, most of them reads and writes.
const OPERATIONS: &str = "
[weights]
read = 10
write = 10
truncate = 3
close_open = 0.5
fsync = 0.25
fdatasync = 0.25
sendfile = 1
posix_fadvise = 1
posix_fallocate = 1
copy_file_range = 1
punch_hole = 0
";

/// Through the page cache too, which must then agree with everything else.
const MAPPINGS: &str = "
mapread = 10
mapwrite = 10
invalidate = 1
";

const NO_MAPPINGS: &str = "
mapread = 0
mapwrite = 0
invalidate = 0
";

/// Runs fsx, which keeps its own copy of the content and ends at the first difference.
#[track_caller]
fn exercise(fsx: &Path, config: &Path, artifacts: &Path, seed: u64, count: u64, file: &Path) {
    let output = Command::new("timeout")
        .arg("600")
        .arg(fsx)
        .arg("-q")
        .arg("-f")
        .arg(config)
        .arg("-P")
        .arg(artifacts)
        .args(["-N", &count.to_string(), "-S", &seed.to_string()])
        .arg(file)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let status = output.status;
    assert!(status.success(), "seed {seed}: {status}: {said}");
}

fn runs(name: &str, mappings: &str) {
    let Some(fsx) = of_crates_io("fsx", "DDS_FSX") else {
        return;
    };
    needs!(mount);
    let (seeds, count) = if full() { (20, 10_000) } else { (3, 2_000) };
    let mut rig = Mounted::new(&Cast::new(), "");
    let config = rig.home.path("fsx.toml");
    std::fs::write(&config, format!("{OPERATIONS}{mappings}")).unwrap();
    // Each mapping is written back when it is done with, which should cost nothing here.
    let memory = Path::new("/dev/shm");
    let fast = if memory.is_dir() {
        memory
    } else {
        rig.home.dir.path()
    };
    let fast = tempfile::tempdir_in(fast).unwrap();
    for seed in 1..=seeds {
        let [truth, note] = [
            fast.path().join("truth"),
            rig.mount().path(&format!("notes/me/{name}-{seed}")),
        ];
        for file in [&truth, &note] {
            exercise(&fsx, &config, rig.home.dir.path(), seed, count, file);
        }
        let truth = std::fs::read(&truth).unwrap();
        assert!(std::fs::read(&note).unwrap() == truth, "seed {seed}");
        assert_quiet(&rig);
        rig.remount();
        assert!(
            std::fs::read(&note).unwrap() == truth,
            "seed {seed}, mounted again"
        );
        std::fs::remove_file(&note).unwrap();
    }
}

#[test]
fn random_operations_without_mappings_lose_nothing() {
    runs("plain", NO_MAPPINGS);
}

#[test]
fn random_operations_with_mappings_lose_nothing() {
    runs("mapped", MAPPINGS);
}
