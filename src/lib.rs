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
//! # One read
//!
//! `cat ~/secure/messages/alice/lunch.txt`:
//!
//! 1. The kernel looks up the names ([`view::View::lookup`]). If one is not known, `keys/`,
//!    `messages/` and `notes/` of the store are listed and compared with the files that were seen
//!    before ([`vault::Vault::refresh`]).
//! 2. New certificates are pinned under their names, outside the store ([`contacts`]).
//! 3. New files are opened, on all cores ([`openpgp::examine`]): the armor comes off, the packets
//!    must be those of a whole encrypted message, my keys are tried, the content is decrypted into
//!    memory, and its integrity is checked to the end. Signatures are verified one by one.
//! 4. The first good signature of somebody known, for a set of people that I belong to, decides the
//!    directory. Its path, made safe, is the name.
//! 5. Open gets the content from a small cache in memory, or decrypts it again
//!    ([`view::View::open`]). Read copies from there ([`view::View::read`]).
//!
//! # One write
//!
//! `echo 'at noon?' > ~/secure/messages/alice/lunch.txt`:
//!
//! 1. Create checks the rules of the view and the certificates of the whole audience, and fails if
//!    one cannot be used ([`view::View::create`], [`vault::Vault::check_audience`]).
//! 2. Write changes a draft in memory ([`view::View::write`]).
//! 3. Close ([`view::View::flush`], [`vault::Vault::publish`]) signs the draft together with
//!    audience, path, time and the names of the versions that it replaces, pads it, and encrypts it
//!    to alice and to me ([`openpgp::Sealed`]).
//! 4. The ciphertext goes to a file without a name in `messages/` ([`store::Store::put`]). It is
//!    fsynced and then linked to its name, the SHA-1 of its bytes. No synchroniser sees it before.
//! 5. Within a second the directory is fsynced, and only then is a version that was replaced
//!    unlinked ([`vault::Vault::make_durable`]). After a crash at any moment there is the old version, the
//!    new one, or both.
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
