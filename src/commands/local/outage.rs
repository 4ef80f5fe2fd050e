//! Log lines about the hub: one when it fails in another way than before, one when it answers again.

use std::cell::RefCell;

use crate::output::printable;

/// The last logged failure.
#[derive(Default)]
pub(super) struct Outage(RefCell<Option<String>>);

impl Outage {
    pub(super) fn fails(&self, text: &str) {
        if self.0.borrow().as_deref() != Some(text) {
            log::warn!("{}", printable(text));
            *self.0.borrow_mut() = Some(text.to_owned());
        }
    }

    pub(super) fn works(&self) {
        if self.0.take().is_some() {
            log::info!("the hub answers again");
        }
    }
}
