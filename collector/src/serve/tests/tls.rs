//! The agents' listener, tested by a client that does what no agent would.

use super::{PLAN, Running, frames, json, wait_for};
use crate::identity::{Authority, Catalogue, open, provider};
use crate::serve::{RefusalBody, STATUS_PATH, TlsBody};
use crate::store::tests::{Dir, Session};
use hopgap_proto::record::AgentName;
use hopgap_proto::time::Span;
use hopgap_proto::uplink::{
    AGENT_HEADER, Ack, BLOCKS_PATH, Certified, ErrorBody, ErrorCode, HELLO_PATH, JOIN_PATH,
    JoinRequest, PLAN_PATH, RENEW_PATH, RenewRequest,
};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// A collector whose agents come by TLS.
struct Secure {
    running: Running,
    authority: Authority,
    catalogue: Catalogue,
}

/// A private key and its certificate.
#[derive(Clone)]
struct Mine {
    key: String,
    certificate: String,
}

impl Secure {
    fn start() -> Self {
        Self::start_in(Dir::new(), PLAN)
    }

    fn start_in(dir: Dir, plan: &str) -> Self {
        let settings = "[collector]\ntls = true\napi_listen = \"127.0.0.1:0\"\n";
        let plan = plan.replace("secret_file = \"onprem.secret\"\n", "");
        let running = Running::with(dir, &format!("{settings}{plan}"));
        let (authority, catalogue) = open(&running.dir.0.join("store")).unwrap();
        Self {
            running,
            authority,
            catalogue,
        }
    }

    fn token(&mut self, agent: &str) -> String {
        let agent: AgentName = agent.parse().unwrap();
        let now = crate::clock::now();
        let life = Span::from_secs(60);
        let token = self
            .catalogue
            .create_token(&self.authority, &agent, now, life);
        token.unwrap().to_text()
    }

    fn connect(&self, mine: Option<&Mine>) -> Connection {
        let config = config(&self.authority, mine);
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(self.running.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Connection(StreamOwned::new(connection, stream))
    }

    /// One request on a connection of its own.
    fn ask(&self, mine: Option<&Mine>, agent: &str, path: &str, body: Option<&[u8]>) -> Answer {
        self.connect(mine).ask(agent, path, body).unwrap()
    }

    fn join(&mut self, agent: &str) -> Mine {
        let token = self.token(agent);
        let (key, body) = join_body(&token);
        let (status, text) = self.ask(None, agent, JOIN_PATH, Some(&body));
        assert_eq!(status, 200, "{text}");
        let certified: Certified = json(&text);
        assert_eq!(certified.agent.as_str(), agent);
        assert_eq!(certified.authority, self.authority.pem());
        Mine {
            key: key.serialize_pem(),
            certificate: certified.certificate,
        }
    }

    fn status(&self) -> (TlsBody, Vec<RefusalBody>) {
        let status = self.running.client().status().unwrap();
        (status.tls.unwrap(), status.refusals)
    }
}

type Answer = (u16, String);

struct Connection(StreamOwned<ClientConnection, TcpStream>);

impl Connection {
    fn ask(&mut self, agent: &str, path: &str, body: Option<&[u8]>) -> std::io::Result<Answer> {
        let method = if body.is_some() { "POST" } else { "GET" };
        let body = body.unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: collector\r\n{AGENT_HEADER}: {agent}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.0.write_all(&[head.as_bytes(), body].concat())?;
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte)?;
            answer.extend(byte);
        }
        let head = String::from_utf8(answer).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head
            .lines()
            .find_map(|l| l.strip_prefix("content-length: ")?.parse().ok())
            .unwrap_or(0);
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((status, String::from_utf8(body).unwrap()))
    }
}

fn config(authority: &Authority, mine: Option<&Mine>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    match mine {
        None => builder.with_no_client_auth(),
        Some(mine) => {
            let key = PrivateKeyDer::from_pem_slice(mine.key.as_bytes()).unwrap();
            let certificate = CertificateDer::from_pem_slice(mine.certificate.as_bytes());
            builder
                .with_client_auth_cert(vec![certificate.unwrap()], key)
                .unwrap()
        }
    }
}

fn signing_request() -> (KeyPair, String) {
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key);
    let pem = request.unwrap().pem().unwrap();
    (key, pem)
}

