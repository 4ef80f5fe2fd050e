//! Fields of a log line, for a logger that writes objects: `log_with!(info, [user = user], "…")`. The line's text has them,
//! too, for a logger that writes texts.
//!
//! The `log` crate has fields of its own behind its feature `kv`; these need no feature of a crate that everything else is built
//! on. A logger reads them on the thread of the call, while it is called.

use std::cell::RefCell;
use std::fmt::Display;

thread_local! {
    static FIELDS: RefCell<Vec<(&'static str, String)>> = const { RefCell::new(Vec::new()) };
}

/// Calls `log`, whose lines have `fields`.
pub fn with(fields: &[(&'static str, &dyn Display)], log: impl FnOnce()) {
    with_taken(fields.iter().map(|(name, value)| (*name, value.to_string())).collect(), log);
}

/// As [`with`], for fields that [`take`] returned.
pub fn with_taken(fields: Vec<(&'static str, String)>, log: impl FnOnce()) {
    /// Removes the fields, also if `log` panics.
    struct Guard;
    impl Drop for Guard {
        fn drop(&mut self) {
            take();
        }
    }
    // At the end of a thread there are none.
    let _ = FIELDS.try_with(|own| own.replace(fields));
    let _guard = Guard;
    log();
}

/// Removes and returns the fields of the line that is being logged.
pub fn take() -> Vec<(&'static str, String)> {
    FIELDS.try_with(RefCell::take).unwrap_or_default()
}

/// The level of a macro of `log`.
#[doc(hidden)]
#[macro_export]
macro_rules! level {
    (error) => {
        ::log::Level::Error
    };
    (warn) => {
        ::log::Level::Warn
    };
    (info) => {
        ::log::Level::Info
    };
    (debug) => {
        ::log::Level::Debug
    };
    (trace) => {
        ::log::Level::Trace
    };
}

/// Logs a line with fields: a level, perhaps a target, the fields, the text.
#[macro_export]
macro_rules! log_with {
    ($level:ident, target: $target:expr, [$($name:ident = $value:expr),+ $(,)?], $($line:tt)+) => {
        if $crate::level!($level) <= ::log::max_level() {
            $crate::fields::with(
                &[$((stringify!($name), &$value as &dyn ::std::fmt::Display)),+],
                || ::log::$level!(target: $target, $($line)+),
            )
        }
    };
    ($level:ident, [$($fields:tt)+], $($line:tt)+) => {
        $crate::log_with!($level, target: module_path!(), [$($fields)+], $($line)+)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_the_line_that_is_logged() {
        with(&[("user", &"alice"), ("status", &404)], || {
            assert_eq!(take(), [("user", "alice".to_owned()), ("status", "404".to_owned())]);
        });
        let panicked = std::panic::catch_unwind(|| {
            with(&[("user", &"bob")], || std::panic::resume_unwind(Box::new(())));
        });
        assert!(panicked.is_err());
        assert!(take().is_empty(), "the fields outlived their line");
    }
}
