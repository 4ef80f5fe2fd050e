//! The table of open connections: which ones close to make room for others.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use tokio::time::Instant;

use super::close::CloseReason;
use super::connection::Connection;
use super::head_memory::HeadBudget;
use super::limits::ConnectionLimits;
use super::scheduler::Scheduler;
use crate::auth::network;
use crate::error::{ApiError, ErrorKind};
use crate::model::UserId;
use crate::quota::{MistakeBudgets, Verdict, too_many};
use crate::telemetry::Machine;

/// TLS handshakes of an address without a valid token behind them: a fleet of 1,000 registrars that connects at once.
const HANDSHAKES: u32 = 1024;
/// Further handshakes each second: each is a signature, some of them a millisecond of the serving thread.
const HANDSHAKES_PER_SECOND: u32 = 32;

/// All connections of a serving thread.
pub(super) struct ConnectionTable {
    pub(super) limits: ConnectionLimits,
    pub(super) machine: Machine,
    lists: RefCell<Lists>,
    pub(super) scheduler: Rc<Scheduler>,
    pub(super) heads: Rc<HeadBudget>,
    handshakes: MistakeBudgets<IpAddr>,
    start: Instant,
}

/// Connections by id, which ascends with age. Each is in exactly one list; `by_address` repeats `anonymous`.
#[derive(Default)]
struct Lists {
    last_id: u64,
    with_token: BTreeMap<u64, Rc<Connection>>,
    anonymous: BTreeMap<u64, Rc<Connection>>,
    by_address: HashMap<IpAddr, BTreeMap<u64, Rc<Connection>>>,
    /// Told to close because of their address, and still in their grace period.
    in_grace: BTreeMap<u64, Rc<Connection>>,
    /// Told to close.
    closing: BTreeMap<u64, Rc<Connection>>,
    /// The number of connections of each member, and of all members.
    by_member: HashMap<UserId, usize>,
    members: usize,
}

/// A connection's entry in the table, until dropped.
pub(super) struct ConnectionPermit {
    pub(super) table: Rc<ConnectionTable>,
    pub(super) connection: Rc<Connection>,
}

impl ConnectionTable {
    pub(super) fn new(limits: ConnectionLimits, machine: Machine) -> Rc<Self> {
        Rc::new(Self {
            limits,
            machine,
            lists: RefCell::default(),
            scheduler: Rc::default(),
            heads: Rc::default(),
            handshakes: MistakeBudgets::new(HANDSHAKES, HANDSHAKES_PER_SECOND),
            start: Instant::now(),
        })
    }

    /// Adds a new connection, and closes others if there are too many.
    pub(super) fn admit(self: &Rc<Self>, address: IpAddr, is_proxy: bool) -> ConnectionPermit {
        let connection = {
            let mut lists = self.lists.borrow_mut();
            lists.last_id += 1;
            let connection = Rc::new(Connection::new(self, lists.last_id, network(address), is_proxy));
            lists.insert(connection.clone());
            connection
        };
        self.make_room(&connection);
        self.measure();
        ConnectionPermit { table: self.clone(), connection }
    }

    /// Counts a connection for `member` instead of `counted`. Fails if the member, or all members, have too many.
    pub(super) fn count_member(
        &self,
        counted: &mut Option<UserId>,
        member: Option<&str>,
    ) -> Result<(), ApiError> {
        let mut lists = self.lists.borrow_mut();
        lists.uncount_member(counted.take());
        let Some(member) = member else { return Ok(()) };
        let count = lists.by_member.get(member).copied().unwrap_or(0);
        if count >= self.limits.per_member {
            self.machine.cut("user");
            return Err(too_many(count, "connections"));
        }
        if lists.members >= self.limits.members {
            self.machine.cut("hub");
            let text = format!("members have {} connections: try again later", lists.members);
            return Err(ApiError::new(ErrorKind::HubBusy, text));
        }
        lists.by_member.insert(member.to_owned(), count + 1);
        lists.members += 1;
        *counted = Some(member.to_owned());
        Ok(())
    }

    /// Returns the handshake of a connection whose caller has shown a valid token.
    pub(super) fn forgive_handshake(&self, address: IpAddr) {
        self.handshakes.forgive(&address);
    }

