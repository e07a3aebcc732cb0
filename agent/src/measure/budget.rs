//! Limits the memory of a measurement, which keeps all probes until its end and judges them
//! then.
//!
//! Free memory changes during the run, so it is read repeatedly: the host's memory, the
//! limits of the process's control groups, and its own limits. The run ends in order while
//! there is still enough memory to judge its probes.

use crate::recorder::Batch;
use hopgap_proto::time::Span;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Roots of the control groups: the usual one and, where a private `/sys` hides it, as under
/// `ip netns exec`, that of the first process.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/proc/1/root/sys/fs/cgroup"];

/// Bytes that the analysis takes for each probe, in addition to its record.
const ANALYSIS: u64 = 260;
/// About the bytes of a probe's record (a test compares it with the type).
const RECORD: u64 = 64;
/// Bytes of a traceroute with its hops and its analysis; the next constant is for an event.
const TRACE: u64 = 4_096;
const EVENT: u64 = 256;
/// Bytes for the rest: the findings, their text, and other programs of the host.
const SPARE: u64 = 8 << 20;

/// A number of bytes, as people write it: `300MB`, `1GiB`, `5000000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let how = || format!("`{text}` is no amount of memory; write one such as 300MB or 1GiB");
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit: u64 = match text.get(digits.len()..).unwrap_or_default() {
            "" | "B" => 1,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(how()),
        };
        let number: u64 = digits.trim_end().parse().map_err(|_| how())?;
        let bytes = number.checked_mul(unit).ok_or_else(how)?;
        if bytes < 16 << 20 {
            return Err(format!(
                "{text} is less than the program needs to begin; write at least 16MiB"
            ));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MB", self.0.div_ceil(1_000_000))
    }
}

/// Counts of the records kept so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    probes: u64,
    traces: u64,
    events: u64,
}

impl Kept {
    pub(super) fn of(records: &Batch) -> Self {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Self {
            probes: count(records.probes.len()),
            traces: count(records.traces.len()),
            events: count(records.events.len()),
        }
    }

    /// Returns the number of probes.
    pub(super) fn probes(self) -> u64 {
        self.probes
    }

    /// Returns the bytes that judging these records will take.
    fn to_judge(self) -> u64 {
        (self.probes * ANALYSIS)
            .saturating_add(self.traces * TRACE)
            .saturating_add(self.events * EVENT)
    }
}

/// Decides when a measurement must end for lack of memory.
#[derive(Debug)]
pub(super) struct Budget {
    /// Most bytes that the process may use.
    most: u64,
    limits: Vec<Limit>,
    /// How long probes still come after the request to end.
    wait: Span,
    /// Most probes that can come in that time.
    most_coming: u64,
}

impl Budget {
    /// Makes a budget of `most` bytes, or of three quarters of the free memory, for `flows` that
    /// each send a probe every `interval` and wait for the last replies during `timeout`. Call it
    /// before dropping privileges: some limits are not readable without.
    pub(super) fn new(most: Option<Bytes>, flows: u8, interval: Span, timeout: Span) -> Self {
        let wait = timeout + Span::from_secs(1);
        let each = wait.as_nanos() / interval.as_nanos().max(1) + 1;
        let probes = u64::from(flows) * u64::try_from(each).unwrap_or(0);
        let limits = limits();
        let now = Memory::now(&limits);
        Self {
            most: match most {
                Some(Bytes(most)) => most,
                None => now.used.saturating_add(now.free / 4 * 3),
            },
            limits,
            wait,
            most_coming: probes,
        }
    }

    /// Returns the most bytes that the process may use.
    pub(super) fn most(&self) -> Bytes {
        Bytes(self.most)
    }

    /// Whether the measurement must end.
    pub(super) fn is_used_up(&self, kept: Kept, elapsed: Span) -> bool {
        self.is_used_up_by(kept, elapsed, Memory::now(&self.limits))
    }

    /// Decides with given memory. Probes still to come are counted at up to twice the pace so
    /// far: a host that could not keep the plan's pace may catch up.
    fn is_used_up_by(&self, kept: Kept, elapsed: Span, now: Memory) -> bool {
        let millis = |span: Span| u64::try_from(span.as_nanos() / 1_000_000).unwrap_or(0);
        let at_this_pace =
            (kept.probes * 2).saturating_mul(millis(self.wait)) / millis(elapsed).max(1);
        let coming = self.most_coming.min(at_this_pace);
        let needed = kept
            .to_judge()
            .saturating_add(coming * (RECORD + ANALYSIS))
            .saturating_add(SPARE);
        let left = self.most.saturating_sub(now.used).min(now.free);
        left < needed
    }
}

