use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use crate::link::{BodyKind, Credit, Frame, Going, Hello, InvalidFrame, MAX_ID, Piece, Resume};

fn piece(seq: u64, kind: BodyKind, is_last: bool, bytes: &'static str) -> Piece {
    Piece { seq, kind, is_last, bytes: Bytes::from_static(bytes.as_bytes()) }
}

/// The bytes of each kind, as in SPEC.md section 4.1.
#[test]
fn each_kind_of_frame_has_the_bytes_of_the_specification() {
    let hello = || Bytes::from_static(br#"{"features":[]}"#);
    let vectors: [(Frame<'_>, &[u8]); 13] = [
        (Frame::Hello(hello()), b"\x01\0\0{\"features\":[]}"),
        (Frame::Resume(Bytes::from_static(b"{}")), b"\x02\0\0{}"),
        (
            Frame::Piece { task: "t1", piece: piece(0, BodyKind::Json, true, "{}") },
            b"\x03\0\x02t1\x01\0\0\0\0\0\0\0\0{}",
        ),
        (
            Frame::Piece { task: "t1", piece: piece(258, BodyKind::Events, false, "data") },
            b"\x03\0\x02t1\x02\0\0\0\0\0\0\x01\x02data",
        ),
        (
            Frame::Piece { task: "\u{fc}", piece: piece(1, BodyKind::Events, true, "") },
            b"\x03\0\x02\xc3\xbc\x03\0\0\0\0\0\0\0\x01",
        ),
        (
            Frame::Credit { task: "t1", credit: Credit { granted: 327_680, taken: 7 } },
            b"\x04\0\x02t1\0\0\0\0\0\x05\0\0\0\0\0\0\0\0\0\x07",
        ),
        (Frame::Taken { task: "t1", status: 410 }, b"\x05\0\x02t1\x01\x9a"),
        (Frame::Cancel { task: "t1" }, b"\x06\0\x02t1"),
        (Frame::Superseded, b"\x07\0\0"),
        (Frame::Going(Going { delay_ms: 260, interval_ms: 4000 }), b"\x08\0\0\0\0\x01\x04\0\0\x0f\xa0"),
        (Frame::Beat { number: 258, body: Bytes::from_static(b"{}") }, b"\x09\0\0\0\0\0\0\0\0\x01\x02{}"),
        (
            Frame::Beaten { number: 1, status: 409, body: Bytes::from_static(b"no") },
            b"\x0a\0\0\0\0\0\0\0\0\0\x01\x01\x99no",
        ),
        (Frame::Beaten { number: 2, status: 200, body: Bytes::new() }, b"\x0a\0\0\0\0\0\0\0\0\0\x02\0\xc8"),
    ];
    for (frame, bytes) in vectors {
        assert_eq!(frame.encode(), bytes, "{frame:?}");
        let bytes = Bytes::from_static(bytes);
        assert_eq!(Frame::decode(&bytes), Ok(Some(frame)));
    }
}

#[test]
fn frames_of_unknown_kinds_are_skipped() {
    for bytes in [&b"\x0b\0\0"[..], b"\xff\0\x01tanything", b"\0\0\0"] {
        assert_eq!(Frame::decode(&Bytes::from_static(bytes)), Ok(None));
    }
}

#[test]
fn a_frame_of_the_wrong_length_or_without_its_task_is_invalid() {
    for (bytes, invalid) in [
        (&b""[..], InvalidFrame::Length),
        (b"\x03", InvalidFrame::Length),
        (b"\x03\0\x05t1", InvalidFrame::Length),
        (b"\x03\0\x02t1\0\0\0\0", InvalidFrame::Length),
        (b"\x04\0\x02t1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", InvalidFrame::Length),
        (b"\x05\0\x02t1\0", InvalidFrame::Length),
        (b"\x06\0\x02t1x", InvalidFrame::Length),
        (b"\x07\0\0x", InvalidFrame::Length),
        (b"\x08\0\0\0\0\0\0\0\0\0", InvalidFrame::Length),
        (b"\x08\0\0\0\0\0\0\0\0\0\0\0", InvalidFrame::Length),
        (b"\x09\0\0\0\0\0\0\0\0\0", InvalidFrame::Length),
        (b"\x0a\0\0\0\0\0\0\0\0\0\0\0", InvalidFrame::Length),
        (b"\x06\0\0", InvalidFrame::Task),
        (b"\x06\0\x01\xff", InvalidFrame::Task),
        (b"\x03\0\x02t1\x04\0\0\0\0\0\0\0\0", InvalidFrame::Flags),
    ] {
        assert_eq!(Frame::decode(&Bytes::from_static(bytes)), Err(invalid), "{bytes:?}");
    }
}

/// A24: what an end keeps of a task that it cannot refuse, its id, is short.
#[test]
fn a_task_id_that_is_too_long_is_invalid() {
    for (name, is_valid) in [("t".repeat(MAX_ID), true), ("\u{fc}".repeat(MAX_ID / 2 + 1), false)] {
        let task = &*name;
        let frames = [
            Frame::Piece { task, piece: piece(0, BodyKind::Json, true, "{}") },
            Frame::Credit { task, credit: Credit { granted: 1, taken: 0 } },
            Frame::Taken { task, status: 200 },
            Frame::Cancel { task },
        ];
        for frame in frames {
            let bytes = frame.encode();
            let expected = if is_valid { Ok(Some(frame)) } else { Err(InvalidFrame::Task) };
            assert_eq!(Frame::decode(&bytes), expected);
        }
        let json = Resume { tasks: [(name.clone(), [0, 0])].into() }.to_json();
        assert_eq!((Resume::parse(&json).is_some(), Hello::parse(&json).is_some()), (is_valid, is_valid));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What decodes encodes to the same bytes: no two texts of one frame.
    #[test]
    fn any_bytes_are_a_frame_of_these_bytes_or_none(
        kind in 0_u8..13, length in 0_u16..6, rest in prop::collection::vec(any::<u8>(), 0..40)
    ) {
        let bytes = [&[kind][..], &length.to_be_bytes(), &rest].concat();
        let bytes = Bytes::from(bytes);
        if let Ok(Some(frame)) = Frame::decode(&bytes) {
            // A length of a task id where none is used is ignored.
            let has_task = matches!(
                frame,
                Frame::Piece { .. } | Frame::Credit { .. } | Frame::Taken { .. } | Frame::Cancel { .. }
            );
            if has_task || length == 0 {
                prop_assert_eq!(frame.encode(), bytes);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// F84: at most 250 registrars of a hub connect within any second, in the first interval and in later ones.
    #[test]
    fn registrars_of_a_hub_that_goes_are_spread(count in 1_u32..12_000, late in 0_u64..100_000) {
        let times: Vec<_> = (0..count).map(|index| Going::of(index, count, Duration::ZERO)).collect();
        for (index, going) in times.iter().enumerate() {
            prop_assert_eq!(going.interval_ms, times[0].interval_ms);
            prop_assert!(going.delay_ms < going.interval_ms, "number {}", index);
            let told_late = Going::of(u32::try_from(index).unwrap(), count, Duration::from_millis(late));
            let moment = (u64::from(told_late.delay_ms) + late) % u64::from(going.interval_ms);
            prop_assert_eq!(moment, u64::from(going.delay_ms), "number {}", index);
            // The same place in the next interval.
            let later = match times.get(index + 250) {
                Some(next) => next.delay_ms,
                None if count < 250 => continue,
                None => times[index + 250 - times.len()].delay_ms + going.interval_ms,
            };
            prop_assert!(later - going.delay_ms >= 1000, "number {}", index);
        }
        prop_assert_eq!(times[0].interval_ms, (count * 5).max(1000));
    }
}

#[test]
fn times_of_any_hub_are_held_within_a_minute() {
    let ms = Duration::from_millis;
    for (delay_ms, interval_ms, elapsed, next) in [
        (0, 0, 0, 1000),
        (7, 4000, 0, 7),
        (7, 4000, 6, 1),
        (7, 4000, 7, 4000),
        (7, 4000, 4006, 1),
        (7, 4000, 20_000, 4007 - (20_000 - 16_000)),
        (u32::MAX, u32::MAX, 0, 60_000),
        (u32::MAX, u32::MAX, 60_000, 60_000),
    ] {
        let going = Going { delay_ms, interval_ms };
        assert_eq!(going.until_next(ms(elapsed)), ms(next), "{going:?} after {elapsed}");
    }
    assert_eq!(Going::of(u32::MAX, 0, Duration::ZERO), Going { delay_ms: 0, interval_ms: 1000 });
    assert_eq!(Going::of(u32::MAX - 1, u32::MAX, Duration::MAX).interval_ms, 60_000);
}
