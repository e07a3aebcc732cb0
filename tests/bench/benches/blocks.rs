//! What a probe costs at rest and on the way to the collector: bytes, and the time to
//! encode and decode it; beside rows of fixed width.

use clap::Parser;
use hopgap_bench::cost::{Cost, Meter, float};
use hopgap_bench::table::{Table, Target};
use hopgap_bench::world::report;
use hopgap_proto::record::synthetic::Synthetic;
use hopgap_proto::record::{Block, BlockBody, ProbeColumns, ProbeFate};
use hopgap_proto::time::Span;
use std::hint::black_box;
use std::process::ExitCode;

/// Of 8 flows: 32 768 rows, at which an agent closes a block.
const BLOCK_ROUNDS: u32 = 4_096;

#[derive(Parser)]
struct Options {
    /// Blocks of 32 768 probes
    #[arg(long, default_value_t = 25)]
    blocks: u32,
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
    let mut session = Synthetic::new(1, 8, Span::from_millis(1))?;
    let stretches: Vec<_> = (0..options.blocks)
        .map(|_| session.stretch(BLOCK_ROUNDS))
        .collect();
    let rows: usize = stretches.iter().map(|s| s.probes.body.rows()).sum();
    let rows = u64::try_from(rows)?;
    let mut table = Table::begin("blocks", "blocks of 32 768 probes of 8 flows at 1 kHz");

    let mut fixed = Vec::new();
    let (mut fixed_bytes, mut bare) = (0, Cost::default());
    for stretch in &stretches {
        let meter = Meter::thread()?;
        fixed.clear();
        write_fixed(&stretch.probes, &mut fixed);
        black_box(&fixed);
        bare += meter.read()?;
        fixed_bytes += u64::try_from(fixed.len())?;
    }
    let fixed_width = float(fixed_bytes) / float(rows);

    for (unit, name, target, reception_target) in [
        (
            Span::from_nanos(100),
            "0.1 µs (default)",
            Target::AtMost(5.0),
            Target::AtMost(3.0),
        ),
        (Span::from_nanos(1), "1 ns", Target::Shown, Target::Shown),
        (Span::from_micros(1), "1 µs", Target::Shown, Target::Shown),
    ] {
        let (mut encode, mut decode, mut columns) =
            (Cost::default(), Cost::default(), Cost::default());
        let (mut bytes, mut reception_bytes, mut receptions) = (0, 0, 0);
        let mut by_column = ProbeColumns::default();
        for stretch in &stretches {
            let meter = Meter::thread()?;
            let encoded = stretch.probes.encode(unit)?;
            encode += meter.read()?;
            let meter = Meter::thread()?;
            black_box(Block::decode(&encoded)?);
            decode += meter.read()?;
            let meter = Meter::thread()?;
            black_box(by_column.read(&encoded)?);
            columns += meter.read()?;
            bytes += u64::try_from(encoded.len())?;
            reception_bytes += u64::try_from(stretch.receptions.encode(unit)?.len())?;
            receptions += u64::try_from(stretch.receptions.body.rows())?;
        }
        let peer = ("fixed width", fixed_width);
        let size = float(bytes) / float(rows);
        table.figure(
            &format!("unit {name}: a probe"),
            "bytes",
            size,
            peer,
            target,
        );
        let size = float(reception_bytes) / float(receptions);
        table.alone(
            &format!("unit {name}: a reception with its departure"),
            "bytes",
            size,
            reception_target,
        );
        let peer = ("writing fixed width", bare.per_cpu_second(rows));
        for (what, cost) in [
            ("encode", encode),
            ("decode to rows", decode),
            ("decode to columns", columns),
        ] {
            let rate = cost.per_cpu_second(rows);
            table.ratio(
                &format!("unit {name}: {what}"),
                "probes/s",
                rate,
                peer,
                Target::Shown,
            );
        }
    }
    table.end(options.strict)
}

/// Every field of every row in its own width, little-endian.
fn write_fixed(block: &Block, out: &mut Vec<u8>) {
    let BlockBody::Probes(probes) = &block.body else {
        return;
    };
    for probe in probes {
        out.push(probe.flow.0);
        out.extend(probe.seq.0.to_le_bytes());
        out.extend(probe.sent.at.as_nanos().to_le_bytes());
        out.push(0);
        match probe.fate {
            ProbeFate::Answered(reply) => {
                out.extend(reply.received.at.as_nanos().to_le_bytes());
                out.extend(reply.reflector_received.as_nanos().to_le_bytes());
                out.extend(reply.reflector_sent.as_nanos().to_le_bytes());
                out.extend(reply.reflector_seq.0.to_le_bytes());
                out.push(reply.forward_ttl.unwrap_or(0));
                out.push(reply.reverse_ttl.unwrap_or(0));
            }
            ProbeFate::Unanswered | ProbeFate::Refused(_) => out.extend([0; 30]),
        }
    }
}
