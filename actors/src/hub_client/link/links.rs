//! The link in use, and the one whose hub shuts down.

use std::cell::RefCell;
use std::rc::Rc;

use super::RegistrarLink;

/// The links of a registrar: one, and beside it for a while another one that only finishes its tasks.
#[derive(Default)]
pub(in crate::hub_client) struct Links {
    current: RefCell<Rc<RegistrarLink>>,
    /// Stays until it is replaced; once its connection has ended it knows no task.
    leaving: RefCell<Option<Rc<RegistrarLink>>>,
}

impl Links {
    /// The link for new tasks.
    pub(in crate::hub_client) fn current(&self) -> Rc<RegistrarLink> {
        Rc::clone(&self.current.borrow())
    }

    /// The link for the answer of `task`.
    pub(in crate::hub_client) fn of(&self, task: &str) -> Rc<RegistrarLink> {
        let leaving = self.leaving.borrow();
        match leaving.as_ref().filter(|link| link.link.borrow().knows(task)) {
            Some(leaving) => Rc::clone(leaving),
            None => self.current(),
        }
    }

    /// The link of a channel that was opened: the same, or a new one if the connection of the last one stands although its
    /// hub shuts down, so that another hub has answered.
    pub(in crate::hub_client) fn opened(&self) -> Rc<RegistrarLink> {
        let current = self.current();
        if !(current.is_connected.get() && current.is_going.get()) {
            return current;
        }
        current.is_last.set(true);
        let next = Rc::<RegistrarLink>::default();
        self.current.replace(Rc::clone(&next));
        if let Some(older) = self.leaving.replace(Some(current)) {
            older.reset();
        }
        next
    }
}
