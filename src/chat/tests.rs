use super::answer::Piece;

#[test]
fn a_chunk_gives_its_text_and_nothing_else() {
    let piece = Piece::of_chunk(r#"{"choices":[{"index":0,"delta":{"content":"Hi"}}]}"#).unwrap();
    assert_eq!(piece, Piece { text: Some("Hi".to_owned()), ..Piece::default() });
    for silent in [r#"{"choices":[]}"#, r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#, "{}"]
    {
        assert_eq!(Piece::of_chunk(silent).unwrap(), Piece::default(), "{silent}");
    }
}

#[test]
fn an_error_in_mid_stream_is_a_failure_with_its_reason() {
    for data in [r#"{"error":"provider gone"}"#, r#"{"error":{"message":"provider gone"}}"#] {
        let failure = Piece::of_chunk(data).unwrap_err();
        assert_eq!(failure.text(), Some("the answer broke off: provider gone"));
    }
}

#[test]
fn a_completion_gives_text_thought_and_count() {
    let body = br#"{"choices":[{"message":{"content":"4","reasoning_content":"2+2"}}],"usage":{"completion_tokens":9}}"#;
    let piece = Piece::of_completion(body).unwrap();
    assert_eq!(piece.text.as_deref(), Some("4"));
    assert_eq!(piece.thought.as_deref(), Some("2+2"));
    assert_eq!(piece.counted, Some(9));
}
