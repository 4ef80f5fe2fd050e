//! Room for an answer while it is read: whoever asks a backend counts the bytes that are held for it.

#[cfg(test)]
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

/// Bytes are counted in such steps: an answer smaller than one costs nothing, and a large one asks once for each.
const STEP: usize = 64 << 10;

/// Count of the bytes that are held for somebody.
pub trait Room {
    /// Counts so many more; `false`, and none of them, where there is no room.
    fn grow(&self, more: usize) -> bool;

    /// So many are not held any more.
    fn shrink(&self, less: usize);
}

/// Where the bytes of one answer are counted. The default counts nothing.
#[derive(Clone, Default)]
pub struct Meter {
    room: Option<Rc<dyn Room>>,
}

impl Meter {
    /// Counts in `room`.
    pub fn new(room: Rc<dyn Room>) -> Self {
        Self { room: Some(room) }
    }

    /// No bytes yet.
    pub(crate) fn part(&self) -> Part {
        Part { meter: self.clone(), counted: 0 }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("counts", &self.room.is_some()).finish()
    }
}

/// Bytes that one reader of an answer holds, counted until it is dropped.
pub(crate) struct Part {
    meter: Meter,
    counted: usize,
}

impl Part {
    /// It holds so many from now on. `false` where there is no room for them: then what it held before stays counted.
    #[must_use]
    pub(crate) fn hold(&mut self, bytes: usize) -> bool {
        let Some(room) = &self.meter.room else { return true };
        let steps = bytes - bytes % STEP;
        let fits = match steps.checked_sub(self.counted) {
            Some(0) => true,
            Some(more) => room.grow(more),
            None => {
                room.shrink(self.counted - steps);
                true
            }
        };
        if fits {
            self.counted = steps;
        }
        fits
    }

    /// What it counts stays counted: whoever gave the room has the bytes now.
    pub(crate) fn hand_over(mut self) {
        self.counted = 0;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.counted > 0
            && let Some(room) = &self.meter.room
        {
            room.shrink(self.counted);
        }
    }
}

/// Room for so many bytes, which tells how many of them are taken.
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
impl Room for Bounded {
    fn grow(&self, more: usize) -> bool {
        let held = self.held.get() + more;
        if held > self.most {
            return false;
        }
        self.held.set(held);
        self.highest.set(self.highest.get().max(held));
        true
    }

    fn shrink(&self, less: usize) {
        self.held.set(self.held.get().checked_sub(less).unwrap());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However parts grow and shrink, the room counts what they hold but for less than a step each, never more than it
        /// has, and nothing in the end but what was handed over.
        #[test]
        fn a_room_counts_what_its_parts_hold(
            ops in prop::collection::vec((0..4_usize, 0..8 * STEP), 0..100), handed in any::<bool>(),
        ) {
            let room = Bounded::new(20 * STEP);
            let meter = Meter::new(room.clone());
            let mut parts: Vec<_> = (0..4).map(|_| (meter.part(), 0)).collect();
            for (at, bytes) in ops {
                let (part, held) = &mut parts[at];
                if part.hold(bytes) {
                    *held = bytes;
                }
                let held: usize = parts.iter().map(|(_, held)| held).sum();
                prop_assert!(room.held.get() <= held && held < room.held.get() + 4 * STEP);
            }
            let (last, held) = parts.pop().unwrap();
            drop(parts);
            if handed { last.hand_over() } else { drop(last) }
            prop_assert_eq!(room.held.get(), if handed { held - held % STEP } else { 0 });
        }
    }
}
