use super::Message;

fn read(text: &str) -> anyhow::Result<Option<Message>> {
    Message::read(&mut text.as_bytes())
}

#[test]
fn a_message_is_its_head_and_its_body() {
    let message = read("POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcdef")
        .expect("right")
        .expect("one");
    assert_eq!(message.body, b"abc");
    assert!(message.begins_with("POST /x"));
    let other = message.with_body(b"four");
    assert_eq!(other.lines, ["POST /x HTTP/1.1", "content-length: 4"]);
}

#[test]
fn what_has_no_length_has_no_body() {
    let message = read("HTTP/1.1 304 Not Modified\r\n\r\n").expect("right");
    assert_eq!(message.expect("one").body, b"");
    assert_eq!(read("").expect("an end"), None);
}

#[test]
fn what_cannot_be_passed_on_is_said() {
    for text in [
        "GET /x HTTP/1.1\r\n",
        "GET /x HTTP/1.1\r\ncontent-length: many\r\n\r\n",
        "GET /x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        "GET /x HTTP/1.1\r\ncontent-length: 9\r\n\r\nab",
        "GET /x HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\nab",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}
