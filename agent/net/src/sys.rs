//! The system calls, each behind a safe function.
#![expect(
    unsafe_code,
    reason = "the kernel's interfaces that no safe crate offers"
)]

pub(crate) mod batch;
pub(crate) mod clock;
pub(crate) mod cmsg;
pub(crate) mod name;

use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};
use std::ffi::{CString, c_int, c_uint};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::OnceLock;

// Kernel numbers that libc lacks or gives for some targets only.

/// The `SO_TIMESTAMPING` whose stamps are 64 bits wide on every target (Linux 5.1).
pub(crate) const SO_TIMESTAMPING_NEW: c_int = 65;
/// The older `SO_TIMESTAMPING`, the only one that kernels before that know. Its stamps are as
/// wide as the target's `timespec`.
pub(crate) const SO_TIMESTAMPING_OLD: c_int = libc::SO_TIMESTAMPING;
/// Control message that sets the timestamp id of one packet (Linux 6.13).
pub(crate) const SCM_TS_OPT_ID: c_int = 81;
/// `IPV6_AUTOFLOWLABEL`.
pub(crate) const IPV6_AUTOFLOWLABEL: c_int = 70;

/// `AF_PACKET`, as wide as its field.
const AF_PACKET: libc::sa_family_t = 17;
/// `ETH_P_ALL`, as wide as its field.
const ETH_P_ALL: u16 = 3;
/// `PACKET_MR_PROMISC`, as wide as its field.
const PACKET_MR_PROMISC: u16 = 1;

/// Calls `work` with a descriptor that another crate owns and gives as a number.
pub(crate) fn with_fd<T>(fd: RawFd, work: impl FnOnce(BorrowedFd<'_>) -> T) -> io::Result<T> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the number is not -1. `work` passes it to the kernel alone, which refuses a
    // number that is no open descriptor, and keeps it no longer than this call.
    Ok(work(unsafe { BorrowedFd::borrow_raw(fd) }))
}

/// Turns the C convention (-1 and errno) into a result.
fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Values that socket options have here: plain data without padding.
///
/// # Safety
/// Every bit pattern is a valid value and no byte is padding.
unsafe trait Plain: Copy {}
// SAFETY: integers have no padding and no invalid patterns.
unsafe impl Plain for c_int {}
// SAFETY: as above.
unsafe impl Plain for c_uint {}
// SAFETY: as above.
unsafe impl Plain for [u32; 8] {}
// SAFETY: i32, u16, u16, [u8; 8]: 16 bytes at alignment 4, without holes.
unsafe impl Plain for libc::packet_mreq {}

fn set<T: Plain>(fd: BorrowedFd<'_>, level: c_int, option: c_int, value: T) -> io::Result<()> {
    // SAFETY: the pointer and length describe `value`, which lives through the call.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            len_of(size_of::<T>()),
        )
    })
    .map(drop)
}

/// Sets an option that is an `int`.
pub(crate) fn set_int(
    fd: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
    value: c_int,
) -> io::Result<()> {
    set(fd, level, option, value)
}

/// Sets an option that is a set of flags.
pub(crate) fn set_flags(
    fd: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
    value: c_uint,
) -> io::Result<()> {
    set(fd, level, option, value)
}

/// Sets an option that is a set of 256 bits, as `ICMP6_FILTER` is.
pub(crate) fn set_bits(
    fd: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
    value: [u32; 8],
) -> io::Result<()> {
    set(fd, level, option, value)
}

/// One instruction of the classic packet filter (Linux's `filter.rst`).
#[derive(Clone, Copy)]
pub(crate) struct Instruction(libc::sock_filter);

impl Instruction {
    /// `BPF_LD | BPF_W | BPF_ABS`, from the beginning of the IP header.
    pub(crate) const fn load_network_word(at: u32) -> Self {
        Self::new(
            0x20,
            0,
            0,
            libc::SKF_NET_OFF.cast_unsigned().wrapping_add(at),
        )
    }

    /// `BPF_JMP | BPF_JEQ | BPF_K`: goes on if the loaded word is `word`, otherwise skips the
    /// next `skip` instructions.
    pub(crate) const fn unless_equal_skip(word: u32, skip: u8) -> Self {
        Self::new(0x15, 0, skip, word)
    }

    /// `BPF_RET | BPF_K`.
    pub(crate) const fn give(value: u32) -> Self {
        Self::new(0x06, 0, 0, value)
    }

    const fn new(code: u16, jt: u8, jf: u8, k: u32) -> Self {
        Self(libc::sock_filter { code, jt, jf, k })
    }
}

