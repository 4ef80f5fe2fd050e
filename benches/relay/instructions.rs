//! Instructions of a small call, counted by valgrind: two builds differ by them alone, not by the machine's other work.

use std::path::Path;

use crate::calls::load;
use crate::figures::Figures;
use crate::rig::Rig;

/// Prints what one call costs hub and registrar outside the kernel: the difference between a run of many calls and one
/// of few, divided, so that the start is not in it. `BENCH_PROGRAM=path` counts another build.
pub async fn small_call(backend: u16, figures: &Figures) {
    const FEW: usize = 160;
    const MANY: usize = 1760;
    const CALLERS: usize = 8;
    let (few, many) = (total(backend, CALLERS, FEW).await, total(backend, CALLERS, MANY).await);
    let each = |few: u64, many: u64| format!("{}", (many - few) / (MANY - FEW) as u64);
    figures.row(
        "small call, 8 callers: instructions",
        &[("hub", each(few.0, many.0)), ("registrar", each(few.1, many.1))],
    );
}

/// Instructions that hub and registrar ran from start to end.
async fn total(backend: u16, callers: usize, calls: usize) -> (u64, u64) {
    let counts = tempfile::tempdir().unwrap();
    let file = format!("--callgrind-out-file={}/%p", counts.path().display());
    let mut rig = Rig::start_under(backend, &["valgrind", "--tool=callgrind", &file]);
    rig.ready().await;
    load(&rig.relay, callers, calls / callers).await;
    let (hub, registrar) = rig.pids();
    rig.stop();
    (collected(counts.path(), hub), collected(counts.path(), registrar))
}

/// The last `totals: N` that callgrind wrote for a process (its manual, "callgrind format specification").
fn collected(counts: &Path, pid: i32) -> u64 {
    let profile = std::fs::read_to_string(counts.join(pid.to_string())).unwrap();
    profile.lines().rev().find_map(|line| line.strip_prefix("totals: ")).unwrap().trim().parse().unwrap()
}
