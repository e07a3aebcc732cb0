use super::*;
use crate::store::tests::Dir;
use hopgap_proto::record::AgentName;
use hopgap_proto::time::{Span, Wall};
use hopgap_proto::uplink::{Fingerprint, JoinToken, TokenSecret};
use rcgen::{CertificateParams, KeyPair};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

const HOUR: Span = Span::from_secs(3600);

fn at(seconds: i64) -> Wall {
    Wall::ZERO + Span::from_secs(1_800_000_000 + seconds)
}

fn agent(name: &str) -> AgentName {
    name.parse().unwrap()
}

fn request() -> SigningRequest {
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key);
    SigningRequest::read(&request.unwrap().pem().unwrap()).unwrap()
}

fn opened(dir: &Dir) -> (Authority, Catalogue) {
    open(&dir.0.join("store")).unwrap()
}

fn token(authority: &Authority, catalogue: &mut Catalogue) -> JoinToken {
    let token = catalogue.create_token(authority, &agent("azure"), at(0), HOUR);
    token.unwrap()
}

/// Lets `azure` join; returns its certificate, valid for an hour.
fn join(authority: &Authority, catalogue: &mut Catalogue, now: Wall) -> (AgentId, Issued) {
    let token = catalogue.create_token(authority, &agent("azure"), now, HOUR);
    let mut of = None;
    let joined = catalogue.join(
        &token.unwrap(),
        now,
        |_| true,
        |id| {
            of = Some(id.clone());
            authority.certify(&request(), id, now, HOUR)
        },
    );
    let (name, issued) = joined.unwrap().unwrap();
    assert_eq!(name, agent("azure"));
    (of.unwrap(), issued)
}

/// What becomes of a token.
fn redeem(
    authority: &Authority,
    catalogue: &mut Catalogue,
    token: &JoinToken,
    now: Wall,
    planned: bool,
) -> Result<AgentName, TokenRefusal> {
    let certify = |id: &AgentId| authority.certify(&request(), id, now, HOUR);
    let joined = catalogue.join(token, now, |_| planned, certify);
    joined.unwrap().map(|(agent, _)| agent)
}

#[test]
fn the_authority_is_made_once_and_closed_to_others() {
    let dir = Dir::new();
    let (first, _) = opened(&dir);
    let (second, _) = opened(&dir);
    assert_eq!(first.fingerprint(), second.fingerprint());
    assert!(first.pem().starts_with("-----BEGIN CERTIFICATE"));
    assert!(!first.pem().contains("PRIVATE"));

    let store = dir.0.join("store");
    let folder = store.join("identity");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&folder) & 0o777, 0o700);
    for name in ["authority.pem", "identity.db"] {
        let file = folder.join(name);
        assert_eq!(mode(&file) & 0o777, 0o600, "{name}");
        std::fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        let wide = open(&store).unwrap_err().to_string();
        let wanted = format!(
            "{0} can be reached by others (its mode is 0640); run `chmod 0600 {0}`",
            file.display()
        );
        assert!(wide.starts_with(&wanted), "{wide}");
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    }
    std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(open(&store), Err(IdentityError::Wide { .. })));
    std::fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    std::fs::write(folder.join("authority.pem"), "nonsense").unwrap();
    assert!(matches!(open(&store), Err(IdentityError::Authority { .. })));
}

#[test]
fn a_token_is_good_once_for_its_agent_in_its_time() {
    let dir = Dir::new();
    let (authority, mut catalogue) = opened(&dir);
    let token = |c: &mut Catalogue, life| {
        c.create_token(&authority, &agent("azure"), at(0), life)
            .unwrap()
    };
    let good = token(&mut catalogue, HOUR);
    assert_eq!(good.authority, authority.fingerprint());
    let redeem = |c: &mut Catalogue, token: &JoinToken, now, planned: bool| {
        redeem(&authority, c, token, now, planned)
    };
    // Refusing an agent that is not in the plan does not use up the token.
    assert_eq!(
        redeem(&mut catalogue, &good, at(1), false),
        Err(TokenRefusal::NotPlanned(agent("azure")))
    );
    let forged = JoinToken {
        secret: TokenSecret::new([7; 32]),
        ..good.clone()
    };
    assert_eq!(
        redeem(&mut catalogue, &forged, at(1), true),
        Err(TokenRefusal::Unknown)
    );
    assert_eq!(
        redeem(&mut catalogue, &good, at(1), true),
        Ok(agent("azure"))
    );
    // Another process sees it used at once.
    let (_, mut beside) = opened(&dir);
    assert_eq!(
        redeem(&mut beside, &good, at(2), true),
        Err(TokenRefusal::Used(agent("azure")))
    );

    let late = token(&mut catalogue, HOUR);
    assert_eq!(
        redeem(&mut catalogue, &late, at(3600), true),
        Err(TokenRefusal::Expired(agent("azure")))
    );
    let revoked = token(&mut catalogue, HOUR);
    catalogue.revoke_token(revoked.id, at(5)).unwrap();
    assert_eq!(
        redeem(&mut catalogue, &revoked, at(6), true),
        Err(TokenRefusal::Revoked(agent("azure")))
    );
    assert!(matches!(
        catalogue.revoke_token(good.id, at(7)),
        Err(IdentityError::TokenOver(_))
    ));
    let states: Vec<_> = catalogue
        .tokens(at(4000))
        .unwrap()
        .iter()
        .map(|t| t.state)
        .collect();
    assert_eq!(
        states,
        [
            TokenState::Revoked(at(5)),
            TokenState::Expired,
            TokenState::Used(at(1))
        ]
    );
    // What the disk holds is the hash.
    let text = good.to_text();
    let secret = &text["hopgap-join-1-".len() + 16..][..64];
    for file in std::fs::read_dir(dir.0.join("store/identity")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let raw: Vec<u8> = (0..32)
            .map(|i| u8::from_str_radix(&secret[2 * i..][..2], 16).unwrap())
            .collect();
        assert!(!bytes.windows(32).any(|w| w == raw));
    }
}

