//! Which ICMP messages raw sockets of ICMP echo receive, where another crate opens and reads them.

use crate::family::Family;
use crate::raw::filter_icmp;
use crate::sys;
use std::io;
use std::os::fd::RawFd;

/// The kind of socket that also receives ICMP errors, where the process may open it. Ping
/// sockets receive replies only.
pub const RAW: socket2::Type = socket2::Type::RAW;

/// Echo reply, unreachable, time exceeded, parameter problem (RFC 792).
const V4: [u8; 4] = [0, 3, 11, 12];
/// Unreachable, too big, time exceeded, parameter problem, echo reply (RFC 4443).
const V6: [u8; 5] = [1, 2, 3, 4, 129];

/// Lets a raw socket of ICMP receive only final answers to an echo request: its reply, or an
/// error after which no reply comes. A redirect or a source quench is not final. Leaves
/// sockets of another kind as they are.
///
/// # Errors
/// The kernel's; none is known to occur while the socket is open.
pub fn only_final_answers(socket: RawFd, family: Family) -> io::Result<()> {
    let types = match family {
        Family::V4 => &V4[..],
        Family::V6 => &V6[..],
    };
    match sys::with_fd(socket, |fd| filter_icmp(fd, family, types)).flatten() {
        // A ping socket has no filter.
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        done => done,
    }
}
