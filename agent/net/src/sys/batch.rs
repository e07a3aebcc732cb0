//! Receiving and sending several packets with one system call.

use super::cmsg::Controls;
use super::name;
use super::{SO_TIMESTAMPING_NEW, SO_TIMESTAMPING_OLD, check};
use hopgap_proto::time::Wall;
use std::ffi::c_int;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Most packets of one system call.
pub(crate) const BATCH: usize = 64;
/// Room for a sender's address of any family that is used here.
const NAME_LEN: usize = 32;
/// Room for stamps, error report, addresses, hop limit, traffic class and drops.
const CONTROL_LEN: usize = 512;

/// What one system call received.
///
/// The buffers are allocated once and touched by the kernel only as far as
/// packets fill them.
pub(crate) struct Inbox {
    slot: usize,
    data: Vec<u8>,
    names: Vec<u8>,
    controls: Vec<u8>,
    headers: Vec<Got>,
}

#[derive(Clone, Copy, Default)]
struct Got {
    len: usize,
    name: usize,
    control: usize,
    flags: c_int,
}

/// One received packet.
pub(crate) struct Message<'a> {
    /// As much of the packet as fitted the buffer.
    pub(crate) bytes: &'a [u8],
    /// The bytes of the sender's address.
    pub(crate) name: &'a [u8],
    control: &'a [u8],
    flags: c_int,
}

impl<'a> Message<'a> {
    pub(crate) fn controls(&self) -> Controls<'a> {
        Controls::new(self.control)
    }

    /// The sender, or for an error the original destination.
    pub(crate) fn addr(&self) -> Option<SocketAddr> {
        name::decode(self.name)
    }

    /// The packet was longer than the buffer.
    pub(crate) fn truncated(&self) -> bool {
        self.flags & libc::MSG_TRUNC != 0
    }
}

impl Inbox {
    /// Room for [`BATCH`] packets of up to `slot` bytes.
    pub(crate) fn new(slot: usize) -> Self {
        Self {
            slot,
            data: vec![0; BATCH * slot],
            names: vec![0; BATCH * NAME_LEN],
            controls: vec![0; BATCH * CONTROL_LEN],
            headers: vec![Got::default(); BATCH],
        }
    }

    /// Receives what is there, up to [`BATCH`] packets, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; a pending error of the socket.
    pub(crate) fn receive(&mut self, fd: BorrowedFd<'_>, flags: c_int) -> io::Result<usize> {
        // SAFETY: both are plain C structures for which zero is a valid value.
        let mut iovecs: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        let buffers = self
            .data
            .chunks_exact_mut(self.slot)
            .zip(self.names.chunks_exact_mut(NAME_LEN))
            .zip(self.controls.chunks_exact_mut(CONTROL_LEN));
        for (((data, name), control), (iovec, message)) in
            buffers.zip(iovecs.iter_mut().zip(messages.iter_mut()))
        {
            iovec.iov_base = data.as_mut_ptr().cast();
            iovec.iov_len = data.len();
            message.msg_hdr.msg_iov = iovec;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_name = name.as_mut_ptr().cast();
            message.msg_hdr.msg_namelen = super::len_of(NAME_LEN);
            message.msg_hdr.msg_control = control.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = CONTROL_LEN as _;
        }
        // SAFETY: every header points into buffers of the stated lengths, disjoint,
        // which live and are not otherwise used until the call returns.
        let count = check(unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                messages.as_mut_ptr(),
                super::len_of(BATCH),
                (flags | libc::MSG_DONTWAIT) as _,
                ptr::null_mut(),
            )
        })?;
        let count = usize::try_from(count).unwrap_or(0).min(BATCH);
        for (got, message) in self.headers.iter_mut().zip(&messages).take(count) {
            *got = Got {
                len: (message.msg_len as usize).min(self.slot),
                name: (message.msg_hdr.msg_namelen as usize).min(NAME_LEN),
                control: message.msg_hdr.msg_controllen.min(CONTROL_LEN),
                flags: message.msg_hdr.msg_flags,
            };
        }
        Ok(count)
    }

    /// The first `count` messages of the last call.
    pub(crate) fn messages(&self, count: usize) -> impl Iterator<Item = Message<'_>> {
        self.headers
            .iter()
            .zip(self.data.chunks_exact(self.slot))
            .zip(self.names.chunks_exact(NAME_LEN))
            .zip(self.controls.chunks_exact(CONTROL_LEN))
            .take(count)
            .map(|(((got, data), name), control)| Message {
                bytes: &data[..got.len],
                name: &name[..got.name],
                control: &control[..got.control],
                flags: got.flags,
            })
    }
}