fn join_body(token: &str) -> (KeyPair, Vec<u8>) {
    let (key, request) = signing_request();
    let asked = JoinRequest {
        token: token.to_owned(),
        request,
    };
    (key, serde_json::to_vec(&asked).unwrap())
}

fn refused((status, text): Answer) -> (u16, ErrorCode) {
    (status, json::<ErrorBody>(&text).code)
}

#[test]
fn an_agent_joins_and_delivers_and_only_as_itself() {
    let mut secure = Secure::start();
    let onprem = secure.join("onprem");
    let azure = secure.join("azure");
    let [probes, _] = Session::new(crate::clock::now()).ten_seconds();
    let body = frames([&probes]);
    let deliver =
        |mine: Option<&Mine>, name: &str| secure.ask(mine, name, BLOCKS_PATH, Some(&body));
    assert_eq!(json::<Ack>(&deliver(Some(&onprem), "onprem").1).stored, 1);

    // Another agent's certificate, whatever name is given.
    let as_other = deliver(Some(&azure), "onprem");
    assert!(
        as_other
            .1
            .contains("the certificate is of agent `azure`, but the request of `onprem`"),
        "{as_other:?}"
    );
    assert_eq!(refused(as_other), (403, ErrorCode::Forbidden));
    let ack: Ack = json(&deliver(Some(&azure), "azure").1);
    assert_eq!(
        (ack.stored, ack.duplicates, ack.refused.len()),
        (0, 0, 1),
        "the block is of onprem"
    );
    let (_, refusals) = secure.status();
    assert!(refusals.iter().any(|r| r.agent == "onprem"), "{refusals:?}");
}

#[test]
fn who_has_no_certificate_can_join_and_do_nothing_else() {
    let secure = Secure::start();
    let ask = |path, body| secure.ask(None, "onprem", path, body);
    for (path, body) in [
        (PLAN_PATH, None),
        (HELLO_PATH, Some(&b"{}"[..])),
        (BLOCKS_PATH, Some(&b""[..])),
        (RENEW_PATH, Some(&b"{}"[..])),
    ] {
        assert_eq!(
            refused(ask(path, body)),
            (401, ErrorCode::Unauthorized),
            "{path}"
        );
    }
    // The API is not served to agents.
    assert_eq!(ask(STATUS_PATH, None).0, 404);
    // The uplink is not served where the API is.
    assert_eq!(
        secure
            .running
            .send("onprem", None, BLOCKS_PATH, Some(b""))
            .0,
        404
    );
}

