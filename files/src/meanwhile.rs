//! Points of the walk at which a test changes the path, as another process could. Outside tests they do nothing.

use std::path::Path;

/// A point of the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// After an entry of this folder was found to be no link, before it is opened.
    Looked,
    /// After this folder was opened, before it is checked.
    Entered,
}

#[cfg(not(test))]
pub(crate) const fn reach(_: Point, _: &Path) {}

/// Runs the planned change of this point, once.
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

/// Plans a change for the next walk of this thread.
#[cfg(test)]
pub(crate) fn plan(point: Point, folder: &Path, deed: impl FnOnce() + 'static) {
    PLANNED.set(Some((point, folder.to_owned(), Box::new(deed))));
}

/// Whether the planned change was made.
#[cfg(test)]
pub(crate) fn is_done() -> bool {
    PLANNED.with_borrow(Option::is_none)
}
