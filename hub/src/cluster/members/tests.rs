//! Members as hubs see each other through a bad network: thousands of seeded schedules.

mod schedules;

use super::*;

fn process(text: &str) -> Process {
    Process::parse(text).unwrap()
}

fn beat_of(term: u64) -> Beat {
    Beat { term, protocol: [1, 1], ..Beat::default() }
}

/// A process that beats each second from second 0, and its next second.
struct Clock(Members, u64);

impl Clock {
    fn new() -> Self {
        Self(Members::new(process("a.aaaaaa"), 1), 0)
    }

    fn tick(&mut self) -> Vec<Event> {
        self.1 += 1;
        self.0.beat(Duration::from_secs(self.1)).1
    }

    /// The seconds until `event`.
    fn until(&mut self, event: Event) -> u64 {
        let start = self.1;
        while !self.tick().contains(&event) {
            assert!(self.1 < start + 1000, "no {event:?}");
        }
        self.1 - start
    }
}

#[test]
fn a_silent_process_is_suspect_then_dead_then_forgotten() {
    let other = process("b.bbbbbb");
    let mut clock = Clock::new();
    clock.tick();
    assert_eq!(clock.0.heard(other, 1, beat_of(1), 0), [Event::Alive(other)]);
    assert_eq!(clock.until(Event::Suspect(other)), 4);
    assert_eq!(clock.0.state(other), Some(State::Suspect));
    assert!(clock.0.last_beat(other).is_some() && clock.0.living().contains(&other));
    assert_eq!(clock.until(Event::Dead(other)), 12);
    assert!(clock.0.last_beat(other).is_none() && !clock.0.living().contains(&other));
    // Its beats that were heard before say nothing, a new one does.
    assert_eq!(clock.0.heard(other, 1, beat_of(1), 0), []);
    assert_eq!(clock.0.heard(other, 2, beat_of(1), 0), [Event::Alive(other)]);
    for _ in 0..700 {
        clock.tick();
    }
    assert_eq!(clock.0.state(other), None);
}

#[test]
fn a_process_that_is_not_there_is_suspect_at_once_and_dead_no_earlier() {
    let other = process("b.bbbbbb");
    let mut clock = Clock::new();
    assert_eq!(clock.0.not_there(other), None);
    clock.0.heard(other, 1, beat_of(1), 0);
    assert_eq!(clock.0.not_there(process("b.cccccc")), None);
    assert_eq!(clock.0.not_there(other), Some(Event::Suspect(other)));
    assert_eq!(clock.0.not_there(other), None);
    assert_eq!(clock.until(Event::Dead(other)), 16);
}

#[test]
fn a_newer_process_ends_the_older_one_for_good() {
    let (old, new) = (process("b.bbbbbb"), process("b.cccccc"));
    let mut clock = Clock::new();
    clock.0.heard(old, 90, beat_of(4), 0);
    assert_eq!(clock.0.heard(new, 1, beat_of(5), 0), [Event::Dead(old), Event::Alive(new)]);
    assert_eq!(clock.0.heard(old, 91, beat_of(4), 0), []);
    assert_eq!((clock.0.state(old), clock.0.state(new)), (Some(State::Dead), Some(State::Alive)));
    // Nor after the newer one's death.
    clock.until(Event::Dead(new));
    assert_eq!(clock.0.heard(old, 92, beat_of(4), 0), []);
    assert_eq!(clock.0.living(), [process("a.aaaaaa")]);
}

#[test]
fn of_two_processes_with_one_id_the_older_one_ends() {
    let (old, new) = (process("a.aaaaaa"), process("a.cccccc"));
    let mut older = Members::new(old, 1);
    let mut newer = Members::new(new, 2);
    assert_eq!(older.heard(new, 1, beat_of(2), 0), [Event::Superseded(new)]);
    assert_eq!(newer.heard(old, 99, beat_of(1), 0), []);
    assert_eq!(newer.living(), [new]);
}

