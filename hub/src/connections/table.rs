//! The connections of one serving thread. Those without a valid token make room for each other, and for those with one.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use tokio::time::Instant;

use super::flow::Flow;
use super::limits::ConnectionLimits;
use super::share::Shares;
use crate::auth::network;
use crate::error::{ApiError, ErrorKind};
use crate::model::UserId;
use crate::quota::{MistakeBudgets, Verdict, too_many};
use crate::telemetry::Machine;

/// Why a connection is closed by the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Its address has too many without a valid token.
    Address,
    /// The hub has too many without one, or at all.
    Hub,
    /// It was idle for too long without one, or did not read.
    Idle,
    /// Its request's head is large, and too many are.
    Head,
}

impl Cut {
    /// For the metric.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Hub => "hub",
            Self::Idle => "idle",
            Self::Head => "head",
        }
    }
}

/// Handshakes of an address whose caller has shown no valid token yet: a herd of 1,000 registrars that comes at once.
const HANDSHAKES: u32 = 1024;
/// So many more of them a second: each is a signature, some of them a millisecond of the thread that serves everybody.
const HANDSHAKES_PER_SECOND: u32 = 32;
/// Bytes of larger heads that no token answers for, of all connections together; beyond, each has [`SMALL_HEAD`].
const HEADS: usize = 16 << 20;
/// A head may have so much whatever others have: a connection has as much to read into.
const SMALL_HEAD: usize = 8 << 10;

/// All connections.
pub(super) struct Table {
    limits: ConnectionLimits,
    machine: Machine,
    lists: RefCell<Lists>,
    pub(super) shares: Rc<Shares>,
    heads: RefCell<Heads>,
    handshakes: MistakeBudgets<IpAddr>,
    start: Instant,
}

#[derive(Default)]
struct Lists {
    last: u64,
    /// Without a valid token, the oldest first.
    strangers: BTreeMap<u64, Rc<Flow>>,
    /// The same by address.
    of_address: HashMap<IpAddr, BTreeMap<u64, Rc<Flow>>>,
    known: BTreeMap<u64, Rc<Flow>>,
    /// Of an address that has too many, and spared for a moment.
    spared: BTreeMap<u64, Rc<Flow>>,
    /// Told to end, and not yet gone.
    leaving: BTreeMap<u64, Rc<Flow>>,
    /// How many each member has, and all of them together.
    of_member: HashMap<UserId, usize>,
    of_members: usize,
}

/// Bytes of larger heads that no token answers for: what they take, which is more than they have.
#[derive(Default)]
struct Heads {
    all: usize,
    /// Of those of each address that has any.
    of_address: HashMap<IpAddr, usize>,
}

/// A connection's place, until it is dropped.
pub(super) struct Place {
    table: Rc<Table>,
    pub(super) flow: Rc<Flow>,
}

/// What the server reads a head of so many bytes into: twice as much again and again. A small one costs nothing.
pub(super) fn buffer(head: usize) -> usize {
    if head <= SMALL_HEAD { 0 } else { head.next_power_of_two() }
}

impl Table {
    pub(super) fn new(limits: ConnectionLimits, machine: Machine) -> Rc<Self> {
        Rc::new(Self {
            limits,
            machine,
            lists: RefCell::default(),
            shares: Rc::default(),
            heads: RefCell::default(),
            handshakes: MistakeBudgets::new(HANDSHAKES, HANDSHAKES_PER_SECOND),
            start: Instant::now(),
        })
    }

    /// A new connection: it has a place, if need be that of another one.
    pub(super) fn admit(self: &Rc<Self>, address: IpAddr, is_proxy: bool) -> Place {
        let flow = {
            let mut lists = self.lists.borrow_mut();
            lists.last += 1;
            let flow = Rc::new(Flow::new(self, lists.last, network(address), is_proxy));
            lists.insert(flow.clone());
            flow
        };
        self.make_room(&flow);
        self.count();
        Place { table: self.clone(), flow }
    }

