//! How long a collector takes to be back on a large store: killed while agents deliver,
//! its files taken out of the page cache, started again; beside a start on an empty store.

use anyhow::{Context as _, bail};
use clap::Parser;
use hopgap_bench::cost::{float, median};
use hopgap_bench::program;
use hopgap_bench::table::{Table, Target};
use hopgap_bench::world::{Running, World, sealed, wait_until};
use hopgap_collector::store::{Incoming, Store};
use hopgap_proto::record::synthetic::Synthetic;
use hopgap_proto::time::{Span, Wall};
use hopgap_proto::uplink::BATCH_BYTES;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const PLAN: &str = r#"
[collector]
listen = "0.0.0.0:8620"
plain_http = true

[[agent]]
name = "near"
address = "10.0.0.1"
secret_file = "near.secret"

[[agent]]
name = "far"
address = "10.0.0.2"
secret_file = "far.secret"

[[session]]
name = "near-far"
from = "near"
to = "far"
interval = "1ms"
flows = 8
"#;

/// Of 8 flows: 2000 rows, ten times smaller than a busy agent's blocks, so that the
/// catalogue is large for its records.
const BLOCK_ROUNDS: u32 = 250;
/// How much of the newest stays in the database instead of sealed files.
const OPEN: Span = Span::from_secs(2 * 3600);

#[derive(Parser)]
struct Options {
    /// Millions of records in the store
    #[arg(long, default_value_t = 10)]
    millions: u64,
    /// Restarts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Where to write: a directory on a disk; removed afterwards
    #[arg(long, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/restart"))]
    dir: PathBuf,
    /// Fail when a target is missed
    #[arg(long)]
    strict: bool,
    /// As cargo says it
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    sealed(
        || program::build().map(drop),
        |world| bench(&options, world),
    )
}

fn bench(options: &Options, world: &World) -> anyhow::Result<()> {
    if options.dir.exists() {
        std::fs::remove_dir_all(&options.dir)?;
    }
    std::fs::create_dir_all(&options.dir)?;
    let result = measure(options, world);
    std::fs::remove_dir_all(&options.dir)?;
    result
}

fn measure(options: &Options, world: &World) -> anyhow::Result<()> {
    let dir = &options.dir;
    let mut table = Table::begin(
        "restart",
        "the collector, killed while it stores, until it answers again; nothing cached",
    );
    for name in ["near", "far"] {
        let secret = dir.join(format!("{name}.secret"));
        std::fs::write(&secret, format!("{name}-0123456789abcdef0123456789abcdef"))?;
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600))?;
    }
    std::fs::write(dir.join("plan.toml"), PLAN)?;
    let (large, empty) = (dir.join("large"), dir.join("empty"));
    let filled = fill(&large, options.millions * 1_000_000)?;
    table.alone("records", "", float(filled.records), Target::Shown);
    table.alone("blocks", "", float(filled.blocks), Target::Shown);
    table.alone("sealed files", "", float(filled.files), Target::Shown);

    let mut collector = Some(start(world, dir, &large)?.0);
    let mut agents = Vec::new();
    for (host, name) in [(&world.near, "near"), (&world.far, "far")] {
        let config = dir.join(format!("{name}.toml"));
        let text = format!(
            "name = \"{name}\"\ncollector = \"http://10.0.0.1:8620\"\nsecret_file = {:?}\nstate_dir = {:?}\n",
            dir.join(format!("{name}.secret")),
            dir.join(name),
        );
        std::fs::write(&config, text)?;
        let program = program::ours("hopgap-agent")?;
        agents.push(host.start(
            &program,
            &[Path::new("run"), Path::new("--config"), &config],
        )?);
    }
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let mut read = Vec::new();
    for _ in 0..options.rounds {
        // Both agents' records come, and then more of them, since the last start.
        let before = stored(world)?.context("the collector is there")?;
        wait_until("both agents deliver", || {
            std::thread::sleep(Duration::from_millis(200));
            let now = stored(world)?.unwrap_or_default();
            let more = |name| now.get(name) > before.get(name);
            Ok(more("near") && more("far"))
        })?;
        let stored_before: u64 = stored(world)?
            .context("the collector is there")?
            .values()
            .sum();
        // Killed by the drop, without any order.
        drop(collector.take());

        forget(&empty)?;
        let (peer, cost) = start(world, dir, &empty)?;
        bare.push(cost);
        drop(peer);

        forget(&large)?;
        let (back, cost) = start(world, dir, &large)?;
        ours.push(cost);
        read.push(cost.read_mib);
        collector = Some(back);
        let stored_after: u64 = stored(world)?
            .context("the collector is there")?
            .values()
            .sum();
        if stored_after < stored_before {
            bail!("{stored_before} records were stored before the kill, {stored_after} after");
        }
    }
    let middle = |costs: &[Restart], part: fn(&Restart) -> f64| {
        median(&mut costs.iter().map(part).collect::<Vec<_>>())
    };
    let worst = |costs: &[Restart]| costs.iter().map(|c| c.wall).fold(0.0, f64::max);
    let peer = "an empty store";
    table.figure(
        "until it answers, at worst",
        "s",
        worst(&ours),
        (peer, worst(&bare)),
        Target::AtMost(1.0),
    );
    table.figure(
        "until it answers, median",
        "s",
        middle(&ours, |c| c.wall),
        (peer, middle(&bare, |c| c.wall)),
        Target::Shown,
    );
    table.figure(
        "processor until then, median",
        "s",
        middle(&ours, |c| c.cpu),
        (peer, middle(&bare, |c| c.cpu)),
        Target::Shown,
    );
    table.figure(
        "read from the disk, median",
        "MiB",
        middle(&ours, |c| c.read_mib),
        (peer, middle(&bare, |c| c.read_mib)),
        Target::Shown,
    );
    for agent in agents {
        agent.interrupt()?;
    }
    if let Some(collector) = collector {
        collector.interrupt()?;
    }
    table.end(options.strict)
}

