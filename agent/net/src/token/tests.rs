use super::*;

#[test]
fn chosen_ids_are_the_tokens_whatever_fails() {
    let mut tokens = Tokens::chosen();
    for n in 0..4 {
        let token = tokens.take();
        assert_eq!((token, tokens.id(token)), (SendToken(n), Some(n)));
        if n == 2 {
            assert!(!tokens.failed(SendToken(3)));
        } else {
            tokens.sent();
        }
        assert_eq!(tokens.of(n), token);
    }
}

#[test]
fn counted_ids_survive_a_refusal() {
    let mut tokens = Tokens::counted();
    for _ in 0..3 {
        let token = tokens.take();
        assert_eq!(tokens.id(token), None);
        tokens.sent();
    }
    assert_eq!(tokens.of(2), SendToken(2));
    let refused = tokens.take();
    assert_eq!(refused, SendToken(3));
    assert!(tokens.failed(SendToken(4)));
    // A late stamp of the count before.
    assert_eq!(tokens.of(2), SendToken(2));
    assert_eq!(tokens.take(), SendToken(4));
    tokens.sent();
    assert_eq!(tokens.of(0), SendToken(4));
    assert_eq!(tokens.of(1), SendToken(1));
}

#[test]
fn a_run_of_refusals_keeps_the_last_good_count() {
    let mut tokens = Tokens::counted();
    tokens.take();
    tokens.sent();
    tokens.take();
    tokens.sent();
    for n in 3..10 {
        tokens.take();
        assert!(tokens.failed(SendToken(n)));
        assert_eq!(tokens.of(1), SendToken(1));
    }
    assert_eq!(tokens.take(), SendToken(9));
    tokens.sent();
    assert_eq!(tokens.of(0), SendToken(9));
}

#[test]
fn tokens_wrap() {
    let mut tokens = Tokens {
        next: u32::MAX,
        ids: Ids::Chosen,
    };
    assert_eq!(tokens.take(), SendToken(u32::MAX));
    assert_eq!(tokens.take(), SendToken(0));
}