    /// A connection counts for `member` from now on, if there is one and it has room, and for `counted` no more.
    pub(super) fn count_for(
        &self,
        counted: &mut Option<UserId>,
        member: Option<&str>,
    ) -> Result<(), ApiError> {
        let mut lists = self.lists.borrow_mut();
        lists.leaves_member(counted.take());
        let Some(member) = member else { return Ok(()) };
        let count = lists.of_member.get(member).copied().unwrap_or(0);
        if count >= self.limits.of_member {
            self.machine.cut("user");
            return Err(too_many(count, "connections"));
        }
        if lists.of_members >= self.limits.members {
            self.machine.cut("hub");
            let text = format!("members have {} connections: try again later", lists.of_members);
            return Err(ApiError::new(ErrorKind::HubBusy, text));
        }
        lists.of_member.insert(member.to_owned(), count + 1);
        lists.of_members += 1;
        *counted = Some(member.to_owned());
        Ok(())
    }

    /// A head from `address` takes `more` bytes, if there is room: an address has at most as much as is left for others.
    /// A named proxy's may have all of it.
    fn head_takes(&self, address: IpAddr, more: usize, is_proxy: bool) -> bool {
        let mut heads = self.heads.borrow_mut();
        let all = heads.all.saturating_add(more);
        let own = heads.of_address.get(&address).copied().unwrap_or(0).saturating_add(more);
        let share = if is_proxy { HEADS } else { HEADS.saturating_sub(all) };
        if all > HEADS || own > share {
            return false;
        }
        heads.all = all;
        heads.of_address.insert(address, own);
        true
    }

    /// So much of what heads from `address` take is gone, or a token answers for it.
    pub(super) fn head_leaves(&self, address: IpAddr, size: usize) {
        let mut heads = self.heads.borrow_mut();
        heads.all = heads.all.saturating_sub(size);
        if let Entry::Occupied(mut own) = heads.of_address.entry(address) {
            *own.get_mut() = own.get().saturating_sub(size);
            if *own.get() == 0 {
                own.remove();
            }
        }
    }

    /// Whoever shook hands has shown a token.
    pub(super) fn give_handshake_back(&self, address: IpAddr) {
        self.handshakes.forgive(&address);
    }

    /// A connection has shown a token, or one that is not valid.
    pub(super) fn moved(&self, id: u64) {
        let moved = {
            let mut lists = self.lists.borrow_mut();
            let moved = lists.take(id);
            if let Some(flow) = &moved {
                lists.insert(flow.clone());
            }
            moved
        };
        if let Some(flow) = moved {
            self.make_room(&flow);
        }
        self.count();
    }

    /// Has others end where `flow` is one too many.
    fn make_room(&self, flow: &Flow) {
        let mut lists = self.lists.borrow_mut();
        let limits = &self.limits;
        let of_address = lists.of_address.get(&flow.address());
        let crowded = of_address.filter(|list| limits.of_address.is_some_and(|most| list.len() > most));
        if let Some(oldest) = crowded.and_then(|list| list.keys().next().copied()) {
            lists.cut(oldest, Cut::Address, &self.machine);
        }
        let strangers = lists.strangers.len() + lists.spared.len();
        if strangers > limits.strangers || strangers + lists.known.len() > limits.all {
            let mut oldest = lists.spared.keys().chain(lists.strangers.keys()).copied();
            match oldest.find(|id| *id != flow.id()) {
                Some(oldest) => lists.cut(oldest, Cut::Hub, &self.machine),
                None => lists.cut_idle(limits.all, &self.machine),
            }
        }
    }

    fn count(&self) {
        let lists = self.lists.borrow();
        self.machine.connections(lists.known.len(), lists.strangers.len() + lists.spared.len());
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 4] {
        let lists = self.lists.borrow();
        let strangers = lists.strangers.len() + lists.spared.len();
        [lists.known.len(), strangers, lists.leaving.len(), lists.of_address.len()]
    }

    /// What larger heads take that no token answers for, in bytes.
    #[cfg(test)]
    pub(super) fn heads(&self) -> usize {
        self.heads.borrow().all
    }
}

