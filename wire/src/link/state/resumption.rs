//! What survives a broken connection, and how the next one goes on with it.

use std::sync::Arc;

use super::{Link, Tables, Task};
use crate::link::{Frame, Violation};

impl Link {
    /// What this end has of all tasks.
    pub fn tables(&self) -> Tables {
        let held = |(task, state): (&Arc<str>, &Task)| {
            let (received, granted) = state.incoming.held();
            (task.to_string(), [received, granted])
        };
        self.tasks.iter().map(held).collect()
    }

    /// Notes that the connection broke. Frames that were not pieces are dropped: the tables of the next connection say
    /// the same.
    pub fn disconnect(&mut self) {
        self.is_carried = false;
        self.control.clear();
        self.turn.clear();
        self.grants.clear();
        self.tasks.values_mut().for_each(|state| (state.has_turn, state.has_grant) = (false, false));
    }

    /// Checks that a peer can have `tables`.
    pub(in crate::link) fn check(&self, tables: &Tables) -> Result<(), Violation> {
        self.tasks.iter().try_for_each(|(task, state)| match tables.get(&**task) {
            Some(&[received, granted]) => state.outgoing.check(received, granted),
            None => Ok(()),
        })
    }

    /// Tells the peer, whose tables are `tables`, what it may have missed since the hello: ends of tasks, and credit.
    pub(in crate::link) fn tell(&mut self, tables: &Tables) {
        for task in tables.keys() {
            match self.tasks.get(&**task) {
                Some(state) if state.incoming.has_grown() => self.grant(task),
                Some(_) => (),
                None => self.send_control(&Frame::Cancel { task }),
            }
        }
    }

    /// Goes on with a peer that has `tables`, on a new connection. The tasks that it does not know are removed and returned.
    pub fn resume(&mut self, tables: &Tables) -> Result<Vec<Arc<str>>, Violation> {
        if self.is_carried {
            return Err(Violation::GreetedTwice);
        }
        self.check(tables)?;
        let mut lost = Vec::new();
        for (task, state) in &mut self.tasks {
            match tables.get(&**task) {
                Some(&[received, granted]) => state.outgoing.resume(received, granted),
                None => lost.push(task.clone()),
            }
        }
        for task in &lost {
            self.tasks.remove(task);
        }
        self.is_carried = true;
        let ready = self.tasks.iter_mut().filter(|(_, state)| state.outgoing.is_ready());
        for (task, state) in ready {
            state.has_turn = true;
            self.turn.push_back(task.clone());
        }
        Ok(lost)
    }
}
