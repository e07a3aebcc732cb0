use super::{CollectorPlan, DEFAULT_LISTEN, Transport};
use hopgap_proto::plan::PathRole;
use hopgap_proto::time::Span;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

const EXAMPLE: &str = include_str!("../../examples/plan.toml");

/// Apart from the example, so that the example may change its lines.
const GOOD: &str = include_str!("tests/plan.toml");

fn parse(text: &str) -> Result<CollectorPlan, String> {
    CollectorPlan::parse(text, Path::new("plan.toml")).map_err(|e| e.to_string())
}

#[test]
fn the_example_is_the_topology_of_the_drill() {
    let it = parse(EXAMPLE).unwrap();
    assert_eq!(it.settings.listen, DEFAULT_LISTEN);
    assert_eq!(it.plan.objective.outage, Span::from_secs(10));
    let sessions: Vec<_> = it
        .plan
        .sessions
        .iter()
        .map(|s| {
            (
                s.from.as_str(),
                it.plan.destination(s).unwrap().to_string(),
                s.flows,
            )
        })
        .collect();
    assert_eq!(
        sessions,
        [
            ("onprem", "10.17.11.132:862".to_owned(), 8),
            ("azure", "10.1.11.10:862".to_owned(), 8)
        ]
    );
    let roles: Vec<_> = it
        .plan
        .paths
        .iter()
        .map(|p| (p.name.as_str(), p.role))
        .collect();
    assert_eq!(
        roles,
        [
            ("expressroute-primary", PathRole::Primary),
            ("expressroute-secondary", PathRole::Primary),
            ("vpn", PathRole::Backup)
        ]
    );
    assert_eq!(it.plan.echoes.len(), 6);
}

fn write_secret(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// The good plan with one change.
fn changed(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "the plan has no {from}");
    GOOD.replacen(from, to, 1)
}

#[test]
fn mistakes_name_file_line_and_remedy() {
    let cases = [
        changed("[objective]", "[objective"),
        changed("seal_after = \"10m\"", "seal_afer = \"10m\""),
        changed("seal_after = \"10m\"", "seal_after = \"0s\""),
        changed("# retention = \"2160h\"", "retention = \"1m\""),
        changed("listen = \"127.0.0.1:8620\"", "listen = \"localhost\""),
        changed("reflector_port = 862", "reflector_port = 70000"),
        changed("address = \"10.17.11.132\"", ""),
        changed(
            "# secret_file = \"azure.secret\"",
            "secret_file = \"missing.secret\"",
        ),
        changed("interval = \"10ms\"", "interval = 10"),
        changed("interval = \"10ms\"", "interval = \"10us\""),
        changed("interval = \"10ms\"", "intervall = \"10ms\""),
        changed("to = \"azure\"", "to = \"azure:99999\""),
        changed("to = \"azure\"", "to = \"moon\""),
        changed("to = \"azure\"", "to = \"onprem\""),
        changed("name = \"azure-onprem\"", "name = \"onprem-azure\""),
        changed(
            "name = \"azure-onprem\"\nfrom = \"azure\"\nto = \"onprem\"",
            "name = \"b\"\nfrom = \"onprem\"\nto = \"azure\"",
        ),
        changed("role = \"backup\"", "role = \"standby\""),
        changed("target_at_hop = 3", ""),
        changed("target = \"10.17.11.77\"", "target = \"gateway\""),
        changed("name = \"msee1\"", "name = \"MSEE 1\""),
        changed("address = \"10.17.11.132\"", "address = \"10.1.11.10\""),
        changed("[[session]]", "[session]"),
        changed("[objective]", "[[objective]]"),
        changed("interval = \"10ms\"", "interval = \"10\""),
    ];
    let errors: Vec<String> = cases.iter().map(|c| parse(c).unwrap_err()).collect();
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn a_missing_file_is_named() {
    let error = CollectorPlan::load(Path::new("/nonexistent/plan.toml")).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot read the plan /nonexistent/plan.toml: ")
    );
}

