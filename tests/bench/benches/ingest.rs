//! Records into the collector's durable store on one core, as a request's body takes its
//! way: frames checked, blocks decoded, one transaction a body; beside a bare write and
//! flush of the same bytes.

use anyhow::bail;
use clap::Parser;
use hopgap_bench::cost::{Cost, Meter, float, resident};
use hopgap_bench::table::{Table, Target};
use hopgap_bench::world::report;
use hopgap_collector::store::{Incoming, Store};
use hopgap_proto::frame::{self, FrameKind, FrameReader};
use hopgap_proto::record::synthetic::Synthetic;
use hopgap_proto::time::{Span, Wall};
use hopgap_proto::uplink::BATCH_BYTES;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Of 8 flows: 32 768 rows, at which an agent closes a block.
const BLOCK_ROUNDS: u32 = 4_096;

#[derive(Parser)]
struct Options {
    /// Millions of records
    #[arg(long, default_value_t = 10)]
    millions: u64,
    /// Where to write: a directory on the disk to be measured; removed afterwards
    #[arg(long, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/ingest"))]
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
        "ingest",
        "blocks of 8 flows at 1 kHz into the store, a transaction a body",
    );
    let mut session = Synthetic::new(1, 8, Span::from_millis(1))?;
    let mut store = Store::open(&options.dir.join("store"))?;
    let mut bare_file = File::create(options.dir.join("bare"))?;
    let (mut ours, mut bare) = (Cost::default(), Cost::default());
    let (mut stored, mut bytes, mut bodies) = (0, 0, 0);
    let now = Wall::from_nanos(1_790_000_000_000_000_000);
    while stored < options.millions * 1_000_000 {
        let (body, records) = body(&mut session)?;
        bodies += 1;
        bytes += u64::try_from(body.len())?;

        let meter = Meter::thread()?;
        bare_file.write_all(&body)?;
        bare_file.sync_data()?;
        bare += meter.read()?;

        let meter = Meter::thread()?;
        let mut blocks = Vec::new();
        for frame in FrameReader::new(&body) {
            blocks.push(Incoming::read(frame?.payload)?);
        }
        let appended = store.append(&blocks, now)?;
        ours += meter.read()?;
        if appended.records != records {
            bail!("{} records were stored of {records}", appended.records);
        }
        stored += records;
    }
    let peer = "write + fdatasync";
    table.figure(
        "durable, elapsed",
        "records/s",
        ours.per_second(stored),
        (peer, bare.per_second(stored)),
        Target::Shown,
    );
    table.figure(
        "durable, on one core",
        "records/s",
        ours.per_cpu_second(stored),
        (peer, bare.per_cpu_second(stored)),
        Target::AtLeast(3_000_000.0),
    );
    let size: u64 = std::fs::read_dir(options.dir.join("store"))?
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .map(|meta| meta.len())
        .sum();
    table.figure(
        "the store with its log",
        "bytes/record",
        float(size) / float(stored),
        ("the bodies", float(bytes) / float(stored)),
        Target::Shown,
    );
    table.alone(
        "records in a body",
        "records",
        float(stored / bodies),
        Target::Shown,
    );
    let (_, most) = resident(std::process::id())?;
    table.alone(
        "memory at most, this benchmark's bodies included",
        "MiB",
        most,
        Target::AtMost(150.0),
    );
    table.end(options.strict)
}

/// As much as an agent sends in one request: its bytes and its records.
fn body(session: &mut Synthetic) -> anyhow::Result<(Vec<u8>, u64)> {
    let (mut body, mut records) = (Vec::new(), 0);
    while body.len() < BATCH_BYTES {
        let stretch = session.stretch(BLOCK_ROUNDS);
        for block in [stretch.probes, stretch.receptions] {
            records += u64::try_from(block.body.rows())?;
            let payload = block.encode(Span::from_nanos(100))?;
            frame::append(&mut body, FrameKind::Block, &payload)?;
        }
    }
    Ok((body, records))
}
