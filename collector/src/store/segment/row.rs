//! Probes and receptions as rows of columns.

use super::super::Kind;
use super::columns::{Column, Holds, Table, Values};
use hopgap_proto::record::{
    AgentName, FlowIndex, Probe, ProbeFate, Reception, Reply, RunId, Stamp, StampSource,
};
use hopgap_proto::stamp::Seq;
use hopgap_proto::time::{Mono, Span, Wall};
use parquet::data_type::ByteArray;
use std::sync::LazyLock;

/// Where a row comes from.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::store) struct Origin {
    pub(in crate::store) session: ByteArray,
    pub(in crate::store) agent: ByteArray,
    pub(in crate::store) run: RunId,
    /// Wall clock minus monotonic clock when the row's block was closed.
    pub(in crate::store) offset: Span,
}

impl Origin {
    /// The agent; `None` where it is no name.
    pub(in crate::store) fn agent(&self) -> Option<AgentName> {
        std::str::from_utf8(self.agent.data()).ok()?.parse().ok()
    }

    fn wall(&self, at: Mono) -> i64 {
        at.as_nanos().saturating_add(self.offset.as_nanos())
    }

    fn mono(&self, at: i64) -> Mono {
        Mono::from_nanos(at.saturating_sub(self.offset.as_nanos()))
    }
}

/// A record that is sealed as a row.
pub(in crate::store) trait Row: Sized {
    /// Its kind.
    const KIND: Kind;
    /// Its columns; the first four are the origin.
    const COLUMNS: &'static [Column];
    /// Which column is its time.
    const TIME: usize;
    /// How many of the columns the first version of sealed files had. The later columns are
    /// null in such a file.
    const FIRST_COLUMNS: usize = Self::COLUMNS.len();

    /// Adds itself to the columns.
    fn put(&self, origin: &Origin, columns: &mut [Values]);

    /// Reads a row back; `None` where it holds a value that is never written.
    fn take(table: &Table, row: usize) -> Option<(Origin, Self)>;
}

const fn column(name: &'static str, holds: Holds) -> Column {
    Column {
        name,
        holds,
        nullable: false,
    }
}

const fn nullable(name: &'static str, holds: Holds) -> Column {
    Column {
        name,
        holds,
        nullable: true,
    }
}

const SESSION: Column = column("session", Holds::Text);
const AGENT: Column = column("agent", Holds::Text);
const RUN: Column = column("run", Holds::Unsigned(64));
const OFFSET: Column = column("clock_offset_ns", Holds::Signed(64));
const FLOW: Column = column("flow", Holds::Unsigned(8));
const SEQ: Column = column("seq", Holds::Unsigned(32));

/// Texts of the columns with few distinct values, made once.
struct Words {
    kernel: ByteArray,
    hardware: ByteArray,
    user: ByteArray,
    answered: ByteArray,
    unanswered: ByteArray,
    refused: ByteArray,
}

static WORDS: LazyLock<Words> = LazyLock::new(|| Words {
    kernel: "kernel".into(),
    hardware: "hardware".into(),
    user: "user".into(),
    answered: "answered".into(),
    unanswered: "unanswered".into(),
    refused: "refused".into(),
});

fn source_word(source: StampSource) -> &'static ByteArray {
    match source {
        StampSource::Kernel => &WORDS.kernel,
        StampSource::Hardware => &WORDS.hardware,
        StampSource::User => &WORDS.user,
    }
}

fn source_of(word: &ByteArray) -> Option<StampSource> {
    match word.data() {
        b"kernel" => Some(StampSource::Kernel),
        b"hardware" => Some(StampSource::Hardware),
        b"user" => Some(StampSource::User),
        _ => None,
    }
}

fn put_origin(origin: &Origin, flow: FlowIndex, seq: Seq, columns: &mut [Values]) {
    let [session, agent, run, offset, f, s, ..] = columns else {
        return;
    };
    session.text(&origin.session);
    agent.text(&origin.agent);
    run.number(origin.run.0.cast_signed());
    offset.number(origin.offset.as_nanos());
    f.number(i64::from(flow.0));
    s.number(i64::from(seq.0));
}

fn take_origin(table: &Table, row: usize) -> Option<(Origin, FlowIndex, Seq)> {
    let origin = Origin {
        session: table.text(0, row)?.clone(),
        agent: table.text(1, row)?.clone(),
        run: RunId(table.number(2, row)?.cast_unsigned()),
        offset: Span::from_nanos(table.number(3, row)?),
    };
    let flow = FlowIndex(u8::try_from(table.number(4, row)?).ok()?);
    let seq = Seq(u32::try_from(table.number(5, row)?).ok()?);
    Some((origin, flow, seq))
}

/// A number that is null where it is absent; `None` where it does not fit.
fn small<T: TryFrom<i64>>(value: Option<i64>) -> Option<Option<T>> {
    match value {
        Some(value) => T::try_from(value).ok().map(Some),
        None => Some(None),
    }
}

