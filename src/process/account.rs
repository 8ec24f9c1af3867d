//! The entry of the password database for the user of this process.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// Bytes of the longest entry that is read.
const LONGEST: usize = 64 << 10;

/// Returns the home directory of the user as whom this process acts; `None` if the database does
/// not know the user, or knows no absolute path.
pub fn home_directory() -> Option<PathBuf> {
    let home = of_user(|entry| entry.pw_dir)?;
    let home = PathBuf::from(OsStr::from_bytes(&home));
    home.is_absolute().then_some(home)
}

/// Returns the login name of the user as whom this process acts; `None` if the database does not
/// know the user.
pub fn login_name() -> Option<String> {
    let name = of_user(|entry| entry.pw_name)?;
    String::from_utf8(name).ok().filter(|name| !name.is_empty())
}

/// Looks the user up, and copies one of the strings of the entry.
fn of_user(string: impl FnOnce(&libc::passwd) -> *mut libc::c_char) -> Option<Vec<u8>> {
    // SAFETY: a passwd of null pointers and zeros is valid, and is only read once it was filled.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut text = vec![0_u8; LONGEST];
    let mut found: *mut libc::passwd = std::ptr::null_mut();
    let user = rustix::process::geteuid().as_raw();
    // SAFETY: all pointers are valid for the call, and `text` is as long as is said.
    let failed = unsafe {
        libc::getpwuid_r(
            user,
            &raw mut entry,
            text.as_mut_ptr().cast(),
            text.len(),
            &raw mut found,
        )
    };
    if failed != 0 || found.is_null() {
        return None;
    }
    let string = string(&entry);
    if string.is_null() {
        return None;
    }
    // SAFETY: the entry was found, so this is a string with an end, inside `text`.
    let string = unsafe { CStr::from_ptr(string) };
    Some(string.to_bytes().to_vec())
}
