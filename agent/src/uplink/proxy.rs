//! The proxy of the uplink, where the configuration names one.
//!
//! The environment's proxies (`https_proxy`, `http_proxy`, `ALL_PROXY`) are not used: they
//! are meant for browsing, and the collector is one's own host. The collector's programs do
//! not use them either.

use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;

/// Variables that name a proxy for other programs.
const VARIABLES: [&str; 6] = [
    "https_proxy",
    "HTTPS_PROXY",
    "http_proxy",
    "HTTP_PROXY",
    "all_proxy",
    "ALL_PROXY",
];

/// Most bytes that are read of an answer to CONNECT.
const MOST: usize = 8_192;

/// A proxy that passes connections on by CONNECT (RFC 9110 section 9.3.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyUrl {
    host: String,
    port: u16,
}

/// Why a text names no proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyUrlError {
    /// It is no URL of an HTTP proxy with its port.
    #[error(
        "`{0}` is no proxy that can be used; write its host and port, such as http://10.1.11.3:3128"
    )]
    Form(String),
    /// It holds a name and a password.
    #[error(
        "the proxy's URL holds a name or a password, which are not supported; let the proxy pass this host on by its address"
    )]
    Credentials,
}

impl FromStr for ProxyUrl {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, ProxyUrlError> {
        let form = || ProxyUrlError::Form(text.to_owned());
        let authority = text.strip_prefix("http://").ok_or_else(form)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains('@') {
            // The text is not repeated, because it holds a secret.
            return Err(ProxyUrlError::Credentials);
        }
        let (host, port) = authority.rsplit_once(':').ok_or_else(form)?;
        let port: u16 = port.parse().map_err(|_| form())?;
        let bare = match host.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']').ok_or_else(form)?;
                inner
                    .parse::<std::net::Ipv6Addr>()
                    .map_err(|_| form())?
                    .to_string()
            }
            None => host.to_owned(),
        };
        let named = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let plain = host.starts_with('[') || (!bare.is_empty() && bare.chars().all(named));
        if port == 0 || !plain {
            return Err(form());
        }
        Ok(Self { host: bare, port })
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        match host.contains(':') {
            true => write!(f, "http://[{host}]:{port}"),
            false => write!(f, "http://{host}:{port}"),
        }
    }
}

impl ProxyUrl {
    /// Its name or address.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Its TCP port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Converts it for the HTTP library. `None` is not known to occur.
    pub(super) fn for_library(&self) -> Option<ureq::Proxy> {
        ureq::Proxy::new(&self.to_string()).ok()
    }

    /// Makes the proxy connect to `host`, over a connection to the proxy. An error is a sentence
    /// without its end.
    pub(super) fn pass_on(
        &self,
        stream: &mut (impl Read + Write),
        host: &str,
        port: u16,
    ) -> Result<(), String> {
        let wrong = |error: std::io::Error| format!("the proxy {self} does not answer: {error}");
        let target = match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(wrong)?;
        let mut answer = Vec::new();
        // Reads single octets: bytes after the answer are the collector's.
        while !answer.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            if answer.len() >= MOST || stream.read(&mut octet).map_err(wrong)? == 0 {
                return Err(format!("the proxy {self} does not speak HTTP"));
            }
            answer.extend(octet);
        }
        let line = answer.split(|b| *b == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let status = line.split(' ').nth(1).unwrap_or_default();
        if status.len() == 3 && status.starts_with('2') {
            return Ok(());
        }
        let shown: String = line.chars().filter(|c| !c.is_control()).take(80).collect();
        Err(format!(
            "the proxy {self} does not connect to {target} (`{shown}`); let it pass that on, or leave the proxy out"
        ))
    }
}

/// Returns the first environment variable that names a proxy, which is not used.
pub fn unused_variable() -> Option<&'static str> {
    VARIABLES
        .into_iter()
        .find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::{ProxyUrl, ProxyUrlError};
    use std::io::{self, Read, Write};

    #[test]
    fn a_proxy_is_written_with_its_port_and_without_a_password() {
        for good in [
            "http://10.1.11.3:3128",
            "http://[fd00::3]:3128",
            "http://proxy.corp-net.example:8080",
        ] {
            let parsed: ProxyUrl = good.parse().unwrap();
            assert_eq!(parsed.to_string(), good);
            assert!(parsed.for_library().is_some(), "{good}");
        }
        assert_eq!(
            "http://p:1/".parse::<ProxyUrl>().unwrap().to_string(),
            "http://p:1"
        );
        for bad in [
            "",
            "p:3128",
            "http://p",
            "http://p:0",
            "http://p:99999",
            "http://a b:3128",
            "http://[fd00::3:3128",
            "http://fd00::3:3128",
            "https://p:3128",
            "socks5://p:1080",
            "http://p:3128/path",
        ] {
            let error = bad.parse::<ProxyUrl>().unwrap_err();
            assert_eq!(error, ProxyUrlError::Form(bad.to_owned()));
        }
        let secret = "http://me:geheim@p:3128".parse::<ProxyUrl>().unwrap_err();
        assert_eq!(secret, ProxyUrlError::Credentials);
        assert!(!secret.to_string().contains("geheim"));
    }

    /// Reads from one side, writes to the other.
    struct Script(io::Cursor<Vec<u8>>, Vec<u8>);

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn it_is_asked_to_connect_and_its_refusal_is_told() {
        let proxy: ProxyUrl = "http://10.1.11.3:3128".parse().unwrap();
        let ask = |answer: &str| {
            let mut script = Script(io::Cursor::new(answer.as_bytes().to_vec()), Vec::new());
            let passed = proxy.pass_on(&mut script, "fd00::1", 8621);
            (passed, script)
        };
        let (passed, mut rest) = ask("HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nTLS");
        assert_eq!(passed, Ok(()));
        let asked = String::from_utf8(rest.1.clone()).unwrap();
        assert!(
            asked.starts_with("CONNECT [fd00::1]:8621 HTTP/1.1\r\n"),
            "{asked}"
        );
        let mut next = String::new();
        rest.read_to_string(&mut next).unwrap();
        assert_eq!(next, "TLS", "what is the collector's stays");
        let (refused, _) = ask("HTTP/1.1 403 Forbidden\r\n\r\n");
        assert!(refused.unwrap_err().contains("403 Forbidden"));
        for silent in ["", "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 200 OK\r\n"] {
            assert!(ask(silent).0.unwrap_err().contains("does not speak HTTP"));
        }
    }
}
