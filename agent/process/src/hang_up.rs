//! Decides whether SIGHUP ends this process.

/// Where Linux says which signals a process ignores (proc(5)).
const STATUS: &str = "/proc/self/status";

/// Whether the process was started with SIGHUP ignored, as `nohup` does. If so, it must go on
/// ignoring it. Returns false where the kernel does not say: then SIGHUP ends the process in
/// order.
pub fn is_ignored() -> bool {
    std::fs::read_to_string(STATUS).is_ok_and(|status| ignores_hang_up(&status))
}

/// Whether a `/proc/PID/status` text shows SIGHUP as ignored: the lowest bit of the mask of
/// ignored signals.
fn ignores_hang_up(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::ignores_hang_up;

    #[test]
    fn whether_sighup_is_ignored_stands_in_the_status() {
        let status = |mask: &str| format!("Name:\ta\nSigBlk:\t0001\nSigIgn:\t{mask}\nSigCgt:\t1\n");
        // As under nohup, with SIGPIPE, which Rust ignores.
        assert!(ignores_hang_up(&status("0000000000001001")));
        assert!(!ignores_hang_up(&status("0000000000001000")));
        for unreadable in ["", "SigIgn:\t\n", "SigIgn:\tx\n"] {
            assert!(!ignores_hang_up(unreadable), "{unreadable}");
        }
    }
}
