//! One run: a world, a program, a report, a judgement.

mod measure;

use super::emulation::Network;
use super::judge::{self, Judgement};
use super::program::Program;
use super::record::Record;
use super::scenario::Scenario;
use super::truth::Truth;
use super::wire::Wire;
use super::world::{WIRES, World};
use crate::drill::Programs;
use crate::sandbox::Sandbox;
use anyhow::{Context, Result, ensure};
use hopgap_net::clock::Clock;
use measure::{Measured, NAME, Run, measure};
use std::path::Path;
use std::process::Command;

/// What goes on beside a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside {
    /// So many burners, which run already.
    pub(super) burners: u32,
    /// What people use today, around each outage.
    pub(super) peers: bool,
}

/// Carries one run out in the namespaces of this process and judges it.
///
/// # Errors
/// When it could not be carried out.
pub(super) fn carry_out(
    sandbox: &Sandbox,
    scenario: &Scenario,
    seed: u64,
    dir: &Path,
    beside: Beside,
) -> Result<Judgement> {
    let dir = &dir
        .canonicalize()
        .with_context(|| format!("cannot find {}", dir.display()))?;
    write(dir, "scenario.toml", scenario.text.as_bytes())?;
    let programs = Programs::ready()?.beside(beside.burners);
    let program = Program::draw(scenario, seed);
    let world = World::make(scenario, programs.clone(), dir)?;
    let names: Vec<String> = scenario.paths.iter().map(|p| p.name.clone()).collect();
    let network = Network::new(scenario, &program, seed);
    let wire = Wire::start(WIRES, network, &names, dir)?;
    let run = Run {
        scenario,
        seed,
        program: &program,
        peers: beside.peers,
    };
    let measured = measure(sandbox, run, &world, &wire);
    wire.stop()?;
    let Measured { begin, seen, clock } = measured?;
    let record = Record {
        scenario: scenario.name.clone(),
        seed,
        begin_ns: begin.as_nanos(),
        wall_minus_mono_ns: Clock::pair().offset().as_nanos(),
        program,
        downs: seen.downs,
        asked: Some(seen.asked),
        no_routes: seen.no_routes,
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
