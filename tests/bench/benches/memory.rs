//! Memory: of two agents, one of which sends 8 flows at 1 kHz and one of which reflects
//! and records them, while the collector is away; and of the collector when it is back and takes in
//! what they kept. `--minutes 60` is the whole hour.

use anyhow::{Context as _, bail};
use clap::Parser;
use hopgap_bench::cost::{float, resident};
use hopgap_bench::program;
use hopgap_bench::table::{Table, Target};
use hopgap_bench::world::{Host, Running, World, sealed, wait_for, wait_until};
use serde_json::Value;
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
const PROBES_PER_SECOND: f64 = 8_000.0;

#[derive(Parser)]
struct Options {
    /// Minutes that the collector is away
    #[arg(long, default_value_t = 1)]
    minutes: u64,
    /// Where to write: a directory on a disk; removed afterwards
    #[arg(long, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/memory"))]
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
        "memory",
        "8 flows at 1 kHz with the collector away, and the collector when it is back",
    );
    for name in ["near", "far"] {
        let secret = dir.join(format!("{name}.secret"));
        let text = format!("{name}-0123456789abcdef0123456789abcdef");
        std::fs::write(&secret, text)?;
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600))?;
    }
    std::fs::write(dir.join("plan.toml"), PLAN)?;

    let first = collector(world, dir)?;
    let mut agents = [
        (
            "sending agent",
            "near",
            start_agent(&world.near, dir, "near")?,
        ),
        (
            "reflecting agent",
            "far",
            start_agent(&world.far, dir, "far")?,
        ),
    ];
    // Both have the plan when records of both have come.
    wait_until("records of both agents come", || {
        Ok(stored(world)?.is_some_and(|records| records.iter().all(|r| *r > 0)))
    })?;
    first.interrupt()?;

    let mut samples: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    let away = Instant::now();
    let end = away + Duration::from_secs(60 * options.minutes);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_secs(1));
        for ((.., running), samples) in agents.iter_mut().zip(&mut samples) {
            samples.push(resident(running.pid())?.0);
        }
    }
    for ((who, name, running), samples) in agents.iter().zip(&samples) {
        let (_, most) = resident(running.pid())?;
        table.alone(
            &format!("{who}: at most"),
            "MiB",
            most,
            Target::AtMost(32.0),
        );
        let greatest = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
        let (early, late) = samples.split_at(samples.len() / 2);
        table.figure(
            &format!("{who}: at most in the second half"),
            "MiB",
            greatest(late),
            ("in the first half", greatest(early)),
            Target::Shown,
        );
        let spool = size(&dir.join(name).join("spool"))?;
        let expected = PROBES_PER_SECOND * away.elapsed().as_secs_f64();
        table.alone(
            &format!(
                "{who}: spool, a probe of {:.0} s",
                away.elapsed().as_secs_f64()
            ),
            "bytes",
            float(spool) / expected,
            Target::Shown,
        );
    }

    let back = Instant::now();
    let second = collector(world, dir)?;
    let due = {
        // All but what is in open blocks.
        let seconds = away.elapsed().as_secs_f64() - 15.0;
        PROBES_PER_SECOND * seconds.max(1.0)
    };
    wait_for(away.elapsed(), "the collector has what was kept", || {
        Ok(stored(world)?.is_some_and(|records| records.iter().all(|r| float(*r) >= due)))
    })?;
    table.alone(
        "agents' backlog at the collector within",
        "s",
        back.elapsed().as_secs_f64(),
        Target::Shown,
    );
    let (_, most) = resident(second.pid())?;
    table.alone("collector: at most", "MiB", most, Target::AtMost(150.0));
    for (.., running) in agents {
        running.interrupt()?;
    }
    second.interrupt()?;
    table.end(options.strict)
}

fn collector(world: &World, dir: &Path) -> anyhow::Result<Running> {
    let program = program::ours("hopgap-collector")?;
    let plan = dir.join("plan.toml");
    let store = dir.join("store");
    let arguments = [
        Path::new("serve"),
        Path::new("--plan"),
        &plan,
        Path::new("--store"),
        &store,
    ];
    world.near.serve(&program, &arguments, ("tcp", 8620))
}

fn start_agent(host: &Host, dir: &Path, name: &str) -> anyhow::Result<Running> {
    let config = dir.join(format!("{name}.toml"));
    let text = format!(
        "name = \"{name}\"\ncollector = \"http://10.0.0.1:8620\"\nsecret_file = {:?}\nstate_dir = {:?}\n",
        dir.join(format!("{name}.secret")),
        dir.join(name),
    );
    std::fs::write(&config, text)?;
    let program = program::ours("hopgap-agent")?;
    host.start(
        &program,
        &[Path::new("run"), Path::new("--config"), &config],
    )
}

/// Records that the collector has of each agent; `None` while it does not answer.
fn stored(world: &World) -> anyhow::Result<Option<Vec<u64>>> {
    let program = program::ours("hopgap-collector")?;
    let arguments = ["status", "--url", "http://127.0.0.1:8620", "--json"];
    let Ok(said) = world.near.finish(&program, &arguments) else {
        return Ok(None);
    };
    let status: Value = serde_json::from_str(&said).context("status --json")?;
    let Some(agents) = status["agents"].as_array() else {
        bail!("status --json has no agents: {said}");
    };
    if agents.len() < 2 {
        return Ok(None);
    }
    Ok(agents
        .iter()
        .map(|agent| agent["records"].as_u64())
        .collect())
}

/// Bytes of all files below a directory.
fn size(dir: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let meta = entry.metadata()?;
        sum += if meta.is_dir() {
            size(&entry.path())?
        } else {
            meta.len()
        };
    }
    Ok(sum)
}