/// As on a full disk, or where the way back is cut.
#[test]
fn renewals_whose_certificates_are_not_kept_do_not_fill_an_agents_share() {
    let dir = Dir::new();
    let (authority, mut catalogue) = opened(&dir);
    let (id, first) = join(&authority, &mut catalogue, at(0));
    let certify = |now| authority.certify(&request(), &id, now, HOUR).unwrap();
    let mut last = first.fingerprint;
    for second in 1..=20 {
        let now = at(2400 + second);
        let known = catalogue.look_up(first.fingerprint, now).unwrap().unwrap();
        catalogue.may_renew(&known, now).unwrap();
        let next = certify(now);
        assert!(catalogue.renew(first.fingerprint, &next, now).unwrap());
        last = next.fingerprint;
    }
    let now = at(2500);
    assert_eq!(catalogue.agents(now).unwrap()[0].valid, 2);
    assert!(catalogue.look_up(last, now).unwrap().is_ok());
}

#[test]
fn a_certificate_is_its_agents_until_it_expires_or_is_revoked() {
    let dir = Dir::new();
    let (authority, mut catalogue) = opened(&dir);
    let (id, first) = join(&authority, &mut catalogue, at(0));
    let certify = |now| authority.certify(&request(), &id, now, HOUR).unwrap();
    let who = |c: &Catalogue, f: Fingerprint, now| c.look_up(f, now).unwrap();
    let other = certify(at(0));
    assert_eq!(
        who(&catalogue, other.fingerprint, at(0)),
        Err(Unwelcome::Unknown)
    );
    assert_eq!(
        who(&catalogue, first.fingerprint, at(3599)).unwrap().name,
        agent("azure")
    );
    assert_eq!(
        who(&catalogue, first.fingerprint, at(3600)),
        Err(Unwelcome::Expired(agent("azure")))
    );

    // Renewed: both are good.
    let second = certify(at(2400));
    assert!(
        catalogue
            .renew(first.fingerprint, &second, at(2400))
            .unwrap()
    );
    for one in [&first, &second] {
        assert!(who(&catalogue, one.fingerprint, at(2401)).is_ok());
    }
    assert_eq!(catalogue.agents(at(2401)).unwrap()[0].valid, 2);

    // Revoked: none is valid, and none can be renewed.
    assert_eq!(
        catalogue.revoke_agent(&agent("azure"), at(2500)).unwrap(),
        2
    );
    let (_, beside) = opened(&dir);
    for one in [&first, &second] {
        assert_eq!(
            who(&beside, one.fingerprint, at(2501)),
            Err(Unwelcome::Revoked(agent("azure")))
        );
    }
    let third = certify(at(2502));
    assert!(
        !catalogue
            .renew(second.fingerprint, &third, at(2502))
            .unwrap()
    );
    assert!(matches!(
        catalogue.revoke_agent(&agent("moon"), at(0)),
        Err(IdentityError::NoAgent(_))
    ));
    let row = &catalogue.agents(at(2503)).unwrap()[0];
    assert_eq!((row.valid, row.certificate.revoked), (0, Some(at(2500))));

    // Joining again lets it in; what it had before stays out.
    let (same, again) = join(&authority, &mut catalogue, at(2600));
    assert_eq!(same, id);
    assert!(who(&catalogue, again.fingerprint, at(2601)).is_ok());
    assert!(who(&catalogue, second.fingerprint, at(2601)).is_err());
}

