//! Turning on the kernel's stamps.

use crate::clock::Clock;
use crate::sys::batch::{self, Inbox};
use crate::sys::{self, SO_TIMESTAMPING_NEW};
use crate::timer::{Ready, wait};
use hopgap_proto::time::Span;
use std::ffi::c_uint;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

const RECEIVE: c_uint = libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;

/// The kernel switches within a few milliseconds; nothing waits longer for it.
const PATIENCE: Span = Span::from_nanos(20_000_000);
const PAUSE: Span = Span::from_nanos(200_000);

/// Turns on receive stamps, and what `transmit` says, on the socket `fd`.
///
/// The first socket of a host that asks for receive stamps makes the kernel patch
/// its code, which it does later; packets received until then have no stamp. So
/// this waits until a packet over loopback has one, where loopback can be used.
pub(crate) fn enable(fd: BorrowedFd<'_>, transmit: c_uint) -> io::Result<c_uint> {
    let flags = transmit | RECEIVE;
    sys::set_flags(fd, libc::SOL_SOCKET, SO_TIMESTAMPING_NEW, flags)?;
    let deadline = Clock::now() + PATIENCE;
    while Clock::now() < deadline {
        if loopback_is_stamped().unwrap_or(false) {
            break;
        }
        crate::timer::sleep_until(Clock::now() + PAUSE, false);
    }
    Ok(flags)
}

/// Sends a packet to itself; whether it was stamped on arrival.
fn loopback_is_stamped() -> io::Result<bool> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let fd = socket.as_fd();
    sys::set_flags(fd, libc::SOL_SOCKET, SO_TIMESTAMPING_NEW, RECEIVE)?;
    socket.send_to(&[0], socket.local_addr()?)?;
    wait(Some(Clock::now() + PAUSE), &[fd], &mut [Ready::NONE])?;
    let mut inbox = Inbox::new(1);
    let count = inbox.receive(fd, 0)?;
    let stamped = inbox
        .messages(count)
        .flat_map(|message| message.controls())
        .any(|control| {
            (control.level, control.kind) == (libc::SOL_SOCKET, SO_TIMESTAMPING_NEW)
                && batch::stamp(control.data).is_some()
        });
    Ok(stamped)
}
