//! The connections of one serving thread. Those without a valid token make room for each other, and for those with one.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use tokio::time::Instant;

use super::flow::Flow;
use super::room::Room;
use crate::auth::network;
use crate::budget::{Budgets, Verdict};
use crate::error::{ApiError, ErrorKind};
use crate::limits::too_many;
use crate::model::UserId;
use crate::watch::Machine;

/// Why a connection is closed by the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Its address has too many without a valid token.
    Address,
    /// The hub has too many without one, or at all.
    Hub,
    /// It was idle for too long without one, or did not read.
    Idle,
    /// Its request's head is large and not whole, and too many are.
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
/// Bytes of heads that are not whole, of all connections together; beyond, each has [`SMALL_HEAD`].
const HEADS: usize = 16 << 20;
/// A head that is not whole may have so much whatever others have.
const SMALL_HEAD: usize = 8 << 10;

/// All connections.
pub(super) struct Table {
    room: Room,
    machine: Machine,
    lists: RefCell<Lists>,
    /// Bytes of heads that are not whole.
    heads: Cell<usize>,
    handshakes: Budgets<IpAddr>,
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

/// A connection's place, until it is dropped.
pub(super) struct Place {
    table: Rc<Table>,
    pub(super) flow: Rc<Flow>,
    /// Bytes of a head that is not whole.
    head: Cell<usize>,
}

impl Table {
    pub(super) fn new(room: Room, machine: Machine) -> Rc<Self> {
        Rc::new(Self {
            room,
            machine,
            lists: RefCell::default(),
            heads: Cell::default(),
            handshakes: Budgets::new(HANDSHAKES, HANDSHAKES_PER_SECOND),
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
        Place { table: self.clone(), flow, head: Cell::default() }
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
        if count >= self.room.of_member {
            self.machine.cut("user");
            return Err(too_many(count, "connections"));
        }
        if lists.of_members >= self.room.members {
            self.machine.cut("hub");
            let text = format!("members have {} connections: try again later", lists.of_members);
            return Err(ApiError::new(ErrorKind::HubBusy, text));
        }
        lists.of_member.insert(member.to_owned(), count + 1);
        lists.of_members += 1;
        *counted = Some(member.to_owned());
        Ok(())
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
        let room = &self.room;
        let of_address = lists.of_address.get(&flow.address());
        let crowded = of_address.filter(|list| room.of_address.is_some_and(|most| list.len() > most));
        if let Some(oldest) = crowded.and_then(|list| list.keys().next().copied()) {
            lists.cut(oldest, Cut::Address, &self.machine);
        }
        let strangers = lists.strangers.len() + lists.spared.len();
        if strangers > room.strangers || strangers + lists.known.len() > room.all {
            let mut oldest = lists.spared.keys().chain(lists.strangers.keys()).copied();
            match oldest.find(|id| *id != flow.id()) {
                Some(oldest) => lists.cut(oldest, Cut::Hub, &self.machine),
                None => lists.cut_idle(room.all, &self.machine),
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

    pub(super) fn room(&self) -> Room {
        self.table.room
    }

    /// Whether it may have a handshake: its address has not had too many for nothing. A named proxy's may.
    pub(super) fn may_shake_hands(&self) -> bool {
        if self.flow.is_known() {
            return true;
        }
        let table = &self.table;
        let verdict = table.handshakes.mistake(self.flow.address(), table.start.elapsed());
        if verdict != Verdict::Mistake {
            table.machine.cut("handshake");
            return false;
        }
        self.flow.owes_handshake();
        true
    }

    /// So many more bytes of a head came, and it is not whole. `false` where it is large, and too many are.
    pub(super) fn head_grows(&self, more: usize) -> bool {
        self.head.set(self.head.get() + more);
        self.table.heads.set(self.table.heads.get() + more);
        self.head.get() <= SMALL_HEAD || self.table.heads.get() <= HEADS
    }

    /// The head is whole, or goes.
    pub(super) fn head_is_over(&self) {
        let size = self.head.take();
        self.table.heads.set(self.table.heads.get().saturating_sub(size));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.head_is_over();
        let mut lists = self.table.lists.borrow_mut();
        lists.take(self.flow.id());
        lists.leaves_member(self.flow.member());
        drop(lists);
        self.table.count();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Caller, Role};
    use crate::watch::Metrics;

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

    fn room(all: usize, strangers: usize, of_address: Option<usize>) -> Room {
        Room { all, strangers, members: all, of_member: all, of_address }
    }

    fn table(room: Room) -> Rc<Table> {
        Table::new(room, Metrics::new().unwrap().of_machine().unwrap())
    }

    proptest! {
        /// A25, A27: whoever comes, shows a token or leaves, in any order: those without a token are never more than they
        /// may be, no member has more than one may have, members together leave room to admins, no newcomer is the one
        /// who goes, and nothing is kept of those who left.
        #[test]
        fn strangers_make_room_for_each_other(ops in prop::collection::vec(op(), 1..200)) {
            let room = Room { all: 12, strangers: 9, members: 10, of_member: 3, of_address: Some(4) };
            let table = table(room);
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
                        prop_assert!(spoke.is_ok() || !is_admin, "an admin has room");
                        prop_assert_eq!(flow.is_known(), flow.is_proxy() || caller.is_some() && spoke.is_ok());
                        prop_assert!(!flow.is_known() || flow.is_proxy() || flow.is_cut().is_none());
                    }
                    Op::Head(at, size) if !places.is_empty() => {
                        let place = &places[at % places.len()];
                        prop_assert!(place.head_grows(size), "there is room for some");
                        if size % 2 == 0 {
                            place.head_is_over();
                        }
                    }
                    Op::Leave(at) if !places.is_empty() => drop(places.swap_remove(at % places.len())),
                    _ => {}
                }
                let [known, strangers, leaving, _] = table.sizes();
                prop_assert_eq!(known + strangers + leaving, places.len());
                prop_assert!(strangers <= room.strangers, "{} strangers", strangers);
                prop_assert!(strangers == 0 || known + strangers <= room.all.max(known + 1));
                let lists = table.lists.borrow();
                prop_assert!(lists.of_address.values().all(|list| list.len() <= 4));
                prop_assert!(lists.of_member.values().all(|count| (1..=3).contains(count)));
                prop_assert_eq!(lists.of_member.values().sum::<usize>(), lists.of_members);
                prop_assert!(lists.of_members <= 10);
            }
            drop(places);
            prop_assert_eq!(table.sizes(), [0; 4]);
            prop_assert_eq!((table.heads.get(), table.lists.borrow().of_members), (0, 0));
        }
    }

    /// A25: where all have a token, one that comes takes the place of some that idle, not of those with a call under way.
    #[test]
    fn an_idle_connection_goes_where_all_have_a_token() {
        let table = table(room(3, 3, None));
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

    /// A07, A25: heads that are not whole have bounded memory together; a small one comes through whatever the others do.
    #[test]
    fn large_heads_that_are_not_whole_are_bounded_together() {
        let table = table(room(25_000, 18_750, None));
        let mut places: Vec<Place> = Vec::new();
        let grows = |place: &Place| (0..128).take_while(|_| place.head_grows(1024)).count();
        for _ in 0..1000 {
            let place = table.admit([10, 0, 0, 1].into(), false);
            let came = grows(&place);
            // One that is refused is gone.
            if came < 128 {
                place.head_is_over();
                assert_eq!(came, SMALL_HEAD >> 10);
            }
            places.push(place);
        }
        assert!((HEADS - (128 << 10)..=HEADS).contains(&table.heads.get()), "{}", table.heads.get());
        drop(places);
        assert_eq!(table.heads.get(), 0);
    }

    /// A25, A27: handshakes for nothing are bounded by address; those of whoever shows a token are not, nor those of
    /// another address or of a named proxy.
    #[tokio::test(start_paused = true)]
    async fn an_address_has_so_many_handshakes_without_a_token() {
        let table = table(room(9, 9, None));
        let shake = |address: u8, is_proxy| table.admit([10, 0, 0, address].into(), is_proxy);
        for _ in 0..3 * HANDSHAKES {
            let place = shake(1, false);
            assert!(place.may_shake_hands());
            place.flow.speaks(Some(&caller("alice", false))).unwrap();
        }
        let mut had = 0;
        while shake(1, false).may_shake_hands() {
            had += 1;
        }
        assert_eq!(had, HANDSHAKES);
        assert!(shake(2, false).may_shake_hands() && shake(1, true).may_shake_hands());
        tokio::time::advance(std::time::Duration::from_millis(1100)).await;
        let had = (0..HANDSHAKES).filter(|_| shake(1, false).may_shake_hands()).count();
        assert_eq!(had, HANDSHAKES_PER_SECOND as usize);
    }
}
