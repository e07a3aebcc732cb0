//! Loss and exact p50 and p99 of every second of a session, over all of its probes, from
//! the store's blocks; beside a bare pass that decodes the same blocks and adds one column.

use anyhow::bail;
use clap::Parser;
use hopgap_analysis::columns::{ColumnSecond, seconds};
use hopgap_bench::cost::{Cost, Meter, float};
use hopgap_bench::table::{Table, Target};
use hopgap_bench::world::report;
use hopgap_collector::store::{Incoming, Store};
use hopgap_proto::record::synthetic::Synthetic;
use hopgap_proto::record::{Block, BlockBody, FateKind, ProbeColumns};
use hopgap_proto::time::{Mono, Span, Wall};
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

const SECOND: i64 = 1_000_000_000;

/// Of 8 flows: 32 768 rows, at which an agent closes a block.
const BLOCK_ROUNDS: u32 = 4_096;

#[derive(Parser)]
struct Options {
    /// Millions of probes
    #[arg(long, default_value_t = 10)]
    millions: u64,
    /// Where to write: a directory on the disk to be measured; removed afterwards
    #[arg(long, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/query"))]
    dir: PathBuf,
    /// Fail when a target is missed
    #[arg(long)]
    strict: bool,
    /// As cargo says it
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    report(bench(&Options::parse()))
}

fn bench(options: &Options) -> anyhow::Result<()> {
    if options.dir.exists() {
        std::fs::remove_dir_all(&options.dir)?;
    }
    std::fs::create_dir_all(&options.dir)?;
    let result = measure(options);
    std::fs::remove_dir_all(&options.dir)?;
    result
}

fn measure(options: &Options) -> anyhow::Result<()> {
    let mut table = Table::begin(
        "query",
        "loss, p50 and p99 of each second from stored blocks of 8 flows at 1 kHz",
    );
    let (probes, expected) = fill(&options.dir, options.millions * 1_000_000)?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let mut found = Vec::new();
    for _ in 0..3 {
        let meter = Meter::thread()?;
        let sum = bare_pass(&options.dir)?;
        std::hint::black_box(sum);
        bare.push(meter.read()?);
        let meter = Meter::thread()?;
        found = per_second(&options.dir)?;
        ours.push(meter.read()?);
    }
    let (sent, lost) = found.iter().fold((0, 0), |(s, l), second| {
        (s + second.sent, l + second.unanswered)
    });
    if (sent, lost) != (probes, expected.lost) {
        bail!(
            "{sent} probes and {lost} lost were found of {probes} and {}",
            expected.lost
        );
    }
    check(&found, &expected.samples)?;
    let least = |costs: &[Cost], time: fn(&Cost) -> Duration| {
        let times = costs.iter().map(|cost| time(cost).as_secs_f64());
        times.fold(f64::INFINITY, f64::min)
    };
    let best = |costs: &[Cost]| least(costs, |cost| cost.wall);
    let cpu = |costs: &[Cost]| least(costs, |cost| cost.cpu);
    table.figure(
        &format!("{} seconds over {probes} probes", found.len()),
        "s",
        best(&ours),
        ("decoding alone", best(&bare)),
        Target::AtMost(0.5 * float(options.millions) / 10.0),
    );
    table.figure(
        "processor",
        "s",
        cpu(&ours),
        ("decoding alone", cpu(&bare)),
        Target::Shown,
    );
    table.figure(
        "probes",
        "probes/s",
        float(probes) / best(&ours),
        ("decoding alone", float(probes) / best(&bare)),
        Target::Shown,
    );
    table.end(options.strict)
}

/// What must be found.
struct Expected {
    lost: u64,
    /// Round trips of some seconds, as the rows have them.
    samples: BTreeMap<i64, Vec<Span>>,
}

