use super::*;

const HOUR: Duration = Duration::from_hours(1);

/// F59: a deadline is monotonic and includes the time before a restart; setting the wall clock back changes none.
#[test]
fn the_deadline_does_not_move_with_the_wall_clock() {
    let start = Timestamp(1_800_000_000_000);
    let now = Now { wall: start, mono: Duration::from_secs(5) };
    let minutes = |minutes: i64| start.plus_millis(minutes * 60_000);
    assert_eq!(deadline(start, now, HOUR), now.mono + HOUR);
    assert_eq!(deadline(minutes(-20), now, HOUR), now.mono + HOUR * 2 / 3);
    assert_eq!(deadline(minutes(-90), now, HOUR), now.mono, "an old task does not expire at the next pass");
    assert_eq!(deadline(minutes(90), now, HOUR), now.mono + HOUR);
}
