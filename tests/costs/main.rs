//! CPU cost of requests: proportional to the size of the request, whatever its shape, and independent of what other users
//! keep at the hub.
//!
//! The cost is the CPU time of a process's threads (`/proc/PID/task/TID/schedstat`, in nanoseconds), so other load on the
//! machine does not count. Each cost is the minimum of several runs, so cold caches do not count either.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panic")]
#![allow(unreachable_pub, missing_docs, reason = "nothing of a test binary is public")]
#![allow(dead_code, reason = "the helpers of all test binaries")]
#![allow(clippy::print_stdout, reason = "a test that fails shows all slopes and costs")]

mod fit;
mod meter;
mod others;
mod rig;
mod sessions;
mod shapes;
