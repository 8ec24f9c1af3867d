//! DDS shows a synced folder of OpenPGP files as plain files.
//!
//! The modules are the way that data takes, and imports point one way only
//! (`tests/layering.rs` proves it):
//!
//! ```text
//! kernel -> fuse -> view -> vault -> store      ciphertext on disk
//!                             |----> openpgp    bytes in, bytes out; alone names sequoia
//!                             |----> contacts   pins and local names
//!                             |----> state      what has to be remembered outside the store:
//!                                               removals, intents, rescued drafts, old notes; sealed
//!                                    plaintext  the only home of plaintext
//! ```
//!
//! [`daemon`] puts these rooms together, from unlocked keys to the lock, with a mount or without one,
//! and answers at the control socket. [`process`] is the daemon as a process: its keeper, its
//! sandbox, its memory. [`cli`] is the two programs' own code: it alone prints, prompts, reads the
//! environment and exits.
//!
//! # One READ
//!
//! `cat ~/secure/messages/alice/lunch.txt`, which arrived a moment ago. Each step calls the next one
//! below it, or hands its result to the one above; none calls back up.
//!
//! 1. The kernel sends LOOKUP for each name: [`fuse`] converts, [`view::View::lookup`] answers from
//!    the tree ([`view::View::find`]). A name that is not there has the store looked at
//!    ([`view::View::look`]).
//! 2. *Store to facts.* [`vault::Vault::scan`] lists the folders, and queues the files that it does not
//!    know ([`vault::Vault::list`]). Certificates are pinned outside the store
//!    ([`vault::Vault::refresh_keys`]). The openers take the queue, on all cores
//!    ([`vault::Vault::open_one`], by way of `vault/learn`): [`openpgp::examine`] takes the armor off,
//!    checks that the packets are one whole encrypted message, tries my keys, decrypts into memory,
//!    checks the integrity to the end, and verifies the signatures.
//! 3. *Facts to a place.* [`vault::Vault::judge_opened`] decides by the first good signature of a
//!    known person, for people among whom I am, to which directory the version belongs
//!    (`vault/judge`). [`vault::Vault::take_in_opened`] adds it to its document (`vault/known`), which
//!    notes a change.
//! 4. *Place to a name.* The view takes the changes from the vault ([`view::View::show_changes`]), and
//!    shows them in the tree under safe, unique names (`view/tree`).
//! 5. OPEN: [`view::View::open`] holds the file; the first one loads its content from the cache of what
//!    was just opened, or decrypts it again ([`vault::Vault::content`]).
//! 6. READ: [`view::View::read`] copies from that content ([`plaintext::Plaintext::read_at`]), and
//!    waits for no publication.
//!
//! # One SAVE
//!
//! `echo 'at noon?' > ~/secure/messages/alice/lunch.txt`:
//!
//! 1. CREATE: [`view::View::create`] checks the rules of the view and the certificates of the whole
//!    audience ([`vault::Vault::check_audience`]): a save that cannot succeed fails here.
//!    [`view::View::takeover`] decides which document the file continues, and on which versions it is
//!    based: those that its writer has read.
//! 2. WRITE: [`view::View::write`] changes a draft in memory ([`view::View::write_file`]), whose
//!    states and their transitions are in `view/draft/state.rs`.
//! 3. FLUSH, which close(2) sends: [`view::View::flush`] publishes under the file's lock
//!    ([`view::View::publish`]).
//! 4. *Draft to ciphertext.* [`vault::Vault::publish`] makes the statement that is signed: kind,
//!    audience, path, time, and the names of the replaced versions ([`vault::Vault::template`]).
//!    [`vault::Vault::seal`] signs, pads and encrypts to alice and to me ([`openpgp::Sealed`]).
//! 5. *Ciphertext to disk.* [`store::Store::put`] writes a file without a name, fsyncs it, and links it
//!    to its name, the SHA-1 of its bytes: no synchroniser ever sees half of it. For several readers
//!    an intent makes all copies appear or none ([`vault::Vault::place_copies`]).
//! 6. *Answer.* [`vault::Vault::take_place`] makes the new version known in the place of its parents, and
//!    [`view::View::show_published`] shows it. Then close(2) returns.
//! 7. *Durable.* Within a second, or at once for fsync(2), the folder is fsynced and only then the
//!    replaced version is unlinked ([`vault::Vault::make_durable`]). After a crash at any moment there is
//!    the old version, the new one, or both.
//!
//! # Without a kernel
//!
//! A web page or a mail gateway uses the same rooms without `fuse`: operations by path, for one
//! reader, whose saves replace only what it has read ([`view::Paths`]).
//!
//! ```
//! use std::sync::Arc;
//!
//! use dds::contacts::Contacts;
//! use dds::openpgp::{self, Identity, Profile};
//! use dds::state::State;
//! use dds::store::DirStore;
//! use dds::vault::{self, Vault};
//! use dds::view::{self, Reader, View};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! for folder in ["keys", "messages", "notes", "software"] {
//!     std::fs::create_dir_all(dir.path().join("store").join(folder))?;
//! }
//! let key = openpgp::generate("Alice <alice@example.org>", None, Profile::Compatible)?;
//! let identities = vec![Identity::unlock(&key.secret, None)?];
//! let state = State::open(&dir.path().join("state"), &vault::StateKey(&identities))?;
//! let contacts = Contacts::load(&dir.path().join("contacts"))?;
//! let store = Arc::new(DirStore::open(&dir.path().join("store"))?);
//! let vault = Vault::open(store, state, identities, contacts, vault::Options::default())?;
//! let view = View::new(vault, view::Options::default())?;
//!
//! let paths = view.paths(Reader::session());
//! let saved = paths.save("notes/me/todo.md", b"buy milk\n")?;
//! let facts = saved.facts.ok_or("no version")?;
//! assert_eq!(facts.from.ok_or("unsigned")?.name, "me");
//! assert_eq!(paths.list("notes/me")?.len(), 1);
//! assert_eq!(paths.read("notes/me/todo.md")?.as_slice(), b"buy milk\n");
//! assert!(view.close().is_empty(), "everything was saved");
//! # Ok(())
//! # }
//! ```
//!
//! # Threads and locks
//!
//! Several threads serve the kernel's requests. In a mounted view one more reads the store, several
//! open its files, one makes saves durable, one keeps the history, and one shows arrivals and saves
//! again ([`view::Background`]).
//!
//! [`locks`] gives each lock of the view a rank; a debug build panics where one is taken out of
//! order. From the first to the last:
//!
//! | lock | protects | held during |
//! |---|---|---|
//! | an open file | its place, its state as a draft, its time and mode | loading, writing, a whole publication |
//! | its bytes | the content | reading (shared), sealing (shared), one write |
//! | the tree | names, inodes, which version each file shows | memory work only; taking the vault's changes |
//! | problems, subscribers, queues | events, from the list to one queue | adding an item |
//! | leaves | open handles, what readers read, what this mount published and made, spellings of `keys/`, the error log, the state of looks at the store | memory work only |
//!
//! Nobody waits for a publication in order to read: the bytes of a published content are locked only
//! long enough to share them. Several open files are locked at once only to rename a
//! directory, in the order of their inodes. The vault's own locks come after all of these.
//!
//! `man/dds-store.5` describes the files of the store byte for byte, and `man/dds.7` the rules.
//! `tests/README.md` tells where each of them is tested.

// The walks above link to functions that only these rooms can call.
#![allow(rustdoc::private_intra_doc_links)]

pub mod cli;
pub mod contacts;
pub mod daemon;
pub mod error;
pub mod fuse;
pub mod ids;
pub mod locks;
pub mod openpgp;
pub mod plaintext;
pub mod process;
pub mod state;
pub mod store;
pub mod vault;
pub mod view;
