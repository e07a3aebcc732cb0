use super::{Bounds, Connections, Ends, Phase, Seat, Times};
use crate::serve::limits::{Limits, RefusedBody};
use axum::Router;
use axum::routing::get;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch as channel;

const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any test lasts.
const NEVER: Duration = Duration::from_secs(3_600);
/// Enough time for a client that behaves.
const SOON: Duration = Duration::from_secs(1);

const BOUNDS: Bounds = Bounds {
    all: 100,
    all_here: 100,
    of_one: 100,
    times: Times {
        header: NEVER,
        idle: NEVER,
        request: NEVER,
        answer: NEVER,
    },
};

fn within(times: Times) -> Bounds {
    Bounds { times, ..BOUNDS }
}

/// More than the kernel buffers for a peer that reads nothing.
const LARGE: usize = 64 << 20;

/// A server with three answers: at once, large, and never.
struct Served {
    address: SocketAddr,
    limits: Arc<Limits>,
    stop: channel::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn start(bounds: Bounds) -> Self {
        let limits = Arc::new(Limits::default());
        let connections = Connections::new(Arc::clone(&limits), bounds);
        let (stop, stopping) = channel::channel(false);
        let (address_in, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                address_in.send(listener.local_addr().unwrap()).unwrap();
                let router = Router::new()
                    .route("/", get(|| async { "here" }))
                    .route("/large", get(|| async { "x".repeat(LARGE) }))
                    .route(
                        "/soon",
                        get(|| async {
                            tokio::time::sleep(Duration::from_millis(300)).await;
                            "late"
                        }),
                    )
                    .route("/never", get(std::future::pending::<()>));
                connections.serve(listener, router, stopping).await;
            });
        });
        Self {
            address: address.recv().unwrap(),
            limits,
            stop,
            thread: Some(thread),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn refused(&self) -> RefusedBody {
        self.limits.refused()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if !std::thread::panicking()
            && let Some(thread) = self.thread.take()
        {
            thread.join().unwrap();
        }
    }
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

/// Asks once on a connection and reads the small answer.
fn ask(stream: &mut TcpStream, path: &str) -> String {
    stream.write_all(request(path).as_bytes()).unwrap();
    let mut answer = vec![0; 4_096];
    let n = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..n]).into_owned()
}

/// Waits until the other side has ended the connection.
fn wait_for_end(stream: &mut TcpStream) {
    let until = Instant::now() + PATIENCE;
    let mut rest = [0; 64];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
            Ok(_) => assert!(Instant::now() < until, "it still answers"),
            Err(error) => panic!("it was not cut: {error}"),
        }
    }
}

fn of_time(n: u64) -> RefusedBody {
    RefusedBody {
        time: n,
        ..RefusedBody::default()
    }
}

#[test]
fn a_header_that_drips_in_is_cut_while_others_are_served() {
    let served = Served::start(within(Times {
        header: SOON,
        ..BOUNDS.times
    }));
    let mut slow = served.connect();
    let mut silent = served.connect();
    let mut kept = served.connect();
    let header = request("/").replace("\r\n\r\n", "\r\nx: ");
    slow.write_all(header.as_bytes()).unwrap();
    slow.set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let until = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < until, "it was not cut");
        // One byte at a time, as long as the connection takes them.
        if slow.write_all(b"x").is_err() {
            break;
        }
        assert!(ask(&mut kept, "/").ends_with("here"));
        match slow.read(&mut [0; 64]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Ok(0) => break,
            other => panic!("{other:?}"),
        }
    }
    wait_for_end(&mut silent);
    assert!(ask(&mut kept, "/").ends_with("here"));
    assert_eq!(served.refused(), of_time(2));
}

#[test]
fn who_is_idle_is_let_go_and_did_nothing_wrong() {
    let served = Served::start(within(Times {
        idle: Duration::from_millis(100),
        ..BOUNDS.times
    }));
    let mut stream = served.connect();
    assert!(ask(&mut stream, "/").ends_with("here"));
    wait_for_end(&mut stream);
    assert_eq!(served.refused(), RefusedBody::default());
}

