//! The command line's side of the collector's API.

use crate::plan::{Secret, read_token};
use crate::serve::{CLOCK_PATH, COMMAND_TIME, ClockBody, DrillBody, DrillRequest, MarkerRequest};
use crate::serve::{DRILLS_PATH, MARKERS_PATH, OURS_HEADER, STATUS_PATH, STOP_PATH};
use crate::serve::{Status, StopRequest, TimeText};
use crate::store::CommandId;
use hopgap_analysis::schema::Utc;
use hopgap_proto::printable::one_line;
use hopgap_proto::uplink::{ErrorBody, bearer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;
use ureq::http::Response;
use ureq::http::header::AUTHORIZATION;
use ureq::{Agent, Body, RequestBuilder};

/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a command may take: longer than it holds at the collector, so that nothing is
/// done after this gave up.
const COMMAND_PATIENCE: Duration = Duration::from_secs(65);
/// After this long without an answer it is said that a command waits.
const SAY_SO_AFTER: Duration = Duration::from_secs(3);

/// Why the collector could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody answers.
    #[error(
        "no collector answers at {url}: {source}; start it with `hopgap-collector serve`, or name another with --url"
    )]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// Nobody answered a command, also when it was asked for again.
    #[error(
        "no collector answers at {url}: {source}; where it took the command before {until}, `hopgap-collector drill list` shows it, and later it does not carry it out any more"
    )]
    Unanswered {
        /// Where it was asked.
        url: String,
        /// Why there was no answer.
        source: Box<ureq::Error>,
        /// Until when the command held, by the collector's clock.
        until: Utc,
    },
    /// It said no.
    #[error("{0}")]
    Refused(String),
    /// The system gives no random numbers.
    #[error("this system gives no random numbers: {0}")]
    Random(String),
    /// The token cannot be read.
    #[error("{0}")]
    Token(String),
    /// What answers is no collector, or one of another version.
    #[error(
        "{url} answered with something else than expected ({what}); check --url and that both programs have the same version"
    )]
    Strange {
        /// Where it was asked.
        url: String,
        /// What came.
        what: String,
    },
}

/// Asks the collector at one URL.
pub(crate) struct Client {
    agent: Agent,
    url: String,
    token: Option<Secret>,
}

impl Client {
    /// For the collector at `url`, such as `http://127.0.0.1:8620`.
    pub(crate) fn new(url: &str) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .timeout_connect(Some(PATIENCE))
            .http_status_as_error(false)
            .proxy(None)
            .build();
        Self {
            agent: config.into(),
            url: url.trim_end_matches('/').to_owned(),
            token: None,
        }
    }

    /// Shows the token of a file with every request.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, can be read by others, or holds no token.
    pub(crate) fn with_token_file(self, file: &Path) -> Result<Self, ClientError> {
        let token = read_token(file).map_err(ClientError::Token)?;
        Ok(Self {
            token: Some(token),
            ..self
        })
    }

    pub(crate) fn status(&self) -> Result<Status, ClientError> {
        self.get(STATUS_PATH)
    }

    pub(crate) fn drills(&self) -> Result<Vec<DrillBody>, ClientError> {
        self.get(DRILLS_PATH)
    }

    pub(crate) fn start(&self, request: &DrillRequest) -> Result<DrillBody, ClientError> {
        self.command(DRILLS_PATH, |id, until| DrillRequest {
            id: Some(id),
            until: Some(until),
            ..request.clone()
        })
    }

    pub(crate) fn stop(&self, request: &StopRequest) -> Result<DrillBody, ClientError> {
        self.command(STOP_PATH, |id, until| StopRequest {
            id: Some(id),
            until: Some(until),
            ..request.clone()
        })
    }

    pub(crate) fn mark(&self, request: &MarkerRequest) -> Result<MarkerRequest, ClientError> {
        self.command(MARKERS_PATH, |id, until| MarkerRequest {
            id: Some(id),
            until: Some(until),
            ..request.clone()
        })
    }

    /// Gives a command that is carried out once, before this gives up, or never: it holds
    /// for less long than an answer is waited for, by the collector's own clock. Without an
    /// answer it is asked for again under the same id, which tells what became of it.
    fn command<R: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        request: impl FnOnce(CommandId, TimeText) -> R,
    ) -> Result<T, ClientError> {
        let clock: ClockBody = self.get(CLOCK_PATH)?;
        let until = clock.now.0 + COMMAND_TIME;
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).map_err(|error| ClientError::Random(error.to_string()))?;
        let id = CommandId::of_random(u128::from_be_bytes(bits));
        let request = request(id, TimeText(until));
        match self.post(path, &request) {
            Err(ClientError::Unreachable { .. }) => {}
            other => return other,
        }
        self.post(path, &request).map_err(|error| match error {
            ClientError::Unreachable { url, source } => ClientError::Unanswered {
                url,
                source,
                until: Utc(until),
            },
            other => other,
        })
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let url = format!("{}{path}", self.url);
        let request = self.identified(self.agent.get(&url));
        self.read(url, request.call())
    }

    fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let url = format!("{}{path}", self.url);
        let strange = |error: serde_json::Error| ClientError::Strange {
            url: url.clone(),
            what: error.to_string(),
        };
        let body = serde_json::to_vec(body).map_err(strange)?;
        let request = self.agent.post(&url).config();
        let request = request.timeout_global(Some(COMMAND_PATIENCE)).build();
        let request = self
            .identified(request)
            .header(OURS_HEADER, "1")
            .content_type("application/json");
        let _answered = say_so_after(SAY_SO_AFTER);
        self.read(url.clone(), request.send(&body))
    }

    fn identified<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(token) => {
                let token = String::from_utf8_lossy(token.as_bytes());
                request.header(AUTHORIZATION, bearer(&token))
            }
            None => request,
        }
    }

    fn read<T: DeserializeOwned>(
        &self,
        url: String,
        response: Result<Response<Body>, ureq::Error>,
    ) -> Result<T, ClientError> {
        let mut response = response.map_err(|source| ClientError::Unreachable {
            url: self.url.clone(),
            source: Box::new(source),
        })?;
        let status = response.status();
        let text =
            response
                .body_mut()
                .read_to_string()
                .map_err(|source| ClientError::Unreachable {
                    url: self.url.clone(),
                    source: Box::new(source),
                })?;
        if status.is_success() {
            return serde_json::from_str(&text).map_err(|error| ClientError::Strange {
                url,
                what: error.to_string(),
            });
        }
        match serde_json::from_str::<ErrorBody>(&text) {
            Ok(body) if body.remedy.is_empty() => Err(ClientError::Refused(one_line(&body.error))),
            Ok(body) => Err(ClientError::Refused(one_line(&format!(
                "{}; {}",
                body.error, body.remedy
            )))),
            Err(_) => Err(ClientError::Strange {
                url,
                what: status.to_string(),
            }),
        }
    }
}

/// Says on standard error that the collector is waited for, unless what this returns is
/// dropped before.
fn say_so_after(time: Duration) -> Sender<()> {
    let (answered, wait) = channel();
    std::thread::spawn(move || {
        if wait.recv_timeout(time) == Err(RecvTimeoutError::Timeout) {
            eprintln!(
                "hopgap-collector: no answer yet: the collector's disk may be busy. This keeps trying for a minute; the drill counts from when you gave the command."
            );
        }
    });
    answered
}
