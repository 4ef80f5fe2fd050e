//! Points at which somebody else may change the way while it is walked: there a test does so. Outside tests they are
//! nothing.

use std::path::Path;

/// Where the walk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// Something in this folder was found to be no link, and is to be opened.
    Looked,
    /// This folder was opened, and is to be judged.
    Entered,
}

/// Somebody may do something now.
#[cfg(not(test))]
pub(crate) const fn reach(_: Point, _: &Path) {}

/// Somebody does what was planned for this point, once.
#[cfg(test)]
pub(crate) fn reach(point: Point, folder: &Path) {
    let is_here = |planned: &mut Planned| planned.0 == point && planned.1 == folder;
    if let Some((.., deed)) = PLANNED.with_borrow_mut(|planned| planned.take_if(is_here)) {
        deed();
    }
}

#[cfg(test)]
type Planned = (Point, std::path::PathBuf, Box<dyn FnOnce()>);

#[cfg(test)]
thread_local! {
    static PLANNED: std::cell::RefCell<Option<Planned>> = const { std::cell::RefCell::new(None) };
}

/// At this point of this thread's next walk somebody does so.
#[cfg(test)]
pub(crate) fn plan(point: Point, folder: &Path, deed: impl FnOnce() + 'static) {
    PLANNED.set(Some((point, folder.to_owned(), Box::new(deed))));
}

/// Whether it was done.
#[cfg(test)]
pub(crate) fn is_done() -> bool {
    PLANNED.with_borrow(Option::is_none)
}
