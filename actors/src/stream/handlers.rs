//! What others tell the `StreamActor`.

use actix::prelude::*;

use super::messages::{CloseChannel, Reconnect, RefuseTasks, SetRoutes, StreamUnknown};
use super::{Link, StreamActor};
use crate::session::messages::{Register, SessionReady};

impl Handler<SessionReady> for StreamActor {
    type Result = ();

    fn handle(&mut self, ready: SessionReady, ctx: &mut Self::Context) {
        let same = matches!(&self.state.link, Link::Up(open) if open.session == ready.session);
        if same && !ready.reopen {
            return;
        }
        self.drop_channel(ctx);
        self.open(ready.session, ctx);
    }
}

impl Handler<SetRoutes> for StreamActor {
    type Result = ();

    fn handle(&mut self, SetRoutes(routes): SetRoutes, _: &mut Self::Context) {
        self.dispatch.set_routes(routes);
    }
}

impl Handler<StreamUnknown> for StreamActor {
    type Result = ();

    fn handle(&mut self, unknown: StreamUnknown, ctx: &mut Self::Context) {
        let ours = match &self.state.link {
            Link::Up(open) => open.stream_id.as_ref() == Some(&unknown.stream_id),
            _ => false,
        };
        if ours {
            self.lost("the hub does not hold this control channel any more", ctx);
        }
    }
}

impl Handler<Reconnect> for StreamActor {
    type Result = ();

    fn handle(&mut self, _: Reconnect, ctx: &mut Self::Context) {
        if !matches!(self.state.link, Link::Down) {
            self.drop_channel(ctx);
            self.links.register.do_send(Register);
        }
    }
}

impl Handler<RefuseTasks> for StreamActor {
    type Result = ();

    fn handle(&mut self, _: RefuseTasks, _: &mut Self::Context) {
        self.dispatch.refuse_all();
    }
}

impl Handler<CloseChannel> for StreamActor {
    type Result = ();

    fn handle(&mut self, _: CloseChannel, ctx: &mut Self::Context) {
        self.drop_channel(ctx);
        log::info!("control channel closed");
    }
}
