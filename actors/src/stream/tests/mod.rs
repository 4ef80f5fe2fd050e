//! The `StreamActor` against a hub without sockets, on a paused clock.

mod losses;
mod tasks;
mod upgrade;

use std::cell::RefCell;
use std::collections::HashMap;

use testkit::captured_log;
use tokio::time::pause;

use super::messages::{Reconnect, RefuseTasks, Route, SetRoutes, StreamUnknown};
use super::*;
use crate::fakes::hub::{HubCall, Received, ScriptedHub, pass, probe, session, status, unreachable};
use crate::outbox::Outbox;
use crate::provider::messages::{Cancel, Infer};
use crate::session::messages::SessionReady;
use crate::uplink::{Outcome, Uplink};
use crate::wake::messages::Wake;

const SECOND: Duration = Duration::from_secs(1);

struct Setup {
    hub: Rc<ScriptedHub>,
    actor: Addr<StreamActor>,
    register: Received<Register>,
    session_lost: Received<SessionLost>,
    opened: Received<ChannelOpened>,
    lost: Received<ChannelLost>,
    reconnect: Received<ChannelLost>,
    infer: Received<Infer>,
    cancel: Received<Cancel>,
    wake: Received<Wake>,
    posts: Rc<Posts>,
}

/// The posted results: task id and body.
#[derive(Default)]
struct Posts(RefCell<Vec<(String, String)>>);

impl Uplink for Posts {
    fn send_result(
        &self,
        task: &wire::TaskId,
        body: bytes::Bytes,
    ) -> futures_util::future::LocalBoxFuture<'static, Outcome> {
        let body = String::from_utf8(body.to_vec()).unwrap();
        self.0.borrow_mut().push((task.to_string(), body));
        Box::pin(async { Outcome::Taken })
    }
}

/// Starts a `StreamActor` with a session and a route to provider `a`.
fn start(hub: ScriptedHub) -> Setup {
    pause();
    let hub = Rc::new(hub);
    let ((to_register, register), (to_session, session_lost)) = (probe(), probe());
    let ((to_opened, opened), (to_lost, lost), (to_reconnect, reconnect)) = (probe(), probe(), probe());
    let ((to_infer, infer), (to_cancel, cancel), (to_wake, wake)) = (probe(), probe(), probe());
    let posts = Rc::<Posts>::default();
    let outbox = Outbox::new(Rc::clone(&posts) as Rc<dyn Uplink>);
    let links = StreamLinks {
        register: to_register,
        session_lost: to_session,
        reconnect: to_reconnect,
        opened: vec![to_opened],
        lost: vec![to_lost],
        going: probe::<HubGoing>().0,
    };
    let api = Rc::clone(&hub) as Rc<dyn HubApi>;
    let router = TaskRouter::new(to_wake, outbox);
    let actor = StreamActor::new(api, 60 * SECOND, links, router).start();
    let route = Route { infer: to_infer, cancel: to_cancel, capacity: 68 };
    actor.do_send(SetRoutes(HashMap::from([("a".to_owned(), route)])));
    actor.do_send(SessionReady { session: session("s"), reopen: true });
    Setup { hub, actor, register, session_lost, opened, lost, reconnect, infer, cancel, wake, posts }
}

impl Setup {
    async fn ready(&self) {
        self.actor.do_send(SessionReady { session: session("s"), reopen: false });
        pass(SECOND).await;
    }

    fn last_lost(&self) -> ChannelLost {
        assert_eq!(*self.lost.borrow(), *self.reconnect.borrow(), "both listeners get the same report");
        self.lost.borrow().last().cloned().expect("a lost channel")
    }

    fn cancelled(&self) -> Vec<String> {
        self.cancel.borrow().iter().map(|cancel| cancel.task_id.to_string()).collect()
    }
}