impl Lists {
    fn insert(&mut self, flow: Rc<Flow>) {
        if flow.is_known() {
            self.known.insert(flow.id(), flow);
            return;
        }
        self.of_address.entry(flow.address()).or_default().insert(flow.id(), flow.clone());
        self.strangers.insert(flow.id(), flow);
    }

    fn take(&mut self, id: u64) -> Option<Rc<Flow>> {
        if let Some(flow) = self.strangers.remove(&id) {
            if let Some(list) = self.of_address.get_mut(&flow.address()) {
                list.remove(&id);
                if list.is_empty() {
                    self.of_address.remove(&flow.address());
                }
            }
            return Some(flow);
        }
        let lists = [&mut self.known, &mut self.spared, &mut self.leaving];
        lists.into_iter().find_map(|list| list.remove(&id))
    }

    fn leaves_member(&mut self, member: Option<UserId>) {
        let Some(member) = member else { return };
        self.of_members = self.of_members.saturating_sub(1);
        if let Entry::Occupied(mut count) = self.of_member.entry(member) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    fn cut(&mut self, id: u64, why: Cut, machine: &Machine) {
        if let Some(flow) = self.take(id) {
            flow.cut(why);
            machine.cut(why.as_str());
            let list = if flow.is_spared().is_some() { &mut self.spared } else { &mut self.leaving };
            list.insert(id, flow);
        }
    }

    /// Nobody is without a token: some that are idle between two calls end. Many at once, since they are searched for.
    fn cut_idle(&mut self, all: usize, machine: &Machine) {
        let some = all.div_ceil(64);
        let idle = self.known.values().filter(|flow| flow.calls() > 0 && flow.is_idle());
        let idle: Vec<u64> = idle.map(|flow| flow.id()).take(some).collect();
        for id in idle {
            self.cut(id, Cut::Hub, machine);
        }
    }
}

impl Place {
    pub(super) fn machine(&self) -> &Machine {
        &self.table.machine
    }

    pub(super) fn limits(&self) -> ConnectionLimits {
        self.table.limits
    }

    /// Whether it may have a handshake: its address has not had too many for nothing. A named proxy's may.
    pub(super) fn may_shake_hands(&self) -> bool {
        if self.flow.is_known() {
            return true;
        }
        let table = &self.table;
        let verdict = table.handshakes.spend(self.flow.address(), table.start.elapsed());
        if verdict != Verdict::Allowed {
            table.machine.cut("handshake");
            return false;
        }
        self.flow.owes_handshake();
        true
    }

