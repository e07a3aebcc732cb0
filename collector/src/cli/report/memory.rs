//! How much memory a report may take.

use crate::query::MOST_BYTES;
use std::str::FromStr;

/// A number of bytes, as people write it: `2G`, `500M`, `1000000000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) u64);

/// The text is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give a number of bytes, or one with M or G behind it, such as 2G")]
pub(super) struct NoSize;

impl FromStr for Bytes {
    type Err = NoSize;

    fn from_str(text: &str) -> Result<Self, NoSize> {
        let (number, unit) = match text.strip_suffix(['M', 'm']) {
            Some(number) => (number, 1_000_000),
            None => match text.strip_suffix(['G', 'g']) {
                Some(number) => (number, 1_000_000_000),
                None => (text, 1),
            },
        };
        let number: u64 = number.trim().parse().map_err(|_| NoSize)?;
        number.checked_mul(unit).map(Self).ok_or(NoSize)
    }
}

/// Returns the default memory limit of a report, in bytes: three quarters of what is free on
/// this host or of its control group's limit, whichever is less; at most [`MOST_BYTES`].
pub(super) fn usable() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let host = read("/proc/meminfo").and_then(|text| available(&text));
    // Version 2 of control groups, then version 1.
    let group = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let group = group
        .iter()
        .filter_map(|path| read(path)?.trim().parse::<u64>().ok());
    let least = host.into_iter().chain(group).min();
    least.map_or(MOST_BYTES, |bytes| (bytes / 4 * 3).min(MOST_BYTES))
}

/// Returns the memory available without swapping by `/proc/meminfo`, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|l| l.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::{Bytes, available, usable};
    use crate::query::MOST_BYTES;

    #[test]
    fn sizes_are_written_as_people_do() {
        let size = |text: &str| text.parse::<Bytes>().ok().map(|b| b.0);
        assert_eq!(size("2G"), Some(2_000_000_000));
        assert_eq!(size("500m"), Some(500_000_000));
        assert_eq!(size("7"), Some(7));
        for bad in ["", "G", "-1", "1.5G", "99999999999G", "2 T"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_the_host_has_bounds_it() {
        let text = "MemTotal: 8 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(available(text), Some(2 << 20));
        assert_eq!(available("MemTotal: 8 kB\n"), None);
        assert!((1..=MOST_BYTES).contains(&usable()));
    }
}
