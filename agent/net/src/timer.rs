//! Waiting for an instant of the monotonic clock, or for a packet before it.
//!
//! Sleeping alone wakes some tens of microseconds late, on a virtual machine now and then
//! milliseconds late. For a precise send, wait until [`SPIN`] before the instant, then call
//! [`spin_until`]; that costs part of a core.

use crate::clock::Clock;
use crate::sys;
use hopgap_proto::time::{Mono, Span};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// How long before an instant the waiting turns into spinning.
pub const SPIN: Span = Span::from_nanos(150_000);

/// Most descriptors that one [`wait`] takes.
pub const MAX_FDS: usize = 64;

/// A timer that becomes readable at an instant of the monotonic clock.
#[derive(Debug)]
pub struct Timer {
    fd: OwnedFd,
}

impl Timer {
    /// A timer that is not armed.
    ///
    /// # Errors
    /// The kernel's, when the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            fd: sys::clock::timer()?,
        })
    }

    /// Makes the timer readable at `at`; at once where that is past. An earlier
    /// arming is forgotten.
    ///
    /// # Errors
    /// The kernel's; none is known to occur.
    pub fn arm(&self, at: Mono) -> io::Result<()> {
        sys::clock::arm(self.fd.as_fd(), Some(at))
    }

    /// Disarms the timer and forgets an expiry that was not taken.
    ///
    /// # Errors
    /// The kernel's; none is known to occur.
    pub fn disarm(&self) -> io::Result<()> {
        sys::clock::arm(self.fd.as_fd(), None)
    }

    /// Takes the expiry: true if the instant has come. The timer is not readable
    /// thereafter.
    ///
    /// # Errors
    /// The kernel's; none is known to occur.
    pub fn expired(&self) -> io::Result<bool> {
        Ok(sys::clock::expirations(self.fd.as_fd())? > 0)
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a descriptor has to offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// There is something to read, or the end of it.
    pub readable: bool,
    /// There is an error, or something on the socket's error queue. Until that is drained
    /// every [`wait`] on the descriptor returns at once.
    pub error: bool,
}

impl Ready {
    /// Neither.
    pub const NONE: Self = Self {
        readable: false,
        error: false,
    };
}

/// Waits until one of `fds` is ready or `deadline` has come (`None`: for ever), whichever is
/// first; a signal may end it early. Sets `ready` for each of `fds` in turn. Returns whether
/// any is ready.
///
/// # Errors
/// `InvalidInput` for more than [`MAX_FDS`] descriptors or a `ready` of another
/// length; the kernel's when it is out of memory.
pub fn wait(
    deadline: Option<Mono>,
    fds: &[BorrowedFd<'_>],
    ready: &mut [Ready],
) -> io::Result<bool> {
    if fds.len() > MAX_FDS || fds.len() != ready.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut polled = [libc::pollfd {
        fd: -1,
        events: libc::POLLIN,
        revents: 0,
    }; MAX_FDS];
    for (entry, fd) in polled.iter_mut().zip(fds) {
        entry.fd = fd.as_raw_fd();
    }
    let polled = &mut polled[..fds.len()];
    sys::clock::poll(polled, deadline.map(|at| at.saturating_since(Clock::now())))?;
    let mut any = false;
    for (ready, entry) in ready.iter_mut().zip(polled) {
        *ready = Ready {
            readable: entry.revents & (libc::POLLIN | libc::POLLHUP) != 0,
            error: entry.revents & (libc::POLLERR | libc::POLLNVAL) != 0,
        };
        any |= *ready != Ready::NONE;
    }
    Ok(any)
}

/// Makes the kernel wake the calling thread on time, not in groups with others.
///
/// # Errors
/// The kernel's, where a sandbox forbids it.
pub fn wake_exactly() -> io::Result<()> {
    sys::clock::set_timer_slack(1)
}

/// Waits for `deadline`; the last [`SPIN`] of it by spinning where `precise`.
/// Returns the time, which is never before `deadline`.
pub fn sleep_until(deadline: Mono, precise: bool) -> Mono {
    let wake = if precise { deadline - SPIN } else { deadline };
    loop {
        let now = Clock::now();
        if now >= wake {
            break;
        }
        sys::clock::sleep_until(wake);
    }
    spin_until(deadline)
}

/// Spins until `deadline` and returns the time.
pub fn spin_until(deadline: Mono) -> Mono {
    loop {
        let now = Clock::now();
        if now >= deadline {
            return now;
        }
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests;