fn fill(dir: &Path, least: u64) -> anyhow::Result<(u64, Expected)> {
    let mut session = Synthetic::new(1, 8, Span::from_millis(1))?;
    let mut store = Store::open(dir)?;
    let (mut probes, mut lost) = (0, 0);
    let mut samples: BTreeMap<i64, Vec<Span>> = BTreeMap::new();
    while probes < least {
        let block = session.stretch(BLOCK_ROUNDS).probes;
        let payload = block.encode(Span::from_nanos(100))?;
        if probes == 0 {
            // The rows as they come back, rounded to the unit.
            let BlockBody::Probes(rows) = Block::decode(&payload)?.body else {
                bail!("a block of probes holds no probes");
            };
            for row in rows {
                let second = row.sent.at.as_nanos() / SECOND;
                samples.entry(second).or_default().extend(row.round_trip());
            }
            // Its last second goes on in the next block.
            samples.pop_last();
        }
        let incoming = Incoming::read(&payload)?;
        probes += u64::from(incoming.tally.records);
        lost += u64::from(incoming.tally.unanswered);
        store.append(&[incoming], Wall::from_nanos(0))?;
    }
    Ok((probes, Expected { lost, samples }))
}

fn check(found: &[ColumnSecond], samples: &BTreeMap<i64, Vec<Span>>) -> anyhow::Result<()> {
    for (second, round_trips) in samples {
        let Some(found) = found.iter().find(|f| f.second == *second) else {
            bail!("second {second} is missing");
        };
        let mut sorted = round_trips.clone();
        sorted.sort_unstable();
        let (Some(p50), Some(p99)) = (found.p50_ns, found.p99_ns) else {
            bail!("second {second} has no quantiles");
        };
        // A value is a quantile when it has its place among the sorted ones.
        for (value, share) in [(p50.0, 500), (p99.0, 990)] {
            let place = sorted.partition_point(|rtt| *rtt < value);
            let end = sorted.partition_point(|rtt| *rtt <= value);
            let wanted = (sorted.len() * share).div_ceil(1_000);
            if !(place..=end).contains(&wanted) && !(place..=end).contains(&(wanted - 1)) {
                bail!("second {second}: place {place}–{end}, not {wanted}");
            }
        }
    }
    Ok(())
}

/// Gives each stored block of probes, oldest first, to `each`.
fn blocks(dir: &Path, mut each: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(dir.join("hopgap.db"), flags)?;
    let mut statement = db.prepare(
        "SELECT data FROM block JOIN payload ON payload.block = block.id
         WHERE kind = 1 ORDER BY first",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        each(row.get_ref(0)?.as_blob()?)?;
    }
    Ok(())
}

fn per_second(dir: &Path) -> anyhow::Result<Vec<ColumnSecond>> {
    let mut columns = ProbeColumns::default();
    let mut found = Vec::new();
    // What was sent in a block's last second waits for the next block.
    let (mut sent, mut round_trip): (Vec<Mono>, Vec<Option<Span>>) = (Vec::new(), Vec::new());
    let (mut next_sent, mut next_round_trip) = (Vec::new(), Vec::new());
    blocks(dir, |data| {
        columns.read(data)?;
        let newest = columns.sent().iter().max().map_or(0, |at| at.as_nanos());
        let open = Mono::from_nanos(newest.div_euclid(SECOND) * SECOND);
        let rows = columns
            .sent()
            .iter()
            .zip(columns.fate())
            .zip(columns.round_trip());
        for ((&at, fate), &rtt) in rows {
            let rtt = match fate {
                FateKind::Refused => continue,
                FateKind::Answered => Some(rtt),
                FateKind::Unanswered => None,
            };
            if at < open {
                sent.push(at);
                round_trip.push(rtt);
            } else {
                next_sent.push(at);
                next_round_trip.push(rtt);
            }
        }
        found.extend(seconds(&sent, &round_trip));
        sent.clear();
        round_trip.clear();
        std::mem::swap(&mut sent, &mut next_sent);
        std::mem::swap(&mut round_trip, &mut next_round_trip);
        Ok(())
    })?;
    found.extend(seconds(&sent, &round_trip));
    Ok(found)
}

fn bare_pass(dir: &Path) -> anyhow::Result<i64> {
    let mut columns = ProbeColumns::default();
    let mut sum = 0_i64;
    blocks(dir, |data| {
        columns.read(data)?;
        let round_trips = columns.round_trip().iter();
        sum = sum.wrapping_add(round_trips.map(|rtt| rtt.as_nanos()).sum());
        Ok(())
    })?;
    Ok(sum)
}
