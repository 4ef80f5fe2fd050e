//! Memory budgets for answers that are being read.

#[cfg(test)]
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

/// Granularity of the count in bytes: smaller answers are not counted, and large ones call the budget once a step.
const STEP: usize = 64 << 10;

/// A limit for the memory of answers.
pub trait ByteBudget {
    /// Reserves `more` bytes. Returns `false`, and reserves none, if they exceed the limit.
    fn reserve(&self, more: usize) -> bool;

    /// Releases `less` bytes.
    fn release(&self, less: usize);
}

/// The budget of one answer. The default is unlimited.
#[derive(Clone, Default)]
pub struct AnswerBudget {
    total: Option<Rc<dyn ByteBudget>>,
}

impl AnswerBudget {
    /// Creates a budget that reserves bytes of `total`.
    pub fn new(total: Rc<dyn ByteBudget>) -> Self {
        Self { total: Some(total) }
    }

    /// Creates an empty reservation.
    pub(crate) fn reservation(&self) -> Reservation {
        Reservation { budget: self.clone(), counted: 0 }
    }
}

impl fmt::Debug for AnswerBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerBudget").field("counts", &self.total.is_some()).finish()
    }
}

/// Bytes reserved for one reader of an answer, released on drop.
pub(crate) struct Reservation {
    budget: AnswerBudget,
    counted: usize,
}

impl Reservation {
    /// Changes the reservation to `bytes`. Returns `false`, and changes nothing, if they exceed the limit.
    #[must_use]
    pub(crate) fn resize(&mut self, bytes: usize) -> bool {
        let Some(total) = &self.budget.total else { return true };
        let steps = bytes - bytes % STEP;
        let fits = match steps.checked_sub(self.counted) {
            Some(0) => true,
            Some(more) => total.reserve(more),
            None => {
                total.release(self.counted - steps);
                true
            }
        };
        if fits {
            self.counted = steps;
        }
        fits
    }

    /// Keeps the bytes reserved, because the owner of the budget takes over the memory.
    pub(crate) fn keep(mut self) {
        self.counted = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.counted > 0
            && let Some(total) = &self.budget.total
        {
            total.release(self.counted);
        }
    }
}

/// A budget of `most` bytes that records its use.
#[cfg(test)]
pub(crate) struct Bounded {
    most: usize,
    pub(crate) held: Cell<usize>,
    pub(crate) highest: Cell<usize>,
}

#[cfg(test)]
impl Bounded {
    pub(crate) fn new(most: usize) -> Rc<Self> {
        Rc::new(Self { most, held: Cell::default(), highest: Cell::default() })
    }
}

#[cfg(test)]
impl ByteBudget for Bounded {
    fn reserve(&self, more: usize) -> bool {
        let held = self.held.get() + more;
        if held > self.most {
            return false;
        }
        self.held.set(held);
        self.highest.set(self.highest.get().max(held));
        true
    }

    fn release(&self, less: usize) {
        self.held.set(self.held.get().checked_sub(less).unwrap());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The count differs from the memory in use by less than a step for each reservation.
        #[test]
        fn a_budget_counts_its_reservations(
            ops in prop::collection::vec((0..4_usize, 0..8 * STEP), 0..100), handed in any::<bool>(),
        ) {
            let total = Bounded::new(20 * STEP);
            let budget = AnswerBudget::new(total.clone());
            let mut reservations: Vec<_> = (0..4).map(|_| (budget.reservation(), 0)).collect();
            for (at, bytes) in ops {
                let (reservation, held) = &mut reservations[at];
                if reservation.resize(bytes) {
                    *held = bytes;
                }
                let held: usize = reservations.iter().map(|(_, held)| held).sum();
                prop_assert!(total.held.get() <= held && held < total.held.get() + 4 * STEP);
            }
            let (last, held) = reservations.pop().unwrap();
            drop(reservations);
            if handed { last.keep() } else { drop(last) }
            prop_assert_eq!(total.held.get(), if handed { held - held % STEP } else { 0 });
        }
    }
}