#[test]
fn secrets_stay_out_of_the_agents_plan_and_of_messages() {
    let dir = std::env::temp_dir().join(format!("hopgap-plan-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let secret = "0123456789abcdef0123";
    write_secret(&dir.join("onprem.secret"), &format!("{secret}\n"));
    write_secret(&dir.join("azure.secret"), "short");
    let path = dir.join("plan.toml");
    let with = changed(
        "# secret_file = \"onprem.secret\"",
        "secret_file = \"onprem.secret\"",
    );

    std::fs::write(&path, &with).unwrap();
    let it = CollectorPlan::load(&path).unwrap();
    let onprem = "onprem".parse().unwrap();
    assert_eq!(it.secrets[&onprem].as_bytes(), secret.as_bytes());
    assert!(!format!("{it:?}").contains(secret));
    assert!(!serde_json::to_string(&it.plan).unwrap().contains("secret"));

    let loopback = "127.0.0.1:8620".parse().unwrap();
    let wide = "0.0.0.0:8620".parse().unwrap();
    assert_eq!(it.may_listen_at(loopback).unwrap(), Transport::Plain);
    let refused = it.may_listen_at(wide).unwrap_err().to_string();
    assert!(
        refused.starts_with("agent `onprem` has a `secret_file`, but agents come by TLS"),
        "{refused}"
    );
    let lab = with.replace("[collector]", "[collector]\nplain_http = true");
    let refused = CollectorPlan::parse(&lab, &path).unwrap();
    let refused = refused.may_listen_at(wide).unwrap_err().to_string();
    assert!(refused.contains("agent `azure` has no secret"), "{refused}");

    let short = with.replace(
        "# secret_file = \"azure.secret\"",
        "secret_file = \"azure.secret\"",
    );
    let error = CollectorPlan::parse(&short, &path).unwrap_err().to_string();
    assert!(
        error.contains("has 5 bytes, but must have at least 16"),
        "{error}"
    );

    // The same file for both is the same secret for both.
    let same = with.replace(
        "# secret_file = \"azure.secret\"",
        "secret_file = \"onprem.secret\"",
    );
    let error = CollectorPlan::parse(&same, &path).unwrap_err().to_string();
    assert!(
        error.contains("agents `onprem` and `azure` have the same secret"),
        "{error}"
    );
    let wide = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(dir.join("onprem.secret"), wide).unwrap();
    let error = CollectorPlan::load(&path).unwrap_err().to_string();
    assert!(
        error.contains("can be read by others; run `chmod 600 "),
        "{error}"
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn agents_come_by_tls_wherever_others_can_listen_in() {
    let at = |settings: &str, listen: &str| {
        let text = GOOD.replace("[collector]", &format!("[collector]\n{settings}"));
        let it = parse(&text)?;
        it.may_listen_at(listen.parse().unwrap())
            .map_err(|e| e.to_string())
    };
    let (here, other) = ("127.0.0.1:8620", "10.1.11.10:8621");
    assert_eq!(at("", here), Ok(Transport::Plain));
    assert_eq!(at("", other), Ok(Transport::Tls));
    assert_eq!(at("tls = true", "127.0.0.1:8621"), Ok(Transport::Tls));
    let cases = [
        (
            "tls = false",
            other,
            "`tls = false`, but others can reach 10.1.11.10:8621",
        ),
        (
            "tls = true\nplain_http = true",
            here,
            "contradict each other",
        ),
        ("plain_http = true", other, "has no secret"),
        (
            "",
            "0.0.0.0:8620",
            "choose another port, such as 8621, for `listen`",
        ),
        (
            "tls = true",
            here,
            "choose another port, such as 8621, for `listen`",
        ),
        (
            "api_listen = \"10.1.11.10:8620\"",
            here,
            "must be on the loopback interface",
        ),
        (
            "names = [\"no name!\"]",
            here,
            "is no DNS name and no IP address",
        ),
        ("certificate_life = \"1s\"", here, "must be 10s to 9528h"),
    ];
    for (settings, listen, said) in cases {
        let error = at(settings, listen).unwrap_err();
        assert!(error.contains(said), "{settings} {listen}: {error}");
    }
}

/// A plan in a directory of its own, with tokens of this content: the sentence with which
/// it is refused.
fn with_tokens(name: &str, read: &str, operate: &str) -> Result<CollectorPlan, String> {
    let dir = std::env::temp_dir().join(format!("hopgap-tokens-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    write_secret(&dir.join("read"), read);
    write_secret(&dir.join("operate"), operate);
    write_secret(&dir.join("onprem.secret"), &"agent".repeat(8));
    let text = changed(
        "# secret_file = \"onprem.secret\"",
        "secret_file = \"onprem.secret\"",
    )
    .replace(
        "[collector]",
        "[collector]\nread_token_file = \"read\"\noperate_token_file = \"operate\"",
    );
    let parsed =
        CollectorPlan::parse(&text, &dir.join("plan.toml")).map_err(|error| error.to_string());
    std::fs::remove_dir_all(&dir).unwrap();
    parsed
}

#[test]
fn tokens_are_long_and_each_is_for_one_thing() {
    let (read, operate) = ("read".repeat(8), "operate".repeat(6));
    let it = with_tokens("good", &format!("{read}\n"), &operate).unwrap();
    let bytes = |token: &Option<super::Secret>| token.as_ref().unwrap().as_bytes().to_vec();
    assert_eq!(bytes(&it.tokens.read), read.as_bytes());
    assert_eq!(bytes(&it.tokens.operate), operate.as_bytes());
    assert_eq!(it.secret_files.len(), 3, "all are watched for changes");
    assert!(!format!("{it:?}").contains(&read));

    let refused = |name, read: &str, operate: &str| with_tokens(name, read, operate).unwrap_err();
    let short = refused("short", &read, &operate[..31]);
    assert!(
        short.contains(":11: the token for operating in ")
            && short.contains("has 31 bytes, but must have at least 32"),
        "{short}"
    );
    let same = refused("same", &read, &read);
    assert!(same.contains(":11: the tokens for reading"), "{same}");
    let agents = refused("agents", &"agent".repeat(8), &operate);
    assert!(
        agents.contains("the token for reading is the secret of agent `onprem`, too"),
        "{agents}"
    );
    let nobody = parse(&GOOD.replace("[collector]", "[collector]\ntoken_required = true"));
    let nobody = nobody.unwrap_err();
    assert!(
        nobody.ends_with("nobody could start a drill without `operate_token_file`; add it"),
        "{nobody}"
    );
}

#[test]
fn a_token_that_others_can_read_is_refused() {
    let file = std::env::temp_dir().join(format!("hopgap-token-{}", std::process::id()));
    write_secret(&file, &"0123".repeat(16));
    assert!(super::read_token(&file).is_ok());
    let wide = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(&file, wide).unwrap();
    let said = super::read_token(&file).unwrap_err();
    assert!(
        said.starts_with("the token in ") && said.contains("can be read by others; run `chmod 600"),
        "{said}"
    );
    std::fs::remove_file(&file).unwrap();
    let said = super::read_token(&file).unwrap_err();
    assert!(
        said.ends_with("correct `--token-file` or create the file"),
        "{said}"
    );
}

#[test]
fn names_and_objective_of_a_plan_are_read_without_its_secrets() {
    let judging = |text: &str| super::Judging::parse(text, Path::new("other.toml"));
    let whole = judging(EXAMPLE).unwrap();
    let example = parse(EXAMPLE).unwrap().plan;
    assert_eq!(whole.paths, example.paths);
    assert_eq!(whole.objective, example.objective);

    // A file of its own, such as the lines that a report offers.
    let lines = "[[path]]\nname = \"path-1\"\nrole = \"primary\" # or \"backup\"\npasses = [\"192.168.11.0\"]\ntarget_at_hop = 5\n";
    let alone = judging(lines).unwrap();
    assert_eq!(alone.paths[0].name.as_str(), "path-1");
    assert_eq!(alone.paths[0].target_at_hop, Some(5));

    let secret = EXAMPLE.to_owned()
        + "[[agent]]\nname = \"third\"\naddress = \"10.9.9.9\"\nsecret_file = \"/nowhere/secret\"\n";
    assert!(parse(&secret).unwrap_err().contains("/nowhere/secret"));
    assert!(judging(&secret).is_ok());

    let twice = judging(&(lines.to_owned() + lines))
        .unwrap_err()
        .to_string();
    assert!(
        twice.contains("other.toml") && twice.contains("path-1"),
        "{twice}"
    );
    let nothing = "[[path]]\nname = \"x\"\nrole = \"primary\"\n";
    let nothing = judging(nothing).unwrap_err().to_string();
    assert!(nothing.contains("`x`"), "{nothing}");
}
