use super::{OPTIONS, Stamps, enable_by};
use crate::error_queue::{self, ErrorMessage};
use crate::sys::SO_TIMESTAMPING_OLD;
use crate::sys::batch::{self, Inbox};
use crate::timer::{Ready, wait};
use crate::token::Tokens;
use hopgap_proto::time::{Span, Wall};
use std::ffi::c_int;
use std::net::UdpSocket;
use std::os::fd::AsFd as _;

/// An option that no kernel has.
const UNKNOWN: c_int = 30_000;

const TRANSMIT: u32 = libc::SOF_TIMESTAMPING_TX_SOFTWARE
    | libc::SOF_TIMESTAMPING_OPT_ID
    | libc::SOF_TIMESTAMPING_OPT_TSONLY;

/// Sends a packet to itself. Returns the stamps of its leaving and its arrival.
fn exchange(options: &[c_int]) -> (Stamps, Option<Wall>, Option<Wall>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let fd = socket.as_fd();
    let granted = enable_by(fd, TRANSMIT, options).unwrap();
    socket.send_to(&[7], socket.local_addr().unwrap()).unwrap();
    let mut ready = [Ready::NONE];
    let end = crate::clock::Clock::now() + Span::from_secs(5);
    while !ready[0].readable {
        assert!(wait(Some(end), &[fd], &mut ready).unwrap(), "it arrives");
    }
    let mut inbox = Inbox::new(64);
    let mut left = None;
    error_queue::drain(fd, &mut inbox, &Tokens::counted(), |message| {
        if let ErrorMessage::TxStamp { stamp, .. } = message {
            left = Some(stamp);
        }
    })
    .unwrap();
    let count = inbox.receive(fd, 0).unwrap();
    assert_eq!(count, 1);
    let arrived = inbox
        .messages(count)
        .flat_map(|m| m.controls())
        .find(|c| batch::holds_stamps(c.level, c.kind))
        .and_then(|c| batch::stamp(c.data));
    (granted.stamps(), left, arrived)
}

#[test]
fn a_kernel_that_knows_the_old_option_only_gives_the_same_stamps() {
    for options in [&OPTIONS[..], &[UNKNOWN, SO_TIMESTAMPING_OLD]] {
        let (stamps, left, arrived) = exchange(options);
        assert_eq!(stamps, Stamps::Kernel);
        let (left, arrived) = (left.unwrap(), arrived.unwrap());
        assert!((arrived - left).abs() < Span::from_secs(1), "{options:?}");
    }
}

#[test]
fn a_kernel_that_knows_neither_leaves_packets_unstamped() {
    assert_eq!(exchange(&[UNKNOWN]), (Stamps::None, None, None));
}

#[test]
fn where_leaving_cannot_be_stamped_arrivals_are() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    // A flag that no kernel knows.
    let granted = enable_by(socket.as_fd(), 1 << 31, &OPTIONS).unwrap();
    assert_eq!(granted.stamps(), Stamps::ReceiveOnly);
    assert_eq!(granted.flags(), super::RECEIVE);
}

#[test]
fn stamps_are_read_in_either_width() {
    let long: Vec<u8> = [12_i64, 34, 0, 0, 0, 0]
        .iter()
        .flat_map(|n| n.to_ne_bytes())
        .collect();
    let short: Vec<u8> = [12_i32, 34, 0, 0, 0, 0]
        .iter()
        .flat_map(|n| n.to_ne_bytes())
        .collect();
    let expected = Some(Wall::from_nanos(12_000_000_034));
    assert_eq!(batch::stamp(&long), expected);
    assert_eq!(batch::stamp(&short), expected);
    assert_eq!(batch::stamp(&[0; 48]), None);
    assert_eq!(batch::stamp(&[0; 24]), None);
    assert_eq!(batch::stamp(&[1; 7]), None);
}
