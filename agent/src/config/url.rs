//! Checks the collector's URL and says what to write instead.

use std::net::Ipv6Addr;

/// Longest name of a host (RFC 1035 section 2.3.4).
const MOST_HOST: usize = 253;

/// What is wrong with a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UrlFault {
    /// It begins with neither `http://` nor `https://`.
    Scheme,
    /// It names no host.
    NoHost,
    /// Its host is neither a name nor an address.
    Host(String),
    /// It has no port. The default would be 80 or 443, where no collector listens.
    NoPort,
    /// Its port is not a number from 1 to 65535.
    Port(String),
    /// More than a path follows host and port, beginning with this character.
    Rest(char),
}

/// Checks a URL of a collector.
pub(crate) fn check(url: &str) -> Result<(), UrlFault> {
    let (scheme, rest) = url.split_once("://").ok_or(UrlFault::Scheme)?;
    if !matches!(scheme, "http" | "https") {
        return Err(UrlFault::Scheme);
    }
    if let Some(beyond) = rest.chars().find(|c| matches!(c, '?' | '#' | '@')) {
        return Err(UrlFault::Rest(beyond));
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if let Some(strange) = path.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(UrlFault::Rest(strange));
    }
    let (host, port) = match authority.rsplit_once(':') {
        // In an IPv6 address without a port, the last colon belongs to the address.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if host.is_empty() {
        return Err(UrlFault::NoHost);
    }
    if !is_host(host) {
        return Err(UrlFault::Host(host.to_owned()));
    }
    match port {
        None | Some("" | "0") => Err(UrlFault::NoPort),
        Some(port) => match port.parse::<u16>() {
            Ok(1..) if port.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
            _ => Err(UrlFault::Port(port.to_owned())),
        },
    }
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']');
        return address.is_some_and(|a| a.parse::<Ipv6Addr>().is_ok());
    }
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !label.is_empty() && label.bytes().all(inner)
    };
    // A name may end in a dot.
    let name = host.strip_suffix('.').unwrap_or(host);
    name.len() <= MOST_HOST && name.split('.').all(label)
}

impl UrlFault {
    /// Says what is wrong with `url` and what to write; follows the key's name in a message.
    pub(super) fn said_of(&self, url: &str) -> String {
        let tls = url.starts_with("https://");
        let port = if tls { 8621 } else { 8620 };
        match self {
            Self::Scheme => {
                format!("is `{url}`, but must be a URL such as https://10.1.11.10:8621")
            }
            Self::NoHost => format!(
                "is `{url}`, without a host or without a port; write where the collector listens, such as https://10.1.11.10:8621"
            ),
            Self::Host(host) => format!(
                "is `{url}`, but `{host}` is neither a name nor an address; write where the collector listens, such as https://10.1.11.10:8621 or https://[fd00::10]:8621"
            ),
            Self::NoPort => {
                let bare = url.trim_end_matches('/');
                let bare = bare
                    .strip_suffix(":0")
                    .unwrap_or(bare)
                    .trim_end_matches(':');
                format!(
                    "is `{url}`, without a port; write where the collector listens, such as {bare}:{port}"
                )
            }
            Self::Port(wrong) => {
                let without = url.trim_end_matches('/');
                let without = without
                    .strip_suffix(wrong.as_str())
                    .unwrap_or("https://10.1.11.10:");
                format!(
                    "is `{url}`, but a port is a number from 1 to 65535; write where the collector listens, such as {without}{port}"
                )
            }
            Self::Rest(beyond) => format!(
                "is `{url}`, but must be host and port alone, without `{}`; write where the collector listens, such as https://10.1.11.10:8621",
                beyond.escape_default()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_a_collectors_url_is_good() {
        for url in [
            "http://10.1.11.10:8620",
            "https://[fd00::1]:8621/",
            "https://server:8621",
            "https://hopgap.example.com.:8621/behind/a/proxy",
            "http://a_b-c:1",
            "http://a:65535",
        ] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_is_told_with_what_to_write() {
        let said = |url: &str| check(url).unwrap_err().said_of(url);
        let port =
            "but a port is a number from 1 to 65535; write where the collector listens, such as ";
        for (url, words) in [
            ("https://a b:8621", "`a b` is neither a name nor an address"),
            (
                "https://a..b:8621",
                "`a..b` is neither a name nor an address",
            ),
            (
                "https://[10.0.0.1]:8621",
                "`[10.0.0.1]` is neither a name nor",
            ),
            ("https://fd00::1:8621", "`fd00::1` is neither a name nor"),
            ("https://ä:8621", "`ä` is neither a name nor an address"),
            ("https://a:99999", &format!("{port}https://a:8621")),
            ("http://a:99999/", &format!("{port}http://a:8620")),
            ("https://a:+1", &format!("{port}https://a:8621")),
            ("https://a:86 21", &format!("{port}https://a:8621")),
            (
                "https://a",
                "without a port; write where the collector listens, such as https://a:8621",
            ),
            (
                "https://a:0",
                "without a port; write where the collector listens, such as https://a:8621",
            ),
            ("https://user@a:8621", "host and port alone, without `@`"),
            ("https://a:8621?x", "host and port alone, without `?`"),
            ("https://a:8621/ ", "host and port alone, without ` `"),
            (
                "ftp://a:8621",
                "must be a URL such as https://10.1.11.10:8621",
            ),
            ("a:8621", "must be a URL such as https://10.1.11.10:8621"),
            ("https://:8621", "without a host"),
        ] {
            assert!(said(url).contains(words), "{url}: {}", said(url));
        }
    }
}
