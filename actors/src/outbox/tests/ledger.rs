//! The ledger of task ids, without the outbox.

use super::*;
use crate::outbox::ledger::{KEEP_ENDED, MAX_BYTES, MAX_ENDED};

/// P7, F11: the ledger keeps ended ids for 10 minutes, and at most 1,024 ids with 8 MiB of results.
#[actix::test]
async fn ended_ids_are_kept_within_limits() {
    pause();
    let start = Instant::now();
    let mut ledger = Ledger::default();
    let end = |ledger: &mut Ledger, name: &str, size: usize, at| {
        assert_eq!(ledger.accept(&id(name), 0, at), IdState::New);
        ledger.end(&id(name), Some(Bytes::from(vec![b'x'; size])), at);
    };
    for n in 0..=MAX_ENDED {
        end(&mut ledger, &n.to_string(), 1, start);
    }
    assert_eq!(ledger.accept(&id("0"), 0, start), IdState::New);
    assert_eq!(ledger.accept(&id("1"), 0, start), IdState::Answered(Bytes::from_static(b"x")));
    let later = start + KEEP_ENDED;
    assert_eq!(ledger.accept(&id("1"), 0, later), IdState::New);

    for n in 0..5 {
        end(&mut ledger, &format!("big{n}"), MAX_BYTES / 4, later);
    }
    assert_eq!(ledger.accept(&id("big0"), 0, later), IdState::New);
    assert!(matches!(ledger.accept(&id("big4"), 0, later), IdState::Answered(_)));
    end(&mut ledger, "huge", MAX_BYTES / 4 + 1, later);
    assert_eq!(ledger.accept(&id("huge"), 0, later), IdState::NotKept);
}

proptest! {
    /// F11: the result is kept for 10 minutes, even if the id had ended before.
    #[test]
    fn the_last_result_of_an_id_is_kept(
        steps in prop::collection::vec((0..3_u8, 0..3_u64, 0..700_u64), 1..40),
    ) {
        let mut now = Instant::now();
        let (mut ledger, mut last) = (Ledger::default(), HashMap::<u8, (u64, Instant)>::new());
        for (name, fingerprint, pause) in steps {
            let task = id(&name.to_string());
            let known = last.get(&name).filter(|(_, at)| now.duration_since(*at) < KEEP_ENDED);
            let known = known.filter(|(before, _)| *before == fingerprint);
            let state = ledger.accept(&task, fingerprint, now);
            if let Some((fingerprint, _)) = known {
                prop_assert_eq!(state, IdState::Answered(Bytes::from(fingerprint.to_string())));
            } else {
                prop_assert_eq!(state, IdState::New);
                ledger.end(&task, Some(Bytes::from(fingerprint.to_string())), now);
                last.insert(name, (fingerprint, now));
            }
            now += Duration::from_secs(pause);
        }
    }
}