/// Memory of this process and free memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    /// What the process uses.
    used: u64,
    /// How much more it can use, by the tightest of all limits.
    free: u64,
}

impl Memory {
    fn now(limits: &[Limit]) -> Self {
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let pages = read(Path::new("/proc/self/statm"));
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4_096);
        let mut pages = pages.split(' ').map(|n| n.trim().parse::<u64>().ok());
        let virtually = pages.next().flatten().unwrap_or(0) * page;
        let used = pages.next().flatten().unwrap_or(0) * page;
        let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
        let by_limit = limit.map(|limit| limit.saturating_sub(virtually));
        let by_host = available(&read(Path::new("/proc/meminfo")));
        let by_groups = limits.iter().filter_map(Limit::free);
        let free = by_groups.chain(by_host).chain(by_limit).min();
        Self {
            used,
            free: free.unwrap_or(u64::MAX),
        }
    }
}

/// Returns the available memory by `/proc/meminfo`, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

/// A control group's directory, of version 1 or 2, relative to the root of the groups.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Group {
    V1(PathBuf),
    V2(PathBuf),
}

/// Returns the process's groups by `/proc/self/cgroup`, each with its ancestors.
fn groups(cgroup: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (root, make): (_, fn(PathBuf) -> Group) = if controllers.is_empty() {
            ("", Group::V2)
        } else if controllers.split(',').any(|c| c == "memory") {
            ("memory", Group::V1)
        } else {
            continue;
        };
        let path = Path::new(path.trim_start_matches('/'));
        groups.extend(path.ancestors().map(|p| make(Path::new(root).join(p))));
    }
    groups
}

/// The limit of a control group. Keeps the files open, so that they can be read again after
/// privileges are dropped.
#[derive(Debug)]
struct Limit {
    bytes: u64,
    usage: File,
    stat: Option<File>,
    /// Name of the counter of file cache, which the kernel frees when memory is needed.
    files: &'static str,
}

/// Returns the limits of this process's groups.
fn limits() -> Vec<Limit> {
    let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = groups(&cgroup);
    let root = ROOTS
        .iter()
        .map(Path::new)
        .find(|root| std::fs::read_dir(root).is_ok_and(|mut names| names.next().is_some()));
    let of = |root| groups.iter().filter_map(move |g| Limit::open(g, root));
    root.into_iter().flat_map(of).collect()
}

impl Limit {
    /// Opens a group's limit; `None` where it has none, or none can be read.
    fn open(group: &Group, root: &Path) -> Option<Self> {
        let (folder, limit, usage, files) = match group {
            Group::V1(folder) => (
                folder,
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file ",
            ),
            Group::V2(folder) => (folder, "memory.max", "memory.current", "inactive_file "),
        };
        let folder = root.join(folder);
        let bytes = std::fs::read_to_string(folder.join(limit)).ok()?;
        Some(Self {
            bytes: bytes.trim().parse().ok()?,
            usage: File::open(folder.join(usage)).ok()?,
            stat: File::open(folder.join("memory.stat")).ok(),
            files,
        })
    }

    /// Returns the bytes that may still be used.
    fn free(&self) -> Option<u64> {
        let usage: u64 = again(&self.usage)?.trim().parse().ok()?;
        let stat = self.stat.as_ref().and_then(again).unwrap_or_default();
        let files = stat
            .lines()
            .find_map(|line| line.strip_prefix(self.files)?.trim().parse::<u64>().ok());
        let taken = usage.saturating_sub(files.unwrap_or(0));
        Some(self.bytes.saturating_sub(taken))
    }
}

/// Reads a kernel file again from its start.
fn again(file: &File) -> Option<String> {
    let mut text = vec![0; 16 << 10];
    let length = file.read_at(&mut text, 0).ok()?;
    text.truncate(length);
    String::from_utf8(text).ok()
}

/// A measurement ended early for lack of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndedEarly {
    /// Most bytes that the process could use.
    pub(super) most: Bytes,
    /// How long it measured.
    pub(super) after: Span,
    /// How many probes it had recorded by then.
    pub(super) probes: u64,
}

impl fmt::Display for EndedEarly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            most,
            after,
            probes,
        } = self;
        write!(
            f,
            "The measurement ended early, after {} and {probes} probes, because it keeps every probe until its end and {most} of memory hold no more; all that is said here is of that time. For longer take a longer --interval, fewer --flows, a larger --max-memory, or an agent with a collector.",
            hopgap_analysis::text::span(hopgap_analysis::schema::Nanos(*after))
        )
    }
}

#[cfg(test)]
mod tests;
