//! Processes that end with their test.

use super::PATIENCE;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A process; killed when dropped.
pub(crate) struct Running {
    name: String,
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

/// What came of a process.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Its exit status; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// All of its standard output.
    pub(crate) stdout: String,
    /// All of its standard error.
    pub(crate) stderr: String,
}

impl Running {
    pub(super) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Self {
            name: command.get_program().to_string_lossy().into_owned(),
            stdout: child.stdout.take().map(read),
            stderr: child.stderr.take().map(read),
            child,
        }
    }

    /// Fails with what the process said when it has ended.
    pub(crate) fn assert_runs(&mut self) {
        if self.child.try_wait().expect("it is our child").is_some() {
            let finished = self.collect();
            panic!("{} ended: {finished:?}", self.name);
        }
    }

    /// Its process id in the world.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as Ctrl-C does.
    pub(crate) fn interrupt(self) -> Finished {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a process id"));
        kill(pid, Signal::SIGINT).expect("it is our child");
        self.finish()
    }

    /// Tells it that its terminal or session has gone.
    pub(crate) fn hang_up(&self) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a process id"));
        kill(pid, Signal::SIGHUP).expect("it is our child");
    }

    /// Holds it up for as long, as a host without a processor to spare would.
    pub(crate) fn hold_up(&self, length: Duration) {
        self.hold();
        std::thread::sleep(length);
        self.let_go();
    }

    /// Holds it up until [`Self::let_go`].
    pub(crate) fn hold(&self) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a process id"));
        kill(pid, Signal::SIGSTOP).expect("it is our child");
    }

    /// Lets it go on.
    pub(crate) fn let_go(&self) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a process id"));
        kill(pid, Signal::SIGCONT).expect("it is our child");
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Finished {
        let end = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("it is our child").is_none() {
            if Instant::now() >= end {
                let _ = self.child.kill();
                let finished = self.collect();
                panic!("{} does not end: {finished:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.collect()
    }

    fn collect(&mut self) -> Finished {
        let text = |thread: &mut Option<JoinHandle<String>>| {
            let thread = thread.take().expect("collected once");
            thread.join().expect("reading does not fail")
        };
        Finished {
            code: self.child.wait().expect("it is our child").code(),
            stdout: text(&mut self.stdout),
            stderr: text(&mut self.stderr),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    /// Its standard output; it must have succeeded, without a word of complaint.
    pub(crate) fn success(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// The one sentence with which it failed.
    pub(crate) fn sentence(self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        let sentence = self.stderr.trim_end();
        assert!(!sentence.is_empty() && !sentence.contains('\n'), "{self:?}");
        sentence.to_owned()
    }
}

fn read(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
