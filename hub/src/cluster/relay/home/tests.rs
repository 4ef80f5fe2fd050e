//! A home beside a host that is played.

use testkit::wait::eventually;
use wire::link::{BodyKind, Piece};

use super::*;
use crate::cluster::bus::{Inbox, Incoming};
use crate::cluster::frame::Frame as Message;
use crate::cluster::members::Beat;
use crate::cluster::memory_bus::MemoryBus;
use crate::cluster::relay::frames::Batch;
use crate::tests::support::{TestHub, hub};

const SESSION: &str = "session-1";
/// The relay's number.
const RELAY: u64 = 1;

/// A home with a relay of `host`.
struct Relay {
    hub: TestHub,
    peers: Arc<Peers>,
    host: Process,
    of_host: Inbox,
    _bus: MemoryBus,
}

/// What was answered, if it was.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Option<String>>>);

impl Said {
    fn reply(&self) -> Reply {
        let said = self.0.clone();
        Reply::new(move |frame| {
            *said.lock() = Some(frame.kind);
            Ok(())
        })
    }

    fn get(&self) -> Option<String> {
        self.0.lock().clone()
    }
}

impl Relay {
    async fn begin() -> Self {
        let hub = hub().await;
        let [home, host] = ["a.aaaaaa", "b.bbbbbb"].map(|process| Process::parse(process).unwrap());
        let bus = MemoryBus::new(1);
        let ((port, _), (_, of_host)) = (bus.join(home), bus.join(host));
        let peers = Arc::new(Peers::new(home, 1, Arc::new(port)));
        peers.members.lock().heard(host, 1, Beat { term: 1, protocol: [1, 1], ..Beat::default() }, 0);
        let carry = Carry { session: SESSION.into(), stream: "s".into(), owner: "eve".into(), is_link: true };
        assert!(hub.core().carry(&peers, host, About::new(RELAY, false, (0, false), carry), b"null"));
        Self { hub, peers, host, of_host, _bus: bus }
    }

    /// A message of the host about a part, which has the first and last pieces of `count` tasks that the home does not have.
    fn say(&self, part: u64, asks: Asks, count: usize) -> Said {
        let mut batch = Batch::default();
        for n in 0..count {
            let piece = Piece { seq: 0, kind: BodyKind::Json, is_last: true, bytes: Bytes::new() };
            batch.push(&Frame::Piece { task: &format!("task-a.aaaaaa-{part}-{n}"), piece }.encode());
        }
        let (said, mut about) = (Said::default(), About::new(RELAY, false, (part, false), ()));
        about.asks = asks;
        let answered =
            self.hub.core().take_from_host(&self.peers, self.host, &about, &batch.into_bytes(), said.reply());
        if let Some((reply, arrival)) = answered {
            self.peers.reply(reply, arrival);
        }
        said
    }

    fn waiting(&self) -> usize {
        self.hub.core().links.waiting_control(SESSION)
    }
}

/// Each answer to a task that nobody has costs a frame for its registrar. One that sends many and reads none is not read any more.
#[actix_rt::test]
async fn a_host_waits_while_too_much_waits_for_its_registrar() {
    const COUNT: usize = 100;
    let mut relay = Relay::begin().await;
    let (mut part, mut largest) = (0, 0);
    while relay.say(part, Asks::Part, COUNT).get().as_deref() == Some("taken") {
        largest = largest.max(relay.waiting());
        part += 1;
        assert!(part < 100, "{} bytes wait", relay.waiting());
    }
    assert!(largest < 16 << 10, "{largest}");
    assert_eq!(relay.say(part, Asks::Part, COUNT).get().as_deref(), Some("held"), "a part that comes twice");
    assert_eq!(relay.say(part, Asks::Arrival, 0).get().as_deref(), Some("held"));
    assert_eq!(relay.say(part + 1, Asks::Arrival, 0).get().as_deref(), Some("lacks"));
    let waits = relay.say(part, Asks::Room, 0);
    assert_eq!(waits.get(), None, "there is no room yet");
    // The registrar reads again.
    let reads = async {
        while let Some(incoming) = relay.of_host.recv().await {
            if let Incoming::Asked(frame, reply) = incoming {
                assert_eq!(frame.kind, TO_HOST);
                reply.answer(Message::new(relay.host, TAKEN, &()).unwrap()).unwrap();
            }
        }
    };
    tokio::select! {
        () = reads => panic!("the relay has ended"),
        () = eventually("there is room", async || waits.get().as_deref() == Some("taken")) => {}
    }
    relay.hub.stop().await;
}
