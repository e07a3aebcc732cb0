//! Answers to failed requests.

use super::limits::Cause;
use super::writer::Stopped;
use crate::store::StoreError;
use axum::Json;
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hopgap_proto::uplink::{ErrorBody, ErrorCode};

/// A request that failed: a status, a code for programs, and two sentences for people.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    body: ErrorBody,
    /// The cause that it is counted under.
    cause: Option<Cause>,
}

impl Failure {
    /// Makes a failure with the status of its code.
    pub(super) fn new(
        code: ErrorCode,
        error: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            status: StatusCode::from_u16(code.status())
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            body: ErrorBody {
                code,
                error: error.into(),
                remedy: remedy.into(),
            },
            cause: (code == ErrorCode::TooLarge).then_some(Cause::Body),
        }
    }

    /// Returns the error and the remedy as one sentence.
    pub(super) fn sentence(&self) -> String {
        format!("{}; {}", self.body.error, self.body.remedy)
    }

    /// Whether the client was refused.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self.body.code,
            ErrorCode::Forbidden | ErrorCode::Unauthorized
        )
    }

    /// Returns what the store could not do; `None` for another failure.
    pub(super) fn of_storage(&self) -> Option<&str> {
        (self.body.code == ErrorCode::Storage).then_some(self.body.error.as_str())
    }

    /// Returns the same failure, counted under this cause.
    pub(super) fn caused_by(self, cause: Cause) -> Self {
        Self {
            cause: Some(cause),
            ..self
        }
    }

    /// Returns the same failure with another remedy.
    pub(super) fn with_remedy(mut self, remedy: &str) -> Self {
        remedy.clone_into(&mut self.body.remedy);
        self
    }

    /// Returns the same failure with another status.
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(cause);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 11.6.1, RFC 6750 section 3.
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Self {
        Self::new(
            ErrorCode::Busy,
            stopped.to_string(),
            "come again in a moment",
        )
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        tracing::error!("{error}");
        Self::new(
            ErrorCode::Storage,
            error.to_string(),
            "see to the collector's disk; nothing was acknowledged",
        )
    }
}

/// Answers a request for a path that does not exist.
pub(super) async fn no_such_path() -> Failure {
    Failure::new(
        ErrorCode::Malformed,
        "there is nothing at this path",
        "check that both programs have the same version",
    )
    .with_status(StatusCode::NOT_FOUND)
}
