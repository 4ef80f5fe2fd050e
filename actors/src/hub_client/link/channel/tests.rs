//! One end of a link, whose other end is written by hand.

use tokio::io::{DuplexStream, duplex};
use tokio::time::{advance, pause, timeout};
use wire::link::{BodyKind, Frame, Hello};

use super::super::{GONE_AFTER, Sending};
use super::*;
use crate::uplink::Outcome;

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Registrar {
    state: Rc<RegistrarLink>,
    policy: Rc<RefCell<LinkPolicy>>,
}

impl Registrar {
    fn open(&self) -> (LinkChannel, DuplexStream) {
        let (ours, theirs) = duplex(4 << 20);
        let (state, policy) = (Rc::clone(&self.state), Rc::clone(&self.policy));
        (LinkChannel::new(state, Box::new(ours), BytesMut::new(), policy), theirs)
    }

    fn pause(&self) -> Option<Duration> {
        self.policy.borrow().paused_until().map(|until| until.saturating_duration_since(Instant::now()))
    }
}

async fn write(hub: &mut DuplexStream, message: ws::Message) {
    let mut out = BytesMut::new();
    ws::Codec::new().encode(message, &mut out).unwrap();
    hub.write_all(&out).await.unwrap();
}

async fn say_hello(hub: &mut DuplexStream) {
    write(hub, ws::Message::Binary(Frame::Hello(Hello::default().to_json()).encode())).await;
}

/// The last event.
async fn end(channel: &mut LinkChannel) -> Option<LinkEvent> {
    loop {
        let event = timeout(PATIENCE, channel.next()).await.expect("it goes on");
        if matches!(event, None | Some(LinkEvent::Broken(_))) {
            return event;
        }
    }
}

/// A24: of a message that is too long the registrar reads no more than the longest one.
#[actix_rt::test]
async fn a_message_of_the_hub_that_is_too_long_is_refused_before_its_end() {
    let (mut channel, mut hub) = Registrar::default().open();
    let mut head = vec![0x82, 127];
    head.extend_from_slice(&(1_u64 << 40).to_be_bytes());
    hub.write_all(&head).await.unwrap();
    hub.write_all(&vec![0; MAX_FRAME + (4 << 10)]).await.unwrap();
    assert_eq!(end(&mut channel).await, Some(LinkEvent::Broken("the hub sent a message that is too long")));
}

/// P3: an answer that is begun before the hello would be of a task that the hello does not name.
#[actix_rt::test]
async fn answers_go_over_a_link_from_its_hello_on() {
    let registrar = Registrar::default();
    let (mut channel, mut hub) = registrar.open();
    assert!(!registrar.state.is_active());
    say_hello(&mut hub).await;
    assert!(matches!(channel.next().await, Some(LinkEvent::Hello { .. })));
    assert!(registrar.state.is_active());
    drop(channel);
    assert!(registrar.state.is_active(), "answers wait for the next connection");
    let _next = registrar.open();
    assert!(registrar.state.is_active());
}

#[actix_rt::test]
async fn links_that_break_soon_twice_pause_the_tries() {
    let registrar = Registrar::default();
    for _ in 0..2 {
        assert_eq!(registrar.pause(), None);
        let (mut channel, hub) = registrar.open();
        drop(hub);
        assert_eq!(end(&mut channel).await, None);
    }
    assert!(registrar.pause().is_some());
}

/// Two restarts of a hub within 30 s must not have all registrars go the slower way.
#[actix_rt::test]
async fn a_link_that_the_hub_closes_with_a_word_does_not_count_as_short() {
    let registrar = Registrar::default();
    for _ in 0..4 {
        let (mut channel, mut hub) = registrar.open();
        write(&mut hub, ws::Message::Close(None)).await;
        assert_eq!(end(&mut channel).await, Some(LinkEvent::Broken("the hub closed the link")));
    }
    assert_eq!(registrar.pause(), None);
}

#[actix_rt::test]
async fn a_long_link_that_its_registrar_gave_up_comes_between_two_short_ones() {
    pause();
    let registrar = Registrar::default();
    for is_short in [true, false, true] {
        let (mut channel, hub) = registrar.open();
        if is_short {
            drop(hub);
            assert_eq!(end(&mut channel).await, None);
        } else {
            advance(Duration::from_secs(40)).await;
        }
    }
    assert_eq!(registrar.pause(), None);
}

#[actix_rt::test]
async fn a_link_without_a_hello_pauses_the_tries_for_a_minute() {
    pause();
    let registrar = Registrar::default();
    let (mut channel, _hub) = registrar.open();
    assert_eq!(end(&mut channel).await, Some(LinkEvent::Broken(SILENT)));
    drop(channel);
    assert_eq!(registrar.pause(), Some(Duration::from_mins(1)));
}

#[actix_rt::test]
async fn of_two_answers_of_one_task_the_older_does_not_end_the_newer() {
    let state = RegistrarLink::default();
    let older = Sending::new(&state, "t");
    let newer = Sending::new(&state, "t");
    state.link.borrow_mut().push("t", BodyKind::Json, Bytes::from_static(b"{}"));
    drop(older);
    assert!(!state.link.borrow().has_ended("t"));
    state.decide("t", Outcome::Taken);
    assert_eq!(newer.finish().await, Outcome::Taken);
}

/// P3: a proxy before the hub that restarts refuses connections too.
#[actix_rt::test]
async fn answers_wait_while_connections_are_refused_for_some_seconds() {
    pause();
    let state = RegistrarLink::default();
    let refused_after = async |seconds| {
        advance(Duration::from_secs(seconds)).await;
        state.note_refused();
        state.link.borrow().knows("t")
    };
    state.link.borrow_mut().push("t", BodyKind::Json, Bytes::from_static(b"{}"));
    assert!(refused_after(0).await);
    assert!(refused_after(GONE_AFTER.as_secs() - 1).await);
    assert!(!refused_after(1).await);
}
