//! Memory of request heads: a budget for those without a valid token, by address and in all; a user's quota for the others.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::rc::Rc;

use crate::error::ApiError;
use crate::quota::{ByteQuota, BytesPermit};

/// Bytes of large heads without a valid token, of all connections together. Beyond it, each may have [`SMALL_HEAD`].
pub(super) const HEADS: usize = 16 << 20;
/// Bytes of a head that is always allowed: each connection has a read buffer of this size anyway.
pub(super) const SMALL_HEAD: usize = 8 << 10;
/// Bytes of a running call: the read and write buffers of its connection, and its state in the hub.
const CALL: usize = 32 << 10;
/// Largest head, in bytes, behind which a connection with a valid token stays open. It covers large cookies and the tokens
/// of gateways.
const MAX_KEPT_HEAD: usize = 32 << 10;
/// Bytes of a header in the server's table.
const HEADER: usize = 256;

/// The size of the server's buffer for a head of `head` bytes: a power of two; 0 for a small head.
fn buffer_size(head: usize) -> usize {
    if head <= SMALL_HEAD { 0 } else { head.next_power_of_two() }
}

/// The budget of large heads without a valid token.
#[derive(Default)]
pub(super) struct HeadBudget(RefCell<Usage>);

#[derive(Default)]
struct Usage {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl HeadBudget {
    /// Takes `more` bytes; `false` if there is no room. An address may have as much as is left for all others, a trusted
    /// proxy all of it.
    fn take(&self, address: IpAddr, more: usize, is_proxy: bool) -> bool {
        let mut usage = self.0.borrow_mut();
        let total = usage.total.saturating_add(more);
        let own = usage.by_address.get(&address).copied().unwrap_or(0).saturating_add(more);
        let limit = if is_proxy { HEADS } else { HEADS.saturating_sub(total) };
        if total > HEADS || own > limit {
            return false;
        }
        usage.total = total;
        usage.by_address.insert(address, own);
        true
    }

    fn release(&self, address: IpAddr, size: usize) {
        let mut usage = self.0.borrow_mut();
        usage.total = usage.total.saturating_sub(size);
        if let Entry::Occupied(mut own) = usage.by_address.entry(address) {
            *own.get_mut() = own.get().saturating_sub(size);
            if *own.get() == 0 {
                own.remove();
            }
        }
    }

    /// Bytes in all, bytes of `address`, and the number of addresses.
    #[cfg(test)]
    pub(super) fn usage(&self, address: IpAddr) -> (usize, usize, usize) {
        let usage = self.0.borrow();
        let own = usage.by_address.get(&address).copied().unwrap_or(0);
        (usage.total, own, usage.by_address.len())
    }
}

/// The memory of one connection's heads.
pub(super) struct HeadMemory {
    budget: Rc<HeadBudget>,
    address: IpAddr,
    is_proxy: bool,
    /// Bytes of the head that is read, or whose call is open.
    pub(super) size: Cell<usize>,
    /// Bytes taken of `budget`.
    budgeted: Cell<usize>,
    /// Size of the largest buffer charged to a caller: the server keeps it as long as the connection lives.
    buffer: Cell<usize>,
    /// The memory charged to the caller.
    permit: RefCell<BytesPermit>,
    /// Whether the last call was the last one on its connection.
    pub(super) must_close: Cell<bool>,
}

impl HeadMemory {
    pub(super) fn new(budget: Rc<HeadBudget>, address: IpAddr, is_proxy: bool) -> Self {
        Self {
            budget,
            address,
            is_proxy,
            size: Cell::default(),
            budgeted: Cell::default(),
            buffer: Cell::default(),
            permit: RefCell::default(),
            must_close: Cell::default(),
        }
    }

    /// Adds `more` bytes to the head; `false` if it is large and the budget is exhausted.
    pub(super) fn grow(&self, more: usize) -> bool {
        self.size.set(self.size.get().saturating_add(more));
        let more = buffer_size(self.size.get()).saturating_sub(self.budgeted.get());
        if more > 0 && !self.budget.take(self.address, more, self.is_proxy) {
            return false;
        }
        self.budgeted.set(self.budgeted.get() + more);
        true
    }

    /// Charges the call and its head to its caller instead of the budget: the buffer of the head, or of a larger one before
    /// it, and `headers` entries of the server's table.
    pub(super) fn charge_to(
        &self,
        quota: impl FnOnce() -> ByteQuota,
        headers: usize,
    ) -> Result<(), ApiError> {
        let buffer = self.buffer.get().max(buffer_size(self.size.get()));
        self.buffer.set(buffer);
        // This replaces the charge of the last call.
        self.permit.take();
        self.permit.replace(quota().take(CALL + buffer + headers * HEADER)?);
        self.release_budget();
        Ok(())
    }

    fn release_budget(&self) {
        if let budgeted @ 1.. = self.budgeted.take() {
            self.budget.release(self.address, budgeted);
        }
    }

    /// Releases all memory of the head.
    pub(super) fn reset(&self) {
        self.size.set(0);
        self.release_budget();
        self.permit.take();
    }

    /// Whether the open call is the last on its connection: only closing it frees the memory of a large head.
    pub(super) fn is_last_call(&self) -> bool {
        let is_kept = self.size.get() <= MAX_KEPT_HEAD && self.permit.borrow().size() > 0;
        buffer_size(self.size.get()) > 0 && !is_kept
    }

    /// Releases the memory of a call that has ended, but for the buffer that stays with the connection.
    pub(super) fn end_call(&self) {
        if self.is_last_call() {
            self.must_close.set(true);
            return;
        }
        let mut permit = self.permit.take();
        self.reset();
        if self.buffer.get() > 0 {
            permit.shrink(CALL);
            self.permit.replace(permit);
        }
    }
}
