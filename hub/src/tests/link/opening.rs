//! Who opens and closes a link, and which of two carries it.

use super::*;

/// Java's `HttpClient` asks for h2c with its first request. A body in chunks would be announced and not written.
#[actix_rt::test]
async fn a_stream_in_response_to_another_upgrade_ends_with_its_connection() {
    let hub = hub().await;
    let publisher = Publisher::register(&hub, ADMIN, None, &[provider("al")]).await;
    let mut socket = TcpStream::connect(hub.addr).await.unwrap();
    let request = format!(
        "GET /api/v1/llms/_provider-stream HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {ADMIN}\r\n\
         x-mcpctl-provider-session: {}\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\r\n",
        publisher.session
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"data: {}\n\n") {
        assert!(timeout(PATIENCE, socket.read_buf(&mut text)).await.unwrap().unwrap() > 0);
    }
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("connection: close"), "{head}");
    assert!(!head.contains("transfer-encoding"), "{head}");
    assert_eq!(body, "event: hello\ndata: {}\n\n");
    hub.stop().await;
}

/// A03: another user's session does not exist.
#[actix_rt::test]
async fn a_link_needs_a_session_of_its_user() {
    let (hub, session, _peer) = linked().await;
    let other = hub.member("mallory").await;
    for (token, session) in [(other.as_str(), session.as_str()), (ADMIN, "sess-unknown")] {
        let (_, head, _) = upgrade(&hub, token, session).await;
        assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    }
    hub.stop().await;
}

/// Two registrars with copies of one session file must not take the session from each other for ever.
#[actix_rt::test]
async fn a_link_in_use_stays_until_a_newer_one_resumes_and_is_told_then() {
    let (hub, session, mut peer) = linked().await;
    let mut newer = Peer::connect(&hub, &session, Link::default()).await;
    newer.next_frame().await.unwrap();
    let call = call(&hub, chat("hello", false));
    let (task, _) = peer.task().await;
    peer.answer(&task, BodyKind::Json, RESULT).await;
    assert_eq!(call.await.unwrap().0, 200, "a link without a resume disturbs none");
    newer.write(Frame::Resume(Resume::default().to_json()).encode()).await;
    // What comes on the older link is ignored, and does not end it before it is told.
    peer.answer("task-unknown", BodyKind::Json, RESULT).await;
    loop {
        let frame = peer.next_frame().await.expect("the link was closed without a word");
        if Frame::decode(&frame) == Ok(Some(Frame::Superseded)) {
            break;
        }
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn a_newer_link_of_the_session_supersedes_the_older_one() {
    let (hub, session, mut peer) = linked().await;
    let _newer = Peer::open(&hub, &session, Link::default()).await;
    let mut was_told = false;
    while let Some(frame) = peer.next_frame().await {
        was_told |= Frame::decode(&frame) == Ok(Some(Frame::Superseded));
    }
    assert!(was_told);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_revoked_token_ends_its_link_and_the_answers_on_it() {
    let hub = hub().await;
    let token = hub.member("alice").await;
    let publisher = Publisher::register(&hub, &token, None, &[provider("al")]).await;
    let (socket, _, input) = upgrade(&hub, &token, &publisher.session).await;
    let codec = ws::Codec::new().client_mode().max_size(MAX_FRAME);
    let mut peer = Peer { socket, input, codec, link: Link::default(), hello: Hello::default() };
    peer.next_frame().await.unwrap();
    peer.link.resume(&Hello::default().tasks).unwrap();
    peer.write(Frame::Resume(Resume::default().to_json()).encode()).await;
    hub.until_status("al", "active").await;
    let ask = hub.ask("POST", "/v1/chat/completions").body(chat("hello", true));
    let call = actix_rt::spawn(async move { ask.open().await });
    let (task, _) = peer.task().await;
    peer.link.push(&task, BodyKind::Events, Bytes::from_static(b"data: {\"choices\":[]}\n\n"));
    peer.flush().await;
    let mut answer = call.await.unwrap();
    answer.next().await.unwrap();
    hub.revoke("alice").await;
    while peer.next_frame().await.is_some() {}
    // The session is away, and may be back for some time.
    let mut rest = String::new();
    while let Some(piece) = answer.next().await {
        rest.push_str(&piece);
    }
    assert!(rest.contains("the publisher's answer broke off"), "{rest}");
    hub.stop().await;
}

/// A24: what breaks the rules ends the connection, and nobody else's.
#[actix_rt::test]
async fn a_link_against_the_rules_is_closed() {
    let piece = |seq, bytes: usize| Frame::Piece {
        task: "task-unknown",
        piece: Piece { seq, kind: BodyKind::Events, is_last: false, bytes: vec![b'x'; bytes].into() },
    };
    let (hub, session, peer) = linked().await;
    drop(peer);
    for (what, frames) in [
        ("a piece that is too long", vec![piece(0, (64 << 10) + 1).encode()]),
        ("a second resume", vec![Frame::Resume(Resume::default().to_json()).encode()]),
        ("a hello", vec![Frame::Hello(Hello::default().to_json()).encode()]),
        ("half a frame", vec![Bytes::from_static(b"\x03\0\x09ta")]),
        ("no frame", vec![Bytes::new()]),
    ] {
        let mut peer = Peer::open(&hub, &session, Link::default()).await;
        for frame in frames {
            peer.write(frame).await;
        }
        while peer.next_frame().await.is_some() {}
        let mut peer = Peer::open(&hub, &session, Link::default()).await;
        let call = call(&hub, chat("hello", false));
        let (task, _) = peer.task().await;
        peer.answer(&task, BodyKind::Json, RESULT).await;
        assert_eq!(call.await.unwrap().0, 200, "after {what}");
    }
    hub.stop().await;
}