/// Lets `program` choose among the sockets that share a port, by their order of binding
/// (`SO_ATTACH_REUSEPORT_CBPF`, Linux 4.5).
pub(crate) fn attach_reuseport_program(
    fd: BorrowedFd<'_>,
    program: &[Instruction],
) -> io::Result<()> {
    let mut instructions: Vec<libc::sock_filter> = program.iter().map(|i| i.0).collect();
    let request = libc::sock_fprog {
        len: u16::try_from(instructions.len())
            .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?,
        filter: instructions.as_mut_ptr(),
    };
    // SAFETY: `request` points at as many instructions as it says, both live through the
    // call, and the kernel copies what it keeps.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const request).cast(),
            len_of(size_of::<libc::sock_fprog>()),
        )
    })
    .map(drop)
}

/// Makes the interface pass on frames that are not addressed to it, for as long
/// as the socket is open.
pub(crate) fn set_promiscuous(fd: BorrowedFd<'_>, interface: c_uint) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: interface.cast_signed(),
        mr_type: PACKET_MR_PROMISC,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, request)
}

/// Whether the kernel lets the sender choose the timestamp id of each packet.
///
/// It is asked once, with a broadcast on a socket that may not broadcast: the kernel reads
/// the control message, then finds no route or no permission, and sends nothing. A kernel
/// that does not know the message returns `EINVAL`.
pub(crate) fn chooses_timestamp_id() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let Ok(socket) = Socket::new(Domain::IPV4, Type::DGRAM, None) else {
            return false;
        };
        let fd = socket.as_fd();
        let flags = libc::SOF_TIMESTAMPING_OPT_ID | libc::SOF_TIMESTAMPING_OPT_TSONLY;
        if set_flags(fd, libc::SOL_SOCKET, SO_TIMESTAMPING_NEW, flags).is_err() {
            return false;
        }
        let mut control = cmsg::Outgoing::EMPTY;
        control.push(libc::SOL_SOCKET, SCM_TS_OPT_ID, &0u32.to_ne_bytes());
        let name = name::Name::from(SocketAddr::from((Ipv4Addr::BROADCAST, 9)));
        let packet = batch::Packet {
            bytes: &[],
            name: name.as_bytes(),
            control: control.as_bytes(),
        };
        match batch::send(fd, &packet) {
            Ok(()) => true,
            Err(error) => error.raw_os_error() != Some(libc::EINVAL),
        }
    })
}

/// The index of the interface named `interface` in the current namespace.
pub(crate) fn interface_index(interface: &str) -> io::Result<c_uint> {
    let name = CString::new(interface).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    // SAFETY: `name` is a C string that lives through the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Returns the link-layer address that means all frames of the interface.
pub(crate) fn link_address(interface: c_uint) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: a `sockaddr_ll` fits the storage and zero is a valid value of it.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = AF_PACKET;
    link.sll_protocol = ETH_P_ALL.to_be();
    link.sll_ifindex = interface.cast_signed();
    // SAFETY: the storage holds a `sockaddr_ll` of this length.
    unsafe { SockAddr::new(storage, len_of(size_of::<libc::sockaddr_ll>())) }
}

/// Asks for a receive buffer of `bytes`: beyond the system's limit where the process may
/// (`CAP_NET_ADMIN`), else up to `net.core.rmem_max`.
pub(crate) fn receive_buffer(fd: BorrowedFd<'_>, bytes: c_int) -> io::Result<()> {
    set_int(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
        .or_else(|_| set_int(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes))
}

/// As [`receive_buffer`], for sending.
pub(crate) fn send_buffer(fd: BorrowedFd<'_>, bytes: c_int) -> io::Result<()> {
    set_int(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)
        .or_else(|_| set_int(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes))
}

/// How many datagrams the kernel dropped at this socket so far, for whatever reason
/// (`SO_MEMINFO`, Linux 4.12).
pub(crate) fn drops(fd: BorrowedFd<'_>) -> io::Result<u32> {
    // More than any kernel fills in so far.
    let mut counts = [0_u32; 16];
    let mut length = len_of(size_of_val(&counts));
    // SAFETY: pointer and length describe `counts`, which lives through the call and for
    // which every bit pattern is valid; the kernel writes `length` bytes at most.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            counts.as_mut_ptr().cast(),
            &raw mut length,
        )
    })?;
    let filled = usize::try_from(length).unwrap_or(0) / size_of::<u32>();
    let index = usize::try_from(libc::SK_MEMINFO_DROPS).unwrap_or(usize::MAX);
    let count = counts.get(index).filter(|_| index < filled);
    count
        .copied()
        .ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// Converts a length or count for the kernel; every one here is below a thousand.
fn len_of(len: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(len).unwrap_or(libc::socklen_t::MAX)
}
