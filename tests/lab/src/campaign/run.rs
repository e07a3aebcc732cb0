//! One run: a world, a program, a report, a judgement.

use super::clock::HostClock;
use super::emulation::Network;
use super::judge::{self, Judgement};
use super::program::{Act, Program};
use super::record::{Down, Record};
use super::scenario::{Host, Scenario};
use super::truth::Truth;
use super::wire::Wire;
use super::world::{WIRES, World, side_of};
use crate::drill::stage::{Process, both_deliver};
use crate::drill::{Programs, wait_for};
use crate::sandbox::Sandbox;
use anyhow::{Context, Result, ensure};
use hopgap_net::clock::Clock;
use hopgap_proto::time::{Mono, Span};
use nix::sys::signal::Signal;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The run's name at the collector.
const NAME: &str = "campaign";
/// What is measured before the program begins to run.
const BEFORE: Duration = Duration::from_millis(700);
/// The newest probes' timeout, and the delivery of the newest blocks.
const AFTER: Duration = Duration::from_millis(2_500);

/// Carries one run out in the namespaces of this process and judges it.
///
/// # Errors
/// When it could not be carried out.
pub(super) fn carry_out(
    sandbox: &Sandbox,
    scenario: &Scenario,
    seed: u64,
    dir: &Path,
) -> Result<Judgement> {
    let dir = &dir
        .canonicalize()
        .with_context(|| format!("cannot find {}", dir.display()))?;
    write(dir, "scenario.toml", scenario.text.as_bytes())?;
    let programs = Programs::ready()?;
    let program = Program::draw(scenario, seed);
    let world = World::make(scenario, programs.clone(), dir)?;
    let names: Vec<String> = scenario.paths.iter().map(|p| p.name.clone()).collect();
    let network = Network::new(scenario, &program, seed);
    let wire = Wire::start(WIRES, network, &names, dir)?;
    let measured = measure(sandbox, scenario, seed, &program, &world, &wire);
    wire.stop()?;
    let Measured {
        begin,
        downs,
        clock,
    } = measured?;
    let record = Record {
        scenario: scenario.name.clone(),
        seed,
        begin_ns: begin.as_nanos(),
        wall_minus_mono_ns: Clock::pair().offset().as_nanos(),
        program,
        downs,
        clock,
    };
    write(dir, "run.json", &serde_json::to_vec_pretty(&record)?)?;
    report_and_judge(&programs, dir)
}

