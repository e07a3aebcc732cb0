//! Stands between the agents and the collector and passes their HTTP/1.1 on: as it is,
//! except what is delivered, which is rewritten.

use super::HostClock;
use super::rewrite::{HOST, Rewriter};
use anyhow::{Context, Result, ensure};
use hopgap_proto::time::Wall;
use hopgap_proto::uplink::{
    AGENT_HEADER, Ack, AgentReport, BLOCKS_PATH, CLOCK_HEADER, ClockExchange, EXCHANGE_HEADER,
    REPORT_PATH,
};
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most of a message's head, in bytes.
const MOST_HEAD: usize = 64 << 10;
/// The most of a message's body, in bytes.
const MOST_BODY: usize = 64 << 20;

#[derive(Debug)]
struct State {
    clock: HostClock,
    rewriter: Rewriter,
}

/// The proxies of one run. Their threads end with the run's process.
#[derive(Clone, Debug)]
pub(in crate::campaign) struct Proxies(Arc<Mutex<State>>);

impl Proxies {
    /// Listens at `listen`, in this thread's network namespace, for what goes to the
    /// collector.
    ///
    /// # Errors
    /// When it cannot.
    pub(in crate::campaign) fn start(
        clock: HostClock,
        listen: SocketAddr,
        collector: SocketAddr,
    ) -> std::io::Result<Self> {
        let proxies = Self(Arc::new(Mutex::new(State {
            clock,
            rewriter: Rewriter::default(),
        })));
        let listener = TcpListener::bind(listen)?;
        let state = proxies.clone();
        std::thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || {
                for agent in listener.incoming().flatten() {
                    let state = state.clone();
                    std::thread::spawn(move || {
                        // What goes wrong here, the agent does again.
                        if let Err(error) = state.pass(agent, collector) {
                            eprintln!("the proxy ends a connection: {error:#}");
                        }
                    });
                }
            })?;
        Ok(proxies)
    }

    /// The clock from now on.
    pub(in crate::campaign) fn set_clock(&self, clock: HostClock) {
        self.state().clock = clock;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One connection, request by request.
    fn pass(&self, mut agent: TcpStream, collector: SocketAddr) -> Result<()> {
        let mut collector = TcpStream::connect(collector).context("no collector")?;
        while let Some(request) = Message::read(&mut agent)? {
            let delivery = request.begins_with(&format!("POST {BLOCKS_PATH}"));
            if !delivery {
                let clock = self.state().clock;
                let request = request.with_clocks(&clock).with_report(&clock)?;
                request.write(&mut collector)?;
                let Some(response) = Message::read(&mut collector)? else {
                    return Ok(());
                };
                response.write(&mut agent)?;
                continue;
            }
            let (request, rewritten) = {
                let mut state = self.state();
                let clock = state.clock;
                let body = state.rewriter.body(&clock, &request.body)?;
                (request.with_clocks(&clock), body)
            };
            request.with_body(&rewritten.body).write(&mut collector)?;
            let Some(response) = Message::read(&mut collector)? else {
                return Ok(());
            };
            if !response.begins_with("HTTP/1.1 200 ") {
                response.write(&mut agent)?;
                continue;
            }
            let ack: Ack = serde_json::from_slice(&response.body).context("no Ack")?;
            let ack = serde_json::to_vec(&rewritten.answer(&ack)?)?;
            response.with_body(&ack).write(&mut agent)?;
        }
        Ok(())
    }
}

/// A request or a response.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    /// Its first line and its headers, without the empty line.
    lines: Vec<String>,
    body: Vec<u8>,
}

impl Message {
    /// `None` where the connection ended before it.
    fn read(from: &mut impl Read) -> Result<Option<Self>> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if from.read(&mut byte).unwrap_or(0) == 0 {
                ensure!(head.is_empty(), "a message broke off");
                return Ok(None);
            }
            head.extend_from_slice(&byte);
            ensure!(head.len() <= MOST_HEAD, "a head without an end");
        }
        let head = String::from_utf8(head).context("a head that is no text")?;
        let lines: Vec<String> = head.trim_end().lines().map(str::to_owned).collect();
        ensure!(
            header(&lines, "transfer-encoding").is_none(),
            "a body in chunks is not expected of either program"
        );
        let length: usize = match header(&lines, "content-length") {
            Some(length) => length.parse().context("no length")?,
            None => 0,
        };
        ensure!(length <= MOST_BODY, "a body of {length} bytes");
        let mut body = vec![0; length];
        from.read_exact(&mut body).context("a body broke off")?;
        Ok(Some(Self { lines, body }))
    }

    fn begins_with(&self, text: &str) -> bool {
        self.lines
            .first()
            .is_some_and(|line| line.starts_with(text))
    }

    /// What `b` says of its clocks it says of these.
    fn with_clocks(mut self, clock: &HostClock) -> Self {
        if header(&self.lines, AGENT_HEADER) != Some(HOST) {
            return self;
        }
        for line in &mut self.lines {
            let said = value_of(line, EXCHANGE_HEADER).and_then(|text| text.parse().ok());
            if let Some(said) = said {
                let ClockExchange {
                    run,
                    sent,
                    collector,
                    received,
                } = said;
                let shown = ClockExchange {
                    run,
                    sent: clock.mono(sent),
                    collector,
                    received: clock.pair(received),
                };
                *line = format!("{EXCHANGE_HEADER}: {shown}");
            }
            let read = value_of(line, CLOCK_HEADER).and_then(|text| text.parse().ok());
            if let Some(nanos) = read {
                let shown = clock.wall(Wall::from_nanos(nanos)).as_nanos();
                *line = format!("{CLOCK_HEADER}: {shown}");
            }
        }
        self
    }

    /// How `b` is, it says at a time of this clock.
    fn with_report(self, clock: &HostClock) -> Result<Self> {
        let of_host = header(&self.lines, AGENT_HEADER) == Some(HOST);
        if !of_host || !self.begins_with(&format!("POST {REPORT_PATH}")) {
            return Ok(self);
        }
        let mut report: AgentReport = serde_json::from_slice(&self.body).context("no report")?;
        report.at_ns = clock.wall(report.at_ns);
        Ok(self.with_body(&serde_json::to_vec(&report)?))
    }

    fn with_body(&self, body: &[u8]) -> Self {
        let mut lines = self.lines.clone();
        lines.retain(|line| value_of(line, "content-length").is_none());
        lines.push(format!("content-length: {}", body.len()));
        Self {
            lines,
            body: body.to_vec(),
        }
    }

    fn write(&self, to: &mut TcpStream) -> Result<()> {
        let mut bytes = (self.lines.join("\r\n") + "\r\n\r\n").into_bytes();
        bytes.extend_from_slice(&self.body);
        Ok(to.write_all(&bytes)?)
    }
}

fn header<'a>(lines: &'a [String], name: &str) -> Option<&'a str> {
    lines.iter().find_map(|line| value_of(line, name))
}

fn value_of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (key, value) = line.split_once(':')?;
    key.eq_ignore_ascii_case(name).then(|| value.trim())
}

#[cfg(test)]
mod tests;
