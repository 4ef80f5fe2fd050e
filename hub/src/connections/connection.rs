//! The state of one connection. All of it lives on the serving thread.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix_http::Request;
use futures_util::future::{LocalBoxFuture, poll_fn};
use tokio::time::{Instant, sleep};

use super::body_allowance::BodyAllowance;
use super::close::CloseReason;
use super::head_memory::HeadMemory;
use super::scheduler::{QueueOwner, SchedulerSlot};
use super::table::ConnectionTable;
use crate::error::ApiError;
use crate::model::{Caller, Role, UserId};
use crate::quota::ByteQuota;

/// A new connection without a request stays open this long when its address has too many: a fleet may connect at once.
const GRACE: Duration = Duration::from_secs(1);

/// One connection.
pub(crate) struct Connection {
    table: Weak<ConnectionTable>,
    pub(super) id: u64,
    /// The client's IPv4 address or IPv6 network.
    pub(super) address: IpAddr,
    /// Whether the client is a trusted proxy, which counts as having a valid token.
    pub(super) is_proxy: bool,
    /// Whether the last request had a valid token.
    pub(super) has_token: Cell<bool>,
    /// The member that the connection counts for.
    member: RefCell<Option<UserId>>,
    /// Whether its TLS handshake counts against its address.
    pub(super) owes_handshake: Cell<bool>,
    opened_at: Instant,
    pub(super) close_reason: Cell<Option<CloseReason>>,
    /// Calls whose handler or response body exists.
    open_calls: Cell<u32>,
    /// Calls in all.
    pub(super) calls: Cell<u64>,
    /// Whether the system has not taken all of a response yet.
    pub(super) unwritten: Cell<bool>,
    pub(super) slot: Rc<SchedulerSlot>,
    pub(super) body: BodyAllowance,
    pub(super) head: HeadMemory,
    /// The server's task.
    task: RefCell<Option<Waker>>,
    companion: Cell<Option<LocalBoxFuture<'static, ()>>>,
}

impl Connection {
    pub(super) fn new(table: &Rc<ConnectionTable>, id: u64, address: IpAddr, is_proxy: bool) -> Self {
        let owner = if is_proxy { QueueOwner::Connection(id) } else { QueueOwner::Address(address) };
        Self {
            table: Rc::downgrade(table),
            id,
            address,
            is_proxy,
            has_token: Cell::new(is_proxy),
            member: RefCell::default(),
            owes_handshake: Cell::default(),
            opened_at: Instant::now(),
            close_reason: Cell::default(),
            open_calls: Cell::default(),
            calls: Cell::default(),
            unwritten: Cell::default(),
            slot: SchedulerSlot::new(table.scheduler.queue(owner), is_proxy),
            body: BodyAllowance::default(),
            head: HeadMemory::new(table.heads.clone(), address, is_proxy),
            task: RefCell::default(),
            companion: Cell::default(),
        }
    }

    /// Has the server's task poll `companion` after each poll of the server, which leaves a response alone while the client
    /// does not read. It ends with the connection.
    pub(crate) fn accompany(&self, companion: LocalBoxFuture<'static, ()>) {
        self.companion.set(Some(companion));
    }

    pub(super) fn poll_companion(&self, cx: &mut Context<'_>) {
        if let Some(mut companion) = self.companion.take()
            && companion.as_mut().poll(cx).is_pending()
        {
            self.companion.set(Some(companion));
        }
    }

    /// Waits until the scheduler admits the connection for its new caller. Returns at once if the caller is the same.
    pub(crate) async fn wait_for_new_queue(&self) {
        self.slot.wait_for_new_queue().await;
    }

    /// Sets the caller of the request; `None` for one without a valid token. Fails for a member if it, or all members
    /// together, have too many connections; the connection then counts as one without a token.
    pub(crate) fn set_caller(&self, caller: Option<&Caller>) -> Result<(), ApiError> {
        let Some(table) = self.table.upgrade() else { return Ok(()) };
        if let Some(caller) = caller.filter(|caller| !self.slot.is_of(&caller.user)) {
            self.slot.join(table.scheduler.queue(QueueOwner::User(caller.user.clone())));
        }
        let member = caller.filter(|caller| caller.role == Role::Member).map(|caller| caller.user.as_str());
        let has_token = caller.is_some() || self.is_proxy;
        if self.has_token.get() == has_token && self.member.borrow().as_deref() == member {
            return Ok(());
        }
        if caller.is_some() && self.owes_handshake.take() {
            table.forgive_handshake(self.address);
        }
        let counted = table.count_member(&mut self.member.borrow_mut(), member);
        let has_token = has_token && (counted.is_ok() || self.is_proxy);
        if has_token != self.has_token.replace(has_token) {
            if has_token {
                self.close_reason.set(None);
            }
            table.reinsert(self.id);
        }
        counted
    }

    pub(super) fn take_member(&self) -> Option<UserId> {
        self.member.borrow_mut().take()
    }

    /// Bytes of the open call's head.
    pub(crate) fn head_size(&self) -> usize {
        self.head.size.get()
    }

    /// Charges the open call and its head to its caller.
    pub(crate) fn charge_head_to(
        &self,
        quota: impl FnOnce() -> ByteQuota,
        headers: usize,
    ) -> Result<(), ApiError> {
        self.head.charge_to(quota, headers)
    }

    /// Begins a call. Until its response is written, only its own body is read.
    pub(super) fn begin(self: &Rc<Self>, req: &mut Request) -> OpenCall {
        self.open_calls.set(self.open_calls.get() + 1);
        self.calls.set(self.calls.get() + 1);
        self.body.begin(req, self);
        OpenCall(self.clone())
    }

    /// Whether no call is open and the last response is written.
    pub(super) fn is_idle(&self) -> bool {
        self.open_calls.get() == 0 && !self.unwritten.get()
    }

    /// Closes the connection as soon as it is idle.
    pub(super) fn close(&self, reason: CloseReason) {
        self.close_reason.set(Some(reason));
        self.wake();
    }

    /// The rest of the [`GRACE`] of a connection whose address has too many: its first request may be on its way.
    pub(super) fn grace_left(&self) -> Option<Duration> {
        let left = GRACE.checked_sub(self.opened_at.elapsed()).filter(|left| !left.is_zero());
        left.filter(|_| self.close_reason.get() == Some(CloseReason::Address) && self.calls.get() == 0)
    }

    /// Resolves when a connection without a request has to close.
    pub(super) async fn closed(&self) {
        loop {
            poll_fn(|cx| {
                self.register(cx);
                if self.close_reason.get().is_some() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            let Some(grace) = self.grace_left() else { return };
            sleep(grace).await;
        }
    }

    /// Sets the task that [`close`](Self::close) wakes.
    pub(super) fn register(&self, cx: &Context<'_>) {
        let mut task = self.task.borrow_mut();
        if task.as_ref().is_none_or(|task| !task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
    }

    pub(super) fn wake(&self) {
        if let Some(task) = self.task.borrow().as_ref() {
            task.wake_by_ref();
        }
    }
}

/// A call that is open until this is dropped.
pub(super) struct OpenCall(Rc<Connection>);

impl OpenCall {
    /// Whether the connection closes behind the response.
    pub(super) fn is_last(&self) -> bool {
        self.0.head.is_last_call()
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.open_calls.set(self.0.open_calls.get().saturating_sub(1));
        self.0.slot.join_own();
        self.0.head.end_call();
    }
}
