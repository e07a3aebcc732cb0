//! TLS to the collector: the trusted authority, and the certificate that the agent shows.

use super::super::proxy::ProxyUrl;
use super::{CONNECT, TIMEOUT};
use crate::identity::{Identity, IdentityError, provider};
use hopgap_proto::uplink::Fingerprint;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct,
    RootCertStore, SignatureScheme,
};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};

/// Makes an HTTP agent that shows this identity to a collector of its authority.
pub(super) fn agent(identity: &Identity, proxy: Option<&ProxyUrl>) -> Result<Agent, IdentityError> {
    let wrong = |error: ureq::Error| IdentityError::Certificate(error.to_string());
    let certificate = Certificate::from_pem(identity.certificate_pem()).map_err(wrong)?;
    let authority = Certificate::from_pem(identity.authority_pem()).map_err(wrong)?;
    let key = PrivateKey::from_pem(identity.key_pem()).map_err(wrong)?;
    let mine = ClientCert::new_with_certs(&[certificate], key);
    Ok(with(authority, Some(mine), proxy))
}

/// Makes an HTTP agent without a certificate, for a collector of this authority.
pub(super) fn stranger(authority: &CertificateDer<'_>, proxy: Option<&ProxyUrl>) -> Agent {
    with(Certificate::from_der(authority).to_owned(), None, proxy)
}

fn with(
    authority: Certificate<'static>,
    mine: Option<ClientCert>,
    proxy: Option<&ProxyUrl>,
) -> Agent {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(provider())
        .root_certs(RootCerts::new_with_certs(&[authority]))
        .client_cert(mine)
        .build();
    Agent::config_builder()
        .tls_config(tls)
        // Never uses a proxy of the environment.
        .proxy(proxy.and_then(ProxyUrl::for_library))
        .https_only(true)
        // A redirect must not send the records elsewhere.
        .max_redirects(0)
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .build()
        .into()
}

/// Returns the certificate of the collector's authority, which has this fingerprint. The
/// collector shows it in a handshake that also proves that the authority signed its own
/// certificate. Sends nothing else. An error is a sentence without its end.
pub(super) fn pinned_authority(
    base: &str,
    pin: Fingerprint,
    proxy: Option<&ProxyUrl>,
) -> Result<CertificateDer<'static>, String> {
    let uri: Uri = base.parse().map_err(|error| format!("{error}"))?;
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(443);
    let name = ServerName::try_from(bare.to_owned())
        .map_err(|_| format!("`{host}` is no name and no address; correct the URL"))?;
    let mut stream = match proxy {
        None => connect(bare, port)?,
        Some(proxy) => {
            let mut stream = connect(proxy.host(), proxy.port())
                .map_err(|error| format!("the proxy {proxy}: {error}"))?;
            proxy.pass_on(&mut stream, bare, port)?;
            stream
        }
    };
    let verifier = Arc::new(Pinned {
        pin,
        provider: provider(),
        found: Mutex::new(None),
    });
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut connection =
        ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    while connection.is_handshaking() {
        connection
            .complete_io(&mut stream)
            .map_err(|error| explain_io(&error).unwrap_or_else(|| error.to_string()))?;
    }
    let found = verifier
        .found
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    found.ok_or_else(|| "it showed no certificate".to_owned())
}

fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let addresses = (host, port)
        .to_socket_addrs()
        .map_err(|error| format!("cannot resolve `{host}`: {error}"))?;
    let mut last = format!("`{host}` has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => {
                let timed = stream
                    .set_read_timeout(Some(TIMEOUT))
                    .and_then(|()| stream.set_write_timeout(Some(TIMEOUT)));
                return timed.map(|()| stream).map_err(|error| error.to_string());
            }
            Err(error) => last = error.to_string(),
        }
    }
    Err(format!(
        "{last}; check the URL, that the collector runs, and that TCP {port} passes"
    ))
}

/// Trusts an authority only by its fingerprint; checks what it signed as usual.
#[derive(Debug)]
struct Pinned {
    pin: Fingerprint,
    provider: Arc<CryptoProvider>,
    found: Mutex<Option<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority = intermediates
            .iter()
            .find(|certificate| Fingerprint::of(certificate) == self.pin)
            .ok_or(CertificateError::UnknownIssuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verified =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?
                .verify_server_cert(end_entity, &[], server_name, ocsp_response, now)?;
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(authority.clone().into_owned());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // Never called: the configuration has only TLS 1.3.
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Returns what a TLS failure means and what to do; `None` for another failure.
pub(super) fn explain(error: &ureq::Error) -> Option<String> {
    match error {
        ureq::Error::Rustls(error) => Some(explain_tls(error)),
        ureq::Error::Io(error) => explain_io(error),
        _ => None,
    }
}

fn explain_io(error: &std::io::Error) -> Option<String> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(explain_tls(inner))
}

fn explain_tls(error: &rustls::Error) -> String {
    use CertificateError as E;
    match error {
        rustls::Error::InvalidCertificate(E::UnknownIssuer | E::BadSignature) => {
            "its certificate is not of the collector that this agent trusts: the URL is of another one, or someone between pretends to be it; check the URL, and where the collector was set up anew, join again with a new token".to_owned()
        }
        rustls::Error::InvalidCertificate(
            E::NotValidForName | E::NotValidForNameContext { .. },
        ) => {
            "its certificate is for other names and addresses; add the one in the URL to `names` under [collector] in its plan".to_owned()
        }
        rustls::Error::InvalidCertificate(
            error @ (E::Expired
            | E::ExpiredContext { .. }
            | E::NotValidYet
            | E::NotValidYetContext { .. }),
        ) => format!("{error}; compare this host's clock with the collector's"),
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::BadCertificate,
        ) => {
            "it does not know the authority of this agent's certificate; where the collector was set up anew, join again with a new token".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "this agent's certificate has expired; compare the clocks, or join again with a new token".to_owned()
        }
        rustls::Error::InvalidMessage(_) => {
            "it does not speak TLS there; check the URL's port, and that the collector's `listen` is one for TLS".to_owned()
        }
        other => other.to_string(),
    }
}
