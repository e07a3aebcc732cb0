//! Commands that got no answer and are sent again.

use super::{Running, json, now};
use crate::serve::{DRILLS_PATH, DrillBody, DrillRequest, OURS_HEADER, TimeText};
use hopgap_proto::time::{Span, Wall};
use hopgap_proto::uplink::{ErrorBody, ErrorCode};

/// One request to start a drill, as it is sent: status and answer.
fn start(running: &Running, id: &str, name: &str, until: Wall) -> (u16, String) {
    let request = DrillRequest {
        name: name.to_owned(),
        at: None,
        id: Some(id.parse().unwrap()),
        until: Some(TimeText(until)),
    };
    let mut answer = ureq::post(running.url(DRILLS_PATH))
        .config()
        .http_status_as_error(false)
        .build()
        .header(OURS_HEADER, "1")
        .content_type("application/json")
        .send(serde_json::to_vec(&request).unwrap())
        .unwrap();
    let status = answer.status().as_u16();
    (status, answer.body_mut().read_to_string().unwrap())
}

#[test]
fn a_command_is_carried_out_once_and_not_after_its_time() {
    let running = Running::start();
    let minute = Span::from_secs(60);
    // The command came too late: the client has given up, so nothing is done.
    let (status, text) = start(&running, "late", "night", now() - Span::from_secs(1));
    assert_eq!(
        (status, json::<ErrorBody>(&text).code),
        (503, ErrorCode::Busy)
    );
    assert!(
        text.contains("nothing was done, and nothing will be"),
        "{text}"
    );
    assert_eq!(running.client().drills().unwrap(), []);

    let (status, text) = start(&running, "one", "night", now() + minute);
    let drill: DrillBody = json(&text);
    assert_eq!((status, drill.name.as_str()), (200, "night"));
    // Its answer was lost: sent again, also after its deadline, it turns out to be done.
    for until in [now() + minute, now() - minute] {
        let again = start(&running, "one", "night", until);
        assert_eq!((again.0, json::<DrillBody>(&again.1)), (200, drill.clone()));
    }
    // Another command is another command.
    let (status, text) = start(&running, "two", "night", now() + minute);
    assert_eq!(status, 409, "{text}");
    assert_eq!(running.client().drills().unwrap(), [drill]);
}