/// Has the collector report on the recording in `dir`, and judges that.
///
/// # Errors
/// When there is no such recording, or no report can be made of it.
pub(super) fn report_and_judge(programs: &Programs, dir: &Path) -> Result<Judgement> {
    let mut report = Command::new(programs.collector());
    report
        .args(["report", NAME, "--format", "json", "--store"])
        .arg(dir.join("state/store"))
        .arg("--out")
        .arg(dir.join("report.json"));
    let output = report
        .output()
        .context("cannot run hopgap-collector report")?;
    ensure!(
        output.status.success(),
        "the report failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let text = std::fs::read_to_string(dir.join("scenario.toml"))
        .with_context(|| format!("{} is no recording", dir.display()))?;
    let record = std::fs::read(dir.join("run.json"))
        .with_context(|| format!("{} is no recording", dir.display()))?;
    let record: Record = serde_json::from_slice(&record).context("cannot read run.json")?;
    let scenario = Scenario::parse(&record.scenario, &text)?;
    let truth = Truth::read(dir, &scenario)?;
    let judgement = judge::judge(&scenario, &record, &truth, dir)?;
    write(
        dir,
        "judgement.json",
        &serde_json::to_vec_pretty(&judgement)?,
    )?;
    Ok(judgement)
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// The agents of both hosts, those that run.
type Agents = [Option<Process>; 2];

/// What is known after the measurement.
struct Measured {
    begin: Mono,
    downs: Vec<Down>,
    clock: Option<HostClock>,
}

fn measure(
    sandbox: &Sandbox,
    scenario: &Scenario,
    seed: u64,
    program: &Program,
    world: &World,
    wire: &Wire,
) -> Result<Measured> {
    let drawn = scenario.clock.b.map(|c| c.draw(seed, Clock::pair()));
    let proxies = drawn.map(|(clock, _)| world.proxies(clock)).transpose()?;
    let collector = world.collector()?;
    wait_for(sandbox, "the collector", || {
        world.ask(&["drill", "list"]).map(drop)
    })?;
    let mut agents: Agents = [Some(world.agent(0)?), Some(world.agent(1)?)];
    wait_for(sandbox, "records of both agents", || {
        both_deliver(&world.ask(&["status", "--json"])?.stdout)
    })?;
    world.ask(&["drill", "start", NAME])?;
    sandbox.sleep(BEFORE)?;
    let begin = Clock::now() + Span::from_millis(20);
    wire.begin(begin);
    let clock = drawn.map(|(mut clock, step)| {
        if let Some(step) = step {
            clock.step_at(begin + step);
        }
        clock
    });
    if let (Some(proxies), Some(clock)) = (&proxies, clock) {
        proxies.set_clock(clock);
    }
    let mut downs: Vec<Down> = Vec::new();
    for (at, act, begins) in host_events(program) {
        sleep_until(sandbox, begin + at)?;
        let killed = matches!(act, Act::Kill(_));
        if let Act::Kill(host) | Act::Restart(host) = act {
            let now = Clock::now() - begin;
            match downs.last_mut() {
                Some(down) if !begins => down.until = now,
                _ => downs.push(Down {
                    from: at,
                    until: now,
                    killed,
                    side: Some(side_of(host)),
                }),
            }
        }
        happen(&act, begins, world, &mut agents)?;
    }
    sleep_until(sandbox, begin + scenario.lasts)?;
    world.ask(&["drill", "stop"])?;
    sandbox.sleep(AFTER)?;
    for agent in agents.into_iter().flatten() {
        agent.end(Duration::from_secs(15))?;
    }
    collector.end(Duration::from_secs(10))?;
    Ok(Measured {
        begin,
        downs,
        clock,
    })
}

fn sleep_until(sandbox: &Sandbox, at: Mono) -> Result<()> {
    let left = at.saturating_since(Clock::now());
    Ok(sandbox.sleep(left.to_std().unwrap_or_default())?)
}

/// What happens to the hosts, in the order of time; whether it begins or ends.
fn host_events(program: &Program) -> Vec<(Span, Act, bool)> {
    let steps = program.steps.iter().filter(|s| s.act.host().is_some());
    let mut events: Vec<(Span, Act, bool)> = steps
        .flat_map(|step| {
            let end = step.until.map(|until| (until, step.act.clone(), false));
            [Some((step.from, step.act.clone(), true)), end]
        })
        .flatten()
        .collect();
    events.sort_by_key(|(at, _, _)| *at);
    events
}

fn happen(act: &Act, begins: bool, world: &World, agents: &mut Agents) -> Result<()> {
    let signal = |agents: &Agents, host: Host, signal: Signal| {
        if let Some(agent) = agents.get(side_of(host)).and_then(Option::as_ref) {
            agent.signal(signal);
        }
    };
    match act {
        Act::Stop(host) if begins => signal(agents, *host, Signal::SIGSTOP),
        Act::Stop(host) => signal(agents, *host, Signal::SIGCONT),
        Act::Restart(host) | Act::Kill(host) if begins => {
            let agent = agents[side_of(*host)].take().context("no agent to end")?;
            if matches!(act, Act::Restart(_)) {
                agent.end(Duration::from_secs(15))?;
            }
            // A process that is dropped is killed.
        }
        Act::Restart(host) | Act::Kill(host) => {
            agents[side_of(*host)] = Some(world.agent(side_of(*host))?);
        }
        Act::NoRoute(host) => world.set_route(*host, !begins)?,
        _ => {}
    }
    Ok(())
}