/// What a store was filled with.
struct Filled {
    records: u64,
    blocks: u64,
    files: u64,
}

/// Fills a store as ingest does, and seals all but the newest hours as the collector does.
fn fill(dir: &Path, least: u64) -> anyhow::Result<Filled> {
    let mut session = Synthetic::new(1, 8, Span::from_millis(5))?;
    let mut store = Store::open(dir)?;
    let (mut records, mut blocks) = (0, 0);
    let mut newest = Wall::from_nanos(0);
    while records < least {
        let (mut body, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES {
            let stretch = session.stretch(BLOCK_ROUNDS);
            for block in [stretch.probes, stretch.receptions] {
                newest = block.header.closed.wall;
                let payload = block.encode(Span::from_nanos(100))?;
                bytes += payload.len();
                body.push(Incoming::read(&payload)?);
            }
        }
        let appended = store.append(&body, newest)?;
        records += appended.records;
        blocks += appended.new;
    }
    let files = u64::try_from(store.seal(newest, OPEN)?.len())?;
    Ok(Filled {
        records,
        blocks,
        files,
    })
}

/// What a start cost, until the first answer.
#[derive(Clone, Copy)]
struct Restart {
    /// Seconds that passed.
    wall: f64,
    /// Seconds of processor, of all threads.
    cpu: f64,
    /// What came from the disk.
    read_mib: f64,
}

fn start(world: &World, dir: &Path, store: &Path) -> anyhow::Result<(Running, Restart)> {
    let program = program::ours("hopgap-collector")?;
    let plan = dir.join("plan.toml");
    let arguments = [
        Path::new("serve"),
        Path::new("--plan"),
        &plan,
        Path::new("--store"),
        store,
    ];
    let begun = Instant::now();
    let running = world.near.start(&program, &arguments)?;
    // A connection costs less than a try of the command line, whose rate is bounded.
    let listens = || TcpStream::connect(("127.0.0.1", 8620)).is_ok();
    while !world.near.inside(|| Ok(listens()))? || stored(world)?.is_none() {
        if begun.elapsed().as_secs() > 60 {
            bail!("the collector did not answer within a minute");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let wall = begun.elapsed().as_secs_f64();
    let (cpu, read_mib) = spent(running.pid())?;
    Ok((
        running,
        Restart {
            wall,
            cpu,
            read_mib,
        },
    ))
}

/// Seconds of processor of all threads of a process, and MiB that it read from the disk.
fn spent(pid: u32) -> anyhow::Result<(f64, f64)> {
    let mut nanos = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let first = text
            .split_whitespace()
            .next()
            .context("an empty schedstat")?;
        nanos += first.parse::<u64>()?;
    }
    let io = std::fs::read_to_string(format!("/proc/{pid}/io"))?;
    let bytes = io
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes: "));
    let bytes: u64 = bytes.context("no read_bytes")?.parse()?;
    Ok((float(nanos) / 1e9, float(bytes) / f64::from(1_u32 << 20)))
}

/// Takes all files below a directory out of the page cache.
fn forget(dir: &Path) -> anyhow::Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            forget(&path)?;
            continue;
        }
        let file = File::open(&path)?;
        // What is not yet on the disk would stay.
        file.sync_all()?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    Ok(())
}

/// Records that the collector has of each agent; `None` while it does not answer.
fn stored(world: &World) -> anyhow::Result<Option<BTreeMap<String, u64>>> {
    let program = program::ours("hopgap-collector")?;
    let arguments = ["status", "--url", "http://127.0.0.1:8620", "--json"];
    let Ok(said) = world.near.finish(&program, &arguments) else {
        return Ok(None);
    };
    let status: Value = serde_json::from_str(&said).context("status --json")?;
    let Some(agents) = status["agents"].as_array() else {
        bail!("status --json has no agents: {said}");
    };
    // One that has not come yet has none.
    let records = agents.iter().filter_map(|agent| {
        Some((
            agent["name"].as_str()?.to_owned(),
            agent["records"].as_u64()?,
        ))
    });
    Ok(Some(records.collect()))
}
