//! The kernel's clocks, timers and waiting.

use super::check;
use hopgap_proto::time::{Mono, Span, Wall};
use std::ffi::c_long;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

const NANOS_PER_SEC: i64 = 1_000_000_000;

fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a timespec to write to. These clocks exist on every Linux,
    // so that the call cannot fail.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec
        .saturating_mul(NANOS_PER_SEC)
        .saturating_add(time.tv_nsec)
}

pub(crate) fn mono() -> Mono {
    Mono::from_nanos(read(libc::CLOCK_MONOTONIC))
}

pub(crate) fn wall() -> Wall {
    Wall::from_nanos(read(libc::CLOCK_REALTIME))
}

/// The monotonic clock plus the time for which the host slept.
pub(crate) fn boot() -> Mono {
    Mono::from_nanos(read(libc::CLOCK_BOOTTIME))
}

/// What `adjtimex` says of the wall clock, without touching it.
pub(crate) struct Discipline {
    pub(crate) synchronised: bool,
    pub(crate) max_error: Span,
    pub(crate) est_error: Span,
}

pub(crate) fn discipline() -> io::Result<Discipline> {
    // SAFETY: a plain C structure for which zero is a valid value: no modes,
    // nothing is to be changed.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `state` is a timex to read and write.
    let clock = check(unsafe { libc::adjtimex(&raw mut state) })?;
    let micros = |value: c_long| Span::from_nanos(value.saturating_mul(1000));
    Ok(Discipline {
        synchronised: clock != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0,
        max_error: micros(state.maxerror),
        est_error: micros(state.esterror),
    })
}

fn timespec(nanos: i64) -> libc::timespec {
    let nanos = nanos.max(0);
    libc::timespec {
        tv_sec: nanos / NANOS_PER_SEC,
        tv_nsec: nanos % NANOS_PER_SEC,
    }
}

/// A timer on `CLOCK_MONOTONIC`, non-blocking, disarmed.
pub(crate) fn timer() -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let fd = check(unsafe {
        libc::timerfd_create(
            libc::CLOCK_MONOTONIC,
            libc::TFD_NONBLOCK | libc::TFD_CLOEXEC,
        )
    })?;
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Arms the timer for the instant `at`, or disarms it.
pub(crate) fn arm(timer: BorrowedFd<'_>, at: Option<Mono>) -> io::Result<()> {
    let spec = libc::itimerspec {
        it_interval: timespec(0),
        // Zero would disarm; an instant in the past expires at once.
        it_value: timespec(at.map_or(0, |at| at.as_nanos().max(1))),
    };
    // SAFETY: `spec` lives through the call, and no old value is asked for.
    check(unsafe {
        libc::timerfd_settime(
            timer.as_raw_fd(),
            libc::TFD_TIMER_ABSTIME,
            &raw const spec,
            ptr::null_mut(),
        )
    })
    .map(drop)
}

/// Returns how often the timer has expired since the last call.
pub(crate) fn expirations(timer: BorrowedFd<'_>) -> io::Result<u64> {
    let mut count = 0u64;
    // SAFETY: the kernel writes 8 bytes to `count` or nothing.
    let read = unsafe { libc::read(timer.as_raw_fd(), (&raw mut count).cast(), 8) };
    match read {
        8 => Ok(count),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            error => Err(error),
        },
    }
}

/// Sleeps until `deadline`; a signal ends it early.
pub(crate) fn sleep_until(deadline: Mono) {
    let spec = timespec(deadline.as_nanos());
    // SAFETY: `spec` lives through the call, and no remainder is asked for.
    unsafe {
        libc::clock_nanosleep(
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &raw const spec,
            ptr::null_mut(),
        )
    };
}

/// Lets the kernel delay the calling thread's wake-ups by at most `nanos`.
pub(crate) fn set_timer_slack(nanos: u32) -> io::Result<()> {
    // SAFETY: PR_SET_TIMERSLACK takes a number and touches no memory.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, libc::c_ulong::from(nanos)) }).map(drop)
}

/// The calling thread's timer slack in nanoseconds.
#[cfg(test)]
pub(crate) fn timer_slack() -> std::ffi::c_int {
    // SAFETY: PR_GET_TIMERSLACK takes and touches nothing.
    unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) }
}

/// Waits until one of `fds` is ready or `timeout` has passed. A signal ends it early, with
/// none ready.
pub(crate) fn poll(fds: &mut [libc::pollfd], timeout: Option<Span>) -> io::Result<()> {
    let timeout = timeout.map(|span| timespec(span.as_nanos()));
    let pointer = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    let count = libc::nfds_t::from(super::len_of(fds.len()));
    // SAFETY: `fds` and `timeout` live through the call; no signal mask is given.
    let result = check(unsafe { libc::ppoll(fds.as_mut_ptr(), count, pointer, ptr::null()) });
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            fds.iter_mut().for_each(|fd| fd.revents = 0);
            Ok(())
        }
        Err(error) => Err(error),
    }
}
