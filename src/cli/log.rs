//! Where the daemon logs. Nothing of files, not even their names, is ever logged.

use syslog_tracing::{Facility, Options, Syslog};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Warnings and errors, unless `DDS_LOG` says otherwise.
fn filter() -> EnvFilter {
    let default = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into());
    default.with_env_var("DDS_LOG").from_env_lossy()
}

/// In the foreground.
pub(super) fn to_stderr() {
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr);
    log.with_env_filter(filter()).init();
}

/// In the background: to syslog, which the journal reads as well. Called before the process is
/// confined, as it could not connect then.
pub(super) fn to_system() {
    let options = Options::LOG_PID | Options::LOG_NDELAY;
    if let Some(syslog) = Syslog::new(c"dds-mount", options, Facility::Daemon) {
        let log = tracing_subscriber::fmt().with_writer(syslog);
        // Both are added by syslog.
        let log = log.with_level(false).without_time().with_ansi(false);
        log.with_env_filter(filter()).init();
    }
}