    /// Moves a connection to the list that it belongs to, after its token became valid or invalid.
    pub(super) fn reinsert(&self, id: u64) {
        let moved = {
            let mut lists = self.lists.borrow_mut();
            let moved = lists.remove(id);
            if let Some(connection) = &moved {
                lists.insert(connection.clone());
            }
            moved
        };
        if let Some(connection) = moved {
            self.make_room(&connection);
        }
        self.measure();
    }

    /// Closes others if `newcomer` is one too many.
    fn make_room(&self, newcomer: &Connection) {
        let mut lists = self.lists.borrow_mut();
        let limits = &self.limits;
        let of_address = lists.by_address.get(&newcomer.address);
        let crowded = of_address.filter(|list| limits.per_address.is_some_and(|limit| list.len() > limit));
        if let Some(oldest) = crowded.and_then(|list| list.keys().next().copied()) {
            lists.close(oldest, CloseReason::Address, &self.machine);
        }
        let anonymous = lists.anonymous_len();
        if anonymous > limits.anonymous || anonymous + lists.with_token.len() > limits.total {
            let mut oldest = lists.in_grace.keys().chain(lists.anonymous.keys()).copied();
            match oldest.find(|id| *id != newcomer.id) {
                Some(oldest) => lists.close(oldest, CloseReason::Hub, &self.machine),
                None => lists.close_idle(limits.total, &self.machine),
            }
        }
    }

    /// Updates the metrics.
    fn measure(&self) {
        let lists = self.lists.borrow();
        self.machine.connections(lists.with_token.len(), lists.anonymous_len());
    }

    /// The numbers of connections with a token, without one, told to close, and of addresses.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 4] {
        let lists = self.lists.borrow();
        [lists.with_token.len(), lists.anonymous_len(), lists.closing.len(), lists.by_address.len()]
    }
}

impl Lists {
    fn anonymous_len(&self) -> usize {
        self.anonymous.len() + self.in_grace.len()
    }

    fn insert(&mut self, connection: Rc<Connection>) {
        let id = connection.id;
        if connection.has_token.get() {
            self.with_token.insert(id, connection);
            return;
        }
        self.by_address.entry(connection.address).or_default().insert(id, connection.clone());
        self.anonymous.insert(id, connection);
    }

    fn remove(&mut self, id: u64) -> Option<Rc<Connection>> {
        if let Some(connection) = self.anonymous.remove(&id) {
            if let Some(list) = self.by_address.get_mut(&connection.address) {
                list.remove(&id);
                if list.is_empty() {
                    self.by_address.remove(&connection.address);
                }
            }
            return Some(connection);
        }
        let lists = [&mut self.with_token, &mut self.in_grace, &mut self.closing];
        lists.into_iter().find_map(|list| list.remove(&id))
    }

    fn uncount_member(&mut self, member: Option<UserId>) {
        let Some(member) = member else { return };
        self.members = self.members.saturating_sub(1);
        if let Entry::Occupied(mut count) = self.by_member.entry(member) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    fn close(&mut self, id: u64, reason: CloseReason, machine: &Machine) {
        if let Some(connection) = self.remove(id) {
            connection.close(reason);
            machine.cut(reason.as_str());
            let list = if connection.grace_left().is_some() { &mut self.in_grace } else { &mut self.closing };
            list.insert(id, connection);
        }
    }

    /// Closes some idle connections with a token, several at once since the search reads the whole list.
    fn close_idle(&mut self, total: usize, machine: &Machine) {
        let some = total.div_ceil(64);
        let idle =
            self.with_token.values().filter(|connection| connection.calls.get() > 0 && connection.is_idle());
        let idle: Vec<u64> = idle.map(|connection| connection.id).take(some).collect();
        for id in idle {
            self.close(id, CloseReason::Hub, machine);
        }
    }
}

impl ConnectionPermit {
    /// Takes a TLS handshake of the address's budget; `false` if it is spent. A trusted proxy has no limit.
    pub(super) fn take_handshake(&self) -> bool {
        if self.connection.has_token.get() {
            return true;
        }
        let table = &self.table;
        let verdict = table.handshakes.spend(self.connection.address, table.start.elapsed());
        if verdict != Verdict::Allowed {
            table.machine.cut("handshake");
            return false;
        }
        self.connection.owes_handshake.set(true);
        true
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.connection.head.reset();
        let mut lists = self.table.lists.borrow_mut();
        lists.remove(self.connection.id);
        lists.uncount_member(self.connection.take_member());
        drop(lists);
        self.table.measure();
    }
}

#[cfg(test)]
mod tests;
