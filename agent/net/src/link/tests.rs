use super::*;
use crate::namespace;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A frame between two addresses of nobody, of a protocol for experiments.
fn frame(number: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0x02, 0, 0, 0, 0, 9, 0x02, 0, 0, 0, 0, 8, 0x88, 0xb5];
    bytes.resize(len, number);
    bytes
}

fn wall_now() -> Wall {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    Wall::from_nanos(i64::try_from(since.as_nanos()).expect("before 2262"))
}

fn receive(socket: &mut PacketSocket, wanted: usize) -> Vec<(Vec<u8>, Option<Wall>)> {
    let mut frames = Vec::new();
    let start = Instant::now();
    while frames.len() < wanted && start.elapsed() < Duration::from_secs(5) {
        socket
            .recv_batch(|bytes, stamp| {
                // The kernel's own neighbour discovery passes here, too.
                if bytes.get(12..14) == Some(&[0x88, 0xb5]) {
                    frames.push((bytes.to_vec(), stamp));
                }
            })
            .expect("receive");
    }
    frames
}

fn pair() -> (PacketSocket, PacketSocket) {
    namespace::veth("left", "right");
    (
        PacketSocket::open("left").expect("left"),
        PacketSocket::open("right").expect("right"),
    )
}

#[test]
fn frames_cross_a_wire_whole_and_stamped() {
    namespace::inside(|| {
        let (mut left, mut right) = pair();
        assert!(namespace::show("right").contains("promiscuity 1"));
        // More than one system call takes, and none addressed to the interface.
        let frames: Vec<_> = (0..150)
            .map(|n| frame(n, 60 + usize::from(n) * 9))
            .collect();
        let before = wall_now();
        let sent = left
            .send_batch(frames.iter().map(Vec::as_slice))
            .expect("send");
        assert_eq!(sent, frames.len());
        let received = receive(&mut right, frames.len());
        let after = wall_now();
        assert_eq!(received.len(), frames.len());
        let mut last = before;
        for ((bytes, stamp), sent) in received.iter().zip(&frames) {
            assert_eq!(bytes, sent);
            let stamp = stamp.expect("a kernel stamp");
            assert!(
                last <= stamp && stamp <= after,
                "{last:?} {stamp:?} {after:?}"
            );
            last = stamp;
        }
        assert_eq!(right.overflows(), 0);
        // What others send on the same interface is leaving, not arriving.
        let mut other = PacketSocket::open("left").expect("left");
        let bytes = frame(7, 60);
        assert_eq!(
            other
                .send_batch([bytes.as_slice()].into_iter())
                .expect("send"),
            1
        );
        assert_eq!(receive(&mut right, 1).len(), 1);
        assert_eq!(receive_now(&mut left), 0);
    });
}

fn receive_now(socket: &mut PacketSocket) -> usize {
    let mut ours = 0;
    while socket
        .recv_batch(|bytes, _| ours += usize::from(bytes.get(12..14) == Some(&[0x88, 0xb5])))
        .expect("receive")
        > 0
    {}
    ours
}

#[test]
fn a_link_that_goes_down_comes_back() {
    namespace::inside(|| {
        let (mut left, mut right) = pair();
        namespace::ip("link set left down");
        assert_eq!(receive_now(&mut left), 0);
        let bytes = frame(1, 60);
        let error = left
            .send_batch([bytes.as_slice()].into_iter())
            .expect_err("down");
        assert_eq!(error.raw_os_error(), Some(libc::ENETDOWN));
        namespace::ip("link set left up");
        namespace::passes_packets("left");
        namespace::passes_packets("right");
        assert_eq!(
            left.send_batch([bytes.as_slice()].into_iter()).expect("up"),
            1
        );
        assert_eq!(receive(&mut right, 1).len(), 1);
        assert_eq!(
            right
                .send_batch([bytes.as_slice()].into_iter())
                .expect("up"),
            1
        );
        assert_eq!(receive(&mut left, 1).len(), 1);
    });
}

#[test]
fn a_refusal_within_a_batch_tells_how_many_went_before() {
    namespace::inside(|| {
        let (mut left, mut right) = pair();
        let (good, long) = (frame(1, 60), frame(2, 4000));
        let batch = [
            good.as_slice(),
            good.as_slice(),
            long.as_slice(),
            good.as_slice(),
        ];
        assert_eq!(left.send_batch(batch.into_iter()).expect("two"), 2);
        assert_eq!(receive(&mut right, 2).len(), 2);
        let error = left
            .send_batch([long.as_slice()].into_iter())
            .expect_err("too long");
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    });
}

#[test]
fn an_unknown_interface_is_named() {
    let error = PacketSocket::open("nowhere0").err().expect("there is none");
    assert_eq!(
        error.to_string(),
        "no network interface is named nowhere0: `ip -brief link` lists those that exist"
    );
}