#[test]
fn a_process_that_was_stopped_fences_itself_and_takes_nobody_for_dead() {
    let other = process("b.bbbbbb");
    let mut members = Members::new(process("a.aaaaaa"), 1);
    let at = Duration::from_millis;
    assert_eq!(members.beat(at(0)), (1, Vec::new()));
    members.heard(other, 1, beat_of(1), 0);
    // The longest pause without a fence, and the shortest with one.
    assert_eq!(members.beat(at(10_000)), (2, Vec::new()));
    assert_eq!(members.beat(at(20_001)), (3, vec![Event::Fence]));
    assert_eq!(members.state(other), Some(State::Alive));
    // It goes on, by a clock that begins anew.
    assert_eq!(members.beat(at(0)), (4, Vec::new()));
    assert_eq!(members.living(), [process("a.aaaaaa"), other]);
}

#[test]
fn an_echo_counts_for_three_beats() {
    let me = process("a.aaaaaa");
    let mut members = Members::new(me, 1);
    assert!(!members.has_echo() && members.without_echo() == Some(Duration::ZERO));
    for second in 0..10 {
        members.beat(Duration::from_secs(second));
        assert!(second == 0 || members.has_echo());
        assert_eq!(members.heard(me, second + 1, beat_of(1), 0), []);
        assert_eq!(members.without_echo(), None);
    }
    let lost: Vec<_> = (10..14)
        .map(|second| {
            members.beat(Duration::from_secs(second));
            members.has_echo()
        })
        .collect();
    assert_eq!(lost, [true, true, true, false]);
    assert_eq!(members.without_echo(), Some(Duration::from_secs(4)));
    // An old one that comes late is no echo.
    members.heard(me, 9, beat_of(1), 0);
    assert!(!members.has_echo());
}

#[test]
fn what_differs_for_three_beats_has_drifted() {
    let other = process("b.bbbbbb");
    let mut members = Members::new(process("a.aaaaaa"), 1);
    let mut heard = |number, known| {
        let events = members.heard(other, number, beat_of(1), known);
        events.contains(&Event::Drifted(other))
    };
    assert_eq!([heard(1, 7), heard(2, 7), heard(3, 0), heard(4, 7), heard(5, 7)], [false; 5]);
    assert_eq!([heard(6, 7), heard(7, 7), heard(8, 7), heard(9, 7)], [true, false, false, true]);
}

#[test]
fn frames_from_long_ago_are_stale() {
    let (other, me) = (process("b.bbbbbb"), process("a.aaaaaa"));
    let mut members = Members::new(me, 1);
    assert!(!members.is_stale(other, 1));
    members.heard(other, 10, beat_of(1), 0);
    assert_eq!(
        [5, 6, 7, 10, 11].map(|beat| members.is_stale(other, beat)),
        [true, true, false, false, false]
    );
    assert!(members.is_stale(process("b.cccccc"), 99), "another process of the hub");
    assert!(members.is_stale(process("a.cccccc"), 1) && !members.is_stale(me, 1), "with this hub's id");
}

#[test]
fn a_flood_of_hubs_is_bounded() {
    let mut members = Members::new(process("a.aaaaaa"), 1);
    for n in 0..1000 {
        members.heard(process(&format!("h{n}.aaaaaa")), 1, beat_of(1), 0);
    }
    assert_eq!(members.living().len(), MOST + 1);
}

/// A beat of a version that says more is understood, and one that says less of what is optional.
#[test]
fn a_beat_may_have_more_keys() {
    let text = r#"{"term":3,"isDraining":true,"digest":18446744073709551615,"protocol":[1,2],"new":{}}"#;
    let beat: Beat = serde_json::from_str(text).unwrap();
    assert_eq!(beat, Beat { is_draining: true, digest: u64::MAX, protocol: [1, 2], ..beat_of(3) });
}
