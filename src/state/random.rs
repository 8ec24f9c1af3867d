//! Random bytes.

use crate::error::{Error, Result};

/// Fills `bytes` from the system's cryptographic generator.
pub(super) fn fill_random(bytes: &mut [u8]) -> Result<()> {
    use rustix::rand::{GetRandomFlags, getrandom};
    let mut filled = 0;
    while filled < bytes.len() {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::io("cannot get random bytes", errno.into())),
        }
    }
    Ok(())
}
