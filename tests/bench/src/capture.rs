//! What the kernel saw of an exchange, by tcpdump at both ends of the link: a witness that
//! shares no code with what is measured.

use crate::cost::median;
use crate::world::{Host, Running, World, wait_until};
use anyhow::{Context as _, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where a protocol over UDP keeps the number of a request, and that number in the reply.
#[derive(Clone, Copy, Debug)]
pub struct Numbered {
    /// The server's port.
    pub port: u16,
    /// Offset in a request's payload.
    pub in_request: usize,
    /// Offset in a reply's payload.
    pub in_reply: usize,
    /// Packets shorter than this have no number.
    pub shortest: usize,
}

/// Captures at both ends that are going on.
pub struct Capture {
    ends: [(Running, PathBuf); 2],
    numbered: Numbered,
}

/// Medians of what the kernel saw, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// From the request's leaving the near host to the reply's arrival there.
    pub waited: f64,
    /// The same without the time between the request's arrival at the far host and the
    /// reply's leaving it.
    pub round_trip: f64,
    /// Exchanges that were seen whole.
    pub exchanges: usize,
}

impl Capture {
    /// Begins to capture.
    ///
    /// # Errors
    /// When tcpdump cannot capture.
    pub fn begin(world: &World, numbered: Numbered) -> anyhow::Result<Self> {
        let end = |host: &Host, name: &str| -> anyhow::Result<(Running, PathBuf)> {
            let path = world.scratch(name);
            let file = path.display();
            let line = format!(
                "-Z root -i wire -s 128 -B 16384 --immediate-mode -U -n \
                 --time-stamp-precision=nano -w {file} udp port {}",
                numbered.port
            );
            let arguments: Vec<&str> = line.split_whitespace().collect();
            let running = host.start(Path::new("tcpdump"), &arguments)?;
            // The file's header is written once the capture is on.
            wait_until("tcpdump captures", || {
                Ok(std::fs::metadata(&path).is_ok_and(|m| m.len() >= 24))
            })?;
            Ok((running, path))
        };
        Ok(Self {
            ends: [end(&world.near, "near.pcap")?, end(&world.far, "far.pcap")?],
            numbered,
        })
    }

    /// Ends the capture and reads what was seen.
    ///
    /// # Errors
    /// When nothing was, or the files cannot be read.
    pub fn end(self) -> anyhow::Result<Seen> {
        let numbered = self.numbered;
        let [near, far] = self.ends.map(|(running, path)| {
            running.interrupt()?;
            let bytes = std::fs::read(&path)?;
            std::fs::remove_file(&path)?;
            exchanges(&bytes, numbered)
        });
        let (near, far) = (near?, far?);
        let (mut waited, mut round_trip) = (Vec::new(), Vec::new());
        for (number, (out, back)) in near {
            if let Some((arrived, left)) = far.get(&number) {
                waited.push(micros(back - out));
                round_trip.push(micros((back - out) - (left - arrived)));
            }
        }
        if waited.is_empty() {
            bail!("tcpdump saw no exchange");
        }
        Ok(Seen {
            exchanges: waited.len(),
            waited: median(&mut waited),
            round_trip: median(&mut round_trip),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "spans of seconds at most")]
fn micros(nanos: i64) -> f64 {
    nanos as f64 / 1_000.0
}

/// Times in ns of each number's request and reply in a capture file.
fn exchanges(pcap: &[u8], numbered: Numbered) -> anyhow::Result<BTreeMap<u32, (i64, i64)>> {
    let magic = pcap.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    if magic != Some(0xa1b2_3c4d) {
        bail!("no capture file with nanoseconds of a little-endian machine");
    }
    let word = |bytes: &[u8], at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
    };
    let mut requests: BTreeMap<u32, i64> = BTreeMap::new();
    let mut both = BTreeMap::new();
    let mut rest = pcap.get(24..).unwrap_or_default();
    while let (Some(s), Some(ns), Some(length)) = (word(rest, 0), word(rest, 4), word(rest, 8)) {
        let at = i64::from(s) * 1_000_000_000 + i64::from(ns);
        let end = 16 + usize::try_from(length)?;
        let frame = rest
            .get(16..end)
            .context("a capture file that is cut off")?;
        rest = rest.get(end..).unwrap_or_default();
        // Ethernet 14, IPv4 20 without options, UDP 8.
        let (Some(udp), Some(payload)) = (frame.get(34..42), frame.get(42..)) else {
            continue;
        };
        if payload.len() < numbered.shortest {
            continue;
        }
        let port = numbered.port.to_be_bytes();
        let (from, to) = (udp.get(..2) == Some(&port), udp.get(2..4) == Some(&port));
        if to && let Some(number) = word(payload, numbered.in_request) {
            requests.insert(number, at);
        }
        if from
            && let Some(number) = word(payload, numbered.in_reply)
            && let Some(sent) = requests.get(&number)
        {
            both.entry(number).or_insert((*sent, at));
        }
    }
    Ok(both)
}