    /// So many more bytes of a head came. `false` where it is large, and too many are.
    pub(super) fn head_grows(&self, more: usize) -> bool {
        let flow = &self.flow;
        let more = flow.head_would_take(more);
        if more > 0 && !self.table.head_takes(flow.address(), more, flow.is_proxy()) {
            return false;
        }
        flow.head_takes(more);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.flow.forget_head();
        let mut lists = self.table.lists.borrow_mut();
        lists.take(self.flow.id());
        lists.leaves_member(self.flow.member());
        drop(lists);
        self.table.count();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{Caller, Role};
    use crate::quota::{ByteKind, ByteQuota, MemoryBudget, Quota};
    use crate::telemetry::Metrics;

    #[derive(Debug, Clone)]
    enum Op {
        Come(u8, bool),
        Speak(usize, Option<(u8, bool)>),
        Head(usize, usize),
        Leave(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        let speaker = prop::option::weighted(0.7, (0..4_u8, prop::bool::weighted(0.2)));
        prop_oneof![
            4 => (0..4_u8, prop::bool::weighted(0.1)).prop_map(|(address, proxy)| Op::Come(address, proxy)),
            4 => (any::<usize>(), speaker).prop_map(|(at, speaker)| Op::Speak(at, speaker)),
            1 => (any::<usize>(), 0..SMALL_HEAD * 2).prop_map(|(at, size)| Op::Head(at, size)),
            1 => any::<usize>().prop_map(Op::Leave),
        ]
    }

    fn caller(user: &str, is_admin: bool) -> Caller {
        let role = if is_admin { Role::Admin } else { Role::Member };
        Caller { user: user.to_owned(), role, token_id: "t".into() }
    }

    fn limits(all: usize, strangers: usize, of_address: Option<usize>) -> ConnectionLimits {
        ConnectionLimits { all, strangers, members: all, of_member: all, of_address }
    }

    fn table(limits: ConnectionLimits) -> Rc<Table> {
        Table::new(limits, Metrics::new().unwrap().of_machine().unwrap())
    }

    proptest! {
        /// A25, A27: whoever comes, shows a token or leaves, in any order: those without a token are never more than they
        /// may be, no member has more than one may have, members together leave room to admins, no newcomer is the one
        /// who goes, and nothing is kept of those who left.
        #[test]
        fn strangers_make_room_for_each_other(ops in prop::collection::vec(op(), 1..200)) {
            let limits = ConnectionLimits { all: 12, strangers: 9, members: 10, of_member: 3, of_address: Some(4) };
            let table = table(limits);
            let mut places: Vec<Place> = Vec::new();
            for op in ops {
                match op {
                    Op::Come(address, is_proxy) => {
                        let place = table.admit([10, 0, 0, address].into(), is_proxy);
                        prop_assert!(place.flow.is_cut().is_none());
                        places.push(place);
                    }
                    Op::Speak(at, speaker) if !places.is_empty() => {
                        let flow = &places[at % places.len()].flow;
                        let caller = speaker.map(|(user, is_admin)| caller(&format!("u{user}"), is_admin));
                        let spoke = flow.speaks(caller.as_ref());
                        let is_admin = caller.as_ref().is_none_or(|caller| caller.role == Role::Admin);
                        prop_assert!(spoke.is_ok() || !is_admin, "an admin has limits");
                        prop_assert_eq!(flow.is_known(), flow.is_proxy() || caller.is_some() && spoke.is_ok());
                        prop_assert!(!flow.is_known() || flow.is_proxy() || flow.is_cut().is_none());
                    }
                    Op::Head(at, size) if !places.is_empty() => {
                        let place = &places[at % places.len()];
                        prop_assert!(place.head_grows(size) || size > SMALL_HEAD);
                        if size % 2 == 0 {
                            place.flow.forget_head();
                        }
                    }
                    Op::Leave(at) if !places.is_empty() => drop(places.swap_remove(at % places.len())),
                    _ => {}
                }
                let [known, strangers, leaving, _] = table.sizes();
                prop_assert_eq!(known + strangers + leaving, places.len());
                prop_assert!(strangers <= limits.strangers, "{} strangers", strangers);
                prop_assert!(strangers == 0 || known + strangers <= limits.all.max(known + 1));
                let lists = table.lists.borrow();
                prop_assert!(lists.of_address.values().all(|list| list.len() <= 4));
                prop_assert!(lists.of_member.values().all(|count| (1..=3).contains(count)));
                prop_assert_eq!(lists.of_member.values().sum::<usize>(), lists.of_members);
                prop_assert!(lists.of_members <= 10);
            }
            drop(places);
            prop_assert_eq!(table.sizes(), [0; 4]);
            let heads = table.heads.borrow();
            prop_assert_eq!((heads.all, heads.of_address.len(), table.lists.borrow().of_members), (0, 0, 0));
        }
    }

    /// A25: where all have a token, one that comes takes the place of some that idle, not of those with a call under way.
    #[test]
    fn an_idle_connection_goes_where_all_have_a_token() {
        let table = table(limits(3, 3, None));
        let mut requests = Vec::new();
        let places: Vec<Place> = (0..3)
            .map(|number| {
                let place = table.admit([10, 0, 0, 1].into(), false);
                place.flow.speaks(Some(&caller("alice", true))).unwrap();
                let open = place.flow.begin(&mut actix_http::Request::new());
                requests.push((number != 1).then_some(open));
                place
            })
            .collect();
        let newcomer = table.admit([10, 0, 0, 2].into(), false);
        newcomer.flow.speaks(Some(&caller("alice", true))).unwrap();
        let last = table.admit([10, 0, 0, 2].into(), false);
        let cut: Vec<bool> = places.iter().map(|place| place.flow.is_cut().is_some()).collect();
        assert_eq!(cut, [false, true, false]);
        assert_eq!(newcomer.flow.is_cut(), None);
        drop(last);
    }

    /// A07, A25, A27: larger heads that no token answers for have bounded memory together, whole or not, and an address
    /// leaves as much to others as it has; a small one comes through whatever the others do.
    #[test]
    fn large_heads_without_a_token_are_bounded_by_address_and_together() {
        let table = table(limits(25_000, 18_750, None));
        let mut places: Vec<Place> = Vec::new();
        let mut flood = |address: u8| {
            for _ in 0..200 {
                let place = table.admit([10, 0, 0, address].into(), false);
                let came = (0..128).take_while(|_| place.head_grows(1024)).count();
                assert!(came >= SMALL_HEAD >> 10);
                places.push(place);
            }
            let heads = table.heads.borrow();
            let own = heads.of_address.get(&IpAddr::from([10, 0, 0, address]));
            (heads.all, own.copied().unwrap_or(0))
        };
        assert_eq!(flood(1), (HEADS / 2, HEADS / 2));
        assert_eq!(flood(2), (HEADS * 3 / 4, HEADS / 4));
        for address in 3..40 {
            let (all, _) = flood(address);
            assert!(all <= HEADS);
            let other = table.admit([10, 0, 1, 0].into(), false);
            assert!(other.head_grows(SMALL_HEAD));
        }
        drop(places);
        let heads = table.heads.borrow();
        assert_eq!((heads.all, heads.of_address.len()), (0, 0));
    }

    /// A24: what a large head was read into counts for whoever uses the connection, also behind small ones: the server
    /// keeps it.
    #[test]
    fn the_memory_of_a_large_head_counts_as_long_as_the_connection_lives() {
        let table = table(limits(9, 9, None));
        let machine = Metrics::new().unwrap().of_machine().unwrap();
        let seats = Quota::of_bytes(&Arc::new(MemoryBudget::new(Some(1 << 30), machine)), ByteKind::Heads);
        let place = table.admit([10, 0, 0, 1].into(), false);
        for (user, head, counts) in [
            ("alice", 1 << 10, 0),
            ("alice", 20 << 10, 32 << 10),
            ("alice", 1 << 10, 32 << 10),
            ("bob", 100, 32 << 10),
        ] {
            assert!(place.head_grows(head));
            let open = place.flow.begin(&mut actix_http::Request::new());
            place.flow.speaks(Some(&caller(user, false))).unwrap();
            place.flow.head_is_of(|| ByteQuota::new(&seats, user, 1 << 30, "heads"), 4).unwrap();
            drop(open);
            let taken = seats.taken_by(user);
            assert!((counts..=counts + 4096).contains(&taken), "{user}: {taken} behind {head}");
        }
        assert_eq!(seats.taken_by("alice"), 0);
        drop(place);
        assert_eq!(seats.taken_by("bob"), 0);
    }

    /// A25, A27: handshakes for nothing are bounded by address; those of whoever shows a token are not, nor those of
    /// another address or of a named proxy.
    #[tokio::test(start_paused = true)]
    async fn an_address_has_so_many_handshakes_without_a_token() {
        let table = table(limits(9, 9, None));
        let shake = |address: u8, is_proxy| table.admit([10, 0, 0, address].into(), is_proxy);
        for _ in 0..3 * HANDSHAKES {
            let place = shake(1, false);
            assert!(place.may_shake_hands());
            place.flow.speaks(Some(&caller("alice", false))).unwrap();
        }
        let had = (0..2 * HANDSHAKES).take_while(|_| shake(1, false).may_shake_hands()).count();
        assert_eq!(had, HANDSHAKES as usize);
        assert!(shake(2, false).may_shake_hands() && shake(1, true).may_shake_hands());
        tokio::time::advance(std::time::Duration::from_millis(1100)).await;
        let had = (0..HANDSHAKES).filter(|_| shake(1, false).may_shake_hands()).count();
        assert_eq!(had, HANDSHAKES_PER_SECOND as usize);
    }
}