#[test]
fn the_second_header_of_a_connection_has_its_time_anew() {
    let served = Served::start(within(Times {
        header: SOON,
        ..BOUNDS.times
    }));
    let mut stream = served.connect();
    assert!(ask(&mut stream, "/").ends_with("here"));
    // Idle for longer than a header may take.
    std::thread::sleep(SOON + SOON / 2);
    assert!(ask(&mut stream, "/").ends_with("here"));
    stream.write_all(b"GET").unwrap();
    wait_for_end(&mut stream);
    assert_eq!(served.refused(), of_time(1));
}

#[test]
fn who_takes_no_answer_and_what_never_gets_one_are_cut() {
    let served = Served::start(within(Times {
        answer: SOON,
        request: SOON,
        ..BOUNDS.times
    }));
    let mut unanswered = served.connect();
    unanswered.write_all(request("/never").as_bytes()).unwrap();
    wait_for_end(&mut unanswered);
    assert_eq!(served.refused(), of_time(1));
    // Reads nothing until it is cut; the kernel then has only a part of the answer.
    let mut deaf = served.connect();
    deaf.write_all(request("/large").as_bytes()).unwrap();
    let until = Instant::now() + PATIENCE;
    while served.refused() != of_time(2) {
        assert!(Instant::now() < until, "it was not cut");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut rest = Vec::new();
    let _ = deaf.read_to_end(&mut rest);
    assert!(rest.len() < LARGE, "{}", rest.len());
    // A client that reads gets the whole answer.
    let mut eager = served.connect();
    let close = request("/large").replace("\r\nhost", "\r\nconnection: close\r\nhost");
    eager.write_all(close.as_bytes()).unwrap();
    let mut all = Vec::new();
    eager.read_to_end(&mut all).unwrap();
    assert!(all.len() > LARGE);
    assert_eq!(served.refused(), of_time(2));
}

#[test]
fn a_header_that_is_too_large_is_refused() {
    let served = Served::start(BOUNDS);
    let mut stream = served.connect();
    let large = request("/").replace(
        "\r\n\r\n",
        &format!("\r\nx: {}\r\n\r\n", "x".repeat(80_000)),
    );
    // The answer may come before all is sent.
    let _ = stream.write_all(large.as_bytes());
    wait_for_end(&mut stream);
    let until = Instant::now() + PATIENCE;
    while served.refused().body == 0 {
        assert!(Instant::now() < until, "it was not counted");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn one_peer_has_no_more_connections_than_it_may() {
    let served = Served::start(Bounds {
        of_one: 2,
        ..BOUNDS
    });
    let mut first = served.connect();
    let mut second = served.connect();
    for stream in [&mut first, &mut second] {
        assert!(ask(stream, "/").ends_with("here"));
    }
    // The one that has been idle longest makes room.
    let mut third = served.connect();
    wait_for_end(&mut first);
    assert_eq!(served.refused().connections, 1);
    assert!(ask(&mut third, "/").ends_with("here"));
    assert!(ask(&mut second, "/").ends_with("here"));
    assert_eq!(served.refused().connections, 1);
}

#[test]
fn half_open_and_idle_connections_keep_nobody_out() {
    let served = Served::start(Bounds {
        of_one: 8,
        all_here: 8,
        ..BOUNDS
    });
    let mut crowd: Vec<TcpStream> = (0..64).map(|_| served.connect()).collect();
    for (n, stream) in crowd.iter_mut().enumerate() {
        // Silent, in the midst of a header, idle after a whole request.
        match n % 3 {
            0 => {}
            1 => drop(stream.write_all(b"GET / HT")),
            _ => drop(stream.write_all(request("/").as_bytes())),
        }
    }
    for _ in 0..32 {
        let mut stream = served.connect();
        assert!(ask(&mut stream, "/").ends_with("here"));
    }
    assert!(served.refused().connections >= 56);
}

#[tokio::test(start_paused = true)]
async fn who_fills_all_places_keeps_others_from_none() {
    let limits = Arc::new(Limits::default());
    let bounds = Bounds {
        all: 3,
        all_here: 2,
        of_one: 2,
        ..BOUNDS
    };
    let connections = Connections::new(Arc::clone(&limits), bounds);
    let from = |peer: &str, local: &str| {
        let (peer, local) = (format!("{peer}:1"), format!("{local}:8620"));
        let ends = Ends::new(peer.parse().unwrap(), local.parse().unwrap());
        let seat = connections.admit(ends).unwrap();
        seat.progress.enter(Phase::Handling);
        seat
    };
    let is_cut = |seat: &Seat| {
        let mut taken = Box::pin(seat.taken());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        taken.as_mut().poll(&mut context).is_ready()
    };
    let ours = "[2001:db8::1]";
    let one = from("[2001:db8:1::1]", ours);
    let two = from("[2001:db8:1::2]", ours);
    let three = from("10.0.0.1", "10.0.0.9");
    // Nobody waits: the newcomer gets a place that is kept for clients with a token.
    let same_64 = from("[2001:db8:1::3]", ours);
    let full = from("10.0.0.2", "10.0.0.9");
    assert!(same_64.visit().needs_token() && full.visit().needs_token());
    full.visit().show_token();
    assert!(!full.visit().needs_token());
    // This host has its own places, whatever the addresses.
    let here = [from("127.0.0.1", "127.0.0.1"), from("10.0.0.9", "10.0.0.9")];
    assert!(here.iter().all(|seat| !seat.visit().needs_token()));
    assert!(from("[::1]", "[::1]").visit().needs_token());
    assert_eq!(limits.refused().connections, 0);
    // One of another network only waits: it is cut, and not the one before it.
    drop(same_64);
    drop(full);
    three.progress.enter(Phase::Idle);
    let fourth = from("10.0.0.2", "10.0.0.9");
    assert!(is_cut(&three) && !is_cut(&one) && !is_cut(&two));
    assert_eq!(limits.refused().connections, 1);
    // What takes long is cut, too, unless it showed a token.
    two.visit().show_token();
    tokio::time::advance(SOON * 3).await;
    let _fifth = from("10.0.0.3", "10.0.0.9");
    assert!(is_cut(&one) && !is_cut(&two) && !is_cut(&fourth));
    drop((one, two, three, fourth, here, _fifth));
    assert_eq!(connections.room.len(), 0);
}

#[test]
fn places_for_tokens_have_an_end_too() {
    let limits = Arc::new(Limits::default());
    let connections = Connections::new(Arc::clone(&limits), Bounds { all: 1, ..BOUNDS });
    let ends = |n: u8| {
        let peer = format!("10.0.0.{n}:1");
        Ends::new(peer.parse().unwrap(), "10.0.1.1:8620".parse().unwrap())
    };
    let mut seats: Vec<_> = Vec::new();
    for n in 0..17 {
        let seat = connections.admit(ends(n)).unwrap();
        seat.progress.enter(Phase::Handling);
        seats.push(seat);
    }
    assert!(connections.admit(ends(17)).is_none());
    assert_eq!(limits.refused().connections, 1);
    seats.pop();
    assert!(connections.admit(ends(17)).is_some());
}

#[test]
fn few_files_make_few_places() {
    let of = |files| Bounds::within_files(files);
    assert_eq!((of(1 << 20).all, of(1 << 20).all_here), (512, 256));
    let few = of(1024);
    assert!(2 * (few.all + few.all_here) < 512, "{few:?}");
    assert!(of(0).all > 0);
}

#[test]
fn stopping_finishes_the_request_that_is_being_answered() {
    let mut served = Served::start(BOUNDS);
    let mut idle = served.connect();
    assert!(ask(&mut idle, "/").ends_with("here"));
    let mut asking = served.connect();
    asking.write_all(request("/soon").as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    served.stop.send_replace(true);
    let mut answer = String::new();
    asking.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("late"), "{answer}");
    wait_for_end(&mut idle);
    served.thread.take().unwrap().join().unwrap();
    assert_eq!(served.refused(), RefusedBody::default());
}
