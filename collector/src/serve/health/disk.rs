//! The store's disk: how much is free, and what it refused.

use crate::serve::TimeText;
use hopgap_proto::time::Wall;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Least free bytes: with fewer, the next minutes may not be stored.
const LEAST_FREE: u64 = 256 << 20;

/// The store's disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskBody {
    /// Bytes that may still be written; `null` where that is not known.
    pub free: Option<u64>,
    /// Bytes of the whole file system.
    pub total: Option<u64>,
    /// Whether so little is free that the next minutes may not be stored.
    pub low: bool,
    /// The last write that failed since the start; `null` for none.
    pub error: Option<WriteErrorBody>,
}

/// A write that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteErrorBody {
    /// When it last failed.
    pub at: TimeText,
    /// Since when all writes have failed; `null` where one has succeeded after it.
    pub since: Option<TimeText>,
    /// How many failed since the start.
    pub count: u64,
    /// Why, and where.
    pub error: String,
}

impl DiskBody {
    /// Whether somebody must look after the disk.
    pub fn is_bad(&self) -> bool {
        self.low || self.error.as_ref().is_some_and(|e| e.since.is_some())
    }
}

/// Writes that the store's disk refused since the start.
#[derive(Debug, Default)]
pub(crate) struct DiskTrouble(Mutex<Option<WriteErrorBody>>);

impl DiskTrouble {
    /// Notes that a write failed.
    pub(crate) fn failed(&self, error: &str, now: Wall) {
        let mut trouble = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = trouble.take();
        let since = before.as_ref().and_then(|b| b.since);
        *trouble = Some(WriteErrorBody {
            at: TimeText(now),
            since: since.or(Some(TimeText(now))),
            count: before.map_or(0, |b| b.count) + 1,
            error: error.to_owned(),
        });
    }

    /// Notes that a write succeeded.
    pub(crate) fn succeeded(&self) {
        let mut trouble = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trouble) = trouble.as_mut() {
            trouble.since = None;
        }
    }

    /// Returns the present state of the disk of the store in `dir`.
    pub(crate) fn body(&self, dir: &Path) -> DiskBody {
        let error = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let disk = rustix::fs::statvfs(dir).ok();
        let free = disk.as_ref().map(|d| d.f_bavail.saturating_mul(d.f_frsize));
        let total = disk.map(|d| d.f_blocks.saturating_mul(d.f_frsize));
        // A small disk may have no more than that in total.
        let least = total.map_or(LEAST_FREE, |total| LEAST_FREE.min(total / 20));
        DiskBody {
            free,
            total,
            low: free.is_some_and(|free| free < least),
            error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_as_going_on_until_a_write_succeeds() {
        let at = |s: i64| Wall::from_nanos(s * 1_000_000_000);
        let trouble = DiskTrouble::default();
        let dir = Path::new("/");
        trouble.succeeded();
        assert_eq!(trouble.body(dir).error, None);
        assert!(trouble.body(dir).free.is_some());
        trouble.failed("full", at(10));
        trouble.failed("full", at(15));
        let bad = trouble.body(dir);
        assert!(bad.is_bad());
        let error = bad.error.unwrap();
        let told = (error.since, error.at, error.count);
        assert_eq!(told, (Some(TimeText(at(10))), TimeText(at(15)), 2));
        trouble.succeeded();
        let good = trouble.body(dir);
        let error = good.error.unwrap();
        assert_eq!((error.since, error.at), (None, TimeText(at(15))));
        trouble.failed("full again", at(30));
        assert_eq!(
            trouble.body(dir).error.unwrap().since,
            Some(TimeText(at(30)))
        );
    }

    #[test]
    fn an_unknown_disk_is_not_called_good_or_bad() {
        let body = DiskTrouble::default().body(Path::new("/nowhere/at/all"));
        assert_eq!((body.free, body.low), (None, false));
    }
}
