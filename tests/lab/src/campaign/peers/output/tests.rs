use super::{Said, read};
use crate::campaign::peers::Peer;
use crate::campaign::scenario::Way;
use hopgap_proto::time::Span;

fn said(lasted: Option<i64>, way: Option<Way>) -> Said {
    Said {
        lasted: lasted.map(Span::from_millis),
        way,
    }
}

#[test]
fn the_outage_time_of_fping_is_that_of_its_last_line() {
    let text = "10.2.0.10 : [0], 64 bytes, 10.2 ms (10.2 avg, 0% loss)\n\n\
                10.2.0.10 : xmt/rcv/%loss = 120/70/41%, outage(ms) = 500, min/avg/max = 10.0/10.2/11.0\n";
    assert_eq!(
        read(Peer::Fping, text).expect("a number"),
        said(Some(500), None)
    );
    let none = text.replace("= 500,", "= 0,");
    assert_eq!(
        read(Peer::Fping, &none).expect("a number"),
        said(None, None)
    );
    assert!(read(Peer::Fping, "10.2.0.10 : [0], timed out\n").is_err());
}

#[test]
fn ping_tells_by_the_stamps_around_missing_numbers() {
    let answer = |at: &str, seq: u32| {
        format!("[{at}] 64 bytes from 10.2.0.10: icmp_seq={seq} ttl=60 time=10.1 ms\n")
    };
    // A late answer without a missing number is no loss.
    let quiet = answer("100.000000", 1) + &answer("100.900000", 2);
    assert_eq!(read(Peer::Ping, &quiet).expect("answers"), said(None, None));
    let text = quiet
        + "[100.930000] no answer yet for icmp_seq=3\n"
        + &answer("101.210000", 33)
        + &answer("101.220000", 34);
    assert_eq!(
        read(Peer::Ping, &text).expect("answers"),
        said(Some(300), None)
    );
    assert!(read(Peer::Ping, "PING 10.2.0.10 56(84) bytes of data.\n").is_err());
}

#[test]
fn mtr_tells_by_the_last_hop() {
    let hub =
        |loss: f64| format!("{{\"count\": 1, \"host\": \"x\", \"Loss%\": {loss}, \"Snt\": 50}}");
    let text = |last: f64| {
        format!(
            "{{\"report\": {{\"hubs\": [{}, {}]}}}}",
            hub(90.0),
            hub(last)
        )
    };
    let read = |last: f64| read(Peer::Mtr, &text(last)).expect("a report");
    assert_eq!(read(0.0), said(None, None));
    assert_eq!(read(20.0), said(Some(1_000), None));
}

#[test]
fn irtt_tells_length_and_direction() {
    let trip = |seq: i64, lost: &str| {
        format!(
            "{{\"seqno\": {seq}, \"lost\": \"{lost}\", \"timestamps\": {{\"client\": \
             {{\"send\": {{\"monotonic\": {}}}}}}}}}",
            seq * 10_000_000
        )
    };
    let text = |lost: std::ops::Range<i64>, up: f64, down: f64| {
        let trips: Vec<String> = (0..100)
            .map(|seq| {
                trip(
                    seq,
                    if lost.contains(&seq) {
                        "true_up"
                    } else {
                        "false"
                    },
                )
            })
            .collect();
        format!(
            "{{\"stats\": {{\"upstream_loss_percent\": {up}, \"downstream_loss_percent\": {down}}}, \
             \"round_trips\": [{}]}}",
            trips.join(", ")
        )
    };
    let read = |text: String| read(Peer::Irtt, &text).expect("a result");
    assert_eq!(read(text(0..0, 0.0, 0.0)), said(None, None));
    assert_eq!(
        read(text(20..50, 30.0, 0.0)),
        said(Some(300), Some(Way::Forward))
    );
    assert_eq!(
        read(text(20..50, 0.0, 30.0)),
        said(Some(300), Some(Way::Reverse))
    );
    // One that was under way at the end is in the summary, too.
    assert_eq!(
        read(text(20..50, 0.5, 30.0)),
        said(Some(300), Some(Way::Reverse))
    );
    assert_eq!(
        read(text(20..50, 15.0, 20.0)),
        said(Some(300), Some(Way::Both))
    );
    // What never ended has no length.
    assert_eq!(
        read(text(20..100, 80.0, 0.0)),
        said(None, Some(Way::Forward))
    );
}
