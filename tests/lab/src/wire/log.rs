//! The log of a wire, `wire-NAME.csv`: one line per STAMP packet that entered.
//!
//! Times are nanoseconds of `CLOCK_MONOTONIC`, which all of the lab shares.
//!
//! | line | meaning |
//! |---|---|
//! | `f,ID,SOURCE,DESTINATION,SSID` | a flow, named before its first packet; addresses as `IP:PORT` |
//! | `p,ID,SEQ,ECHO,TTL,ENTER,STAY` | a packet entered at `ENTER` and had left after `STAY` |
//! | `d,ID,SEQ,ECHO,TTL,ENTER` | a packet entered and was dropped |
//! | `e,OVERFLOWS,TIME` | the orderly end, and when; frames that the kernel dropped before the wire saw them |
//!
//! `ENTER` is the kernel's stamp. `SEQ` is the packet's own Sequence Number; `ECHO`,
//! empty in a request, is the Session-Sender Sequence Number in a reply.

use crate::error::LabError;
use hopgap_proto::time::{Mono, Span};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

/// One way of one flow: what the network sees of it, and the session's identifier.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Flow {
    /// Where its packets come from.
    pub source: SocketAddrV4,
    /// Where they go.
    pub destination: SocketAddrV4,
    /// STAMP Session Identifier (RFC 8972, section 3).
    pub ssid: u16,
}

/// What a STAMP packet says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Its flow.
    pub flow: Flow,
    /// Its own Sequence Number.
    pub seq: u32,
    /// In a reply, the Session-Sender Sequence Number.
    pub echo: Option<u32>,
    /// As it entered the wire.
    pub ttl: u8,
}

/// What a wire did with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The packet.
    pub stamp: Stamp,
    /// When it came to the wire, by the kernel's stamp.
    pub enter: Mono,
    /// When it had left; `None` if it was dropped.
    pub exit: Option<Mono>,
}

/// What a wire sends to the writer.
#[derive(Debug)]
pub(crate) enum Portion {
    Entries(Vec<Entry>),
    End(End),
}

/// The orderly end of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Frames that the kernel dropped before the wire saw them.
    pub overflows: u32,
    /// When the wire stopped.
    pub at: Mono,
}

/// The log file of the wire called `name`.
pub fn path(out: &Path, name: &str) -> PathBuf {
    out.join(format!("wire-{name}.csv"))
}

/// Writes the logs of all wires in a thread of its own, so that none waits for a disk.
#[derive(Debug)]
pub(crate) struct Writer {
    thread: JoinHandle<io::Result<()>>,
}

impl Writer {
    /// Starts it with one log for each of `names`. It ends when all senders are gone.
    pub(crate) fn start<'a>(
        out: &Path,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<(Self, Sender<(usize, Portion)>), LabError> {
        let mut logs = Vec::new();
        for name in names {
            let path = path(out, name);
            let file =
                File::create(&path).map_err(LabError::io(format!("write {}", path.display())))?;
            logs.push(Log::new(BufWriter::with_capacity(1 << 18, file)));
        }
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("wire log".to_owned())
            .spawn(move || write_all(logs, &receiver))
            .map_err(LabError::io("start a thread"))?;
        Ok((Self { thread }, sender))
    }

    /// Waits until everything is written.
    pub(crate) fn finish(self) -> Result<(), LabError> {
        match self.thread.join() {
            Ok(result) => result.map_err(LabError::io("write the wires' logs")),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn write_all(
    mut logs: Vec<Log<BufWriter<File>>>,
    portions: &Receiver<(usize, Portion)>,
) -> io::Result<()> {
    for (index, portion) in portions {
        if let Some(log) = logs.get_mut(index) {
            log.write(&portion)?;
        }
    }
    for log in &mut logs {
        log.out.flush()?;
    }
    Ok(())
}

struct Log<W> {
    out: W,
    flows: BTreeMap<Flow, usize>,
}

impl<W: Write> Log<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            flows: BTreeMap::new(),
        }
    }