#[test]
fn certificates_cannot_be_gathered() {
    let dir = Dir::new();
    let (authority, mut catalogue) = opened(&dir);
    let (id, first) = join(&authority, &mut catalogue, at(0));
    let known = catalogue
        .look_up(first.fingerprint, at(1))
        .unwrap()
        .unwrap();
    let (mut renewals, mut newest) = (0, first.fingerprint);
    while catalogue.may_renew(&known, at(1)).is_ok() {
        let next = authority.certify(&request(), &id, at(1), HOUR).unwrap();
        assert!(catalogue.renew(newest, &next, at(1)).unwrap());
        newest = next.fingerprint;
        renewals += 1;
    }
    assert_eq!(renewals, 15);
    // Those that expired are forgotten, so that a long life leaves no pile.
    assert!(catalogue.may_renew(&known, at(3601)).is_ok());
    join(&authority, &mut catalogue, at(3601));
    assert_eq!(
        catalogue.look_up(first.fingerprint, at(3602)).unwrap(),
        Err(Unwelcome::Unknown)
    );
}

#[test]
fn of_a_request_only_the_key_counts() {
    let dir = Dir::new();
    let (authority, _) = opened(&dir);
    let id = AgentId("0123456789abcdef0123456789abcdef".to_owned());
    let key = KeyPair::generate().unwrap();
    let mut greedy = CertificateParams::new(vec!["collector.example".to_owned()]).unwrap();
    greedy.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let request = greedy.serialize_request(&key).unwrap().pem().unwrap();
    let read = SigningRequest::read(&request).unwrap();
    let issued = authority.certify(&read, &id, at(0), HOUR).unwrap();
    let der = pem_der(&issued.pem);
    let has = |bytes: &[u8]| der.windows(bytes.len()).any(|w| w == bytes);
    assert!(!has(b"collector.example"));
    assert!(has(id.as_str().as_bytes()) && !has(b"azure"));
    // The extended key usages clientAuth and serverAuth (RFC 5280 section 4.2.1.12).
    assert!(has(&[0x2b, 6, 1, 5, 5, 7, 3, 2]) && !has(&[0x2b, 6, 1, 5, 5, 7, 3, 1]));

    // Whoever has no private key for it gets no certificate.
    let mut bytes = pem_der(&request);
    *bytes.last_mut().unwrap() ^= 1;
    let forged = pem_of(&bytes);
    assert!(matches!(
        SigningRequest::read(&forged),
        Err(IdentityError::Request(_))
    ));
    assert!(matches!(
        SigningRequest::read("no request"),
        Err(IdentityError::Request(_))
    ));
}

/// The DER of a PEM text.
fn pem_der(text: &str) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
    if text.contains("REQUEST") {
        let der = CertificateSigningRequestDer::from_pem_slice(text.as_bytes());
        der.unwrap().to_vec()
    } else {
        CertificateDer::from_pem_slice(text.as_bytes())
            .unwrap()
            .to_vec()
    }
}

/// The PEM text of a signing request.
fn pem_of(der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[(n >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= chunk.len() { digit as char } else { '=' });
        }
    }
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
}

#[test]
fn names_are_checked_and_this_hosts_own_are_there() {
    assert!("collector.example".parse::<ServerNameText>().is_ok());
    assert!("fd00::1".parse::<ServerNameText>().is_ok());
    assert!("no name!".parse::<ServerNameText>().is_err());
    let planned = ["nat.example".parse().unwrap()];
    let names: Vec<String> = server_names(&planned)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    for name in ["127.0.0.1", "::1", "localhost", "nat.example"] {
        assert!(names.iter().any(|n| n == name), "{name} in {names:?}");
    }
}

#[test]
fn who_is_revoked_before_it_joins_stays_out() {
    let dir = Dir::new();
    let (authority, mut catalogue) = opened(&dir);
    // It has never joined: the token that waits for it ends.
    let token = token(&authority, &mut catalogue);
    assert_eq!(catalogue.revoke_agent(&agent("azure"), at(2)).unwrap(), 0);
    assert_eq!(
        redeem(&authority, &mut catalogue, &token, at(3), true),
        Err(TokenRefusal::Revoked(agent("azure")))
    );
    assert_eq!(catalogue.agents(at(3)).unwrap(), []);
}

