//! Message handlers of the `StreamActor`.

use actix::prelude::*;

use super::StreamActor;
use super::messages::{Reconnect, RefuseTasks, SetRoutes, StreamUnknown};
use crate::session::messages::{Register, SessionReady};

impl Handler<SessionReady> for StreamActor {
    type Result = ();

    fn handle(&mut self, ready: SessionReady, ctx: &mut Self::Context) {
        let is_same = self.state.connection.as_ref().is_some_and(|open| open.session == ready.session);
        if is_same && !ready.reopen {
            return;
        }
        self.drop_channel(ctx);
        self.open(ready.session, ctx);
    }
}

impl Handler<SetRoutes> for StreamActor {
    type Result = ();

    fn handle(&mut self, SetRoutes(routes): SetRoutes, ctx: &mut Self::Context) {
        if routes.is_empty() {
            self.drop_channel(ctx);
            if let Some((_, leaving)) = self.state.leaving.take() {
                ctx.cancel_future(leaving.reading);
            }
            log::info!("control channel closed");
        }
        self.router.set_routes(routes);
    }
}

impl Handler<StreamUnknown> for StreamActor {
    type Result = ();

    fn handle(&mut self, unknown: StreamUnknown, ctx: &mut Self::Context) {
        let stream_id = self.state.connection.as_ref().and_then(|open| open.stream_id.as_ref());
        if stream_id == Some(&unknown.stream_id) {
            self.lost("the hub does not hold this control channel any more", ctx);
        }
    }
}

impl Handler<Reconnect> for StreamActor {
    type Result = ();

    fn handle(&mut self, _: Reconnect, ctx: &mut Self::Context) {
        if self.state.connection.is_some() {
            self.drop_channel(ctx);
            self.links.register.do_send(Register);
        }
    }
}

impl Handler<RefuseTasks> for StreamActor {
    type Result = ();

    fn handle(&mut self, _: RefuseTasks, _: &mut Self::Context) {
        self.router.refuse_all();
    }
}
