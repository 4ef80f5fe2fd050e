//! The channel from a publisher to a caller, bounded in pieces and in bytes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{self, Permit};
use tokio::time::sleep;

use super::piece::ResponsePiece;
use crate::quota::{ByteQuota, BytesPermit};

/// The channel's slots, 1 MiB in all. A piece larger than one slot reserves several, at most all.
const SLOTS: usize = 16;
/// Bytes per slot: the largest piece of a link.
const SLOT_BYTES: usize = 64 << 10;
/// Smaller pieces are not counted in the caller's quota: 16 for each of 4,096 calls are 256 MiB. Most tokens are smaller.
const UNCOUNTED: usize = 4 << 10;
/// How often a piece that exceeds the caller's quota is tried again.
const QUOTA_POLL: Duration = Duration::from_millis(250);

/// The publisher's side. Each answer under way has a clone.
pub(crate) struct ResponseChannel {
    pieces: mpsc::Sender<ResponsePiece>,
    reader: ByteQuota,
    /// Whether the metric has counted a refusal of this clone's body.
    is_refusal_counted: AtomicBool,
}

impl Clone for ResponseChannel {
    fn clone(&self) -> Self {
        Self {
            pieces: self.pieces.clone(),
            reader: self.reader.clone(),
            is_refusal_counted: AtomicBool::default(),
        }
    }
}

/// A reserved slot for one piece.
pub(super) struct Slot<'a> {
    permit: Permit<'a, ResponsePiece>,
    bytes: BytesPermit,
}

impl ResponseChannel {
    /// A new channel whose unread bytes count in `reader`'s quota.
    pub(crate) fn new(reader: ByteQuota) -> (Self, mpsc::Receiver<ResponsePiece>) {
        let (pieces, receiver) = mpsc::channel(SLOTS);
        (Self { pieces, reader, is_refusal_counted: AtomicBool::default() }, receiver)
    }

    /// Reserves slots for a piece of `size` bytes; `None` when the caller left.
    pub(super) async fn reserve(&self, size: usize) -> Option<Slot<'_>> {
        self.reserve_by(size, || self.count(size)).await
    }

    /// As [`reserve`](Self::reserve), where `count` counts the piece for the caller.
    pub(super) async fn reserve_by(
        &self,
        size: usize,
        mut count: impl FnMut() -> Option<BytesPermit>,
    ) -> Option<Slot<'_>> {
        let bytes = loop {
            if let Some(bytes) = count() {
                break bytes;
            }
            tokio::select! {
                () = self.pieces.closed() => return None,
                () = sleep(QUOTA_POLL) => (),
            }
        };
        Some(Slot { permit: self.permit(size).await?, bytes })
    }

    /// Waits until all slots for `size` bytes are free, and takes one. The others are free again at once.
    async fn permit(&self, size: usize) -> Option<Permit<'_, ResponsePiece>> {
        self.pieces.reserve_many(size.div_ceil(SLOT_BYTES).clamp(1, SLOTS)).await.ok()?.next()
    }

    /// Reserves slots and sends. `false` when the caller left.
    pub(super) async fn send(&self, piece: ResponsePiece) -> bool {
        self.reserve(piece.size()).await.map(|slot| slot.send(piece)).is_some()
    }

    /// Sends a piece that is counted already. `false` when the caller left.
    pub(super) async fn send_counted(&self, piece: ResponsePiece) -> bool {
        self.permit(piece.size()).await.map(|permit| permit.send(piece)).is_some()
    }

    /// Counts `size` bytes as unread; `None` when the caller's quota is exhausted. The metric counts that once.
    pub(super) fn count(&self, size: usize) -> Option<BytesPermit> {
        if size < UNCOUNTED {
            return Some(BytesPermit::default());
        }
        if self.is_refusal_counted.load(Ordering::Relaxed) {
            return self.reader.retake(size);
        }
        let taken = self.reader.take(size).ok();
        self.is_refusal_counted.store(taken.is_none(), Ordering::Relaxed);
        taken
    }

    /// An empty permit of the caller's quota.
    pub(super) fn empty_permit(&self) -> BytesPermit {
        self.reader.empty()
    }

    /// Asks for the task to be sent again. The channel of an unstarted task is empty, so this always fits.
    pub(super) fn reattached(&self) {
        let _ = self.pieces.try_send(ResponsePiece::Reattached);
    }

    /// Asks for a check whether the task may still run. If it does not fit, the channel is full of pieces that lead to a
    /// check themselves, all of them after this call.
    pub(super) fn recheck(&self) {
        let _ = self.pieces.try_send(ResponsePiece::Recheck);
    }

    /// Sends the last pieces, in the background if the channel is full.
    pub(super) fn deliver(self, pieces: Vec<ResponsePiece>) {
        let mut left = pieces.into_iter();
        while let Some(piece) = left.next() {
            if let Err(mpsc::error::TrySendError::Full(piece)) = self.pieces.try_send(piece) {
                tokio::spawn(async move {
                    for piece in std::iter::once(piece).chain(left) {
                        if self.pieces.send(piece).await.is_err() {
                            return;
                        }
                    }
                });
                return;
            }
        }
    }

    /// Resolves when the caller left.
    pub(super) async fn closed(&self) {
        self.pieces.closed().await;
    }
}

