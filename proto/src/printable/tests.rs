use super::{Lines, OneLine, is_plain, one_line};
use proptest::prelude::*;

#[test]
fn what_a_terminal_would_obey_is_shown_by_its_number() {
    assert_eq!(
        one_line("0.1\x1b[2J\x1b]0;owned\x07\nagent b  OK\r"),
        "0.1\\u001b[2J\\u001b]0;owned\\u0007\\u000aagent b  OK\\u000d"
    );
    // A terminal may take C1 controls for escape codes: U+009B begins a sequence alone.
    assert_eq!(one_line("\u{9b}31m\u{85}"), "\\u009b31m\\u0085");
    // Bidirectional controls, invisible characters, separators, tags.
    assert_eq!(
        one_line("a\u{202e}b\u{2066}c\u{200b}d\u{2028}e\u{feff}f\u{e0041}"),
        "a\\u202eb\\u2066c\\u200bd\\u2028e\\ufefff\\udb40\\udc41"
    );
    assert_eq!(
        Lines("one\n\ttwo\x1b[1m\r\n").to_string(),
        "one\n\ttwo\\u001b[1m\\u000d\n"
    );
}

#[test]
fn what_people_write_passes() {
    for text in [
        "Überprüfung läuft",
        "日本語",
        "עברית",
        "10 µs → 20 µs ± 3",
        "e\u{301}",
    ] {
        assert_eq!(one_line(text), text);
    }
    assert_eq!(format!("{:<6}|", OneLine("ab")), "ab    |");
}

proptest! {
    #[test]
    fn nothing_that_is_not_plain_gets_through(text in any::<String>()) {
        prop_assert!(one_line(&text).chars().all(is_plain));
        let lines = Lines(&text).to_string();
        prop_assert!(lines.chars().all(|c| is_plain(c) || c == '\n' || c == '\t'));
        // Line breaks of the text, no more and no fewer.
        prop_assert_eq!(lines.matches('\n').count(), text.matches('\n').count());
    }

    #[test]
    fn json_stays_the_same_json(text in any::<String>()) {
        let json = serde_json::to_string(&text).unwrap();
        let back: String = serde_json::from_str(&one_line(&json)).unwrap();
        prop_assert_eq!(back, text);
    }
}
