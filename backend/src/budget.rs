//! ByteBudget for an answer while it is read: whoever asks a backend counts the bytes that are held for it.

#[cfg(test)]
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

/// Bytes are counted in such steps: an answer smaller than one costs nothing, and a large one asks once for each.
const STEP: usize = 64 << 10;

/// Count of the bytes that are held for somebody.
pub trait ByteBudget {
    /// Counts so many more; `false`, and none of them, where there is no total.
    fn reserve(&self, more: usize) -> bool;

    /// So many are not held any more.
    fn release(&self, less: usize);
}

/// Where the bytes of one answer are counted. The default counts nothing.
#[derive(Clone, Default)]
pub struct AnswerBudget {
    total: Option<Rc<dyn ByteBudget>>,
}

impl AnswerBudget {
    /// Counts in `total`.
    pub fn new(total: Rc<dyn ByteBudget>) -> Self {
        Self { total: Some(total) }
    }

    /// No bytes yet.
    pub(crate) fn reservation(&self) -> Reservation {
        Reservation { budget: self.clone(), counted: 0 }
    }
}

impl fmt::Debug for AnswerBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerBudget").field("counts", &self.total.is_some()).finish()
    }
}

/// Bytes that one reader of an answer holds, counted until it is dropped.
pub(crate) struct Reservation {
    budget: AnswerBudget,
    counted: usize,
}

impl Reservation {
    /// It holds so many from now on. `false` where there is no total for them: then what it held before stays counted.
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

    /// What it counts stays counted: whoever gave the total has the bytes now.
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

/// ByteBudget for so many bytes, which tells how many of them are taken.
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
        /// However reservations reserve and release, the total counts what they hold but for less than a step each, never more than it
        /// has, and nothing in the end but what was handed over.
        #[test]
        fn a_room_counts_what_its_parts_hold(
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
