use super::Config;
use std::path::Path;

fn error(text: &str) -> String {
    Config::parse(text, Path::new("agent.toml"))
        .unwrap_err()
        .to_string()
}

#[test]
fn the_shipped_example_is_valid() {
    let text = include_str!("../../examples/agent.toml");
    let config = Config::parse(text, Path::new("agent.toml")).unwrap();
    assert_eq!(config.name.as_str(), "onprem");
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let text = "name = \"a\"\ncollector = \"http://x:1\"\ncolector = 1\n";
    let message = error(text);
    assert!(
        message.starts_with("agent.toml:3:1: unknown field `colector`"),
        "{message}"
    );
}

#[test]
fn a_bad_length_of_time_says_how_to_write_one() {
    let message = error("name = \"a\"\ncollector = \"http://x:1\"\nblock = \"10 parsecs\"\n");
    assert!(message.starts_with("agent.toml:3:9:"), "{message}");
    assert!(message.contains("250us, 1ms, 1.5s"), "{message}");
}

#[test]
fn a_bad_url_says_what_one_looks_like() {
    let message = error("name = \"a\"\ncollector = \"10.1.11.10\"\n");
    assert!(message.contains("https://10.1.11.10:8621"), "{message}");
}

#[test]
fn a_url_without_port_is_refused() {
    let said = |url: &str| error(&format!("name = \"a\"\ncollector = \"{url}\"\n"));
    for url in [
        "http://10.1.11.10",
        "http://10.1.11.10/",
        "http://[fd00::1]",
        "http://10.1.11.10:0",
        "http://10.1.11.10:",
        "http://:8620",
    ] {
        assert!(said(url).contains("without a port"), "{url}: {}", said(url));
    }
    for url in [
        "http://10.1.11.10:8620",
        "http://[fd00::1]:8620/",
        "http://server:8620",
    ] {
        let text = format!("name = \"a\"\ncollector = \"{url}\"\n");
        assert!(
            Config::parse(&text, Path::new("agent.toml")).is_ok(),
            "{url}"
        );
    }
}

#[test]
fn bounds_of_the_spool_that_cannot_work_are_refused_by_name() {
    let with = |spool: &str| {
        let text = format!("name = \"a\"\ncollector = \"http://x:1\"\n[spool]\n{spool}\n");
        Config::parse(&text, Path::new("agent.toml"))
    };
    for (line, key) in [
        ("max_bytes = 1000", "spool.max_bytes"),
        ("max_age = \"10s\"", "spool.max_age"),
        ("max_memory = 10", "spool.max_memory"),
        ("backfill_rate = 0", "spool.backfill_rate"),
    ] {
        let message = with(line).unwrap_err().to_string();
        assert!(
            message.contains(&format!("`{key}` must be at least")),
            "{message}"
        );
    }
    let spool = with("sync_every = \"0s\"\nmax_age = \"2d\"").unwrap().spool;
    assert_eq!(spool.sync_every, hopgap_proto::time::Span::ZERO);
    assert_eq!(
        spool.max_age,
        hopgap_proto::time::Span::from_secs(2 * 86_400)
    );
}

#[test]
fn by_tls_the_certificate_counts_and_a_secret_is_refused() {
    let text = "name = \"a\"\ncollector = \"https://10.1.11.10:8621\"\n";
    let config = Config::parse(text, Path::new("agent.toml")).unwrap();
    assert!(config.uses_tls());
    let message = error(&format!("{text}secret_file = \"a.secret\"\n"));
    assert!(message.contains("hopgap-agent join"), "{message}");
}

#[test]
fn a_proxy_is_checked_as_strictly_as_it_is_used() {
    let with = |proxy: &str| {
        let text = format!("name = \"a\"\ncollector = \"http://x:1\"\nproxy = \"{proxy}\"\n");
        Config::parse(&text, Path::new("agent.toml"))
    };
    let config = with("http://10.0.0.2:3128").unwrap();
    assert_eq!(
        config.proxy().map(|p| p.to_string()).as_deref(),
        Some("http://10.0.0.2:3128")
    );
    let message = with("10.0.0.2:3128").unwrap_err().to_string();
    assert!(
        message.contains("`proxy` cannot be used: `10.0.0.2:3128` is no proxy"),
        "{message}"
    );
    let none = Config::parse("name = \"a\"\ncollector = \"http://x:1\"\n", Path::new("a")).unwrap();
    assert_eq!(none.proxy(), None);
}