#[test]
fn a_token_lets_one_agent_join_once() {
    let mut secure = Secure::start();
    let token = secure.token("azure");
    let join =
        |secure: &Secure, token: &str| secure.ask(None, "x", JOIN_PATH, Some(&join_body(token).1));
    // An unusable request does not use up the token.
    let broken = serde_json::to_vec(&JoinRequest {
        token: token.clone(),
        request: "none".to_owned(),
    })
    .unwrap();
    let answer = secure.ask(None, "x", JOIN_PATH, Some(&broken));
    assert_eq!(refused(answer), (400, ErrorCode::Malformed));
    assert_eq!(join(&secure, &token).0, 200);
    let again = join(&secure, &token);
    assert!(
        again
            .1
            .contains("this join token for agent `azure` was used already"),
        "{again:?}"
    );
    assert_eq!(refused(again), (401, ErrorCode::Unauthorized));
    assert_eq!(secure.status().1[0].agent, "azure");

    let unplanned = secure.token("moon");
    assert_eq!(
        refused(join(&secure, &unplanned)),
        (403, ErrorCode::Forbidden)
    );
    let other = Dir::new();
    let (authority, mut catalogue) = open(&other.0.join("store")).unwrap();
    let foreign = catalogue.create_token(
        &authority,
        &"azure".parse().unwrap(),
        crate::clock::now(),
        Span::from_secs(60),
    );
    let foreign = foreign.unwrap().to_text();
    assert_eq!(
        refused(join(&secure, &foreign)),
        (401, ErrorCode::Unauthorized)
    );
    assert_eq!(secure.status().0.unknown_tokens, 1);
    let (status, text) = secure.ask(None, "x", JOIN_PATH, Some(b"{\"token\":\"s3cret\""));
    assert_eq!(status, 400);
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn a_revoked_agent_is_out_at_its_next_request_on_the_same_connection() {
    let mut secure = Secure::start();
    let azure = secure.join("azure");
    let mut connection = secure.connect(Some(&azure));
    let mut plan = || connection.ask("azure", PLAN_PATH, None).unwrap();
    assert_eq!(plan().0, 200);
    // By the command line, another process in effect.
    let name = "azure".parse().unwrap();
    secure
        .catalogue
        .revoke_agent(&name, crate::clock::now())
        .unwrap();
    let out = plan();
    assert!(out.1.contains("was revoked"), "{out:?}");
    assert_eq!(refused(out), (401, ErrorCode::Unauthorized));
    // It comes back as the agent of the next token.
    let again = secure.join("azure");
    assert_eq!(secure.ask(Some(&again), "azure", PLAN_PATH, None).0, 200);
    assert_eq!(secure.ask(Some(&azure), "azure", PLAN_PATH, None).0, 401);
}

#[test]
fn a_certificate_renews_itself_with_a_new_key_and_stays_valid() {
    let mut secure = Secure::start();
    let first = secure.join("azure");
    let (key, request) = signing_request();
    let body = serde_json::to_vec(&RenewRequest { request }).unwrap();
    let (status, text) = secure.ask(Some(&first), "azure", RENEW_PATH, Some(&body));
    assert_eq!(status, 200, "{text}");
    let second = Mine {
        key: key.serialize_pem(),
        certificate: json::<Certified>(&text).certificate,
    };
    for mine in [&first, &second] {
        assert_eq!(secure.ask(Some(mine), "azure", PLAN_PATH, None).0, 200);
    }
    // Nobody renews for another.
    assert_eq!(
        secure
            .ask(Some(&first), "onprem", RENEW_PATH, Some(&body))
            .0,
        403
    );
}

#[test]
fn certificates_of_others_and_what_is_no_tls_end_in_the_handshake_and_are_counted() {
    let secure = Secure::start();
    let other = Dir::new();
    let (authority, mut catalogue) = open(&other.0.join("store")).unwrap();
    let now = crate::clock::now();
    let life = Span::from_secs(60);
    let name = "onprem".parse().unwrap();
    let token = catalogue
        .create_token(&authority, &name, now, life)
        .unwrap();
    let (key, request) = signing_request();
    let request = crate::identity::SigningRequest::read(&request).unwrap();
    let certify = |id: &_| authority.certify(&request, id, now, life);
    let joined = catalogue.join(&token, now, |_| true, certify).unwrap();
    let forged = Mine {
        key: key.serialize_pem(),
        certificate: joined.unwrap().1.pem,
    };
    let mut connection = secure.connect(Some(&forged));
    assert!(connection.ask("onprem", PLAN_PATH, None).is_err());

    let mut plain = TcpStream::connect(secure.running.address).unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let silent = TcpStream::connect(secure.running.address).unwrap();
    let counted = wait_for(|| {
        let (tls, _) = secure.status();
        (tls.failed == 2 && tls.timed_out == 1).then_some(tls)
    });
    assert_eq!((counted.accepted, counted.over_limit), (0, 0));
    drop(silent);
}

#[test]
fn strangers_have_few_places() {
    let mut secure = Secure::start();
    let azure = secure.join("azure");
    let mut known = secure.connect(Some(&azure));
    assert_eq!(known.ask("azure", PLAN_PATH, None).unwrap().0, 200);
    let crowd: Vec<TcpStream> = (0..80)
        .map(|_| TcpStream::connect(secure.running.address).unwrap())
        .collect();
    wait_for(|| (secure.status().0.over_limit >= 16).then_some(()));
    // Open connections of agents stay.
    assert_eq!(known.ask("azure", PLAN_PATH, None).unwrap().0, 200);
    drop(crowd);
    // And the places are free again at once.
    wait_for(|| {
        let mut connection = secure.connect(Some(&azure));
        connection.ask("azure", PLAN_PATH, None).ok()
    });
}

/// Connections that say nothing, from `count` addresses of this host.
fn silent_crowd(to: std::net::SocketAddr, addresses: std::ops::Range<u8>) -> Vec<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    let connect = async |last| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 9, last], 0).into()).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    };
    runtime.block_on(async {
        let mut crowd = Vec::new();
        for last in addresses {
            for _ in 0..8 {
                crowd.push(connect(last).await);
            }
        }
        crowd
    })
}

