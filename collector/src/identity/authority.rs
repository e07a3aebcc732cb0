//! The collector's own certificate authority. It signs certificates for this collector
//! and its agents, and nothing else; nobody outside trusts it.

use super::folder::Folder;
use super::{AgentId, IdentityError, ServerNameText, provider, random};
use hopgap_proto::time::{Span, Wall};
use hopgap_proto::uplink::Fingerprint;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKey,
    SerialNumber,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use time::OffsetDateTime;

const FILE: &str = "authority.pem";

/// How long the authority is valid: longer than an installation lives.
const AUTHORITY_LIFE: Span = Span::from_secs(10 * 365 * 86_400);
/// How long before its making a certificate becomes valid, because clocks differ.
const BACKDATED: Span = Span::from_secs(86_400);

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.fingerprint())
    }
}

/// A certificate that was given to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate as PEM.
    pub pem: String,
    /// Its key in the catalogue.
    pub fingerprint: Fingerprint,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// When it was made.
    pub not_before: Wall,
    /// When it expires.
    pub not_after: Wall,
}

/// The public key of a signing request; the requester has proved that it holds the private
/// key.
pub struct SigningRequest(PublicKey);

impl SigningRequest {
    /// Reads a signing request (PKCS #10, PEM).
    ///
    /// # Errors
    ///
    /// When it cannot be read or its signature is wrong.
    pub fn read(pem: &str) -> Result<Self, IdentityError> {
        CertificateSigningRequestParams::from_pem(pem)
            .map(|request| Self(request.public_key))
            .map_err(IdentityError::Request)
    }
}

impl Authority {
    pub(super) fn load_or_make(folder: &Folder, now: Wall) -> Result<Self, IdentityError> {
        let path = folder.file(FILE);
        if let Some(text) = folder.read(FILE)? {
            return Self::parse(&text).map_err(|what| IdentityError::Authority { path, what });
        }
        let text = make(now)?;
        folder.write(FILE, &text)?;
        Self::parse(&text).map_err(|what| IdentityError::Authority { path, what })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let key = KeyPair::from_pem(text).map_err(|e| e.to_string())?;
        let certificate =
            CertificateDer::from_pem_slice(text.as_bytes()).map_err(|e| e.to_string())?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|e| e.to_string())?;
        let begin = text
            .find("-----BEGIN CERTIFICATE")
            .ok_or("no certificate")?;
        Ok(Self {
            pem: text.get(begin..).unwrap_or_default().to_owned(),
            issuer,
            certificate,
        })
    }

    /// Returns the fingerprint that tokens pin.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// Returns its certificate as PEM, without the key.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Makes a certificate for an agent. Takes only the key from the request; all other content
    /// is set here.
    ///
    /// # Errors
    ///
    /// When the key cannot sign.
    pub fn certify(
        &self,
        request: &SigningRequest,
        agent: &AgentId,
        now: Wall,
        life: Span,
    ) -> Result<Issued, IdentityError> {
        let not_after = now + life;
        let mut params = leaf(now, not_after)?;
        params.distinguished_name = named(agent.as_str());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&request.0, &self.issuer)?;
        Ok(Issued {
            pem: certificate.pem(),
            fingerprint: Fingerprint::of(certificate.der()),
            serial: serial_of(&params),
            not_before: now,
            not_after,
        })
    }

    /// Makes a new key and certificate for this collector, reachable by `names`.
    ///
    /// # Errors
    ///
    /// When a key cannot be made.
    pub fn server(
        &self,
        names: &[ServerNameText],
        now: Wall,
        life: Span,
    ) -> Result<CertifiedKey, IdentityError> {
        let key = KeyPair::generate()?;
        let mut params = leaf(now, now + life)?;
        params.distinguished_name = named("hopgap collector");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = names
            .iter()
            .map(ServerNameText::to_san)
            .collect::<Result<_, _>>()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        Ok(CertifiedKey::from_der(chain, key, &provider())?)
    }
}

/// Makes the private key and certificate of a new authority, as PEM.
fn make(now: Wall) -> Result<String, IdentityError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named("hopgap collector authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial()?);
    params.not_before = date(now - BACKDATED);
    params.not_after = date(now + AUTHORITY_LIFE);
    let certificate = params.self_signed(&key)?;
    Ok(key.serialize_pem() + &certificate.pem())
}

/// Returns the parameters shared by agents' and the collector's certificates.
fn leaf(now: Wall, not_after: Wall) -> Result<CertificateParams, IdentityError> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial()?);
    params.not_before = date(now - BACKDATED);
    params.not_after = date(not_after);
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut dn = DistinguishedName::new();
    dn.push(DnType::CommonName, name);
    dn
}

/// Makes a serial number by RFC 5280 section 4.1.2.2: positive, unique, at most 20 octets.
fn serial() -> Result<SerialNumber, IdentityError> {
    let mut bytes: [u8; 16] = random()?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn serial_of(params: &CertificateParams) -> String {
    params
        .serial_number
        .as_ref()
        .map(|s| s.to_string().replace(':', ""))
        .unwrap_or_default()
}

/// Rounds to whole seconds, as certificates do.
fn date(at: Wall) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.as_nanos().div_euclid(1_000_000_000))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
