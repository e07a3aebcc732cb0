//! The socket by which one `cargo lab` tells another what to do.

use crate::error::LabError;
use crate::fault::Fault;
use crate::lab::Lab;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// What is asked of a running lab.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// One line: the tunnel, the routes, the faults.
    Status,
    /// Make a fault.
    Fault(Fault),
    /// Heal every fault that is on.
    Heal,
    /// The article's traceroute; from the VM where `back`.
    Trace {
        /// From the VM to the server.
        back: bool,
    },
    /// Wait until both circuits and the standby are in order.
    Converged,
    /// End the lab.
    Down,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    ok: bool,
    text: String,
}

/// Where labs of this user have their control socket unless told otherwise.
pub fn default_dir() -> PathBuf {
    std::env::temp_dir().join(format!("hopgap-lab-{}", nix::unistd::geteuid()))
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("control.sock")
}

/// Makes `dir`, for its owner alone.
///
/// # Errors
/// When that cannot be done, or it belongs to somebody else.
pub fn prepare(dir: &Path) -> Result<(), LabError> {
    let failed = || LabError::io(format!("create {}", dir.display()));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed())?;
    let owner = std::fs::metadata(dir).map_err(failed())?.uid();
    if owner != nix::unistd::geteuid().as_raw() {
        return Err(LabError::Refused(format!(
            "{} belongs to somebody else: give another --dir",
            dir.display()
        )));
    }
    Ok(())
}

/// A running lab as others see it.
#[derive(Debug)]
pub struct Client {
    dir: PathBuf,
}

impl Client {
    /// The lab whose control socket is in `dir`.
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    fn connect(&self) -> Result<UnixStream, LabError> {
        UnixStream::connect(socket(&self.dir)).map_err(|_| LabError::NotRunning {
            dir: self.dir.clone(),
        })
    }

    /// Whether it is there.
    pub fn is_running(&self) -> bool {
        self.connect().is_ok()
    }

    /// The first process of the lab, as this process sees it.
    ///
    /// # Errors
    /// [`LabError::NotRunning`].
    pub fn pid(&self) -> Result<i32, LabError> {
        let stream = self.connect()?;
        let peer = getsockopt(&stream, PeerCredentials)
            .map_err(|errno| LabError::io("ask who runs the lab")(errno.into()))?;
        Ok(peer.pid())
    }

    /// Asks, and returns the answer's text.
    ///
    /// # Errors
    /// [`LabError::NotRunning`], or [`LabError::Refused`] with the lab's reason.
    pub fn ask(&self, request: Request) -> Result<String, LabError> {
        let failed = || LabError::io("speak with the lab");
        let mut stream = self.connect()?;
        let mut line = serde_json::to_vec(&request).map_err(|error| failed()(error.into()))?;
        line.push(b'\n');
        stream.write_all(&line).map_err(failed())?;
        let mut answer = String::new();
        BufReader::new(stream)
            .read_line(&mut answer)
            .map_err(failed())?;
        let answer: Answer =
            serde_json::from_str(&answer).map_err(|error| failed()(error.into()))?;
        if answer.ok {
            Ok(answer.text)
        } else {
            Err(LabError::Refused(answer.text))
        }
    }
}

/// Answers requests until the lab is to end.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Listens in `dir`.
    ///
    /// # Errors
    /// [`LabError::Running`], or the system's reason.
    pub fn listen(dir: &Path) -> Result<Self, LabError> {
        if Client::new(dir).is_running() {
            return Err(LabError::Running {
                dir: dir.to_owned(),
            });
        }
        let path = socket(dir);
        // Left behind by a lab that was killed.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)
            .map_err(LabError::io(format!("listen at {}", path.display())))?;
        Ok(Self { listener, path })
    }

    /// Serves `lab`, each request in a thread of its own, until it is to end.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn serve(&self, lab: &Lab) -> Result<(), LabError> {
        let failed = || LabError::io("serve the control socket");
        self.listener.set_nonblocking(true).map_err(failed())?;
        std::thread::scope(|scope| {
            while !lab.sandbox().stopping() {
                match self.listener.accept() {
                    Ok((stream, _)) => {
                        scope.spawn(move || serve_one(lab, stream));
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        // The end is noticed by the loop's condition.
                        let _ = lab.sandbox().sleep(std::time::Duration::from_millis(30));
                    }
                    Err(error) => return Err(failed()(error)),
                }
            }
            Ok(())
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A socket left behind harms nobody.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A client that goes away early has no need of an answer.
fn serve_one(lab: &Lab, mut stream: UnixStream) -> Option<()> {
    stream.set_nonblocking(false).ok()?;
    // A client that says nothing must not hold up the lab's end.
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(2)))
        .ok()?;
    let mut line = String::new();
    BufReader::new(stream.try_clone().ok()?)
        .read_line(&mut line)
        .ok()?;
    if line.is_empty() {
        return None;
    }
    let result = match serde_json::from_str(&line) {
        Ok(request) => answer(lab, request),
        Err(error) => Err(LabError::Refused(error.to_string())),
    };
    let answer = match result {
        Ok(text) => Answer { ok: true, text },
        Err(error) => Answer {
            ok: false,
            text: error.to_string(),
        },
    };
    let mut bytes = serde_json::to_vec(&answer).ok()?;
    bytes.push(b'\n');
    stream.write_all(&bytes).ok()
}

fn answer(lab: &Lab, request: Request) -> Result<String, LabError> {
    match request {
        Request::Status => status(lab),
        Request::Fault(fault) => {
            lab.fault(fault)?;
            Ok(format!("{fault} is on"))
        }
        Request::Heal => {
            let faults = lab.faults();
            for fault in &faults {
                lab.heal(*fault)?;
            }
            Ok(match names(&faults) {
                list if list.is_empty() => "nothing to heal".to_owned(),
                list => format!("healed {list}"),
            })
        }
        Request::Trace { back } => Ok((if back {
            lab.traceroute_back()
        } else {
            lab.traceroute()
        })?
        .to_string()),
        Request::Converged => {
            lab.wait_converged()?;
            status(lab)
        }
        Request::Down => {
            lab.sandbox().stop();
            Ok("the lab ends".to_owned())
        }
    }
}

/// One line about the lab.
///
/// # Errors
/// When a node cannot be asked.
pub fn status(lab: &Lab) -> Result<String, LabError> {
    let faults = match names(&lab.faults()) {
        list if list.is_empty() => "no fault".to_owned(),
        list => format!("fault {list}"),
    };
    Ok(format!(
        "{} · standby over {} {} · {faults}",
        lab.routing()?,
        lab.tunnel(),
        if lab.standby()? {
            "ready"
        } else {
            "incomplete"
        },
    ))
}

fn names<'a>(faults: impl IntoIterator<Item = &'a Fault>) -> String {
    faults
        .into_iter()
        .map(|fault| fault.name())
        .collect::<Vec<_>>()
        .join(", ")
}
