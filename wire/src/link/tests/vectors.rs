use bytes::Bytes;
use proptest::prelude::*;

use crate::link::{BodyKind, Credit, Frame, InvalidFrame, Piece};

fn piece(seq: u64, kind: BodyKind, is_last: bool, bytes: &'static str) -> Piece {
    Piece { seq, kind, is_last, bytes: Bytes::from_static(bytes.as_bytes()) }
}

/// The bytes of each kind, as in SPEC.md section 4.1.
#[test]
fn each_kind_of_frame_has_the_bytes_of_the_specification() {
    let hello = || Bytes::from_static(br#"{"features":[]}"#);
    let vectors: [(Frame<'_>, &[u8]); 9] = [
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
    ];
    for (frame, bytes) in vectors {
        assert_eq!(frame.encode(), bytes, "{frame:?}");
        let bytes = Bytes::from_static(bytes);
        assert_eq!(Frame::decode(&bytes), Ok(Some(frame)));
    }
}

#[test]
fn frames_of_unknown_kinds_are_skipped() {
    for bytes in [&b"\x08\0\0"[..], b"\xff\0\x01tanything", b"\0\0\0"] {
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
        (b"\x06\0\0", InvalidFrame::Task),
        (b"\x06\0\x01\xff", InvalidFrame::Task),
        (b"\x03\0\x02t1\x04\0\0\0\0\0\0\0\0", InvalidFrame::Flags),
    ] {
        assert_eq!(Frame::decode(&Bytes::from_static(bytes)), Err(invalid), "{bytes:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What decodes encodes to the same bytes: no two texts of one frame.
    #[test]
    fn any_bytes_are_a_frame_of_these_bytes_or_none(
        kind in 0_u8..10, length in 0_u16..6, rest in prop::collection::vec(any::<u8>(), 0..40)
    ) {
        let bytes = [&[kind][..], &length.to_be_bytes(), &rest].concat();
        let bytes = Bytes::from(bytes);
        if let Ok(Some(frame)) = Frame::decode(&bytes) {
            // A length of a task id where none is used is ignored.
            if !matches!(frame, Frame::Hello(_) | Frame::Resume(_) | Frame::Superseded) {
                prop_assert_eq!(frame.encode(), bytes);
            }
        }
    }
}
