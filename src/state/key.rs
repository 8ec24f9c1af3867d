//! The one random key, kept in `key.asc` as its owner's OpenPGP key wraps it.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::private_dir::PrivateDir;
use super::random::fill_random;

use crate::error::{Error, Kind, Result};

/// The file's name.
pub(super) const KEY: &str = "key.asc";
/// Bytes of the largest file that is looked at: an OpenPGP message of 32 bytes to one reader.
const LIMIT: u64 = 1 << 20;

/// Wraps the state's key for its owner.
pub trait KeyWrap {
    /// Seals the key to me and signs it by me.
    ///
    /// # Errors
    /// The error of the sealing; nothing is kept then.
    fn wrap(&self, key: &[u8; 32]) -> Result<Vec<u8>>;

    /// Opens a key that [`KeyWrap::wrap`] sealed.
    ///
    /// # Errors
    /// `NoKey` if it is sealed to none of my keys that are here; else unless it has a good
    /// signature of mine.
    fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>>;

    /// Tells whether each of my keys that are here opens it. If not, it is wrapped anew, so that
    /// it outlives the key that did.
    fn is_current(&self, _wrapped: &[u8]) -> bool {
        true
    }
}

/// The key of the log. Never moved, so that it is in one place; zeroed when dropped.
pub(super) struct Key(Zeroizing<[u8; 32]>);

impl Key {
    pub(super) fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Makes a key that is not on disk yet.
    pub(super) fn new() -> Result<Arc<Key>> {
        Key::fill(fill_random)
    }

    fn fill(with: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<Arc<Key>> {
        let mut key = Arc::new(Key(Zeroizing::new([0; 32])));
        with(&mut Arc::get_mut(&mut key).expect("not shared yet").0[..])?;
        Ok(key)
    }

    /// Reads the key; `None` if there is none and it is not needed, because nothing was ever sealed
    /// under it.
    ///
    /// # Errors
    /// `NoKey` if it is sealed to a key that is not here; `BadConfig` if it does not open
    /// otherwise, or is gone while there is a log.
    pub(super) fn read(
        dir: &PrivateDir,
        wrap: &dyn KeyWrap,
        is_needed: impl FnOnce() -> Result<bool>,
    ) -> Result<Option<Arc<Key>>> {
        let path = dir.shown(KEY);
        let unusable = |why: &str| {
            let advice = format!(
                "what was removed is known only with it; to forget that, move {} away",
                dir.shown_self()
            );
            Error::new(Kind::BadConfig, format!("{path} {why}: {advice}"))
        };
        let wrapped = match dir.read(KEY, LIMIT) {
            Ok(Some(wrapped)) => wrapped,
            // The first start died before it wrote the key, which is the last thing it does.
            Ok(None) if !is_needed()? => return Ok(None),
            Ok(None) => return Err(unusable("is missing")),
            Err(error) if error.kind() == Kind::TooLarge => {
                return Err(unusable("is too large to be a key"));
            }
            Err(error) => return Err(error),
        };
        match wrap.unwrap(&wrapped) {
            Ok(unwrapped) => {
                let key = Key::fill(|key| {
                    key.copy_from_slice(&unwrapped[..]);
                    Ok(())
                });
                let key = key?;
                if !wrap.is_current(&wrapped) {
                    // It opens as it is: the next start tries again.
                    let anew = key.wrap(dir, wrap);
                    let _ = anew.and_then(|wrapped| write(dir, &wrapped));
                }
                Ok(Some(key))
            }
            Err(error) if error.kind() == Kind::NoKey => {
                let sentence = format!(
                    "{path} is sealed to a key that is not here ({error}), and without it what was \
                     removed is not known, and shows if it comes back: mount once with the key \
                     file that opened it, whose other keys open it then, too; or, to forget what \
                     was removed, move {} away",
                    dir.shown_self()
                );
                Err(Error::new(Kind::NoKey, sentence))
            }
            Err(error) => Err(unusable(&format!("cannot be opened ({error})"))),
        }
    }

    /// Wraps the key, and looks whether it will open again.
    pub(super) fn wrap(&self, dir: &PrivateDir, wrap: &dyn KeyWrap) -> Result<Vec<u8>> {
        let wrapped = wrap.wrap(&self.0)?;
        if wrapped.len() as u64 > LIMIT || *wrap.unwrap(&wrapped)? != *self.0 {
            let sentence = format!("{} would not open again", dir.shown(KEY));
            return Err(Error::new(Kind::Io, sentence));
        }
        Ok(wrapped)
    }
}

/// Writes a wrapped key durably.
pub(super) fn write(dir: &PrivateDir, wrapped: &[u8]) -> Result<()> {
    let temporary = dir.temporary()?;
    std::io::Write::write_all(&mut temporary.file(), wrapped)
        .map_err(|error| Error::io(&format!("cannot write {}", dir.shown(KEY)), error))?;
    temporary.place(KEY, wrapped.len() as u64)?;
    dir.sync()
}
