use super::{ClockExchange, ClockExchangeError};
use crate::record::RunId;
use crate::time::{ClockPair, Mono, Span, Wall};

fn exchange() -> ClockExchange {
    ClockExchange {
        run: RunId(u64::MAX),
        sent: Mono::from_nanos(1_000),
        collector: Wall::from_nanos(9_000),
        received: ClockPair {
            mono: Mono::from_nanos(1_500),
            wall: Wall::from_nanos(-20_000),
        },
    }
}

#[test]
fn a_header_is_read_as_it_was_written() {
    let text = exchange().to_string();
    assert_eq!(text, "18446744073709551615 1000 9000 1500 -20000");
    assert_eq!(text.parse(), Ok(exchange()));
}

#[test]
fn it_bounds_how_far_the_clocks_are_apart() {
    let (least, most) = exchange().ahead();
    assert_eq!(least, Span::from_nanos(-29_500));
    assert_eq!(most, Span::from_nanos(-29_000));
}

#[test]
fn what_is_no_exchange_is_refused() {
    for bad in [
        "",
        "1 2 3 4",
        "1 2 3 4 5 6",
        "1 4 3 2 5",
        "-1 2 3 4 5",
        "1 2 3 4 x",
        "1 2 3 4 99999999999999999999",
    ] {
        assert_eq!(
            bad.parse::<ClockExchange>(),
            Err(ClockExchangeError),
            "{bad}"
        );
    }
}

#[test]
fn numbers_at_the_ends_do_not_panic() {
    let text = format!("0 {} {} {} {}", i64::MIN, i64::MAX, i64::MAX, i64::MIN);
    let exchange: ClockExchange = text.parse().unwrap();
    let (earliest, latest) = exchange.bounds();
    assert!(earliest <= latest);
    let (least, most) = exchange.ahead();
    assert!(least <= most);
}
