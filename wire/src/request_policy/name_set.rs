//! A set of names that rejects nearly all other names without a comparison.

/// Number of slots of a [`NameSet`]. A name that is not in the set finds an empty slot at once, unless its hash is that of one
/// of the few hundred names.
const SLOTS: usize = 1 << 13;
const EMPTY: u16 = u16::MAX;

/// A hash table of a fixed set of names. The hash of a name depends on its length and four of its bytes, so a name of any
/// length costs the same. Callers choose the names that they look up but not those in the set, so what a look-up costs is
/// bounded by the longest run of used slots.
pub(super) struct NameSet<N> {
    names: Vec<N>,
    /// For each slot, the index of a name, or [`EMPTY`].
    slots: Box<[u16]>,
}

impl<N: AsRef<[u8]>> NameSet<N> {
    pub(super) fn new(names: impl IntoIterator<Item = N>) -> Self {
        let mut set = Self { names: Vec::new(), slots: vec![EMPTY; SLOTS].into() };
        for name in names {
            let Some(mut slot) = Self::slot(name.as_ref()) else { continue };
            while set.slots[slot] != EMPTY {
                slot = (slot + 1) % SLOTS;
            }
            set.slots[slot] = u16::try_from(set.names.len()).unwrap_or(EMPTY);
            set.names.push(name);
        }
        set
    }

    /// Whether the set has this name. No set has the empty name.
    #[inline]
    pub(super) fn contains(&self, name: &[u8]) -> bool {
        let Some(mut slot) = Self::slot(name) else { return false };
        while let Some(known) = self.names.get(usize::from(self.slots[slot])) {
            if known.as_ref() == name {
                return true;
            }
            slot = (slot + 1) % SLOTS;
        }
        false
    }

    /// The slot at which the search for a name begins.
    #[inline]
    fn slot(name: &[u8]) -> Option<usize> {
        let (first, last) = (*name.first()?, *name.last()?);
        let bytes = [first, last, name[name.len() / 2], name[name.len() / 4]];
        let hash = (u64::from(u32::from_le_bytes(bytes)) << 8 ^ name.len() as u64)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        usize::try_from(hash >> (u64::BITS - SLOTS.trailing_zeros())).ok()
    }

    /// Length of the longest run of used slots: the most comparisons of one look-up.
    #[cfg(test)]
    pub(super) fn longest_run(&self) -> usize {
        self.slots.split(|slot| *slot == EMPTY).map(<[u16]>::len).max().unwrap_or(0)
    }
}
