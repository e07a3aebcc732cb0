use super::wire::{NtpTimestamp, PtpTimestamp};
use super::{Span, Wall};
use proptest::prelude::*;

#[test]
fn ntp_of_the_unix_epoch_is_the_offset_of_rfc_5905() {
    assert_eq!(NtpTimestamp::from_wall(Wall::ZERO).0, 0x83AA_7E80_0000_0000);
}

#[test]
fn ntp_half_second_is_the_top_bit_of_the_fraction() {
    let wall = Wall::from_nanos(500_000_000);
    assert_eq!(NtpTimestamp::from_wall(wall).0 & 0xffff_ffff, 0x8000_0000);
}

#[test]
fn ntp_crosses_the_era_of_2036() {
    // 2036-02-07T06:28:16Z, where the seconds wrap to zero.
    let wall = Wall::from_nanos(2_085_978_496_000_000_000);
    assert_eq!(NtpTimestamp::from_wall(wall).0, 0);
    assert_eq!(NtpTimestamp(0).to_wall(wall - Span::from_secs(5)), wall);
}

#[test]
fn spans_read_as_people_write_them() {
    assert_eq!("1ms".parse(), Ok(Span::from_millis(1)));
    assert_eq!("0.1s".parse(), Ok(Span::from_nanos(100_000_000)));
    assert_eq!("1.5 h".parse(), Ok(Span::from_secs(5400)));
    for bad in ["", "5", "ms", "-1ms", "1 parsec", "1..5s", "99999999999h"] {
        assert!(bad.parse::<Span>().is_err(), "{bad}");
    }
}

#[test]
fn a_number_alone_is_told_its_unit() {
    let error = "10".parse::<Span>().unwrap_err().to_string();
    assert_eq!(
        error,
        "`10` has no unit; write 10ms, 10s, 10m or 10h, whichever is meant"
    );
}

#[test]
fn spans_display_in_the_unit_that_fits() {
    assert_eq!(Span::from_millis(893).to_string(), "893 ms");
    assert_eq!(Span::from_millis(1250).to_string(), "1.25 s");
    assert_eq!(Span::from_nanos(7_200).to_string(), "7.20 µs");
    assert_eq!(Span::from_nanos(-42).to_string(), "-42 ns");
}

proptest! {
    #[test]
    fn ntp_keeps_every_nanosecond(nanos in 0i64..4_000_000_000_000_000_000, drift in -1_000_000_000_000i64..1_000_000_000_000) {
        let wall = Wall::from_nanos(nanos);
        prop_assert_eq!(NtpTimestamp::from_wall(wall).to_wall(wall + Span::from_nanos(drift)), wall);
    }

    #[test]
    fn ptp_keeps_every_nanosecond(nanos in 0i64..4_000_000_000_000_000_000, drift in -1_000_000_000_000i64..1_000_000_000_000) {
        let wall = Wall::from_nanos(nanos);
        prop_assert_eq!(PtpTimestamp::from_wall(wall).to_wall(wall + Span::from_nanos(drift)), wall);
    }

    #[test]
    fn no_timestamp_panics(raw: u64, near: i64) {
        let _ = NtpTimestamp(raw).to_wall(Wall::from_nanos(near));
        let _ = PtpTimestamp(raw).to_wall(Wall::from_nanos(near));
    }

    #[test]
    fn span_text_reads_back(nanos in 0i64..i64::MAX) {
        let span = Span::from_nanos(nanos);
        prop_assert_eq!(span.to_config_text().parse::<Span>(), Ok(span));
    }
}
