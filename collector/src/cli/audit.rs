//! `audit`: is everything there, once, and whole?

use super::show::{table, wall};
use super::{Failure, StoreArgs, Time, print};
use crate::clock;
use crate::store::Reader;
use crate::store::audit::{AgentAudit, Audit, Missing, SpoolAudit, SpoolFrames};
use clap::Args;
use hopgap_proto::record::BlockKey;
use hopgap_proto::time::Wall;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Options of `audit`.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// Audit from here instead of from the beginning: 2026-11-23T02:00:00Z, or -15m
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<Time>,
    /// Audit to here instead of to the end
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<Time>,
    /// Hold this spool of an agent, or copies of its segments, against the store, too; may
    /// be repeated
    #[arg(long, value_name = "DIR")]
    spool: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) fn run(args: &AuditArgs) -> Result<(), Failure> {
    let from = args.from.map_or(Wall::MIN, |time| time.0);
    let to = args.to.map_or(Wall::MAX, |time| time.0);
    if from > to {
        return Err(Failure::Usage(format!(
            "--from ({}) is after --to ({}); exchange them",
            wall(from),
            wall(to)
        )));
    }
    // Read before the store: what an agent drops after this is then in the store.
    let spools = args.spool.iter().map(|dir| SpoolFrames::read(dir));
    let spools = spools.collect::<Result<_, _>>()?;
    let audit = Reader::open(&args.store.store)?.audit(from, to, spools)?;
    let verdict = verdict(&audit);
    print(&if args.json {
        serde_json::to_string_pretty(&in_json(&audit, clock::now(), &verdict))? + "\n"
    } else {
        in_text(&audit)
    })?;
    match verdict {
        Verdict::Whole(_) if args.json => Ok(()),
        Verdict::Whole(sentence) => print(&(sentence + "\n")),
        Verdict::Not(sentence) => Err(Failure::NotWhole(sentence)),
    }
}

/// The final sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Whole(String),
    Not(String),
}

/// The totals of everything that can be wrong.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    blocks: u64,
    records: u64,
    again: u64,
    missing: u64,
    missing_declared: u64,
    declared: u64,
    damaged: u64,
    kept_aside: u64,
    probes_twice: u64,
    probes_missing: u64,
    probes_unjudged: u64,
    probes_explained: u64,
    spool_missing: u64,
    spool_different: u64,
    spool_waiting: u64,
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn sums_of(agent: &AgentAudit) -> Sums {
    let mut sums = Sums {
        again: agent.duplicates_refused,
        kept_aside: agent.kept_aside,
        declared: agent.declared,
        ..Sums::default()
    };
    for run in &agent.runs {
        sums.blocks += run.blocks;
        sums.records += run.records;
        sums.damaged += count(run.damaged.len());
        for missing in &run.missing {
            if missing.declared {
                sums.missing_declared += missing.blocks();
            } else {
                sums.missing += missing.blocks();
            }
        }
        for probes in run.probes.values() {
            sums.probes_twice += probes.twice;
            sums.probes_missing += probes.missing;
            sums.probes_unjudged += probes.unjudged;
            sums.probes_explained += probes.explained;
        }
    }
    sums
}

fn sums(audit: &Audit) -> Sums {
    let mut all = Sums::default();
    for agent in audit.agents.iter().map(sums_of) {
        all.blocks += agent.blocks;
        all.records += agent.records;
        all.again += agent.again;
        all.missing += agent.missing;
        all.missing_declared += agent.missing_declared;
        all.declared += agent.declared;
        all.damaged += agent.damaged;
        all.kept_aside += agent.kept_aside;
        all.probes_twice += agent.probes_twice;
        all.probes_missing += agent.probes_missing;
        all.probes_unjudged += agent.probes_unjudged;
        all.probes_explained += agent.probes_explained;
    }
    for spool in &audit.spools {
        all.spool_missing += count(spool.missing.len());
        all.spool_different += count(spool.different.len());
        all.spool_waiting += spool.waiting;
    }
    all
}

fn verdict(audit: &Audit) -> Verdict {
    let sums = sums(audit);
    let mut faults = Vec::new();
    for (n, what) in [
        (sums.missing, "blocks are missing that nobody declared lost"),
        (sums.damaged, "blocks are damaged"),
        (
            count(audit.segment_faults.len()),
            "sealed files do not hold what the catalogue says",
        ),
        (
            sums.kept_aside,
            "frames could not be used and were kept aside",
        ),
        (sums.probes_twice, "records of probes are there twice"),
        (sums.probes_missing, "probes have no record"),
        (
            sums.probes_unjudged,
            "records of probes were not compared, since their agent has far too many of the same number or with gaps",
        ),
        (
            sums.spool_missing,
            "frames were acknowledged to their agent and are not in the store",
        ),
        (
            sums.spool_different,
            "frames of a spool differ from the stored block",
        ),
    ] {
        if n > 0 {
            faults.push(format!("{what}: {n}"));
        }
    }
    if !audit.is_whole() {
        return Verdict::Not(format!("the store is not whole: {}", faults.join("; ")));
    }
    let lost = match sums.missing_declared {
        0 => "nothing is missing".to_owned(),
        n => format!("blocks that their agents declared lost are missing: {n}, nothing else"),
    };
    Verdict::Whole(format!(
        "the store is whole: {} blocks with {} records, {lost}, nothing is there twice, nothing is damaged",
        sums.blocks, sums.records
    ))
}

