//! Decides what to do after a collector's answer.

use hopgap_proto::printable::one_line;
use hopgap_proto::uplink::{ErrorBody, ErrorCode};

/// What to do after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The body is the answer: what it acknowledges may leave the spool.
    Accept,
    /// Nothing is newer than what the agent has.
    Unchanged,
    /// Ask again with a smaller body.
    SendLess,
    /// Keep everything, log this, and try again later.
    ComeAgain {
        /// What was wrong.
        error: String,
        /// What to do.
        remedy: String,
    },
    /// The answer is not a collector's, or something in between answered for it: keep
    /// everything, and try again later.
    NotACollector,
}

/// Decides by the HTTP status and body. Only 200 lets anything leave the spool. No error is
/// final: a secret can be corrected, a collector upgraded or a disk emptied while the agent
/// goes on measuring.
pub fn classify_response(status: u16, body: &[u8]) -> Action {
    let said = serde_json::from_slice::<ErrorBody>(body);
    match (status, said) {
        (200, _) => Action::Accept,
        (304, _) => Action::Unchanged,
        (413, _)
        | (
            400..,
            Ok(ErrorBody {
                code: ErrorCode::TooLarge,
                ..
            }),
        ) => Action::SendLess,
        (400.., Ok(ErrorBody { error, remedy, .. })) => Action::ComeAgain {
            error: one_line(&error),
            remedy: one_line(&remedy),
        },
        _ => Action::NotACollector,
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, classify_response};

    #[test]
    fn every_answer_has_one_meaning() {
        let said = |code: &str| format!(r#"{{"code":"{code}","error":"e","remedy":"r"}}"#);
        let again = || Action::ComeAgain {
            error: "e".to_owned(),
            remedy: "r".to_owned(),
        };
        let table = [
            (200, r#"{"bytes":1}"#.to_owned(), Action::Accept),
            (304, String::new(), Action::Unchanged),
            (400, said("malformed"), again()),
            (400, said("protocol"), again()),
            (401, said("unauthorized"), again()),
            (403, said("forbidden"), again()),
            (413, said("too_large"), Action::SendLess),
            // A proxy's limit says nothing in JSON.
            (413, "<html>".to_owned(), Action::SendLess),
            (400, said("too_large"), Action::SendLess),
            (500, said("of_the_future"), again()),
            (503, said("busy"), again()),
            (507, said("storage"), again()),
            // Captive portals and proxies.
            (100, String::new(), Action::NotACollector),
            (201, said("busy"), Action::NotACollector),
            (204, String::new(), Action::NotACollector),
            (302, said("busy"), Action::NotACollector),
            (404, "<html>".to_owned(), Action::NotACollector),
            (502, "<html>".to_owned(), Action::NotACollector),
            (503, r#"{"error":"e"}"#.to_owned(), Action::NotACollector),
        ];
        for (status, body, action) in table {
            let got = classify_response(status, body.as_bytes());
            assert_eq!(got, action, "{status} {body}");
        }
    }
}
