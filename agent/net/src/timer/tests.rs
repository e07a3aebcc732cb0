use super::*;
use std::io::Write;
use std::os::unix::net::UnixStream;

const MS: Span = Span::from_nanos(1_000_000);

fn after(span: Span) -> Mono {
    Clock::now() + span
}

#[test]
fn a_timer_becomes_readable_at_its_instant_and_not_before() {
    let timer = Timer::new().unwrap();
    let mut ready = [Ready::NONE];
    assert!(!wait(Some(after(MS)), &[timer.as_fd()], &mut ready).unwrap());
    let at = after(MS);
    timer.arm(at).unwrap();
    assert!(wait(None, &[timer.as_fd()], &mut ready).unwrap());
    assert!(Clock::now() >= at);
    assert_eq!(
        ready,
        [Ready {
            readable: true,
            error: false
        }]
    );
    assert!(timer.expired().unwrap());
    assert!(!timer.expired().unwrap());
    assert!(!wait(Some(Clock::now()), &[timer.as_fd()], &mut ready).unwrap());
}

#[test]
fn a_timer_for_the_past_is_readable_at_once_and_a_disarmed_one_never() {
    let timer = Timer::new().unwrap();
    let mut ready = [Ready::NONE];
    for past in [Mono::MIN, Mono::ZERO, Clock::now()] {
        timer.arm(past).unwrap();
        assert!(wait(None, &[timer.as_fd()], &mut ready).unwrap());
        timer.disarm().unwrap();
        assert!(!wait(Some(after(MS)), &[timer.as_fd()], &mut ready).unwrap());
    }
}

#[test]
fn waiting_tells_which_descriptor_has_something() {
    let (silent, _silent_end) = UnixStream::pair().unwrap();
    let (speaking, mut end) = UnixStream::pair().unwrap();
    end.write_all(b"x").unwrap();
    let mut ready = [Ready::NONE; 2];
    let any = wait(None, &[silent.as_fd(), speaking.as_fd()], &mut ready).unwrap();
    assert!(any);
    assert_eq!(
        ready,
        [
            Ready::NONE,
            Ready {
                readable: true,
                error: false
            }
        ]
    );
}

#[test]
fn waiting_refuses_what_it_cannot_tell() {
    let timer = Timer::new().unwrap();
    let error = wait(None, &[timer.as_fd()], &mut []).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let many = vec![timer.as_fd(); MAX_FDS + 1];
    let error = wait(None, &many, &mut [Ready::NONE; MAX_FDS + 1]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn no_sleep_ends_early() {
    for precise in [false, true] {
        for _ in 0..20 {
            let deadline = after(Span::from_nanos(500_000));
            assert!(sleep_until(deadline, precise) >= deadline);
        }
        let past = Clock::now() - MS;
        assert!(sleep_until(past, precise) > past);
    }
}

#[test]
fn exact_waking_holds_for_the_thread() {
    wake_exactly().unwrap();
    assert_eq!(sys::clock::timer_slack(), 1);
    std::thread::spawn(|| {
        wake_exactly().unwrap();
        assert_eq!(sys::clock::timer_slack(), 1);
    })
    .join()
    .unwrap();
}
