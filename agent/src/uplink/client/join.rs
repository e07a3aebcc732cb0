//! The request of an agent that has no certificate yet.

use super::super::proxy::ProxyUrl;
use super::{UplinkError, failure, json, success, tls};
use hopgap_proto::uplink::{CONTROL_TYPE, Certified, JOIN_PATH, JoinRequest, JoinToken};

/// Requests this agent's first certificate from the collector at `base`, such as
/// `https://10.1.11.10:8621`, by a signing request (PKCS #10, PEM). Sends the token only
/// after the collector has shown a certificate of the authority that the token pins, which
/// proves that it made the token.
///
/// # Errors
/// When the collector cannot be reached, did not make the token, or refuses.
pub fn join(
    base: &str,
    token: &JoinToken,
    request: &str,
    proxy: Option<&ProxyUrl>,
) -> Result<Certified, UplinkError> {
    let base = base.trim_end_matches('/');
    let insecure = |why| UplinkError::Insecure {
        url: base.to_owned(),
        why,
    };
    let authority = tls::pinned_authority(base, token.authority, proxy).map_err(insecure)?;
    let body = serde_json::to_vec(&JoinRequest {
        token: token.to_text(),
        request: request.to_owned(),
    })
    .unwrap_or_default();
    let response = tls::stranger(&authority, proxy)
        .post(format!("{base}{JOIN_PATH}"))
        .header("content-type", CONTROL_TYPE)
        .send(&body[..])
        .map_err(|error| failure(base, JOIN_PATH, proxy, error))?;
    let bytes = success(base, JOIN_PATH, proxy, response, body.len())?;
    json(base, JOIN_PATH, &bytes)
}
