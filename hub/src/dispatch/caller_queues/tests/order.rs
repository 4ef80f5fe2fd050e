//! Who is before whom, and what a freed slot costs.

use super::*;

/// Serves the next caller under `names`, and returns it.
fn serve(queues: &mut CallerQueues<TestClass, usize>, names: &[&str]) -> Option<usize> {
    let mut served = None;
    queues.scan(names, &mut Cursor::default(), |_, waiter| match served {
        None => {
            served = waiter.take();
            served_by(names)
        }
        Some(_) => Decision::Stop,
    });
    served
}

/// A27: a user that comes waits for no further call of another one, although a thousand of them wait.
#[test]
fn a_caller_that_comes_is_before_another_users_thousand_calls() {
    let mut queues: CallerQueues<TestClass, usize> = CallerQueues::default();
    for number in 0..1000 {
        queues.join("pool", "pool", TestClass(0, number % KINDS), 0, number);
    }
    let next = |queues: &mut _| serve(queues, &["row", "pool"]).unwrap();
    assert_eq!([next(&mut queues), next(&mut queues)], [0, 1]);
    for (user, number) in [(1, 1001), (2, 2001), (1, 1002)] {
        queues.join("pool", if user == 1 { "row" } else { "pool" }, TestClass(user, 0), 0, number);
    }
    let order: Vec<usize> = (0..6).map(|_| next(&mut queues)).collect();
    assert_eq!(order, [1001, 2001, 2, 1002, 3, 4]);
}

/// Bulk callers are served when no others can use what is free, and share it by tokens among themselves.
#[test]
fn bulk_callers_are_behind_all_others() {
    let mut queues: CallerQueues<TestClass, usize> = CallerQueues::default();
    for number in 0..4 {
        queues.join("row", "row", TestClass(0, KINDS), 1000, number);
        queues.join("row", "row", TestClass(1, KINDS), 500, 10 + number);
    }
    queues.join("row", "row", TestClass(2, 0), 9000, 20);
    queues.join("row", "row", TestClass(0, 0), 9000, 21);
    let order: Vec<usize> = std::iter::from_fn(|| serve(&mut queues, &["row"])).collect();
    assert_eq!(order, [20, 21, 0, 10, 11, 1, 12, 13, 2, 3]);
}

#[test]
fn a_freed_slot_costs_two_checks_however_many_callers_wait() {
    let mut queues: CallerQueues<TestClass, usize> = CallerQueues::default();
    for number in 0..3000 {
        queues.join("row", "row", TestClass(number % USERS.len(), 0), 1 << 30, number);
    }
    let mut checks = 0;
    let mut free = true;
    queues.scan(&["row", "pool"], &mut Cursor::default(), |_, waiter| {
        checks += 1;
        if std::mem::take(&mut free) {
            waiter.take();
            served_by(&["row", "pool"])
        } else {
            Decision::Stop
        }
    });
    assert_eq!(checks, 2);
}

/// A change noted during a scan makes the queue due for another scan.
#[test]
fn news_during_a_scan_cause_another_scan() {
    let mut queues: CallerQueues<TestClass, usize> = CallerQueues::default();
    assert!(!queues.note_news("row") && !queues.has_news("row"), "news are noted although no caller waits");
    for user in 0..USERS.len() {
        queues.join("row", "row", TestClass(user, 0), 0, user);
    }
    assert!(!queues.has_news("row") && queues.note_news("row") && queues.has_news("row"));
    let mut cursor = Cursor::default();
    let mut checked = Vec::new();
    let mut serve = |queues: &mut CallerQueues<TestClass, usize>, cursor: &mut Cursor, most: usize| {
        let mut left = most;
        let round = queues.scan(&["row"], cursor, |class, _| {
            if left == 0 {
                return Decision::Interrupt;
            }
            left -= 1;
            checked.push(class.0);
            Decision::Keep
        });
        (round, checked.clone())
    };
    assert_eq!(serve(&mut queues, &mut cursor, 2), (ScanResult::Interrupted, vec![0, 1]));
    queues.note_news("row");
    assert_eq!(serve(&mut queues, &mut cursor, 2), (ScanResult::Finished, vec![0, 1, 2]));
    assert!(queues.has_news("row"));
    assert_eq!(serve(&mut queues, &mut Cursor::default(), 9), (ScanResult::Finished, vec![0, 1, 2, 0, 1, 2]));
    assert!(!queues.has_news("row"));
}

/// A27: a lane whose tokens are corrected while a scan is interrupted is checked, although its turn is earlier now.
#[test]
fn a_correction_during_a_scan_leaves_no_caller_out() {
    let mut queues: CallerQueues<TestClass, usize> = CallerQueues::default();
    for user in [0, 0, 1, 2] {
        queues.join("row", "row", TestClass(user, 0), 1000, user);
    }
    // The first user is charged 1,000 tokens.
    assert_eq!(serve(&mut queues, &["row"]), Some(0));
    queues.note_news("row");
    let (mut cursor, mut checked) = (Cursor::default(), 0);
    let round = queues.scan(&["row"], &mut cursor, |_, _| {
        checked += 1;
        if checked == 2 { Decision::Interrupt } else { Decision::Keep }
    });
    assert_eq!(round, ScanResult::Interrupted);
    queues.settle(1, Spent { tokens: 0, is_whole: true, millis: 0 });
    assert_eq!(queues.scan(&["row"], &mut cursor, |_, _| Decision::Keep), ScanResult::Finished);
    assert!(queues.has_news("row"), "the first user's turn is passed over");
}
