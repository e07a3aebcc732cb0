use super::*;

fn token() -> JoinToken {
    JoinToken {
        authority: Fingerprint::of(b"authority"),
        id: TokenId([1, 2, 3, 4, 5, 6, 7, 0xab]),
        secret: TokenSecret::new([0x5a; 32]),
    }
}

#[test]
fn a_token_comes_through_as_text_and_its_secret_shows_itself_nowhere_else() {
    let text = token().to_text();
    assert_eq!(text.len(), PREFIX.len() + 2 * 76);
    let read: JoinToken = format!(" {text}\n").parse().unwrap();
    assert_eq!((read.id, read.authority), (token().id, token().authority));
    assert!(read.secret.is(&token().secret.hash()));
    assert!(!read.secret.is(&TokenSecret::new([0x5b; 32]).hash()));
    assert_eq!(read.id.to_string(), "01020304050607ab");
    assert_eq!("01020304050607ab".parse(), Ok(read.id));
    let request = JoinRequest {
        token: text,
        request: String::new(),
    };
    let shown = format!("{read:?} {request:?}");
    assert!(
        !shown.contains("5a5a") && !shown.contains("90, 90"),
        "{shown}"
    );
}

#[test]
fn a_token_that_was_damaged_is_told_before_it_is_used() {
    let text = token().to_text();
    let read = |text: &str| text.parse::<JoinToken>().map(|_| ()).unwrap_err();
    assert_eq!(read("s3cret"), TokenError::Prefix);
    assert_eq!(read(&text[1..]), TokenError::Prefix);
    assert_eq!(read(&text[..text.len() - 1]), TokenError::NotHex);
    assert_eq!(read(&text[..text.len() - 2]), TokenError::Length);
    assert_eq!(read(&format!("{text}00")), TokenError::Length);
    assert_eq!(read(PREFIX), TokenError::Length);
    assert_eq!(read(&format!("{PREFIX}ü")), TokenError::NotHex);
    for at in PREFIX.len()..text.len() {
        let other = if &text[at..=at] == "0" { "1" } else { "0" };
        let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
        assert_eq!(read(&changed), TokenError::Checksum, "{at}");
    }
}
