use std::cell::RefCell;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

const BASE: Duration = Duration::from_secs(5);
const MAX: Duration = Duration::from_mins(1);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A `Random` that returns the given numbers, then 0.5 forever.
fn scripted(numbers: Vec<f64>) -> Random {
    let numbers = Rc::new(RefCell::new(numbers.into_iter()));
    Box::new(move || numbers.borrow_mut().next().unwrap_or(0.5))
}

fn always(number: f64) -> ReconnectDelay {
    ReconnectDelay::new(BASE, MAX, Box::new(move || number))
}

/// F01: delays are random and can grow with each loss.
#[test]
fn each_delay_is_between_the_base_and_three_times_the_previous_one() {
    let mut delay = ReconnectDelay::new(BASE, MAX, scripted(vec![0.0, 1.0, 1.0, 0.0]));
    let delays: Vec<_> = (0..5).filter_map(|_| delay.next_backoff()).collect();
    assert_eq!(delays, [5, 15, 45, 5, 10].map(seconds));
}

/// F06: a channel that closes right after it opened does not reset the delay.
#[test]
fn a_channel_open_for_60_seconds_resets_the_delay() {
    let mut delay = always(1.0);
    assert_eq!([delay.next_delay(), delay.next_delay()], [15, 45].map(seconds));
    delay.channel_lost(Some(seconds(59)), None);
    assert_eq!(delay.next_delay(), seconds(60));
    delay.channel_lost(Some(seconds(60)), None);
    assert_eq!(delay.next_delay(), seconds(15));
}

/// F26: `Retry-After: 17` gives a delay of 17 s; values above a minute give one minute.
#[test]
fn retry_after_raises_one_delay_and_never_shortens_it() {
    let mut delay = always(0.0);
    delay.channel_lost(None, Some(seconds(17)));
    assert_eq!([delay.next_delay(), delay.next_delay()], [17, 5].map(seconds));
    delay.retry_after(seconds(1));
    assert_eq!(delay.next_delay(), seconds(5));
    delay.retry_after(Duration::MAX);
    assert_eq!(delay.next_delay(), seconds(60));
}

#[test]
fn a_retry_field_raises_every_delay_until_another_one() {
    let mut delay = always(0.0);
    delay.channel_lost(Some(seconds(1)), Some(seconds(20)));
    assert_eq!([delay.next_delay(), delay.next_delay()], [20, 20].map(seconds));
    delay.channel_lost(Some(seconds(1)), None);
    assert_eq!(delay.next_delay(), seconds(5));
}

#[test]
fn system_randomness_is_in_range_and_not_constant() {
    let mut random = system_random();
    let drawn: Vec<_> = (0..100).map(|_| random()).collect();
    assert!(drawn.iter().all(|n| (0.0..1.0).contains(n)));
    assert!(drawn.iter().any(|n| (n - drawn[0]).abs() > 0.01));
}

proptest! {
    /// P4, F14, F26: for any `Retry-After` and `retry:` values of a hub.
    #[test]
    fn no_delay_is_below_the_base_or_above_the_cap(
        base in 1_u64..10_000, max in 1_u64..100_000,
        numbers in prop::collection::vec(0.0..1.0, 1..50),
        hints in prop::collection::vec(prop::option::of(0_u64..10_000_000), 50),
    ) {
        let (base, max) = (Duration::from_millis(base), Duration::from_millis(max));
        let mut delay = ReconnectDelay::new(base, max, scripted(numbers.clone()));
        for hint in hints.iter().take(numbers.len()) {
            let hint = hint.map(Duration::from_millis);
            if let Some(hint) = hint {
                delay.retry_after(hint);
            }
            let next = delay.next_delay();
            prop_assert!(next >= base && next >= hint.unwrap_or_default().min(HIGHEST_HINT));
            prop_assert!(next <= max.max(base).max(hint.map_or(Duration::ZERO, |_| HIGHEST_HINT)));
        }
    }
}
