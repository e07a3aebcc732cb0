//! `cargo lab drill`: a failover measured by the real programs, and judged by the
//! truth of the test bed.
//!
//! The collector and an agent run at the server, an agent at the VM, as they would
//! in a maintenance window; what one of them does to the network, or says about it,
//! the others do not know. The report is written by the collector's own command.

mod judge;
mod programs;
pub(crate) mod stage;

use crate::burner::Burners;
use crate::error::LabError;
use crate::fault::Fault;
use crate::lab::{Lab, Options};
use crate::sandbox::Sandbox;
use crate::topology::Node;
use crate::truth::Truth;
use crate::tunnel::Tunnel;
use anyhow::{Context, Result, bail};
pub use judge::{Judgement, judge};
pub use programs::Programs;
use stage::{Process, Stage};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The drill's name at the collector.
const NAME: &str = "lab-drill";
/// Unimpaired traffic before the fault.
const BEFORE: Duration = Duration::from_secs(8);
/// Beyond the objective's `stable` time and the probes' timeout, so that recovery
/// can be said.
const AFTER: Duration = Duration::from_secs(9);
/// The return to ExpressRoute takes up to eight seconds.
const RETURN: Duration = Duration::from_secs(60);

/// What to drill.
#[derive(Clone, Debug, clap::Args)]
pub struct DrillOptions {
    /// What goes wrong
    #[arg(long, default_value = "admin", value_enum)]
    pub fault: Fault,
    /// What the VPN's tunnels are made of
    #[arg(long, default_value_t, value_enum)]
    pub tunnel: Tunnel,
    /// Time between two probes of one flow
    #[arg(long, default_value = "10ms", value_name = "TIME")]
    pub interval: hopgap_proto::time::Span,
    /// Flows of each session
    #[arg(long, default_value_t = 8)]
    pub flows: u8,
    /// No BFD on the circuits: BGP's hold timer, 9 s here, finds what is silent
    #[arg(long)]
    pub no_bfd: bool,
    /// How long the fault lasts
    #[arg(long, default_value = "12s", value_name = "TIME")]
    pub hold: hopgap_proto::time::Span,
    /// Keep the processor busy with so many loops meanwhile
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub burn: u32,
    /// Where report, truth and logs go [default: drill-FAULT-TUNNEL]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

impl DrillOptions {
    fn out(&self) -> PathBuf {
        self.out
            .clone()
            .unwrap_or_else(|| PathBuf::from(format!("drill-{}-{}", self.fault, self.tunnel)))
    }
}

/// Runs the drill; the exit code is 0 only if the report agrees with the truth.
///
/// # Errors
/// When the drill itself could not be carried out.
pub fn run(options: &DrillOptions) -> Result<ExitCode> {
    let judgement = carry_out(options)?;
    print!("{judgement}");
    Ok(if judgement.agrees() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Carries the drill out and judges it. Called outside of the sandbox it does not
/// return: see [`Sandbox::enter`].
///
/// # Errors
/// When the drill could not be carried out.
pub fn carry_out(options: &DrillOptions) -> Result<Judgement> {
    let programs = Programs::ready()?.beside(options.burn);
    let out = options.out();
    std::fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let sandbox = Sandbox::enter()?;
    let burners = Burners::start(options.burn)?;
    let mut stage = Stage::new();
    stage.says(&format!(
        "the lab comes up, tunnels over {}",
        options.tunnel
    ));
    let lab = Lab::up(
        &sandbox,
        Options {
            tunnel: options.tunnel,
            bfd: !options.no_bfd,
            out,
        },
    )?;
    lab.wait_converged()?;
    let measured = measure(options, &programs, &sandbox, &lab, &mut stage);
    drop(burners);
    stage.says("the lab goes down");
    let out = lab.finish()?;
    let window = measured?;
    let truth = Truth::read(&out)?;
    truth.append(&out)?;
    let judgement = judge((options.fault, options.tunnel), &truth, window, &out)?;
    stage.says("done");
    Ok(judgement)
}

/// Start and stop of the drill on this machine's monotonic clock.
type Window = (hopgap_proto::time::Mono, hopgap_proto::time::Mono);

fn measure(
    options: &DrillOptions,
    programs: &Programs,
    sandbox: &Sandbox,
    lab: &Lab,
    stage: &mut Stage,
) -> Result<Window> {
    let out = lab.out().to_owned();
    let files = stage::write_files(&out, options)?;
    let collector = |arguments: &[&str]| {
        let mut command = programs.run_collector();
        command.args(arguments);
        command
    };
    let tell = |arguments: &[&str]| -> Result<()> {
        let url = ["--url", stage::HERE];
        let mut command = collector(&[&["drill"], arguments, &url].concat());
        let output = lab.run(Node::Server, &mut command)?;
        if !output.status.success() {
            bail!(
                "hopgap-collector drill {} failed: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    };

    stage.says("the collector and both agents begin");
    let mut serve = collector(&["serve", "--plan"]);
    serve.arg(&files.plan);
    let serve = Process::of(
        lab.spawn(Node::Server, &mut serve, "collector")?,
        "the collector",
    );
    wait_for(sandbox, "the collector", || tell(&["list"]))?;
    let mut agents = Vec::new();
    for files_of in &files.agents {
        files_of.join(lab, programs, &files.plan)?;
        let log = format!("agent-{}", files_of.name);
        let mut agent = programs.run_agent();
        agent.arg("run").arg("--config").arg(&files_of.config);
        let child = lab.spawn(files_of.node, &mut agent, &log)?;
        agents.push(Process::of(child, &log));
    }
    // Both have their plan, have probed, and have delivered.
    wait_for(sandbox, "records of both agents", || {
        let output = lab.run(
            Node::Server,
            &mut collector(&["status", "--json", "--url", stage::HERE]),
        )?;
        stage::both_deliver(&output.stdout)
    })?;

    let from = hopgap_net::clock::Clock::now();
    tell(&["start", NAME])?;
    stage.says("steady on ExpressRoute");
    sandbox.sleep(BEFORE)?;
    tell(&["mark", "--failover", &format!("fault: {}", options.fault)])?;
    stage.says(&format!("fault: {}", options.fault));
    lab.fault(options.fault)?;
    sandbox.sleep(options.hold.to_std().unwrap_or(BEFORE))?;
    tell(&["mark", "--failback", &format!("healed: {}", options.fault)])?;
    stage.says("healed; back to ExpressRoute");
    lab.heal(options.fault)?;
    lab.wait("both circuits again", RETURN, |lab| {
        Ok(lab.routing()?.is_steady())
    })?;
    stage.says("steady again");
    sandbox.sleep(AFTER)?;
    tell(&["stop"])?;
    let to = hopgap_net::clock::Clock::now();
    // The newest blocks are delivered, and the log of the reflector reaches beyond the drill.
    sandbox.sleep(Duration::from_secs(3))?;

    stage.says("the agents deliver the rest and end");
    for agent in agents {
        agent.end(Duration::from_secs(15))?;
    }
    serve.end(Duration::from_secs(10))?;
    stage.says("the collector writes the report");
    let mut report = collector(&["report", NAME, "--store"]);
    report.arg(&files.store).arg("--out").arg(&out);
    let output = report
        .output()
        .context("cannot run hopgap-collector report")?;
    if !output.status.success() {
        bail!(
            "the report failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok((from, to))
}

/// Tries until it succeeds, for at most half a minute.
pub(crate) fn wait_for(
    sandbox: &Sandbox,
    what: &str,
    mut attempt: impl FnMut() -> Result<()>,
) -> Result<()> {
    let start = std::time::Instant::now();
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(error) if start.elapsed() > Duration::from_secs(30) => {
                return Err(error.context(format!("waited in vain for {what}")));
            }
            Err(_) => match sandbox.sleep(Duration::from_millis(200)) {
                Ok(()) => {}
                Err(LabError::Interrupted) => bail!("stopped"),
                Err(error) => return Err(error.into()),
            },
        }
    }
}