    fn write(&mut self, portion: &Portion) -> io::Result<()> {
        match portion {
            Portion::Entries(entries) => entries.iter().try_for_each(|entry| self.entry(entry)),
            Portion::End(End { overflows, at }) => {
                writeln!(self.out, "e,{overflows},{}", at.as_nanos())?;
                self.out.flush()
            }
        }
    }

    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let Stamp {
            flow,
            seq,
            echo,
            ttl,
        } = entry.stamp;
        let next = self.flows.len();
        let id = *self.flows.entry(flow).or_insert(next);
        if id == next {
            writeln!(
                self.out,
                "f,{id},{},{},{}",
                flow.source, flow.destination, flow.ssid
            )?;
        }
        let kind = if entry.exit.is_some() { 'p' } else { 'd' };
        write!(self.out, "{kind},{id},{seq},")?;
        if let Some(echo) = echo {
            write!(self.out, "{echo}")?;
        }
        write!(self.out, ",{ttl},{}", entry.enter.as_nanos())?;
        if let Some(exit) = entry.exit {
            write!(self.out, ",{}", (exit - entry.enter).as_nanos())?;
        }
        writeln!(self.out)
    }
}

/// What is in a wire's log besides its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// `None` where the wire did not come to its orderly end and the log may be cut short.
    pub end: Option<End>,
}

/// Reads a wire's log, giving each entry to `take`.
///
/// # Errors
/// [`LabError::Log`] names the line that cannot be read.
pub fn read(path: &Path, mut take: impl FnMut(Entry)) -> Result<Summary, LabError> {
    let file = File::open(path).map_err(LabError::io(format!("read {}", path.display())))?;
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let mut flows = Vec::new();
    let mut summary = Summary { end: None };
    let mut line = String::new();
    for number in 1.. {
        line.clear();
        let length = reader
            .read_line(&mut line)
            .map_err(LabError::io(format!("read {}", path.display())))?;
        if length == 0 {
            break;
        }
        let parsed = parse(line.trim_end(), &mut flows);
        match parsed {
            Some(Line::Flow) => {}
            Some(Line::Entry(entry)) => take(entry),
            Some(Line::End(end)) => summary.end = Some(end),
            None => {
                return Err(LabError::Log {
                    file: path.to_owned(),
                    line: number,
                    what: format!("`{}` is no line of a wire's log", line.trim_end()),
                });
            }
        }
    }
    Ok(summary)
}

enum Line {
    Flow,
    Entry(Entry),
    End(End),
}

fn parse(line: &str, flows: &mut Vec<Flow>) -> Option<Line> {
    fn next<'a, T: FromStr>(fields: &mut impl Iterator<Item = &'a str>) -> Option<T> {
        fields.next()?.parse().ok()
    }
    let mut fields = line.split(',');
    let kind = fields.next()?;
    match kind {
        "f" => {
            let id: usize = next(&mut fields)?;
            flows.push(Flow {
                source: next(&mut fields)?,
                destination: next(&mut fields)?,
                ssid: next(&mut fields)?,
            });
            (id + 1 == flows.len()).then_some(Line::Flow)
        }
        "p" | "d" => {
            let id: usize = next(&mut fields)?;
            let seq = next(&mut fields)?;
            let echo = fields.next()?;
            let echo = if echo.is_empty() {
                None
            } else {
                Some(echo.parse().ok()?)
            };
            let ttl = next(&mut fields)?;
            let enter = Mono::from_nanos(next(&mut fields)?);
            let exit = if kind == "p" {
                Some(enter + Span::from_nanos(next(&mut fields)?))
            } else {
                None
            };
            let flow = *flows.get(id)?;
            let stamp = Stamp {
                flow,
                seq,
                echo,
                ttl,
            };
            Some(Line::Entry(Entry { stamp, enter, exit }))
        }
        "e" => Some(Line::End(End {
            overflows: next(&mut fields)?,
            at: Mono::from_nanos(next(&mut fields)?),
        })),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
