//! What the daemon is as a process: who watches it, what it may do, what of it may leave RAM.
//!
//! Nothing here knows of files, keys or documents.

mod calls;
pub mod keeper;
pub mod logind;
pub mod memory;
pub mod mounts;
pub mod sandbox;
