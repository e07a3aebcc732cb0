use super::{End, Entry, Flow, Line, Log, Portion, Stamp, parse};
use hopgap_proto::time::Mono;

fn entry(port: u16, seq: u32, echo: Option<u32>, exit: Option<i64>) -> Entry {
    Entry {
        stamp: Stamp {
            flow: Flow {
                source: format!("10.1.11.10:{port}").parse().expect("an address"),
                destination: "10.17.11.132:862".parse().expect("an address"),
                ssid: 4,
            },
            seq,
            echo,
            ttl: 254,
        },
        enter: Mono::from_nanos(1_000_000),
        exit: exit.map(Mono::from_nanos),
    }
}

#[test]
fn what_is_written_is_read_back() {
    let entries = vec![
        entry(50_000, 1, None, Some(1_002_500)),
        entry(50_001, 2, Some(7), None),
        entry(50_000, 3, None, None),
    ];
    let mut log = Log::new(Vec::new());
    log.write(&Portion::Entries(entries.clone()))
        .expect("memory");
    let ended = End {
        overflows: 5,
        at: Mono::from_nanos(9),
    };
    log.write(&Portion::End(ended)).expect("memory");
    let text = String::from_utf8(log.out).expect("text");
    assert_eq!(text.lines().count(), 2 + 3 + 1);
    let mut flows = Vec::new();
    let mut read = Vec::new();
    let mut end = None;
    for line in text.lines() {
        match parse(line, &mut flows).expect("a line of the log") {
            Line::Flow => {}
            Line::Entry(entry) => read.push(entry),
            Line::End(at) => end = Some(at),
        }
    }
    assert_eq!(read, entries);
    assert_eq!(end, Some(ended));
}

#[test]
fn a_torn_line_is_refused() {
    let mut flows = Vec::new();
    for line in [
        "",
        "p",
        "p,0,1,,254,17,3",
        "f,1,10.0.0.1:1,10.0.0.2:2,3",
        "x,1",
        "e,",
    ] {
        assert!(parse(line, &mut flows).is_none(), "{line}");
    }
}
