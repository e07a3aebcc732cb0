//! Turns on the kernel's stamps.

use crate::clock::Clock;
use crate::sys::batch::{self, Inbox};
use crate::sys::{self, SO_TIMESTAMPING_NEW, SO_TIMESTAMPING_OLD};
use crate::timer::{Ready, wait};
use hopgap_proto::time::Span;
use std::ffi::{c_int, c_uint};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

const RECEIVE: c_uint = libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;

/// Longest wait for the first stamp: the kernel begins to stamp within a few milliseconds.
const PATIENCE: Span = Span::from_nanos(20_000_000);
const PAUSE: Span = Span::from_nanos(200_000);

/// The options that ask for stamps, the better first: Linux before 5.1 knows only the second.
const OPTIONS: [c_int; 2] = [SO_TIMESTAMPING_NEW, SO_TIMESTAMPING_OLD];

/// Which stamps a socket gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamps {
    /// The kernel gives all stamps that were asked for. Whether a packet gets one as it
    /// leaves still depends on its interface: a macvlan gives none.
    Kernel,
    /// The kernel gives stamps on arrival, but knows no option for stamps on leaving.
    ReceiveOnly,
    /// None: the kernel or a sandbox refuses. All times are the program's own.
    None,
}

/// What the kernel granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    /// The option that the kernel took; `None` where it took neither.
    option: Option<c_int>,
    /// The flags set with it.
    flags: c_uint,
    stamps: Stamps,
}

impl Granted {
    /// The flags in force.
    pub(crate) fn flags(self) -> c_uint {
        self.flags
    }

    /// Which stamps there are.
    pub(crate) fn stamps(self) -> Stamps {
        self.stamps
    }

    /// Sets other flags with the option that was taken.
    pub(crate) fn set(self, fd: BorrowedFd<'_>, flags: c_uint) -> io::Result<()> {
        match self.option {
            Some(option) => sys::set_flags(fd, libc::SOL_SOCKET, option, flags),
            None => Ok(()),
        }
    }
}

/// Turns on receive stamps, and those of `transmit`, on the socket `fd`, as far as the kernel
/// knows them.
///
/// When the first socket of a host asks for receive stamps, the kernel patches its code a
/// little later; packets received until then have no stamp. So this waits until a packet over
/// loopback has one, where loopback can be used.
///
/// # Errors
/// The kernel's, except those that say that it does not know or does not allow this.
pub(crate) fn enable(fd: BorrowedFd<'_>, transmit: c_uint) -> io::Result<Granted> {
    enable_by(fd, transmit, &OPTIONS)
}

/// As [`enable`], with the first of these options that the kernel takes.
pub(crate) fn enable_by(
    fd: BorrowedFd<'_>,
    transmit: c_uint,
    options: &[c_int],
) -> io::Result<Granted> {
    let wanted = [
        (transmit | RECEIVE, Stamps::Kernel),
        (RECEIVE, Stamps::ReceiveOnly),
    ];
    for (flags, stamps) in wanted {
        for option in options {
            match sys::set_flags(fd, libc::SOL_SOCKET, *option, flags) {
                Ok(()) => {
                    await_stamps(*option);
                    return Ok(Granted {
                        option: Some(*option),
                        flags,
                        stamps,
                    });
                }
                Err(error) if is_unknown(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Granted {
        option: None,
        flags: 0,
        stamps: Stamps::None,
    })
}

/// Whether the error says that the kernel or a sandbox lacks the option.
fn is_unknown(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ENOPROTOOPT
                | libc::EINVAL
                | libc::EOPNOTSUPP
                | libc::ENOSYS
                | libc::EPERM
                | libc::EACCES
        )
    )
}

fn await_stamps(option: c_int) {
    let deadline = Clock::now() + PATIENCE;
    while Clock::now() < deadline {
        if loopback_is_stamped(option).unwrap_or(false) {
            break;
        }
        crate::timer::sleep_until(Clock::now() + PAUSE, false);
    }
}

/// Sends a packet to itself. Returns whether it was stamped on arrival.
fn loopback_is_stamped(option: c_int) -> io::Result<bool> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let fd = socket.as_fd();
    sys::set_flags(fd, libc::SOL_SOCKET, option, RECEIVE)?;
    socket.send_to(&[0], socket.local_addr()?)?;
    wait(Some(Clock::now() + PAUSE), &[fd], &mut [Ready::NONE])?;
    let mut inbox = Inbox::new(1);
    let count = inbox.receive(fd, 0)?;
    let stamped = inbox
        .messages(count)
        .flat_map(|message| message.controls())
        .any(|control| {
            batch::holds_stamps(control.level, control.kind) && batch::stamp(control.data).is_some()
        });
    Ok(stamped)
}

#[cfg(test)]
mod tests;
