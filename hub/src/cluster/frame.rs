//! Messages between hubs: `u16 length of the head | head | body`. The head is JSON, the body any bytes, which are not copied.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::Process;

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFrame {
    /// They end within the head.
    #[error("the frame ends within its head")]
    Short,
    /// The head is not JSON, or lacks a key.
    #[error("the frame's head is invalid")]
    Head,
    /// The head's `from` and `boot` are no process.
    #[error("the frame's head names no process")]
    Sender,
}

/// The head of a frame is longer than 65,535 bytes, or its data are no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the frame's head is too long, or no JSON")]
pub struct Unencodable;

/// A message of one process. What it says is in `kind` and `data`, and for large things in `body`.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The process that sent it.
    pub from: Process,
    /// The sender's last beat when it was sent. A frame that is several beats old is stale.
    pub beat: u64,
    /// Number of the frame among those of its sender.
    pub seq: u64,
    /// A frame of an unknown kind is ignored.
    pub kind: String,
    /// JSON of the kind's own form.
    data: Box<RawValue>,
    pub body: Bytes,
}

/// Keys that are not here are ignored: newer hubs may have more.
#[derive(Serialize, Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    from: Cow<'a, str>,
    #[serde(borrow)]
    boot: Cow<'a, str>,
    beat: u64,
    seq: u64,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Frame {
    /// A frame without a number, a beat and a body.
    pub fn new(from: Process, kind: &str, data: &impl Serialize) -> Result<Self, Unencodable> {
        let data = to_raw_value(data).map_err(|_| Unencodable)?;
        Ok(Self { from, beat: 0, seq: 0, kind: kind.to_owned(), data, body: Bytes::new() })
    }

    /// The data, if they have the form of `T`.
    pub fn data<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.data.get()).ok()
    }

    /// The frame's bytes.
    pub fn encode(&self) -> Result<Bytes, Unencodable> {
        let head = Head {
            from: self.from.hub().into(),
            boot: self.from.boot().into(),
            beat: self.beat,
            seq: self.seq,
            kind: (&self.kind).into(),
            data: &self.data,
        };
        let head = serde_json::to_vec(&head).map_err(|_| Unencodable)?;
        let length = u16::try_from(head.len()).map_err(|_| Unencodable)?;
        let mut bytes = BytesMut::with_capacity(2 + head.len() + self.body.len());
        bytes.put_u16(length);
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&self.body);
        Ok(bytes.freeze())
    }

    /// Reads a message. Its body shares the memory of `bytes`.
    pub fn decode(bytes: &Bytes) -> Result<Self, InvalidFrame> {
        let (length, rest) = bytes.split_first_chunk().ok_or(InvalidFrame::Short)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let head = rest.get(..length).ok_or(InvalidFrame::Short)?;
        let head: Head<'_> = serde_json::from_slice(head).map_err(|_| InvalidFrame::Head)?;
        let from = Process::parse(&format!("{}.{}", head.from, head.boot)).ok_or(InvalidFrame::Sender)?;
        Ok(Self {
            from,
            beat: head.beat,
            seq: head.seq,
            kind: head.kind.into_owned(),
            data: head.data.to_owned(),
            body: bytes.slice(2 + length..),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn frame(kind: &str, data: &Value) -> Frame {
        Frame::new(Process::parse("a.abcdef").unwrap(), kind, data).unwrap()
    }

    /// A frame with this head, as another version may send it.
    fn with_head(head: &str) -> Bytes {
        let mut bytes = u16::try_from(head.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(head.as_bytes());
        bytes.into()
    }

    #[test]
    fn a_head_may_have_more_keys_and_no_fewer() {
        let head = json!({ "more": { "a": [1] }, "kind": "beat", "from": "a", "boot": "abcdef", "beat": 7, "seq": 8,
            "data": { "state": "serving" } });
        let found = Frame::decode(&with_head(&head.to_string())).unwrap();
        assert_eq!((found.from.as_str(), found.beat, found.seq, &*found.kind), ("a.abcdef", 7, 8, "beat"));
        assert_eq!(found.data::<Value>(), Some(json!({ "state": "serving" })));
        assert!(found.body.is_empty());
        for key in ["kind", "from", "boot", "beat", "seq", "data"] {
            let mut fewer = head.clone();
            fewer.as_object_mut().unwrap().remove(key);
            assert_eq!(
                Frame::decode(&with_head(&fewer.to_string())).unwrap_err(),
                InvalidFrame::Head,
                "{key}"
            );
        }
        let mut other = head;
        for (key, value) in [("from", "A"), ("from", "a.b"), ("boot", "abcde"), ("boot", "b.abcdef")] {
            other["from"] = "a".into();
            other["boot"] = "abcdef".into();
            other[key] = value.into();
            assert_eq!(Frame::decode(&with_head(&other.to_string())).unwrap_err(), InvalidFrame::Sender);
        }
    }

    #[test]
    fn a_head_that_is_too_long_is_not_sent() {
        let most = |length: usize| frame("k", &json!("x".repeat(length))).encode();
        let overhead = most(0).unwrap().len() - 2;
        let longest = usize::from(u16::MAX) - overhead;
        assert_eq!(most(longest).unwrap().len(), 2 + usize::from(u16::MAX));
        assert_eq!(most(longest + 1), Err(Unencodable));
    }

    #[test]
    fn a_body_is_not_copied() {
        let mut sent = frame("k", &Value::Null);
        sent.body = Bytes::from(vec![7; 1 << 20]);
        let bytes = sent.encode().unwrap();
        let found = Frame::decode(&bytes).unwrap();
        assert_eq!(found.body.as_ptr(), bytes[bytes.len() - (1 << 20)..].as_ptr());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(testkit::cases()))]

        #[test]
        fn no_bytes_are_a_panic(bytes in vec(any::<u8>(), 0..200), length in 0_u16..220) {
            let mut bytes = bytes;
            let _ = Frame::decode(&bytes.clone().into());
            // Also behind a length that may fit.
            bytes.splice(0..0, length.to_be_bytes());
            let _ = Frame::decode(&bytes.into());
        }

        #[test]
        fn a_frame_that_is_cut_or_changed_is_no_panic(at in 0_usize..200, byte in any::<u8>()) {
            let mut sent = frame("k", &json!({ "a": [1, "b"] }));
            sent.body = Bytes::from_static(b"the body");
            let bytes = sent.encode().unwrap();
            let cut = bytes.slice(..at.min(bytes.len()));
            let is_whole = cut.len() >= bytes.len() - sent.body.len();
            prop_assert_eq!(Frame::decode(&cut).is_ok(), is_whole);
            let mut changed = bytes.to_vec();
            if let Some(place) = changed.get_mut(at) {
                *place = byte;
            }
            let _ = Frame::decode(&changed.into());
        }

        #[test]
        fn a_frame_is_read_back(
            process in "[a-z0-9]{1,16}\\.[a-z2-7]{6}",
            beat: u64,
            seq: u64,
            kind in ".{0,20}",
            text in ".{0,40}",
            number: i64,
            body in vec(any::<u8>(), 0..300),
        ) {
            let data = json!({ "text": text, "numbers": [number, null] });
            let mut sent = Frame::new(Process::parse(&process).unwrap(), &kind, &data).unwrap();
            (sent.beat, sent.seq, sent.body) = (beat, seq, body.clone().into());
            let found = Frame::decode(&sent.encode().unwrap()).unwrap();
            prop_assert_eq!(found.from.as_str(), process);
            prop_assert_eq!((found.beat, found.seq, &found.kind), (beat, seq, &kind));
            prop_assert_eq!(found.data::<Value>(), Some(data));
            prop_assert_eq!(&found.body[..], &body[..]);
        }
    }
}