/// Another process revokes and renames while a certificate is being made.
#[test]
fn nothing_comes_between_the_steps_of_a_join() {
    let dir = Dir::new();
    let (authority, mut catalogue) = opened(&dir);
    let token = token(&authority, &mut catalogue);
    let (_, mut beside) = opened(&dir);
    let (began, goes_on) = std::sync::mpsc::channel();
    let revoker = std::thread::spawn(move || {
        goes_on.recv().unwrap();
        beside
            .rename(&agent("azure"), &agent("spoke"), at(2))
            .unwrap();
        beside.revoke_agent(&agent("spoke"), at(3)).unwrap()
    });
    let joined = catalogue.join(
        &token,
        at(1),
        |_| true,
        |id| {
            began.send(()).unwrap();
            // Long enough for the other to come between, if it could.
            std::thread::sleep(std::time::Duration::from_millis(200));
            authority.certify(&request(), id, at(1), HOUR)
        },
    );
    let (_, issued) = joined.unwrap().unwrap();
    assert_eq!(
        revoker.join().unwrap(),
        1,
        "the revocation found the certificate"
    );
    assert_eq!(
        catalogue.look_up(issued.fingerprint, at(4)).unwrap(),
        Err(Unwelcome::Revoked(agent("spoke")))
    );
}

#[test]
fn a_join_that_fails_costs_the_token_nothing() {
    let dir = Dir::new();
    let (authority, mut catalogue) = opened(&dir);
    let token = token(&authority, &mut catalogue);
    let failed = catalogue.join(&token, at(1), |_| true, |_| Err(IdentityError::Random));
    assert!(matches!(failed, Err(IdentityError::Random)));
    assert_eq!(
        redeem(&authority, &mut catalogue, &token, at(2), true),
        Ok(agent("azure"))
    );
}

#[test]
fn a_token_for_the_old_name_ends_when_an_agent_is_renamed() {
    let dir = Dir::new();
    let (authority, mut catalogue) = opened(&dir);
    join(&authority, &mut catalogue, at(0));
    let token = token(&authority, &mut catalogue);
    catalogue
        .rename(&agent("azure"), &agent("spoke"), at(1))
        .unwrap();
    assert_eq!(
        redeem(&authority, &mut catalogue, &token, at(2), true),
        Err(TokenRefusal::Revoked(agent("azure")))
    );
}

#[test]
fn a_name_can_be_used_again_and_what_was_measured_under_it_stays_its_agents() {
    let dir = Dir::new();
    let (authority, mut catalogue) = opened(&dir);
    let (first, certificate) = join(&authority, &mut catalogue, at(0));
    catalogue
        .rename(&agent("azure"), &agent("spoke"), at(1))
        .unwrap();
    // Not before the renaming is applied to the records: they would go to the new agent.
    let token = catalogue.create_token(&authority, &agent("azure"), at(2), HOUR);
    let token = token.unwrap();
    assert_eq!(
        redeem(&authority, &mut catalogue, &token, at(3), true),
        Err(TokenRefusal::Renaming(agent("azure")))
    );
    let renaming = catalogue.renamings().unwrap().remove(0);
    catalogue.renamed(&renaming).unwrap();
    assert_eq!(
        redeem(&authority, &mut catalogue, &token, at(4), true),
        Ok(agent("azure"))
    );
    let known = catalogue
        .look_up(certificate.fingerprint, at(5))
        .unwrap()
        .unwrap();
    assert_eq!((known.id, known.name), (first.clone(), agent("spoke")));
    assert_eq!(known.former, [agent("azure")]);

    // The second is renamed, too: the name was both agents'.
    catalogue
        .rename(&agent("azure"), &agent("dc1"), at(6))
        .unwrap();
    let renaming = catalogue.renamings().unwrap().remove(0);
    catalogue.renamed(&renaming).unwrap();
    let (third, certificate) = join(&authority, &mut catalogue, at(7));
    assert_ne!(third, first);
    let known = catalogue
        .look_up(certificate.fingerprint, at(8))
        .unwrap()
        .unwrap();
    assert_eq!(known.former, []);
}

#[test]
fn a_catalogue_of_version_1_is_taken_over() {
    let dir = Dir::new();
    let (authority, mut catalogue) = opened(&dir);
    let (_, certificate) = join(&authority, &mut catalogue, at(0));
    catalogue
        .rename(&agent("azure"), &agent("spoke"), at(1))
        .unwrap();
    // As version 1 had it.
    catalogue
        .db
        .execute_batch(
            "ALTER TABLE former RENAME TO f;
             CREATE TABLE former (name TEXT PRIMARY KEY,
               agent TEXT NOT NULL REFERENCES agent, at INTEGER NOT NULL);
             INSERT INTO former SELECT * FROM f; DROP TABLE f; PRAGMA user_version = 1;",
        )
        .unwrap();
    drop(catalogue);
    let (_, catalogue) = opened(&dir);
    let known = catalogue
        .look_up(certificate.fingerprint, at(2))
        .unwrap()
        .unwrap();
    assert_eq!(known.former, [agent("azure")]);
    let version: i64 = catalogue
        .db
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(version, 2);
}
