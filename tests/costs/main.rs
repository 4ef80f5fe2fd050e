//! What a request costs: in proportion to its size, whatever its shape, and the same however much others have.
//!
//! Counted is what the threads of a process have run (`/proc/PID/task/TID/schedstat`, in nanoseconds): what else the machine
//! does takes time and no CPU of theirs. The least of some runs counts, so that a cache that was cold does not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panic")]
#![allow(unreachable_pub, missing_docs, reason = "nothing of a test binary is public")]
#![allow(dead_code, reason = "the helpers of all test binaries")]
#![allow(clippy::print_stdout, reason = "a test that fails shows all slopes and costs")]

mod fit;
mod meter;
mod others;
mod rig;
mod shapes;
