//! The programs and their pages: messages, options and exit codes, and the sessions that the pages
//! show.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod control;
mod ended;
mod init;
mod manual;
mod mount;
mod my_key;
mod readme;
mod relay;
mod verify;
mod watch;
