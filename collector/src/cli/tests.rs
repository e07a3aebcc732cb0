use super::Cli;
use clap::{CommandFactory, Parser};

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn times_and_formats_are_checked_where_they_are_written() {
    let good = [
        "report --from -15m --to 2026-11-23T02:00:00Z --format html --out r.html",
        "report q4",
        "drill mark --failover x --at -5s",
        "token create --agent azure --expires 15m --output t --store s",
        "token revoke 0102030405060708",
        "agent rename onprem dc1 --plan p",
    ];
    for line in good {
        let words = std::iter::once("hopgap-collector").chain(line.split(' '));
        assert!(Cli::try_parse_from(words).is_ok(), "{line}");
    }
    let bad = [
        ("report --to -1m", "--from"),
        ("report --from yesterday", "is no time; write"),
        ("report --format pdf", "use text, json, csv or html"),
        ("report q4 --from -1m", "cannot be used with"),
        ("drill mark x --failover --failback", "cannot be used with"),
        ("serve --listen localhost", "invalid"),
        ("token create", "--agent"),
        ("token revoke 01", "not whole"),
        ("agent revoke a/b", "is not a usable name"),
        ("agent list --plan p --store s", "cannot be used with"),
    ];
    for (line, expected) in bad {
        let words = std::iter::once("hopgap-collector").chain(line.split(' '));
        let error = Cli::try_parse_from(words).unwrap_err().to_string();
        assert!(error.contains(expected), "{line}: {error}");
    }
}
