//! The process behind a request: the kernel names a thread, and the view needs its thread group.

use crate::view::{Caller, Reader};

/// Converts the process of a request, in calls that neither open nor close a file.
pub(super) fn plain(request: &fuser::Request) -> Caller {
    Caller {
        reader: None,
        is_root: request.uid() == 0,
    }
}

/// Converts the process of a request with its thread group, read from `/proc/<tid>/status`.
///
/// Process 0 (the kernel itself, or another pid namespace) and processes that are already gone
/// have none.
pub(super) fn with_group(request: &fuser::Request) -> Caller {
    let status = match request.pid() {
        0 => None,
        tid => std::fs::read_to_string(format!("/proc/{tid}/status")).ok(),
    };
    let group = status.as_deref().and_then(thread_group);
    Caller {
        reader: group.map(Reader::process),
        ..plain(request)
    }
}

fn thread_group(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_s_group_is_its_process() {
        let thread = std::thread::spawn(|| std::fs::read_to_string("/proc/thread-self/status"));
        let status = thread.join().unwrap().unwrap();
        assert_eq!(thread_group(&status), Some(std::process::id()));
        assert_eq!(thread_group("Name:\tx\n"), None);
    }
}
