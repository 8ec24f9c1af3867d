//! Stands for logind in a program that was built without it.

use std::os::fd::{AsFd, BorrowedFd};

use super::{Heard, LockTriggers};
use crate::error::{Error, Kind, Result};

/// A connection to logind, of which there is none.
pub enum Logind {}

impl Logind {
    /// Refuses.
    ///
    /// # Errors
    /// `Unsupported`, always.
    pub fn connect(_: LockTriggers) -> Result<Logind> {
        Err(Error::new(Kind::Unsupported, "built without logind"))
    }

    /// Cannot be called.
    pub fn hear(&self) -> Heard {
        match *self {}
    }

    /// Cannot be called.
    pub fn let_sleep(&mut self) {
        match *self {}
    }

    /// Cannot be called.
    ///
    /// # Errors
    /// None.
    pub fn delay_sleep(&mut self) -> Result<()> {
        match *self {}
    }
}

impl AsFd for Logind {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}
