//! Processor time and memory, as the kernel counts them.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use std::time::{Duration, Instant};

/// Of whom.
#[derive(Clone, Copy, Debug)]
enum Who {
    Thread,
    Children,
}

/// A running measurement of time and processor time.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    who: Who,
    cpu: Duration,
    wall: Instant,
}

/// What something cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Time that passed.
    pub wall: Duration,
    /// Processor time, of user and system.
    pub cpu: Duration,
}

impl Meter {
    /// Of the calling thread.
    ///
    /// # Errors
    /// The kernel's; none is known.
    pub fn thread() -> anyhow::Result<Self> {
        Self::of(Who::Thread)
    }

    /// Of child processes that will have been waited for by the end.
    ///
    /// # Errors
    /// The kernel's; none is known.
    pub fn children() -> anyhow::Result<Self> {
        Self::of(Who::Children)
    }

    fn of(who: Who) -> anyhow::Result<Self> {
        Ok(Self {
            who,
            cpu: cpu(who)?,
            wall: Instant::now(),
        })
    }

    /// What it cost until now.
    ///
    /// # Errors
    /// The kernel's; none is known.
    pub fn read(&self) -> anyhow::Result<Cost> {
        Ok(Cost {
            wall: self.wall.elapsed(),
            cpu: cpu(self.who)?.saturating_sub(self.cpu),
        })
    }
}

impl Cost {
    /// So many things per second of processor time.
    pub fn per_cpu_second(&self, things: u64) -> f64 {
        float(things) / self.cpu.as_secs_f64()
    }

    /// So many things per second.
    pub fn per_second(&self, things: u64) -> f64 {
        float(things) / self.wall.as_secs_f64()
    }
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}

fn cpu(who: Who) -> anyhow::Result<Duration> {
    let usage = getrusage(match who {
        Who::Thread => UsageWho::RUSAGE_THREAD,
        Who::Children => UsageWho::RUSAGE_CHILDREN,
    })?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(micros.try_into().unwrap_or(0)))
}

/// Resident memory of a process in MiB, and its greatest so far.
///
/// # Errors
/// When the process has ended.
pub fn resident(pid: u32) -> anyhow::Result<(f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> anyhow::Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.split_whitespace().next());
        let kib = kib.ok_or_else(|| anyhow::anyhow!("process {pid} has no {name}"))?;
        Ok(kib.parse::<f64>()? / 1024.0)
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

/// A count as a number to divide.
#[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
pub fn float(n: u64) -> f64 {
    n as f64
}

/// The middle of `values`, which it sorts; NaN of none.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
