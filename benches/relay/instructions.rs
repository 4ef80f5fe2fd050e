//! Instructions of a small call and of a token, counted by valgrind: two builds differ by them alone, not by the machine's
//! other work.

use std::path::Path;

use crate::calls::load;
use crate::figures::Figures;
use crate::rig::{Relay, answered, transports};
use crate::streams::{STREAMS, rate};

const CALLERS: usize = 8;

/// Prints what a call, and a token of an unpaced stream, cost hub and registrar outside the kernel: the difference between
/// a run of many and one of few, divided, so that the start is not in it. `BENCH_PROGRAM=path` counts another build.
pub async fn count(backend: u16, figures: &Figures) {
    const FEW: (usize, usize) = (160, 200);
    const MANY: (usize, usize) = (1760, 1400);
    for transport in transports() {
        let start = total(backend, transport, FEW.0, FEW.1).await;
        let calls = total(backend, transport, MANY.0, FEW.1).await;
        let tokens = total(backend, transport, FEW.0, MANY.1).await;
        for (what, more, count) in [
            ("small call, 8 callers", calls, MANY.0 - FEW.0),
            ("token, 32 streams, unpaced", tokens, STREAMS * (MANY.1 - FEW.1)),
        ] {
            let each = |at: usize| format!("{}", more[at].saturating_sub(start[at]) / count as u64);
            figures.row(
                &format!("{what}, {transport}: instructions"),
                &[("hub", each(0)), ("registrar", each(1))],
            );
        }
    }
}

/// Instructions that hub and registrar ran from start to end, with so many calls and tokens of each stream.
async fn total(backend: u16, transport: &str, calls: usize, tokens: usize) -> [u64; 2] {
    let counts = tempfile::tempdir().unwrap();
    let file = format!("--callgrind-out-file={}/%p", counts.path().display());
    let mut relay = Relay::start(backend, transport, &["valgrind", "--tool=callgrind", &file]);
    answered(&relay.target).await;
    load(&relay.target, CALLERS, calls / CALLERS).await;
    rate(&relay.target, tokens, 0).await;
    let (hub, registrar) = relay.pids();
    relay.stop();
    [hub, registrar].map(|pid| collected(counts.path(), pid))
}

/// The last `totals: N` that callgrind wrote for a process (its manual, "callgrind format specification").
fn collected(counts: &Path, pid: i32) -> u64 {
    let profile = std::fs::read_to_string(counts.join(pid.to_string())).unwrap();
    profile.lines().rev().find_map(|line| line.strip_prefix("totals: ")).unwrap().trim().parse().unwrap()
}