impl Slot<'_> {
    pub(super) fn send(self, mut piece: ResponsePiece) {
        piece.hold(self.bytes);
        self.permit.send(piece);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;

    use super::super::tally::Tally;
    use super::*;
    use crate::quota::{ByteKind, MemoryBudget, Quota};
    use crate::telemetry::Metrics;

    const ALL: usize = 4 << 20;

    fn piece(size: usize) -> ResponsePiece {
        ResponsePiece::Events {
            bytes: vec![0; size].into(),
            tally: Tally::default(),
            held: BytesPermit::default(),
        }
    }

    /// A26, P7: for a caller that does not read, at most 1 MiB waits, or one larger piece alone.
    #[tokio::test]
    async fn a_large_piece_waits_until_it_is_alone() {
        let (channel, mut pieces) =
            ResponseChannel::new(ByteQuota::new(&Arc::default(), "bob", ALL, "answers"));
        assert!(channel.send(piece(10)).await);
        assert!(
            channel.send(piece(3 << 20)).now_or_never().is_none(),
            "a large piece is sent beside a small one"
        );
        assert!(channel.send(piece(SLOT_BYTES)).await, "a dropped wait blocks the channel");
        pieces.recv().await.unwrap();
        pieces.recv().await.unwrap();
        assert!(channel.send(piece(3 << 20)).await);
        assert!(channel.send(piece(SLOT_BYTES + 1)).await);
        assert!(channel.send(piece(3 << 20)).now_or_never().is_none());
        for _ in 2..SLOTS {
            assert!(channel.send(piece(SLOT_BYTES)).await);
        }
        assert!(channel.send(piece(1)).now_or_never().is_none(), "a piece is sent without a free slot");
        drop(pieces);
        assert!(!channel.send(piece(1)).await);
    }

    /// A26, A27: unread bytes of all calls of a user count together until they are read.
    #[tokio::test]
    async fn unread_bytes_are_counted_over_all_calls_of_a_user() {
        tokio::time::pause();
        let quota = Arc::<Quota>::default();
        let channel = |user| ResponseChannel::new(ByteQuota::new(&quota, user, ALL, "answers"));
        let ((one, mut reader), (two, _unread), (other, _others)) =
            (channel("bob"), channel("bob"), channel("carol"));
        assert!(one.send(piece(3 << 20)).await);
        assert!(two.count(3 << 20).is_none());
        assert!(two.count(10).is_some(), "a small piece is counted");
        assert!(other.send(piece(3 << 20)).await, "another user's piece is refused");
        let (sent, read) = futures_util::join!(two.send(piece(2 << 20)), async {
            tokio::time::sleep(QUOTA_POLL * 3).await;
            reader.recv().await.unwrap().size()
        });
        assert_eq!((sent, read), (true, 3 << 20));
    }

    /// A24: a body whose pieces wait for memory adds 1 to `bodies_refused_total`, however many pieces wait and how long.
    #[tokio::test]
    async fn a_body_that_waits_for_memory_is_counted_once() {
        tokio::time::pause();
        let metrics = Metrics::new().unwrap();
        let memory = Arc::new(MemoryBudget::new(Some(64 << 20), metrics.of_machine().unwrap()));
        let quota = Quota::of_bytes(&memory, ByteKind::Unread);
        let (channel, mut pieces) =
            ResponseChannel::new(ByteQuota::new(&quota, "bob", usize::MAX, "answers"));
        for (body, stalled, polls) in [(1, 1, 1), (2, 1, 100), (3, 5, 7)] {
            let post = channel.clone();
            for _ in 0..stalled {
                memory.take(128 << 20);
                let (sent, ()) = futures_util::join!(post.send(piece(1 << 20)), async {
                    sleep(QUOTA_POLL * polls).await;
                    memory.release(128 << 20);
                });
                assert!(sent && pieces.recv().await.is_some());
            }
            let counted = format!("virtual_llm_bodies_refused_total {body}\n");
            let text = metrics.text().unwrap();
            assert!(text.contains(&counted), "{body}: {text}");
        }
    }

    /// P3: the last pieces reach a slow reader, in order.
    #[tokio::test]
    async fn the_last_pieces_reach_a_slow_reader() {
        let (channel, mut pieces) =
            ResponseChannel::new(ByteQuota::new(&Arc::default(), "bob", ALL, "answers"));
        for size in 0..SLOTS {
            assert!(channel.send(piece(size)).await);
        }
        channel.deliver(vec![piece(100), piece(101), ResponsePiece::Done]);
        for size in (0..SLOTS).chain([100, 101]) {
            assert_eq!(pieces.recv().await.unwrap().size(), size);
        }
        assert!(matches!(pieces.recv().await, Some(ResponsePiece::Done)));
        assert!(pieces.recv().await.is_none());
    }
}
