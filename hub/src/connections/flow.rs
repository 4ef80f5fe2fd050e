//! What is known of one connection. All of it lives on the serving thread.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix_http::{HttpMessage, Payload, Request};
use actix_web::http::header::CONTENT_LENGTH;
use futures_util::future::poll_fn;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::pressing::Pressure;
use super::serve::Watched;
use super::share::{Share, Turn, Who};
use super::table::{Cut, Table, buffer};
use crate::error::ApiError;
use crate::model::{Caller, Role, UserId};
use crate::quota::{ByteQuota, BytesPermit};

/// So much may be read ahead of a body of unknown length.
const AHEAD: u64 = 8 << 10;
/// What a call under way takes: what its connection reads into and writes from, and its place in the hub.
const CALL: usize = 32 << 10;
/// A connection whose caller has a valid token is kept behind a head of so much, and goes on counting for it: large cookies,
/// or a token of a gateway's.
const KEPT: usize = 32 << 10;
/// A header costs so much in the table of them.
const HEADER: usize = 256;

/// One that has asked for nothing yet is spared so long where its address has too many: a herd that comes at once.
const FRESH: Duration = Duration::from_secs(1);

/// One connection.
pub(crate) struct Flow {
    table: Weak<Table>,
    id: u64,
    address: IpAddr,
    /// A named proxy's: others speak through it, so that it counts as one with a token.
    is_proxy: bool,
    /// Whether its last caller had a valid token.
    is_known: Cell<bool>,
    /// The share of the thread that it is served in, and where it stands with it.
    pub(super) share: RefCell<Rc<Share>>,
    pub(super) turn: Cell<Turn>,
    /// The shares that it was in before, since it was let in.
    pub(super) left: RefCell<Vec<Rc<Share>>>,
    /// A named proxy's own share, for the time in which it is not known for whom it speaks.
    own: Option<Rc<Share>>,
    /// What it has that others wait for.
    pub(super) pressure: Pressure,
    /// The member for whom it counts.
    member: RefCell<Option<UserId>>,
    /// Whether its handshake counts against its address.
    owes_handshake: Cell<bool>,
    born: Instant,
    /// Why it has to end as soon as nothing is under way on it.
    leave: Cell<Option<Cut>>,
    /// Calls whose handler, or whose answer's body, is there.
    open: Cell<u32>,
    /// How many there were in all.
    calls: Cell<u64>,
    /// Whether something of an answer waits to be taken by the system.
    unwritten: Cell<bool>,
    /// What may still be read of the open call's body.
    allowance: Cell<u64>,
    /// Whether the length of the open call's body is unknown.
    is_chunked: Cell<bool>,
    /// Whether the reader of a body of unknown length waits for more.
    is_waiting: Cell<bool>,
    /// Bytes behind the last head that were read with it.
    surplus: Cell<u64>,
    /// Bytes of the head that is read, or whose call is open.
    head: Cell<usize>,
    /// What it takes of its address's room for larger heads.
    owed: Cell<usize>,
    /// What the server read the largest head into for which a caller answered: it keeps that as long as the connection lives.
    kept: Cell<usize>,
    /// What it counts for at its caller.
    held: RefCell<BytesPermit>,
    /// The last call had a large head: the server keeps what it was read into for as long as the connection lives.
    is_last: Cell<bool>,
    /// The server's task.
    task: RefCell<Option<Waker>>,
}

