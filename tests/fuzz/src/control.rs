//! What each target of the uplink's messages and of the plan does with its bytes.

use core::fmt::Debug;
use hopgap_proto::plan::Plan;
use hopgap_proto::uplink::{
    Ack, Certified, ErrorBody, Hello, JoinRequest, JoinToken, PlanResponse, RenewRequest, Revision,
    TokenId, Welcome, bearer, secret_of,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The body of a request or a response; and what a header or a token can be.
pub(crate) fn messages(bytes: &[u8]) {
    same_again::<Hello>(bytes);
    same_again::<Welcome>(bytes);
    same_again::<Ack>(bytes);
    same_again::<ErrorBody>(bytes);
    same_again::<Certified>(bytes);
    if let Some(response) = same_again::<PlanResponse>(bytes) {
        plan(response.plan);
    }
    if let Ok(join) = serde_json::from_slice::<JoinRequest>(bytes) {
        token(&join.token);
    }
    let _ = serde_json::from_slice::<RenewRequest>(bytes);
    if let Ok(text) = core::str::from_utf8(bytes) {
        token(text);
        if let Ok(revision) = text.parse::<Revision>() {
            assert_eq!(revision.to_string().parse(), Ok(revision));
        }
        if let Ok(id) = text.parse::<TokenId>() {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        if let Some(secret) = secret_of(text) {
            assert_eq!(secret_of(&bearer(secret)), Some(secret));
        }
    }
}

fn token(text: &str) {
    if let Ok(token) = text.parse::<JoinToken>() {
        let again = token.to_text();
        assert!(text.trim().eq_ignore_ascii_case(&again));
        assert!(again.parse::<JoinToken>().is_ok_and(|again| {
            again.id == token.id
                && again.authority == token.authority
                && token.secret.is(&again.secret.hash())
        }));
    }
}

fn same_again<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let Ok(text) = serde_json::to_string(&value) else {
        unreachable!("what was read can be written");
    };
    let again: Option<T> = serde_json::from_str(&text).ok();
    assert_eq!(again.as_ref(), Some(&value), "{text}");
    Some(value)
}

/// A plan as TOML.
pub(crate) fn plan_file(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else {
        return;
    };
    let Ok(read) = toml::from_str::<Plan>(text) else {
        return;
    };
    plan(read);
}

/// A plan that could be read; it may be anything.
fn plan(plan: Plan) {
    let Ok(text) = toml::to_string(&plan) else {
        unreachable!("what was read can be written");
    };
    let again = toml::from_str::<Plan>(&text).ok();
    assert_eq!(again.as_ref(), Some(&plan), "{text}");
    let Ok(checked) = plan.checked() else {
        return;
    };
    // What is in order stays as it is, for the agents check it again.
    assert_eq!(checked.clone().checked().as_ref(), Ok(&checked));
    assert_eq!(Revision::of(&checked), Revision::of(&checked.clone()));
    for session in &checked.sessions {
        assert!(checked.session(&session.name).is_some());
        assert!(checked.destination(session).is_some());
        let _ = session.keys();
        let _ = session.path_mtu_interval();
    }
    for agent in &checked.agents {
        let part = checked.for_agent(&agent.name);
        assert!(part.sessions.iter().all(|s| checked.sessions.contains(s)));
        assert_eq!(part.for_agent(&agent.name), part);
    }
}
