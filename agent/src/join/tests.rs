use super::*;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

fn args(url: &str) -> JoinArgs {
    JoinArgs {
        url: url.to_owned(),
        token: None,
        token_file: None,
        proxy: None,
        again: false,
        state_dir: PathBuf::from("/nonexistent"),
    }
}

fn said(args: &JoinArgs) -> String {
    run(args).unwrap_err().to_string()
}

#[test]
fn a_token_on_the_command_line_is_refused_and_not_repeated() {
    let openly = JoinArgs {
        token: Some("hopgap-join-1-5ec12e7".to_owned()),
        ..args("https://10.1.11.10:8621")
    };
    let said = said(&openly);
    assert!(said.contains("seen by everyone"), "{said}");
    assert!(!said.contains("5ec12e7"), "{said}");
}

#[test]
fn what_is_wrong_here_is_said_before_the_collector_is_asked() {
    for url in [
        "http://10.1.11.10:8621",
        "https://10.1.11.10",
        "10.1.11.10:8621",
    ] {
        assert!(matches!(run(&args(url)), Err(JoinError::Url(_))), "{url}");
    }
    let good = "https://10.1.11.10:8621";
    assert!(matches!(run(&args(good)), Err(JoinError::NoToken)));
    let file = std::env::temp_dir().join(format!("hopgap-token-{}", std::process::id()));
    let with = JoinArgs {
        token_file: Some(file.clone()),
        ..args(good)
    };
    std::fs::write(&file, "s3cret\n").unwrap();
    let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode));
    mode(0o644).unwrap();
    assert!(said(&with).contains("run `chmod 600"));
    mode(0o600).unwrap();
    assert!(said(&with).starts_with("this is no join token"));
    let token = JoinToken {
        authority: hopgap_proto::uplink::Fingerprint([1; 32]),
        id: hopgap_proto::uplink::TokenId([2; 8]),
        secret: hopgap_proto::uplink::TokenSecret::new([3; 32]),
    };
    std::fs::write(&file, token.to_text()).unwrap();
    let folder = said(&with);
    assert!(folder.contains("sudo install -d -o hopgap"), "{folder}");
    std::fs::remove_file(file).unwrap();
}
