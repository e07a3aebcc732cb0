use super::*;
use crate::plan::CollectorPlan;
use hopgap_proto::uplink::Revision;
use std::path::Path;

const PLAN: &str = r#"
[[agent]]
name = "a"
address = "10.0.0.1"
[[agent]]
name = "b"
address = "10.0.0.2"
[[agent]]
name = "c"
address = "10.0.0.3"
[[session]]
name = "a-b"
from = "a"
to = "b"
[[session]]
name = "b-a"
from = "b"
to = "a"
[[session]]
name = "bare"
from = "a"
to = "b"
source_port = 51000
authenticated = false
[[session]]
name = "own"
from = "a"
to = "c"
source_port = 52000
key = "000102030405060708090a0b0c0d0e0f"
[[session]]
name = "foreign"
from = "a"
to = "192.0.2.1:862"
source_port = 53000
"#;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("hopgap-keys-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn file(&self) -> PathBuf {
        self.0.join(FILE)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn given(text: &str, dir: &Dir) -> Result<Plan, PlanFileError> {
    let mut plan = CollectorPlan::parse(text, Path::new("plan.toml")).unwrap();
    plan.give_keys(&dir.0)?;
    Ok(plan.plan)
}

fn key<'a>(plan: &'a Plan, session: &str) -> Option<&'a str> {
    let session = plan.session(&session.parse().unwrap()).unwrap();
    session.key.as_deref()
}

#[test]
fn each_session_between_agents_has_a_key_of_its_own() {
    let dir = Dir::new("own");
    let plan = given(PLAN, &dir).unwrap();
    let (out, back) = (key(&plan, "a-b").unwrap(), key(&plan, "b-a").unwrap());
    assert_eq!((out.len(), back.len()), (64, 64));
    assert_ne!(out, back);
    assert_eq!(key(&plan, "bare"), None);
    assert_eq!(key(&plan, "foreign"), None);
    assert_eq!(key(&plan, "own"), Some("000102030405060708090a0b0c0d0e0f"));
    // A plan with its keys is a good plan, and everybody's part can be carried out.
    let plan = plan.checked().unwrap();
    for session in &plan.sessions {
        session.keys().unwrap();
    }
}

#[test]
fn an_agent_gets_the_keys_of_its_own_sessions_only() {
    let dir = Dir::new("part");
    let plan = given(PLAN, &dir).unwrap();
    let part = |name: &str| {
        let part = plan.for_agent(&name.parse().unwrap());
        serde_json::to_string(&part).unwrap()
    };
    let (out, back) = (key(&plan, "a-b").unwrap(), key(&plan, "b-a").unwrap());
    assert!(part("a").contains(out) && part("a").contains(back));
    assert!(part("b").contains(out) && part("b").contains(back));
    assert!(!part("c").contains(out) && !part("c").contains(back));
}

#[test]
fn keys_outlive_a_restart_and_a_new_one_is_a_new_revision() {
    let dir = Dir::new("stable");
    let first = given(PLAN, &dir).unwrap();
    assert_eq!(given(PLAN, &dir).unwrap(), first);
    // The ends changed: whoever knew the key is no more one of them.
    let moved = PLAN.replacen("to = \"b\"", "to = \"c\"", 1);
    let other = given(&moved, &dir).unwrap();
    assert_ne!(key(&other, "a-b"), key(&first, "a-b"));
    assert_eq!(key(&other, "b-a"), key(&first, "b-a"));

    std::fs::remove_file(dir.file()).unwrap();
    let anew = given(PLAN, &dir).unwrap();
    assert_ne!(key(&anew, "b-a"), key(&first, "b-a"));
    assert_ne!(Revision::of(&anew), Revision::of(&first));
}

#[test]
fn keys_of_sessions_that_are_no_more_are_forgotten() {
    let dir = Dir::new("forgotten");
    let first = given(PLAN, &dir).unwrap();
    let known = || std::fs::read_to_string(dir.file()).unwrap();
    assert!(known().contains(key(&first, "b-a").unwrap()));
    given(
        &PLAN.replace(
            "name = \"b-a\"\nfrom = \"b\"",
            "name = \"b-a\"\nauthenticated = false\nfrom = \"b\"",
        ),
        &dir,
    )
    .unwrap();
    assert!(!known().contains(key(&first, "b-a").unwrap()));
}

#[test]
fn only_the_owner_can_read_them() {
    let dir = Dir::new("owner");
    given(PLAN, &dir).unwrap();
    let mode = std::fs::metadata(dir.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let wide = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(dir.file(), wide).unwrap();
    let error = given(PLAN, &dir).unwrap_err().to_string();
    assert!(error.contains("run `chmod 600 "), "{error}");
}

#[test]
fn a_file_that_cannot_be_used_is_named_and_its_content_is_not() {
    let dir = Dir::new("damaged");
    given(PLAN, &dir).unwrap();
    let text = std::fs::read_to_string(dir.file()).unwrap();
    std::fs::write(dir.file(), text.replace("\"from\"", "\"form\"")).unwrap();
    let error = given(PLAN, &dir).unwrap_err().to_string();
    assert!(
        error.contains("session-keys.json") && error.contains("remove it"),
        "{error}"
    );
    let plan = Dir::new("gone");
    std::fs::remove_dir_all(&plan.0).unwrap();
    let error = given(PLAN, &plan).unwrap_err().to_string();
    assert!(error.contains("session-keys.json"), "{error}");
}

#[test]
fn the_store_keeps_no_key() {
    use crate::store::{Reader, Store};
    let dir = Dir::new("store");
    let plan = given(PLAN, &dir).unwrap();
    let mut store = Store::open(&dir.0).unwrap();
    let now = hopgap_proto::time::Wall::from_nanos(1_790_000_000_000_000_000);
    store.adopt_plan(&plan, now).unwrap();
    let kept = Reader::open(&dir.0).unwrap().plan_at(now).unwrap().unwrap();
    assert!(kept.sessions.iter().all(|s| s.key.is_none()));
    drop(store);
    let keys: Vec<&str> = plan
        .sessions
        .iter()
        .filter_map(|s| s.key.as_deref())
        .collect();
    for file in std::fs::read_dir(&dir.0).unwrap() {
        let path = file.unwrap().path();
        if path == dir.file() {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for key in &keys {
            let found = bytes.windows(key.len()).any(|w| w == key.as_bytes());
            assert!(!found, "a key in {}", path.display());
        }
    }
}
