//! The way from the agents to the collector: it can be cut, and keeps what passes.

use super::truth::Frames;
use hopgap_proto::frame::FrameReader;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often a thread that waits for bytes looks at what the way is like.
const LOOK: Duration = Duration::from_millis(20);

/// What the way is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Everything passes.
    Open,
    /// Connections are ended at once.
    Refuse,
    /// Nothing passes and nobody says so.
    Blackhole,
    /// Connections end in the midst of a request.
    CutRequest,
    /// Connections end when the collector answers: it has done what it was asked, and the
    /// agent cannot know.
    CutAnswer,
}

impl Way {
    /// All that are cut.
    pub(super) const CUTS: [Self; 4] = [
        Self::Refuse,
        Self::Blackhole,
        Self::CutRequest,
        Self::CutAnswer,
    ];

    fn of(code: u8) -> Self {
        match code {
            1 => Self::Refuse,
            2 => Self::Blackhole,
            3 => Self::CutRequest,
            4 => Self::CutAnswer,
            _ => Self::Open,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    way: AtomicU8,
    requests_cut: AtomicU64,
    answers_cut: AtomicU64,
}

/// The proxy. Its threads end with the run's process.
#[derive(Clone, Debug)]
pub(super) struct Proxy(Arc<State>);

impl Proxy {
    /// Listens in this thread's network namespace.
    pub(super) fn start(
        listen: SocketAddr,
        collector: SocketAddr,
        frames: Arc<Mutex<Frames>>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        let proxy = Self(Arc::default());
        let state = Arc::clone(&proxy.0);
        std::thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || {
                for agent in listener.incoming().flatten() {
                    let (state, frames) = (Arc::clone(&state), Arc::clone(&frames));
                    // What goes wrong here, the agent does again.
                    std::thread::spawn(move || pass(&state, &frames, agent, collector));
                }
            })?;
        Ok(proxy)
    }

    /// What the way is like from now on.
    pub(super) fn set(&self, way: Way) {
        let code = match way {
            Way::Open => 0,
            Way::Refuse => 1,
            Way::Blackhole => 2,
            Way::CutRequest => 3,
            Way::CutAnswer => 4,
        };
        self.0.way.store(code, Ordering::SeqCst);
    }

    /// Requests that were cut in their midst, and answers that did not pass.
    pub(super) fn cut(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::SeqCst);
        (load(&self.0.requests_cut), load(&self.0.answers_cut))
    }
}

impl State {
    fn way(&self) -> Way {
        Way::of(self.way.load(Ordering::SeqCst))
    }
}

fn pass(
    state: &Arc<State>,
    frames: &Arc<Mutex<Frames>>,
    agent: TcpStream,
    collector: SocketAddr,
) -> io::Result<()> {
    while state.way() == Way::Blackhole {
        std::thread::sleep(LOOK);
    }
    if state.way() == Way::Refuse {
        return Ok(());
    }
    let collector = TcpStream::connect(collector)?;
    for stream in [&agent, &collector] {
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_nodelay(true)?;
    }
    let (agent_back, collector_back) = (agent.try_clone()?, collector.try_clone()?);
    let (there, back) = (Arc::clone(state), Arc::clone(state));
    let frames = Arc::clone(frames);
    let answers = std::thread::spawn(move || {
        copy(&back, &collector_back, &agent_back, |state, _| {
            if state.way() == Way::CutAnswer {
                state.answers_cut.fetch_add(1, Ordering::SeqCst);
                return Some(0);
            }
            None
        })
    });
    // What was read and is no whole frame yet.
    let mut seen = Vec::new();
    let end = copy(&there, &agent, &collector, |state, bytes| {
        seen.extend_from_slice(bytes);
        let mut reader = FrameReader::new(&seen);
        let mut frames = frames.lock().unwrap_or_else(PoisonError::into_inner);
        for frame in reader.by_ref().flatten() {
            frames.passed(frame.payload);
        }
        drop(frames);
        let consumed = reader.consumed();
        seen.drain(..consumed);
        if state.way() == Way::CutRequest {
            state.requests_cut.fetch_add(1, Ordering::SeqCst);
            return Some(bytes.len() / 2);
        }
        None
    });
    let _ = answers.join();
    end
}

/// Copies until either end is closed, the way is refused, or `look` says how much of the
/// bytes is passed before the end.
fn copy(
    state: &State,
    mut from: &TcpStream,
    mut to: &TcpStream,
    mut look: impl FnMut(&State, &[u8]) -> Option<usize>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let result = loop {
        match state.way() {
            Way::Refuse => break Ok(()),
            Way::Blackhole => {
                std::thread::sleep(LOOK);
                continue;
            }
            _ => {}
        }
        let bytes = match from.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(count) => &buffer[..count],
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                continue;
            }
            Err(error) => break Err(error),
        };
        let cut = look(state, bytes);
        if let Err(error) = to.write_all(&bytes[..cut.unwrap_or(bytes.len())]) {
            break Err(error);
        }
        if cut.is_some() {
            break Ok(());
        }
    };
    // Both directions end, so that nobody waits for the other.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
    result
}
