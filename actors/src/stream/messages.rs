//! Its messages.