#[test]
fn however_large_a_crowd_of_strangers_an_agent_joins() {
    // The clients here come from this address.
    let plan = PLAN.replace("10.17.11.132", "127.0.0.1");
    assert_ne!(plan, PLAN);
    let mut secure = Secure::start_in(Dir::new(), &plan);
    let address = secure.running.address;
    // All places, and sixteen more.
    let crowd = silent_crowd(address, 1..11);
    wait_for(|| (secure.status().0.over_limit >= 16).then_some(()));
    // A handshake, a join, a handshake with the certificate.
    let azure = secure.join("azure");
    assert_eq!(secure.ask(Some(&azure), "azure", PLAN_PATH, None).0, 200);
    // Nor did the places of strangers become more.
    let before = secure.status().0.over_limit;
    let more = silent_crowd(address, 11..21);
    wait_for(|| (secure.status().0.over_limit >= before + 16).then_some(()));
    drop((crowd, more));
}

#[test]
fn records_of_a_renamed_agent_follow_and_its_old_deliveries_are_its_own() {
    let mut secure = Secure::start();
    let mine = secure.join("onprem");
    let mut session = Session::new(crate::clock::now());
    let mut deliver = |secure: &Secure, name: &str| {
        let [probes, _] = session.ten_seconds();
        secure.ask(Some(&mine), name, BLOCKS_PATH, Some(&frames([&probes])))
    };
    assert_eq!(deliver(&secure, "onprem").0, 200);
    let (old, new) = ("onprem".parse().unwrap(), "dc1".parse().unwrap());
    secure
        .catalogue
        .rename(&old, &new, crate::clock::now())
        .unwrap();
    let renamed = |secure: &Secure| {
        let status = secure.running.client().status().unwrap();
        let agents = status.agents;
        agents.into_iter().find(|a| a.name == "dc1" && a.blocks > 0)
    };
    let agent = wait_for(|| renamed(&secure));
    assert_eq!((agent.blocks, agent.planned), (1, false));
    // Until the plan has the new name, nothing is taken, and that is said.
    let waits = deliver(&secure, "onprem");
    assert!(waits.1.contains("the plan has no agent `dc1`"), "{waits:?}");
    let file = secure.running.dir.0.join("plan.toml");
    let plan = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, plan.replace("\"onprem\"", "\"dc1\"")).unwrap();
    wait_for(|| renamed(&secure).filter(|a| a.planned));
    assert_eq!(
        deliver(&secure, "onprem").0,
        200,
        "what it measured as `onprem` is its own"
    );
    assert_eq!(secure.ask(Some(&mine), "onprem", PLAN_PATH, None).0, 403);
    assert_eq!(secure.ask(Some(&mine), "dc1", PLAN_PATH, None).0, 200);
    assert_eq!(renamed(&secure).unwrap().blocks, 2);

    // Another host gets the old name: what waits in the first one's spool stays its own.
    let plan = std::fs::read_to_string(&file).unwrap();
    let both = plan.replace(
        "[[agent]]\nname = \"dc1\"",
        "[[agent]]\nname = \"onprem\"\naddress = \"10.1.11.11\"\n\n[[agent]]\nname = \"dc1\"",
    );
    assert_ne!(plan, both);
    std::fs::write(&file, both).unwrap();
    let is_planned = |secure: &Secure| {
        let status = secure.running.client().status().unwrap();
        status
            .agents
            .into_iter()
            .find(|a| a.name == "onprem" && a.planned)
    };
    wait_for(|| is_planned(&secure));
    let other = secure.join("onprem");
    assert_eq!(secure.ask(Some(&other), "onprem", PLAN_PATH, None).0, 200);
    let late = deliver(&secure, "onprem");
    assert_eq!(late.0, 200, "{late:?}");
    assert_eq!(renamed(&secure).unwrap().blocks, 3);
    assert_eq!(is_planned(&secure).unwrap().blocks, 0);
}
