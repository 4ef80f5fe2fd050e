//! The connections of one serving thread. Those without a valid token make room for each other, and for those with one.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use super::flow::Flow;
use super::room::Room;
use crate::auth::network;
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
}

impl Cut {
    /// For the metric.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Hub => "hub",
            Self::Idle => "idle",
        }
    }
}

/// All connections.
pub(super) struct Table {
    room: Room,
    machine: Machine,
    lists: RefCell<Lists>,
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
}

/// A connection's place, until it is dropped.
pub(super) struct Place {
    table: Rc<Table>,
    pub(super) flow: Rc<Flow>,
}

impl Table {
    pub(super) fn new(room: Room, machine: Machine) -> Rc<Self> {
        Rc::new(Self { room, machine, lists: RefCell::default() })
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
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.lists.borrow_mut().take(self.flow.id());
        self.table.count();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::watch::Metrics;

    #[derive(Debug, Clone)]
    enum Op {
        Come(u8, bool),
        Token(usize, bool),
        Leave(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0..4_u8, prop::bool::weighted(0.1)).prop_map(|(address, proxy)| Op::Come(address, proxy)),
            3 => (any::<usize>(), any::<bool>()).prop_map(|(at, yes)| Op::Token(at, yes)),
            1 => any::<usize>().prop_map(Op::Leave),
        ]
    }

    proptest! {
        /// A25: whoever comes, shows a token or leaves, in any order: those without a token are never more than they may
        /// be, no newcomer is the one who goes, and nothing is kept of those who left.
        #[test]
        fn strangers_make_room_for_each_other(ops in prop::collection::vec(op(), 1..200)) {
            let room = Room { all: 12, strangers: 9, of_address: Some(4) };
            let table = Table::new(room, Metrics::new().unwrap().of_machine().unwrap());
            let mut places: Vec<Place> = Vec::new();
            for op in ops {
                match op {
                    Op::Come(address, is_proxy) => {
                        let place = table.admit([10, 0, 0, address].into(), is_proxy);
                        prop_assert!(place.flow.is_cut().is_none());
                        places.push(place);
                    }
                    Op::Token(at, yes) if !places.is_empty() => {
                        let flow = &places[at % places.len()].flow;
                        flow.has_token(yes);
                        prop_assert!(!yes || flow.is_proxy() || flow.is_cut().is_none());
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
            }
            drop(places);
            prop_assert_eq!(table.sizes(), [0; 4]);
        }
    }

    /// A25: where all have a token, one that comes takes the place of some that idle, not of those with a call under way.
    #[test]
    fn an_idle_connection_goes_where_all_have_a_token() {
        let table = Table::new(
            Room { all: 3, strangers: 3, of_address: None },
            Metrics::new().unwrap().of_machine().unwrap(),
        );
        let mut requests = Vec::new();
        let places: Vec<Place> = (0..3)
            .map(|number| {
                let place = table.admit([10, 0, 0, 1].into(), false);
                place.flow.has_token(true);
                let open = place.flow.begin(&mut actix_http::Request::new());
                requests.push((number != 1).then_some(open));
                place
            })
            .collect();
        let newcomer = table.admit([10, 0, 0, 2].into(), false);
        newcomer.flow.has_token(true);
        let last = table.admit([10, 0, 0, 2].into(), false);
        let cut: Vec<bool> = places.iter().map(|place| place.flow.is_cut().is_some()).collect();
        assert_eq!(cut, [false, true, false]);
        assert_eq!(newcomer.flow.is_cut(), None);
        drop(last);
    }
}
