//! What each peer says of one outage.

use super::{INTERVAL, MTR_INTERVAL, Peer};
use crate::campaign::scenario::Way;
use anyhow::{Context, Result, ensure};
use hopgap_proto::time::Span;
use serde::Deserialize;

/// Who reads irtt's summary takes the direction that lost so many times the other's share.
const CLEAR: f64 = 2.0;

/// What a program says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// How long the outage was; `None` where it saw none.
    pub(super) lasted: Option<Span>,
    /// Which way it was; `None` where it does not say.
    pub(super) way: Option<Way>,
}

/// Reads the text that `peer` printed, or its JSON where it writes one.
///
/// # Errors
/// What was expected and is not there.
pub(super) fn read(peer: Peer, text: &str) -> Result<Said> {
    let (lasted, way) = match peer {
        Peer::Fping => (fping(text)?, None),
        Peer::Ping => (ping(text)?, None),
        Peer::Mtr => (mtr(text)?, None),
        Peer::Irtt => irtt(text)?,
    };
    Ok(Said {
        lasted: lasted.filter(|span| *span > Span::ZERO),
        way,
    })
}

/// `10.2.0.10 : xmt/rcv/%loss = 120/70/41%, outage(ms) = 500, min/avg/max = ...`.
fn fping(text: &str) -> Result<Option<Span>> {
    let line = text.lines().rev().find(|line| line.contains("outage(ms)"));
    let number = line
        .and_then(|line| line.split("outage(ms) = ").nth(1))
        .map(|rest| rest.split([',', ' ']).next().unwrap_or_default().trim());
    let millis: f64 = number
        .context("fping printed no outage time")?
        .parse()
        .context("fping's outage time is no number")?;
    Ok(Some(seconds(millis / 1e3)))
}

/// `[1795713081.519940] 64 bytes from 10.2.0.10: icmp_seq=1 ttl=60 time=10.3 ms`.
fn ping(text: &str) -> Result<Option<Span>> {
    let answers: Vec<(f64, u64)> = text
        .lines()
        .filter(|line| line.contains(" bytes from "))
        .filter_map(|line| {
            let at = line.strip_prefix('[')?.split(']').next()?.parse().ok()?;
            let seq = line.split("icmp_seq=").nth(1)?;
            let seq = seq.split(' ').next()?.parse().ok()?;
            Some((at, seq))
        })
        .collect();
    ensure!(answers.len() >= 2, "ping printed no answers");
    // Only where numbers are missing was anything lost.
    let gaps = answers.windows(2).filter(|pair| pair[1].1 > pair[0].1 + 1);
    let longest = gaps
        .map(|pair| seconds(pair[1].0 - pair[0].0))
        .max_by_key(|gap| gap.as_nanos());
    Ok(longest.map(|gap| gap - INTERVAL))
}

#[derive(Deserialize)]
struct Mtr {
    report: MtrReport,
}

#[derive(Deserialize)]
struct MtrReport {
    hubs: Vec<Hub>,
}

#[derive(Deserialize)]
struct Hub {
    #[serde(rename = "Loss%")]
    loss: f64,
    #[serde(rename = "Snt")]
    sent: f64,
}

/// The last hop's loss, in per cent of what was sent to it.
fn mtr(text: &str) -> Result<Option<Span>> {
    let mtr: Mtr = serde_json::from_str(text).context("mtr printed no report")?;
    let hub = mtr.report.hubs.last().context("mtr's report has no hop")?;
    let lost = (hub.loss / 100.0 * hub.sent).round();
    Ok(Some(seconds(lost * MTR_INTERVAL.as_secs_f64())))
}

#[derive(Deserialize)]
struct Irtt {
    stats: IrttStats,
    round_trips: Vec<RoundTrip>,
}

#[derive(Deserialize)]
struct IrttStats {
    upstream_loss_percent: f64,
    downstream_loss_percent: f64,
}

#[derive(Deserialize)]
struct RoundTrip {
    lost: String,
    timestamps: IrttStamps,
}

#[derive(Deserialize)]
struct IrttStamps {
    client: IrttClient,
}

#[derive(Deserialize)]
struct IrttClient {
    send: IrttStamp,
}

#[derive(Deserialize)]
struct IrttStamp {
    monotonic: i64,
}

/// The longest loss by its send times, and the direction by the summary's shares.
fn irtt(text: &str) -> Result<(Option<Span>, Option<Way>)> {
    let irtt: Irtt = serde_json::from_str(text).context("irtt wrote no result")?;
    let sent = |trip: &RoundTrip| Span::from_nanos(trip.timestamps.client.send.monotonic);
    let mut longest: Option<Span> = None;
    let mut first_lost: Option<Span> = None;
    for trip in &irtt.round_trips {
        if trip.lost == "false" {
            if let Some(first) = first_lost.take() {
                let lasted = sent(trip) - first;
                longest = Some(longest.map_or(lasted, |longest| longest.max(lasted)));
            }
        } else if first_lost.is_none() {
            first_lost = Some(sent(trip));
        }
    }
    // What was under way when it ended is counted as lost upstream.
    let (up, down) = (
        irtt.stats.upstream_loss_percent,
        irtt.stats.downstream_loss_percent,
    );
    let way = match (up > CLEAR * down, down > CLEAR * up) {
        (true, _) => Some(Way::Forward),
        (_, true) => Some(Way::Reverse),
        _ => (up > 0.0 && down > 0.0).then_some(Way::Both),
    };
    Ok((longest, way))
}

fn seconds(seconds: f64) -> Span {
    std::time::Duration::try_from_secs_f64(seconds).map_or(Span::ZERO, Span::from)
}

#[cfg(test)]
mod tests;