impl Flow {
    pub(super) fn new(table: &Rc<Table>, id: u64, address: IpAddr, is_proxy: bool) -> Self {
        let who = if is_proxy { Who::Connection(id) } else { Who::Address(address) };
        let share = table.shares.of(who);
        Self {
            table: Rc::downgrade(table),
            id,
            address,
            is_proxy,
            is_known: Cell::new(is_proxy),
            own: is_proxy.then(|| share.clone()),
            share: RefCell::new(share),
            turn: Cell::default(),
            left: RefCell::default(),
            pressure: Pressure::default(),
            member: RefCell::default(),
            owes_handshake: Cell::default(),
            born: Instant::now(),
            leave: Cell::default(),
            open: Cell::default(),
            calls: Cell::default(),
            unwritten: Cell::default(),
            allowance: Cell::default(),
            is_chunked: Cell::default(),
            is_waiting: Cell::default(),
            surplus: Cell::default(),
            head: Cell::default(),
            owed: Cell::default(),
            kept: Cell::default(),
            held: RefCell::default(),
            is_last: Cell::default(),
            task: RefCell::default(),
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn is_proxy(&self) -> bool {
        self.is_proxy
    }

    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// It is served in `share` from now on.
    fn moves(&self, share: Rc<Share>) {
        if !Rc::ptr_eq(&self.share.borrow(), &share) {
            self.left.borrow_mut().push(self.share.replace(share));
        }
    }

    /// Where it was let in as somebody else, the share of who asks now has to let it in, too, before anything is done for
    /// it: it goes on in a poll of its own.
    pub(crate) async fn is_let_in(&self) {
        if !self.left.borrow().is_empty() {
            yield_now().await;
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.is_known.get()
    }

    /// Who asks on it now: the holder of a valid token, or nobody who has one. Refused is a member who has as many
    /// connections as one may have, or where members have as many together; it makes room as one without a token does.
    pub(crate) fn speaks(&self, caller: Option<&Caller>) -> Result<(), ApiError> {
        let Some(table) = self.table.upgrade() else { return Ok(()) };
        if let Some(caller) = caller.filter(|caller| !self.share.borrow().is_of(&caller.user)) {
            self.moves(table.shares.of(Who::User(caller.user.clone())));
        }
        let member = caller.filter(|caller| caller.role == Role::Member).map(|caller| caller.user.as_str());
        let is_known = caller.is_some() || self.is_proxy;
        if self.is_known.get() == is_known && self.member.borrow().as_deref() == member {
            return Ok(());
        }
        if caller.is_some() && self.owes_handshake.take() {
            table.give_handshake_back(self.address);
        }
        let counted = table.count_for(&mut self.member.borrow_mut(), member);
        let is_known = is_known && (counted.is_ok() || self.is_proxy);
        if is_known != self.is_known.replace(is_known) {
            if is_known {
                self.leave.set(None);
            }
            table.moved(self.id);
        }
        counted
    }

    /// Counts for no member any more.
    pub(super) fn member(&self) -> Option<UserId> {
        self.member.borrow_mut().take()
    }

    /// How much more `more` bytes of a head would take of the room for larger ones.
    pub(super) fn head_would_take(&self, more: usize) -> usize {
        self.head.set(self.head.get().saturating_add(more));
        buffer(self.head.get()).saturating_sub(self.owed.get())
    }

    /// They take it.
    pub(super) fn head_takes(&self, more: usize) {
        self.owed.set(self.owed.get() + more);
    }

    /// Bytes of the open call's head.
    pub(crate) fn head(&self) -> usize {
        self.head.get()
    }

    /// The open call and its head count for its caller, who has shown a valid token, and no more for its address: what the
    /// head, or a larger one before it, was read into, and a place for each of its `headers`.
    pub(crate) fn head_is_of(
        &self,
        caller: impl FnOnce() -> ByteQuota,
        headers: usize,
    ) -> Result<(), ApiError> {
        let kept = self.kept.get().max(buffer(self.head.get()));
        self.kept.set(kept);
        // What counted for the last one is counted anew.
        self.held.take();
        self.held.replace(caller().take(CALL + kept + headers * HEADER)?);
        self.head_is_answered_for();
        Ok(())
    }

    fn head_is_answered_for(&self) {
        if let (owed @ 1.., Some(table)) = (self.owed.take(), self.table.upgrade()) {
            table.head_leaves(self.address, owed);
        }
    }

    /// Nothing is kept of the head any more.
    pub(super) fn forget_head(&self) {
        self.head.set(0);
        self.head_is_answered_for();
        self.held.take();
    }

    /// Whether it ends, since the last call had a large head.
    pub(super) fn is_last(&self) -> bool {
        self.is_last.get()
    }

    /// Its handshake counts until its caller shows a valid token.
    pub(super) fn owes_handshake(&self) {
        self.owes_handshake.set(true);
    }

    /// A call begins. Until its answer is written, nothing is read but its own body.
    pub(super) fn begin(self: &Rc<Self>, req: &mut Request) -> Open {
        self.open.set(self.open.get() + 1);
        self.calls.set(self.calls.get() + 1);
        let length = req.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let (allowance, is_chunked) = match (req.payload(), length) {
            (Payload::None, _) => (0, false),
            (_, Some(length)) => (u64::saturating_sub(length, self.surplus.get()), false),
            (payload, None) => {
                let watched = Watched::new(payload.take(), self.clone());
                *payload = Payload::Stream { payload: Box::pin(watched) };
                (AHEAD, true)
            }
        };
        self.surplus.set(0);
        self.is_waiting.set(false);
        self.is_chunked.set(is_chunked);
        self.allowance.set(allowance);
        Open(self.clone())
    }

    /// Whether all that was read of a body of unknown length is used up.
    pub(super) fn waits(&self, waits: bool) {
        self.is_waiting.set(waits);
        if waits && self.allowance.replace(AHEAD) == 0 {
            self.wake();
        }
    }

    /// Whether more of the body may be read than was allowed: its reader waits for it.
    pub(super) fn wants_more(&self) -> bool {
        let waits = self.is_waiting.get();
        if waits {
            self.allowance.set(AHEAD);
        }
        waits
    }

    /// Whether nothing is under way: the last answer is written.
    pub(super) fn is_idle(&self) -> bool {
        self.open.get() == 0 && !self.unwritten.get()
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.get()
    }

    pub(super) fn wrote(&self, all: bool) {
        self.unwritten.set(!all);
    }

    pub(super) fn is_chunked(&self) -> bool {
        self.is_chunked.get()
    }

    pub(super) fn allowance(&self) -> u64 {
        self.allowance.get()
    }

    pub(super) fn spend(&self, bytes: u64) {
        self.allowance.set(self.allowance.get().saturating_sub(bytes));
    }

    /// So many bytes were read behind a head.
    pub(super) fn reads_behind_head(&self, bytes: u64) {
        self.surplus.set(bytes);
    }

    /// Has it end, when nothing is under way on it.
    pub(super) fn cut(&self, why: Cut) {
        self.leave.set(Some(why));
        self.wake();
    }

    pub(super) fn is_cut(&self) -> Option<Cut> {
        self.leave.get()
    }

    /// How long it is still spared, though its address has too many: what it asks for may be on its way.
    pub(super) fn is_spared(&self) -> Option<Duration> {
        let left = FRESH.checked_sub(self.born.elapsed()).filter(|left| !left.is_zero());
        left.filter(|_| self.leave.get() == Some(Cut::Address) && self.calls.get() == 0)
    }

    /// Resolves when it has to end, for one that has said nothing yet.
    pub(super) async fn told_to_end(&self) {
        loop {
            poll_fn(|cx| {
                self.is_served_by(cx);
                if self.leave.get().is_some() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            let Some(spared) = self.is_spared() else { return };
            sleep(spared).await;
        }
    }

    /// The task that a cut wakes.
    pub(super) fn is_served_by(&self, cx: &Context<'_>) {
        let mut task = self.task.borrow_mut();
        if task.as_ref().is_none_or(|task| !task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
    }

    fn wake(&self) {
        if let Some(task) = self.task.borrow().as_ref() {
            task.wake_by_ref();
        }
    }
}

/// A call under way.
pub(super) struct Open(Rc<Flow>);

impl Open {
    /// Whether its connection takes no other one: the memory of a large head comes back with the connection.
    pub(super) fn is_last(&self) -> bool {
        let flow = &self.0;
        let is_kept = flow.head.get() <= KEPT && flow.held.borrow().size() > 0;
        buffer(flow.head.get()) > 0 && !is_kept
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
        if let Some(own) = &self.0.own {
            self.0.moves(own.clone());
        }
        if self.is_last() {
            self.0.is_last.set(true);
        } else {
            // What a larger one was read into stays with the connection, and counts; the call does not.
            let mut held = self.0.held.take();
            let stays = self.0.kept.get() > 0;
            self.0.forget_head();
            if stays {
                held.shrink(CALL);
                self.0.held.replace(held);
            }
        }
    }
}
