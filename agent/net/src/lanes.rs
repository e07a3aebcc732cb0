//! Several sockets on one port, each for some of the senders.
//!
//! A socket has one queue. When it is full the kernel drops whatever comes next, from any
//! sender. With one queue for strangers, and some for known senders, a flood fills its own
//! queue only. The kernel sorts by a small program of the classic packet filter, before it
//! copies anything; no privilege is needed.

use crate::error::NetError;
use crate::probe::{ProbeOptions, ProbeSocket};
use crate::sys::{self, Instruction};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;

/// The lane of unknown senders.
pub const STRANGERS: usize = 0;

/// Longest program: the kernel translates it into several times as much, within
/// `net.core.optmem_max`, which is 20 KiB by default before Linux 6.7.
const MOST_INSTRUCTIONS: usize = 512;

/// Opens `count` sockets on one address and port, at least one. Until [`steer`] assigns the
/// senders, the kernel spreads them over all sockets.
///
/// # Errors
/// As [`ProbeSocket::open`]; also when a socket of another program has the port, although
/// the lanes themselves share it.
pub fn open(options: &ProbeOptions, count: usize) -> Result<Vec<ProbeSocket>, NetError> {
    let alone = ProbeSocket::open(options)?;
    if count <= 1 {
        return Ok(vec![alone]);
    }
    // Close it: only sockets that all agree to it may share a port.
    drop(alone);
    (0..count)
        .map(|_| ProbeSocket::open_shared(options))
        .collect()
}

/// Gives each of `sources` one of the lanes from 1 on, in turn, and everybody else lane
/// [`STRANGERS`]. Returns whether that lane is for strangers alone; sources beyond the
/// program's room (250; 55 of IPv6) share it.
///
/// # Errors
/// The kernel's; then the senders stay spread over the lanes as before.
pub fn steer<'a>(
    mut lanes: impl ExactSizeIterator<Item = &'a ProbeSocket>,
    address: SocketAddr,
    sources: &[IpAddr],
) -> Result<bool, NetError> {
    let count = lanes.len();
    let Some(first) = lanes.next().filter(|_| count > 1) else {
        return Ok(false);
    };
    let (program, all) = program(count, sources);
    sys::attach_reuseport_program(first.as_fd(), &program).map_err(|source| NetError::Option {
        what: format!("UDP {address}"),
        option: "SO_ATTACH_REUSEPORT_CBPF",
        source,
    })?;
    Ok(all)
}

/// Returns a program that maps a packet's source address to its lane, and whether it has room
/// for all sources.
fn program(lanes: usize, sources: &[IpAddr]) -> (Vec<Instruction>, bool) {
    let mut program = Vec::new();
    let mut loaded_v4 = false;
    let known = lanes.saturating_sub(1).max(1);
    for (i, source) in sources.iter().enumerate() {
        let lane = u32::try_from(1 + i % known).unwrap_or(0);
        let mut block = Vec::with_capacity(9);
        match source.to_canonical() {
            IpAddr::V4(ip) => {
                if !loaded_v4 {
                    block.push(Instruction::load_network_word(IPV4_SOURCE));
                }
                block.push(Instruction::unless_equal_skip(u32::from(ip), 1));
            }
            IpAddr::V6(ip) => {
                let words = ip.octets();
                for (n, at) in (0_u8..4).zip((IPV6_SOURCE..).step_by(4)) {
                    let from = usize::from(n) * 4;
                    let word = words.get(from..).and_then(|w| w.first_chunk());
                    let word = word.map_or(0, |w| u32::from_be_bytes(*w));
                    block.push(Instruction::load_network_word(at));
                    // Skips the rest of the block: a load and a jump for each word to come,
                    // and the return.
                    block.push(Instruction::unless_equal_skip(word, 2 * (3 - n) + 1));
                }
            }
        }
        block.push(Instruction::give(lane));
        if program.len() + block.len() >= MOST_INSTRUCTIONS {
            program.push(Instruction::give(0));
            return (program, false);
        }
        // The word that an IPv4 comparison loaded stays loaded for the next; IPv6 loads anew.
        loaded_v4 = source.to_canonical().is_ipv4();
        program.extend(block);
    }
    program.push(Instruction::give(0));
    (program, true)
}

/// Offset of the source address in the header, in bytes (RFC 791, RFC 8200).
const IPV4_SOURCE: u32 = 12;
const IPV6_SOURCE: u32 = 8;

#[cfg(test)]
mod tests;