/// One packet to send. An empty `name` means where the socket is bound or connected.
#[derive(Clone, Copy, Default)]
pub(crate) struct Packet<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) name: &'a [u8],
    pub(crate) control: &'a [u8],
}

impl Packet<'_> {
    fn header(&self, iovec: &mut libc::iovec) -> libc::msghdr {
        // The kernel does not write through the pointers of a message to send.
        iovec.iov_base = self.bytes.as_ptr().cast_mut().cast();
        iovec.iov_len = self.bytes.len();
        // SAFETY: a plain C structure for which zero is a valid value.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = iovec;
        header.msg_iovlen = 1;
        if !self.name.is_empty() {
            header.msg_name = self.name.as_ptr().cast_mut().cast();
            header.msg_namelen = super::len_of(self.name.len());
        }
        if !self.control.is_empty() {
            header.msg_control = self.control.as_ptr().cast_mut().cast();
            header.msg_controllen = self.control.len() as _;
        }
        header
    }
}

/// Sends one packet without waiting.
pub(crate) fn send(fd: BorrowedFd<'_>, packet: &Packet<'_>) -> io::Result<()> {
    // SAFETY: a plain C structure for which zero is a valid value.
    let mut iovec: libc::iovec = unsafe { std::mem::zeroed() };
    let header = packet.header(&mut iovec);
    // SAFETY: the header points to the packet's slices and to `iovec`, which all
    // live through the call.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Sends up to [`BATCH`] packets without waiting. Stops before the first packet that fails.
/// Returns how many were sent.
///
/// # Errors
/// The first packet's error.
pub(crate) fn send_many(fd: BorrowedFd<'_>, packets: &[Packet<'_>]) -> io::Result<usize> {
    // SAFETY: both are plain C structures for which zero is a valid value.
    let mut iovecs: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    for ((packet, iovec), message) in packets.iter().zip(&mut iovecs).zip(&mut messages) {
        message.msg_hdr = packet.header(iovec);
    }
    // SAFETY: the first `packets.len()` (at most BATCH) headers point to the
    // packets' slices and to `iovecs`, which all live through the call.
    let sent = check(unsafe {
        libc::sendmmsg(
            fd.as_raw_fd(),
            messages.as_mut_ptr(),
            super::len_of(packets.len().min(BATCH)),
            libc::MSG_DONTWAIT as _,
        )
    })?;
    Ok(usize::try_from(sent).unwrap_or(0))
}

/// Whether a control message holds the kernel's stamps: its kind is the number of the
/// option by which they were asked for.
pub(crate) fn holds_stamps(level: c_int, kind: c_int) -> bool {
    level == libc::SOL_SOCKET && (kind == SO_TIMESTAMPING_NEW || kind == SO_TIMESTAMPING_OLD)
}

/// The kernel's software stamp in `SCM_TIMESTAMPING`: the first of three pairs of seconds and
/// nanoseconds, of 64 bits each; with the old option on a 32-bit target, of 32 bits each.
/// `None` for zero, which means that there is none.
pub(crate) fn stamp(data: &[u8]) -> Option<Wall> {
    let (seconds, nanos) = if data.len() < 3 * 16 {
        let half = |at| name::array(data, at).map(i32::from_ne_bytes).map(i64::from);
        (half(0)?, half(4)?)
    } else {
        let whole = |at| name::array(data, at).map(i64::from_ne_bytes);
        (whole(0)?, whole(8)?)
    };
    if seconds == 0 && nanos == 0 {
        return None;
    }
    Some(Wall::from_nanos(
        seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?,
    ))
}
