use super::*;

#[test]
fn what_is_written_is_read() {
    let mut out = Outgoing::EMPTY;
    out.push(1, 2, &[3, 4, 5]);
    out.push(6, 7, &8i32.to_ne_bytes());
    let read: Vec<_> = Controls::new(out.as_bytes()).collect();
    assert_eq!(
        read,
        [
            Control {
                level: 1,
                kind: 2,
                data: &[3, 4, 5]
            },
            Control {
                level: 6,
                kind: 7,
                data: &8i32.to_ne_bytes()
            },
        ]
    );
    assert_eq!(read[1].int(), Some(8));
    assert_eq!(read[1].small(), Some(8));
    assert_eq!(read[0].int(), None);
}

#[test]
fn a_byte_and_an_int_are_both_small() {
    assert_eq!(
        Control {
            level: 0,
            kind: 1,
            data: &[0xb8]
        }
        .small(),
        Some(0xb8)
    );
    let int = 255i32.to_ne_bytes();
    assert_eq!(
        Control {
            level: 0,
            kind: 1,
            data: &int
        }
        .small(),
        Some(255)
    );
    let wide = 256i32.to_ne_bytes();
    assert_eq!(
        Control {
            level: 0,
            kind: 1,
            data: &wide
        }
        .small(),
        None
    );
    let negative = (-1i32).to_ne_bytes();
    assert_eq!(
        Control {
            level: 0,
            kind: 1,
            data: &negative
        }
        .small(),
        None
    );
}

#[test]
fn any_truncation_ends_the_walk_without_panic() {
    let mut out = Outgoing::EMPTY;
    out.push(1, 2, &[9; 12]);
    out.push(3, 4, &[9; 4]);
    let whole = out.as_bytes();
    for cut in 0..whole.len() {
        let read = Controls::new(&whole[..cut]).count();
        assert!(read <= 2);
        if cut < HEADER + 12 {
            assert_eq!(read, 0, "cut at {cut}");
        }
    }
}

#[test]
fn a_false_length_ends_the_walk() {
    for len in [0, HEADER - 1, 1000, usize::MAX] {
        let mut bytes = [0u8; 64];
        bytes[..WORD].copy_from_slice(&len.to_ne_bytes());
        assert_eq!(Controls::new(&bytes).count(), 0, "length {len}");
    }
}
