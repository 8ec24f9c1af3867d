//! A store in service: from unlocked keys to the end, with a mount or without one.
//!
//! [`unlock`] opens the key files, and `bootstrap` puts the parts together in the order that security
//! needs, serves, and locks.
//! [`client`] asks daemons that run, by the [`protocol`] that is spoken at the control socket:
//! lines of JSON, for the same user only.
//!
//! Nothing here prints, prompts, reads the environment or chooses exit codes: that is `cli`'s.

mod bootstrap;
pub mod client;
mod control;
mod idle;
pub mod protocol;
mod socket;
pub mod unlock;
mod watchers;

pub use bootstrap::{
    Confinement, Daemon, Directories, LEAVING, Locked, Mount, OwnProcess, Parts, StartError, Step,
    refuse_unconfined_root, start,
};
pub use control::Answers;
pub use socket::SocketPath;
