//! Tests of open files without a view.

use std::sync::Arc;

use crate::ids::{BlobKind, DocId};
use crate::plaintext::Plaintext;
use crate::vault::Audience;
use crate::view::draft::open_file::{OpenFile, Target};
use crate::view::draft::scratch_limit::ScratchBytes;
use crate::view::tree::OpenContent as _;

const LIMIT: u64 = 1 << 20;

fn note() -> Target {
    Target::Document {
        kind: BlobKind::Note,
        audience: Audience::me(),
        path: "plan.md".to_owned(),
        doc: DocId::from_random([7; 16]),
        base: Vec::new(),
    }
}

fn fresh(target: Target, scratch: &Arc<ScratchBytes>) -> OpenFile {
    OpenFile::fresh(Plaintext::new(), target, 0o6, scratch)
}

#[test]
fn the_tree_sees_a_draft_while_it_is_still_locked() {
    let file = fresh(note(), &Arc::default());
    assert!(file.is_draft());
    let mut locked = file.lock();
    locked.note_saved();
    assert!(!file.is_draft());
    locked.write(0, b"words", LIMIT).unwrap();
    assert!(file.is_draft());
    locked.begin_renaming_over();
    assert!(file.is_draft(), "it may be kept");
    locked.remove();
    assert!(!file.is_draft());
}

#[test]
fn who_reads_does_not_wait_for_who_publishes() {
    let file = fresh(note(), &Arc::default());
    file.lock().write(0, b"words", LIMIT).unwrap();
    let publishing = file.lock();
    let sealed = publishing.content();
    std::thread::scope(|threads| {
        let reader = threads.spawn(|| file.read(0, 5).unwrap());
        assert_eq!(&**reader.join().unwrap(), b"words");
    });
    drop(sealed);
}

#[test]
fn bytes_count_as_scratch_as_long_as_they_are() {
    let scratch = Arc::default();
    let file = fresh(Target::Scratch, &scratch);
    file.lock().write(0, &[1; 100], LIMIT).unwrap();
    assert_eq!(scratch.total(), 100);
    assert!(!file.is_draft(), "scratch is nobody's draft");
    file.lock().set_target(note());
    assert_eq!(scratch.total(), 0);
    assert!(file.is_draft());
    file.lock().set_target(Target::Scratch);
    assert_eq!(scratch.total(), 100);
    drop(file);
    assert_eq!(scratch.total(), 0);
}
