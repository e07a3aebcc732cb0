use super::*;

pub(super) struct Dir(pub(super) PathBuf);

impl Dir {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hopgap-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a collector would answer to the key's request.
pub(super) fn certified(key: &KeyPair) -> Certified {
    let certificate = CertificateParams::default().self_signed(key).unwrap();
    Certified {
        agent: "azure".parse().unwrap(),
        certificate: certificate.pem(),
        authority: certificate.pem(),
        not_before_ns: Wall::ZERO,
        not_after_ns: Wall::from_nanos(5),
    }
}

#[test]
fn an_identity_is_kept_whole_and_closed_to_others() {
    let dir = Dir::new("identity");
    let store = IdentityStore::new(&dir.0);
    let missing = store.load().unwrap_err().to_string();
    assert!(
        missing.starts_with("this agent has not joined"),
        "{missing}"
    );
    store.prepare().unwrap();
    let key = NewKey::make().unwrap();
    assert!(key.request.contains("CERTIFICATE REQUEST") && !key.request.contains("PRIVATE"));
    let answer = certified(&key.key);
    let identity = key.certified(answer).unwrap();
    assert!(!format!("{identity:?}").contains("KEY"));
    // A file left by a crash is not written into.
    std::fs::write(dir.0.join("identity/identity.new"), "old").unwrap();
    store.save(&identity).unwrap();
    let file = dir.0.join("identity/identity.json");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(&dir.0.join("identity"))), (0o600, 0o700));
    let loaded = store.load().unwrap();
    assert_eq!(
        (loaded.agent.as_str(), loaded.not_after),
        ("azure", Wall::from_nanos(5))
    );
    assert!(loaded.is_expired(Wall::from_nanos(5)) && !loaded.is_expired(Wall::ZERO));

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let wide = store.load().unwrap_err().to_string();
    assert!(
        wide.contains(&format!("run `chmod 600 {}`", file.display())),
        "{wide}"
    );
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&file, "{").unwrap();
    assert!(matches!(store.load(), Err(IdentityError::Damaged { .. })));
}

#[test]
fn a_certificate_for_another_key_is_refused() {
    let other = KeyPair::generate().unwrap();
    let key = NewKey::make().unwrap();
    assert!(matches!(
        key.certified(certified(&other)),
        Err(IdentityError::Certificate(_))
    ));
    let key = NewKey::make().unwrap();
    let nonsense = Certified {
        certificate: "no certificate".to_owned(),
        ..certified(&other)
    };
    assert!(key.certified(nonsense).is_err());
}

#[test]
fn a_directory_that_is_not_there_is_said_with_the_command_to_make_it() {
    let store = IdentityStore::new(Path::new("/nonexistent/state"));
    let said = store.prepare().unwrap_err().to_string();
    assert!(
        said.ends_with("`sudo install -d -o hopgap -g hopgap -m 0700 /nonexistent/state`"),
        "{said}"
    );
}