impl Row for Probe {
    const KIND: Kind = Kind::Probes;
    const COLUMNS: &'static [Column] = &[
        SESSION,
        AGENT,
        RUN,
        OFFSET,
        FLOW,
        SEQ,
        column("sent", Holds::Time),
        column("sent_source", Holds::Text),
        column("fate", Holds::Text),
        nullable("errno", Holds::Signed(32)),
        nullable("out_ns", Holds::Length),
        nullable("residence_ns", Holds::Length),
        nullable("back_ns", Holds::Length),
        nullable("received_source", Holds::Text),
        nullable("reflector_seq", Holds::Unsigned(32)),
        nullable("forward_ttl", Holds::Unsigned(8)),
        nullable("reverse_ttl", Holds::Unsigned(8)),
    ];
    const TIME: usize = 6;

    fn put(&self, origin: &Origin, columns: &mut [Values]) {
        put_origin(origin, self.flow, self.seq, columns);
        let [
            ..,
            sent,
            source,
            fate,
            errno,
            out,
            residence,
            back,
            received_source,
            reflector_seq,
            forward,
            reverse,
        ] = columns
        else {
            return;
        };
        sent.number(origin.wall(self.sent.at));
        source.text(source_word(self.sent.source));
        let (word, error, reply) = match &self.fate {
            ProbeFate::Answered(reply) => (&WORDS.answered, None, Some(reply)),
            ProbeFate::Unanswered => (&WORDS.unanswered, None, None),
            ProbeFate::Refused(errno) => (&WORDS.refused, Some(*errno), None),
        };
        fate.text(word);
        errno.maybe(error.map(i64::from));
        let t1 = Wall::from_nanos(origin.wall(self.sent.at));
        let t4 = |r: &Reply| Wall::from_nanos(origin.wall(r.received.at));
        out.maybe(reply.map(|r| (r.reflector_received - t1).as_nanos()));
        residence.maybe(reply.map(|r| (r.reflector_sent - r.reflector_received).as_nanos()));
        back.maybe(reply.map(|r| (t4(r) - r.reflector_sent).as_nanos()));
        received_source.maybe_text(reply.map(|r| source_word(r.received.source)));
        reflector_seq.maybe(reply.map(|r| i64::from(r.reflector_seq.0)));
        forward.maybe(reply.and_then(|r| r.forward_ttl).map(i64::from));
        reverse.maybe(reply.and_then(|r| r.reverse_ttl).map(i64::from));
    }

    fn take(table: &Table, row: usize) -> Option<(Origin, Self)> {
        let (origin, flow, seq) = take_origin(table, row)?;
        let sent = Stamp {
            at: origin.mono(table.number(6, row)?),
            source: source_of(table.text(7, row)?)?,
        };
        let fate = match table.text(8, row)?.data() {
            b"answered" => {
                let length = |column| table.number(column, row).map(Span::from_nanos);
                let t1 = Wall::from_nanos(table.number(6, row)?);
                let reflector_received = t1 + length(10)?;
                let reflector_sent = reflector_received + length(11)?;
                let received = reflector_sent + length(12)?;
                ProbeFate::Answered(Reply {
                    received: Stamp {
                        at: origin.mono(received.as_nanos()),
                        source: source_of(table.text(13, row)?)?,
                    },
                    reflector_received,
                    reflector_sent,
                    reflector_seq: Seq(u32::try_from(table.number(14, row)?).ok()?),
                    forward_ttl: small(table.maybe(15, row))?,
                    reverse_ttl: small(table.maybe(16, row))?,
                })
            }
            b"unanswered" => ProbeFate::Unanswered,
            b"refused" => ProbeFate::Refused(i32::try_from(table.number(9, row)?).ok()?),
            _ => return None,
        };
        let probe = Self {
            flow,
            seq,
            sent,
            fate,
        };
        Some((origin, probe))
    }
}

impl Row for Reception {
    const KIND: Kind = Kind::Receptions;
    const COLUMNS: &'static [Column] = &[
        SESSION,
        AGENT,
        RUN,
        OFFSET,
        FLOW,
        SEQ,
        column("received", Holds::Time),
        column("received_source", Holds::Text),
        nullable("ttl", Holds::Unsigned(8)),
        nullable("reflector_seq", Holds::Unsigned(32)),
        nullable("residence_ns", Holds::Length),
        nullable("departed_source", Holds::Text),
        nullable("refused_errno", Holds::Signed(32)),
    ];
    const TIME: usize = 6;
    const FIRST_COLUMNS: usize = 10;

    fn put(&self, origin: &Origin, columns: &mut [Values]) {
        put_origin(origin, self.flow, self.seq, columns);
        let [
            ..,
            received,
            source,
            ttl,
            reflector_seq,
            residence,
            departed_source,
            refused,
        ] = columns
        else {
            return;
        };
        received.number(origin.wall(self.received.at));
        source.text(source_word(self.received.source));
        ttl.maybe(self.ttl.map(i64::from));
        reflector_seq.maybe(self.reflector_seq.map(|s| i64::from(s.0)));
        residence.maybe(self.residence().map(Span::as_nanos));
        departed_source.maybe_text(self.departed.map(|d| source_word(d.source)));
        refused.maybe(self.refused.map(i64::from));
    }

    fn take(table: &Table, row: usize) -> Option<(Origin, Self)> {
        let (origin, flow, seq) = take_origin(table, row)?;
        let received = Stamp {
            at: origin.mono(table.number(6, row)?),
            source: source_of(table.text(7, row)?)?,
        };
        let departed = match table.maybe(10, row) {
            None => None,
            Some(stay) => Some(Stamp {
                at: received.at + Span::from_nanos(stay),
                source: source_of(table.text(11, row)?)?,
            }),
        };
        let reception = Self {
            flow,
            seq,
            received,
            ttl: small(table.maybe(8, row))?,
            reflector_seq: small(table.maybe(9, row))?.map(Seq),
            departed,
            refused: small(table.maybe(12, row))?,
        };
        Some((origin, reception))
    }
}
