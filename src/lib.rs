//! DDS shows a synced folder of OpenPGP files as plain files.
//!
//! The modules are the way that data takes, and imports point one way only
//! (`tests/layering.rs` proves it):
//!
//! ```text
//! kernel -> fuse -> view -> vault -> store      ciphertext on disk
//!                             |----> openpgp    bytes in, bytes out; alone names sequoia
//!                             |----> contacts   pins and local names
//!                             |----> state      what has to be remembered outside the store
//!                                    plaintext  the only home of plaintext
//! ```
//!
//! `process` is what the daemon is as a process: its keeper, its sandbox, its memory.
//! `cli` is the two programs' own code: it alone prints, prompts, reads the environment and
//! exits.

pub mod cli;
pub mod contacts;
pub mod error;
pub mod fuse;
pub mod ids;
pub mod openpgp;
pub mod plaintext;
pub mod process;
pub mod state;
pub mod store;
pub mod vault;
pub mod view;
