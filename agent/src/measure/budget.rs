//! How much memory a measurement may take: all probes are kept until its end, and judged
//! then.
//!
//! What there is changes while it runs, so it is asked for again and again: the host's
//! memory, the limits of the control groups that the process is in, and its own limits. The
//! run ends in order while there is still room to judge what was measured.

use crate::recorder::Batch;
use hopgap_proto::time::Span;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where control groups are: here, and where an own view of `/sys` hides them, as `ip netns
/// exec` makes it, where the first process sees them.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/proc/1/root/sys/fs/cgroup"];

/// Bytes that the analysis takes for each probe, beside its record.
const ANALYSIS: u64 = 260;
/// Bytes of a probe's record, about (a test holds it against the type).
const RECORD: u64 = 64;
/// Bytes of a traceroute with its hops, and of its analysis, and the same of an event.
const TRACE: u64 = 4_096;
const EVENT: u64 = 256;
/// What the rest takes: the findings, their text, and whatever else the host starts.
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

/// What is kept so far.
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

    /// How many probes.
    pub(super) fn probes(self) -> u64 {
        self.probes
    }

    /// Bytes that judging it will take.
    fn to_judge(self) -> u64 {
        (self.probes * ANALYSIS)
            .saturating_add(self.traces * TRACE)
            .saturating_add(self.events * EVENT)
    }
}

/// When a measurement has to end for want of memory.
#[derive(Debug)]
pub(super) struct Budget {
    /// The process may not take more than this.
    most: u64,
    limits: Vec<Limit>,
    /// How long probes still come once the end is asked for.
    wait: Span,
    /// How many that can be at most.
    most_coming: u64,
}

impl Budget {
    /// Of `most` bytes, else of three quarters of what there is; for so many flows, a probe of
    /// each every `interval`, whose last replies are waited for during `timeout`. To be called
    /// while there are still all rights: some limits are not everybody's to read.
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

    /// What the process may take.
    pub(super) fn most(&self) -> Bytes {
        Bytes(self.most)
    }

    /// Whether it is time to end.
    pub(super) fn is_used_up(&self, kept: Kept, elapsed: Span) -> bool {
        self.is_used_up_by(kept, elapsed, Memory::now(&self.limits))
    }

    /// Of what was recorded in `elapsed`, twice as many may still come in the same time: a host
    /// that cannot send at the plan's pace may catch up.
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

/// Memory of this process and of its surroundings, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    /// What the process takes.
    used: u64,
    /// What it can take beside, by the tightest of all limits.
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

/// What `/proc/meminfo` says is available.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

/// Where a control group tells of its memory, by the kernel's two versions of them. The path
/// is relative to where the groups are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Group {
    V1(PathBuf),
    V2(PathBuf),
}

/// The groups that the process is in, by `/proc/self/cgroup`, each with those above it.
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

/// The limit of a control group, whose files stay open: what can be read with the rights of
/// the start can be read again without them.
#[derive(Debug)]
struct Limit {
    bytes: u64,
    usage: File,
    stat: Option<File>,
    /// The name of the memory that is kept for files only, and goes when it is needed.
    files: &'static str,
}

/// The limits of the groups that this process is in.
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
    /// `None` where the group has no limit, or does not say.
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

    /// What may still be taken.
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

/// What a file of the kernel says now.
fn again(file: &File) -> Option<String> {
    let mut text = vec![0; 16 << 10];
    let length = file.read_at(&mut text, 0).ok()?;
    text.truncate(length);
    String::from_utf8(text).ok()
}

/// Why a measurement ended before it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndedEarly {
    /// What the process could take.
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
