//! Times as people here read them.

use chrono::{DateTime, FixedOffset};

use crate::ids::Timestamp;

/// Writes a time in the time zone of this machine, with its distance from UTC:
/// `2026-11-21 11:15:00 +0100`. In UTC if the zone cannot be told.
pub(in crate::view) fn local(time: Timestamp) -> String {
    let zone = FixedOffset::east_opt(offset(time.seconds()).unwrap_or(0));
    let utc = DateTime::from_timestamp(time.seconds(), 0);
    match (utc, zone) {
        (Some(utc), Some(zone)) => utc
            .with_timezone(&zone)
            .format("%Y-%m-%d %H:%M:%S %z")
            .to_string(),
        _ => time.to_string(),
    }
}

/// Seconds by which the clocks on the wall are ahead of UTC at a time.
fn offset(seconds: i64) -> Option<i32> {
    let time: libc::time_t = seconds;
    // SAFETY: a tm of zeros and null pointers is valid, and is only read once it was filled.
    let mut broken_down: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call, which keeps neither.
    let filled = unsafe { libc::localtime_r(&raw const time, &raw mut broken_down) };
    if filled.is_null() {
        return None;
    }
    i32::try_from(broken_down.tm_gmtoff).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_with_its_distance_from_utc() {
        let time = Timestamp::new(1_795_256_100, 0).unwrap();
        let written = local(time);
        let parsed = DateTime::parse_from_str(&written, "%Y-%m-%d %H:%M:%S %z").unwrap();
        assert_eq!(parsed.timestamp(), time.seconds(), "{written}");
    }
}
