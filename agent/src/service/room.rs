//! Keeps file descriptors free for the rest of the agent: deliveries, the spool, the plan.
//! A plan may want more sockets than the process may open. Sessions that do not fit wait
//! and report it, and records are still delivered.

use hopgap_process::descriptors;

/// How many descriptors are kept for everything other than sessions.
const KEPT: u64 = 64;

/// Why a session's sockets are not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its {wanted} sockets do not fit: this process may have {most} files open, and {KEPT} of them are kept for deliveries; allow more by LimitNOFILE in the service's unit (or `ulimit -n`), or plan fewer flows"
)]
pub(super) struct NoRoom {
    wanted: u64,
    most: u64,
}

/// Checks that `wanted` more sockets may be opened.
pub(super) fn for_sockets(wanted: u8) -> Result<(), NoRoom> {
    // Where the count is unknown, the kernel refuses the sockets itself.
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let open = u64::try_from(open).unwrap_or(u64::MAX);
    fits(wanted.into(), open, descriptors::limit())
}

fn fits(wanted: u64, open: u64, most: Option<u64>) -> Result<(), NoRoom> {
    match most {
        Some(most) if open.saturating_add(wanted).saturating_add(KEPT) > most => {
            Err(NoRoom { wanted, most })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_kept_for_deliveries() {
        assert_eq!(fits(8, 952, Some(1_024)), Ok(()));
        let full = fits(8, 953, Some(1_024)).unwrap_err().to_string();
        assert!(full.contains("may have 1024 files open"), "{full}");
        assert!(full.contains("LimitNOFILE"), "{full}");
        assert_eq!(fits(64, 1_000_000, None), Ok(()));
        assert!(fits(64, u64::MAX, Some(1_024)).is_err());
    }

    #[test]
    fn what_is_open_counts() {
        // A test has some files open, and far fewer than it may.
        assert_eq!(for_sockets(8), Ok(()));
    }
}
