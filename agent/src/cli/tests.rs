use super::Cli;
use clap::{CommandFactory as _, Parser as _};

fn read(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("hopgap-agent").chain(line.split(' ')))
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn what_cannot_work_is_refused_where_it_is_written() {
    let bad = [
        ("measure h --interval 10", "`10` has no unit; write 10ms"),
        ("measure h --path vpn", "write NAME=ADDRESS or NAME=hop:N"),
        ("trace h --max-hops 64", "64 is not in 1..=63"),
        (
            "join https://h:1 --token - --token-file f",
            "cannot be used with",
        ),
    ];
    for (line, expected) in bad {
        let error = read(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(expected), "{line}: {error}");
    }
    assert!(read("trace h --max-hops 63").is_ok());
    assert!(read("join https://h:1 --token - --again").is_ok());
    assert!(read("measure h --path er=192.0.2.1 --path er=hop:5 --path vpn=hop:3").is_ok());
}
