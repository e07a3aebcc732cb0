//! What an agent's certificate lets whoever has it send.

use crate::world::{Host, PATIENCE};
use hopgap_proto::frame::{self, FrameKind};
use hopgap_proto::record::{Block, BlockBody, BlockHeader, BlockKey, RunId};
use hopgap_proto::time::{ClockPair, Mono, Span, Wall};
use hopgap_proto::uplink::AGENT_HEADER;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// A joined agent's identity, in other hands.
pub(super) struct Hostile {
    host: Host,
    name: &'static str,
    config: Arc<ClientConfig>,
}

impl Hostile {
    /// Takes the identity that `hopgap-agent join` left.
    pub(super) fn new(host: Host, name: &'static str) -> Self {
        let file = format!("/run/scratch/{name}/identity/identity.json");
        let identity: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let pem = |key: &str| identity[key].as_str().unwrap().as_bytes().to_owned();
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(&pem("authority")).unwrap();
        roots.add(authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(&pem("certificate")).unwrap()],
                PrivateKeyDer::from_pem_slice(&pem("key")).unwrap(),
            )
            .unwrap();
        Self {
            host,
            name,
            config: Arc::new(config),
        }
    }

    /// One request on a connection of its own: the answer's status and body.
    pub(super) fn ask(&self, path: &str, body: &[u8]) -> (u16, String) {
        self.try_to(path, body).expect("the collector answers")
    }

    /// The same, whatever comes of it.
    pub(super) fn try_ask(&self, path: &str, body: &[u8]) {
        let _ = self.try_to(path, body);
    }

    fn try_to(&self, path: &str, body: &[u8]) -> io::Result<(u16, String)> {
        let stream = self.host.inside(|| TcpStream::connect("10.0.0.1:8621"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from("10.0.0.1").unwrap();
        let connection = ClientConnection::new(Arc::clone(&self.config), name).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: collector\r\n{AGENT_HEADER}: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.name,
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat())?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            // A server that closes without saying so by TLS has answered all the same.
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            _ => {}
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(answer.clone()))?;
        Ok((status, answer))
    }
}

/// The wall clock.
pub(super) fn now() -> Wall {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    Wall::from_nanos(i64::try_from(since.as_nanos()).unwrap())
}

/// A monotonic clock that was started an hour ago.
pub(super) fn mono() -> Mono {
    Mono::ZERO + Span::from_secs(3_600)
}

/// So many blocks of one body, closed at `at`, each under a number of its own.
pub(super) fn bodies(
    agent: &str,
    session: &str,
    at: Wall,
    body: &BlockBody,
    count: usize,
) -> Vec<u8> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mut block = Block {
        header: BlockHeader {
            key: BlockKey {
                agent: agent.parse().unwrap(),
                run: RunId(7),
                number: 0,
            },
            session: Some(session.parse().unwrap()),
            closed: ClockPair {
                mono: mono(),
                wall: at,
            },
        },
        body: body.clone(),
    };
    // Encoded once: the number, of three bytes as a varint, is all that differs.
    block.header.key.number = FIRST;
    let encoded = block.encode(Span::from_nanos(100)).unwrap();
    let digits = varint(FIRST);
    let at = encoded
        .windows(digits.len())
        .position(|w| w == digits)
        .expect("the number is in the block's head");
    let payloads: Vec<_> = (0..count)
        .map(|_| {
            let mut payload = encoded.clone();
            let number = FIRST + NUMBER.fetch_add(1, Ordering::Relaxed);
            payload[at..at + digits.len()].copy_from_slice(&varint(number));
            payload
        })
        .collect();
    framed(&payloads)
}

/// The number of the first block; those that follow are as long.
const FIRST: u64 = 100_000;

/// LEB128, as postcard writes numbers.
fn varint(mut n: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(n & 0x7f).unwrap();
        n >>= 7;
        if n == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// Frames of these payloads.
pub(super) fn framed(payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    for payload in payloads {
        frame::append(&mut body, FrameKind::Block, payload).unwrap();
    }
    body
}

/// Frames that are whole and hold no block.
pub(super) fn unreadable(count: usize) -> Vec<u8> {
    framed(&vec![b"no".to_vec(); count])
}
