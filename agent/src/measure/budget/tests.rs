use super::{
    ANALYSIS, Budget, Bytes, Group, Kept, Limit, Memory, RECORD, SPARE, available, groups,
};
use hopgap_proto::time::Span;
use std::path::PathBuf;

#[test]
fn amounts_are_read_as_people_write_them() {
    for (text, bytes) in [
        ("300MB", 300_000_000),
        ("1GiB", 1 << 30),
        ("64MiB", 64 << 20),
        ("2GB", 2_000_000_000),
        ("50000000", 50_000_000),
    ] {
        assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
    }
    for bad in ["", "MB", "3 x", "1.5GB", "-1GB", "99999999999999GB", "1TB"] {
        let error = bad.parse::<Bytes>().unwrap_err();
        assert!(error.contains("such as 300MB"), "{bad}: {error}");
    }
    let little = "1MB".parse::<Bytes>().unwrap_err();
    assert!(little.contains("at least 16MiB"), "{little}");
}

fn budget() -> Budget {
    // 64 flows at 1 kHz, a timeout of 2 s.
    let ms = Span::from_millis(1);
    Budget::new(Some(Bytes(400_000_000)), 64, ms, ms * 2_000)
}

fn kept(probes: u64) -> Kept {
    Kept {
        probes,
        ..Kept::default()
    }
}

#[test]
fn it_ends_while_there_is_room_to_judge_what_was_kept_and_what_still_comes() {
    let budget = budget();
    let coming = 64 * 3_001;
    let used = 50_000_000;
    let free = u64::MAX;
    let left = 400_000_000 - used - SPARE - coming * (RECORD + ANALYSIS);
    let fits = left / ANALYSIS;
    let memory = Memory { used, free };
    let second = Span::from_secs(1);
    assert!(!budget.is_used_up_by(kept(fits), second, memory));
    assert!(budget.is_used_up_by(kept(fits + 1), second, memory));
    // At a hundredth of the pace few more probes come.
    let slow = (left + coming * (RECORD + ANALYSIS)) / ANALYSIS * 98 / 100;
    assert!(!budget.is_used_up_by(kept(slow), second * 600, memory));
    assert!(budget.is_used_up_by(kept(slow), second, memory));
    // Others may take what was free at the start; no limit is no reason.
    assert!(budget.is_used_up_by(kept(10), second, Memory { used, free: SPARE }));
    assert!(!budget.is_used_up_by(kept(10), second, memory));
}

#[test]
fn the_hosts_memory_is_read() {
    let text = "MemTotal: 900 kB\nMemFree:  1 kB\nMemAvailable:   12 kB\n";
    assert_eq!(available(text), Some(12 << 10));
    assert_eq!(available("MemTotal: 900 kB\n"), None);
    let now = Memory::now(&[]);
    assert!(now.used > 100_000 && now.free > 0, "{now:?}");
}

#[test]
fn the_tightest_group_counts_in_both_versions() {
    let found = groups("4:cpu,memory:/a/b\n2:cpu:/x\n0::/u/s\n");
    let v1 = |p: &str| Group::V1(PathBuf::from(p));
    let v2 = |p: &str| Group::V2(PathBuf::from(p));
    assert_eq!(
        found,
        [
            v1("memory/a/b"),
            v1("memory/a"),
            v1("memory/"),
            v2("u/s"),
            v2("u"),
            v2(""),
        ]
    );
    let root = std::env::temp_dir().join(format!("hopgap-budget-{}", std::process::id()));
    let files = [
        ("g/memory.limit_in_bytes", "1000\n"),
        ("g/memory.max", "1000\n"),
        ("g/memory.usage_in_bytes", "700\n"),
        ("g/memory.current", "700\n"),
        (
            "g/memory.stat",
            "inactive_file 100\ntotal_inactive_file 200\n",
        ),
        ("open/memory.max", "max\n"),
        ("open/memory.current", "5\n"),
    ];
    for (name, text) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let limit = |group: Group| Limit::open(&group, &root);
    assert_eq!(limit(v1("g")).unwrap().free(), Some(500));
    let held = limit(v2("g")).unwrap();
    assert_eq!(held.free(), Some(400));
    // The usage changes and is read again.
    std::fs::write(root.join("g/memory.current"), "950\n").unwrap();
    assert_eq!(held.free(), Some(150));
    assert!(limit(v2("open")).is_none());
    assert!(limit(v2("none")).is_none());
    std::fs::remove_dir_all(&root).unwrap();
    assert_eq!(groups("nonsense\n"), []);
}

#[test]
fn a_record_is_as_large_as_it_is_taken_for() {
    let size = size_of::<hopgap_proto::record::Probe>() as u64;
    assert!(size <= RECORD && RECORD <= size + 16, "{size}");
}