fn in_text(audit: &Audit) -> String {
    let head = [
        "AGENT",
        "RUNS",
        "BLOCKS",
        "RECORDS",
        "AGAIN",
        "KEPT ASIDE",
        "MISSING",
        "DECLARED LOST",
        "DAMAGED",
        "PROBES TWICE",
        "PROBES MISSING",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for agent in &audit.agents {
        let sums = sums_of(agent);
        let mut row = vec![agent.agent.to_string(), agent.runs.len().to_string()];
        row.extend(
            [
                sums.blocks,
                sums.records,
                sums.again,
                sums.kept_aside,
                sums.missing,
                sums.missing_declared,
                sums.damaged,
                sums.probes_twice,
                sums.probes_missing,
            ]
            .map(|n| n.to_string()),
        );
        rows.push(row);
    }
    let mut out = table(&rows);
    let _ = writeln!(out, "sealed files read: {}", audit.segments);
    for spool in &audit.spools {
        let _ = writeln!(
            out,
            "spool {}: {} segments, {} frames, {} stored, {} kept aside, {} waiting, {} acknowledged and not stored, {} different, {} damaged stretches",
            spool.dir.display(),
            spool.segments,
            spool.frames,
            spool.stored,
            spool.kept_aside,
            spool.waiting,
            spool.missing.len(),
            spool.different.len(),
            spool.damaged,
        );
    }
    for agent in &audit.agents {
        for run in &agent.runs {
            let whose = format!("{}, run of {}", agent.agent, wall(run.started));
            for missing in &run.missing {
                let _ = writeln!(out, "{whose}: {}", of_missing(missing));
            }
            for damaged in &run.damaged {
                let _ = writeln!(
                    out,
                    "{whose}: block {} is damaged: {}",
                    damaged.number, damaged.what
                );
            }
            for (session, probes) in &run.probes {
                let _ = writeln!(
                    out,
                    "{whose}, session {session}: {} records of probes twice, {} probes without a record, {} more in what was lost, {} records not compared",
                    probes.twice, probes.missing, probes.explained, probes.unjudged
                );
            }
        }
    }
    for fault in &audit.segment_faults {
        let _ = writeln!(out, "sealed file {}: {}", fault.path, fault.what);
    }
    out
}

fn of_missing(missing: &Missing) -> String {
    let which = if missing.first == missing.last {
        format!("block {} is", missing.first)
    } else {
        format!("blocks {} to {} are", missing.first, missing.last)
    };
    let when = match missing.after {
        Some(after) => format!("closed from {} to {}", wall(after), wall(missing.before)),
        None => format!("closed before {}", wall(missing.before)),
    };
    let said = if missing.declared {
        "its agent declared it lost"
    } else {
        "nobody declared it lost"
    };
    format!("{which} missing, {when}; {said}")
}

fn keys(keys: &[BlockKey]) -> Value {
    keys.iter()
        .map(|key| json!({"agent": key.agent.as_str(), "run": key.run.0, "number": key.number}))
        .collect()
}

fn spool_json(spool: &SpoolAudit) -> Value {
    json!({
        "spool": spool.dir,
        "segments": spool.segments,
        "frames": spool.frames,
        "stored": spool.stored,
        "kept_aside": spool.kept_aside,
        "waiting": spool.waiting,
        "missing": keys(&spool.missing),
        "different": keys(&spool.different),
        "damaged_stretches": spool.damaged,
    })
}

fn agent_json(agent: &AgentAudit) -> Value {
    let sums = sums_of(agent);
    let runs: Vec<Value> = agent
        .runs
        .iter()
        .map(|run| {
            let missing: Vec<Value> = run
                .missing
                .iter()
                .map(|m| {
                    json!({
                        "first": m.first,
                        "last": m.last,
                        "after_ns": m.after.map(Wall::as_nanos),
                        "before_ns": m.before.as_nanos(),
                        "declared": m.declared,
                    })
                })
                .collect();
            let damaged: Vec<Value> = run
                .damaged
                .iter()
                .map(|d| json!({"number": d.number, "what": d.what}))
                .collect();
            let probes: serde_json::Map<String, Value> = run
                .probes
                .iter()
                .map(|(session, p)| {
                    let faults = json!({"twice": p.twice, "missing": p.missing, "unjudged": p.unjudged, "in_what_was_lost": p.explained});
                    (session.to_string(), faults)
                })
                .collect();
            json!({
                "started_ns": run.started.as_nanos(),
                "blocks": run.blocks,
                "records": run.records,
                "expired": run.expired,
                "missing": missing,
                "damaged": damaged,
                "probes": probes,
            })
        })
        .collect();
    json!({
        "agent": agent.agent.as_str(),
        "blocks": sums.blocks,
        "records": sums.records,
        "again": sums.again,
        "kept_aside": sums.kept_aside,
        "missing": sums.missing,
        "missing_declared": sums.missing_declared,
        "declared_lost_at_least": sums.declared,
        "damaged": sums.damaged,
        "probes_twice": sums.probes_twice,
        "probes_missing": sums.probes_missing,
        "probes_unjudged": sums.probes_unjudged,
        "runs": runs,
    })
}

fn in_json(audit: &Audit, now: Wall, verdict: &Verdict) -> Value {
    let (whole, sentence) = match verdict {
        Verdict::Whole(sentence) => (true, sentence),
        Verdict::Not(sentence) => (false, sentence),
    };
    let faults: Vec<Value> = audit
        .segment_faults
        .iter()
        .map(|f| json!({"path": f.path, "what": f.what}))
        .collect();
    json!({
        "audited_ns": now.as_nanos(),
        "whole": whole,
        "verdict": sentence,
        "agents": audit.agents.iter().map(agent_json).collect::<Vec<_>>(),
        "sealed_files": audit.segments,
        "sealed_file_faults": faults,
        "spools": audit.spools.iter().map(spool_json).collect::<Vec<_>>(),
    })
}
