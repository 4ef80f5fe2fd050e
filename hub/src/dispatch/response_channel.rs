//! The way from a publisher to a caller: bounded in pieces and in bytes, whatever one of them sends and the other does
//! not read.

use std::time::Duration;

use tokio::sync::mpsc::{self, Permit};
use tokio::time::sleep;

use super::attempt::ResponsePiece;
use crate::quota::{ByteQuota, BytesPermit};

/// Places between a publisher and a caller that does not read.
const SLOTS: usize = 16;
/// A place is for the largest read of an upload, so that all of them are 1 MiB. A larger piece waits for as many as it
/// fills, and the largest until it is alone.
const SLOT_BYTES: usize = 64 << 10;
/// Pieces that are smaller are not counted among their caller's bytes: sixteen for each of 4,096 calls are 256 MiB, and
/// most tokens are that small.
const SMALL: usize = 4 << 10;
/// One who waits for the caller's other answers to be read looks again after so long.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The publisher's end of it.
#[derive(Clone)]
pub struct ResponseChannel {
    pieces: mpsc::Sender<ResponsePiece>,
    reader: ByteQuota,
}

/// Room for one piece.
pub(super) struct Slot<'a> {
    permit: Permit<'a, ResponsePiece>,
    held: BytesPermit,
}

impl ResponseChannel {
    /// A new one; what waits in it counts among `reader`'s bytes.
    pub fn new(reader: ByteQuota) -> (Self, mpsc::Receiver<ResponsePiece>) {
        let (pieces, receiver) = mpsc::channel(SLOTS);
        (Self { pieces, reader }, receiver)
    }

    /// Waits for room for a piece of `size` bytes; `None` when nobody reads any more.
    pub(super) async fn place(&self, size: usize) -> Option<Slot<'_>> {
        let held = loop {
            if let Some(held) = self.count(size) {
                break held;
            }
            tokio::select! {
                () = self.pieces.closed() => return None,
                () = sleep(LOOK_AGAIN) => (),
            }
        };
        // The others come back at once: they only had to be free.
        let permit =
            self.pieces.reserve_many(size.div_ceil(SLOT_BYTES).clamp(1, SLOTS)).await.ok()?.next()?;
        Some(Slot { permit, held })
    }

    /// Waits for room, and sends. `false` when nobody reads any more.
    pub(super) async fn send(&self, piece: ResponsePiece) -> bool {
        let Some(place) = self.place(piece.size()).await else { return false };
        place.send(piece);
        true
    }

    /// As [`send`](Self::send) of a piece that counts already: it waits for places alone.
    pub(super) async fn send_counted(&self, piece: ResponsePiece) -> bool {
        let places = piece.size().div_ceil(SLOT_BYTES).clamp(1, SLOTS);
        let Ok(mut permits) = self.pieces.reserve_many(places).await else { return false };
        let Some(permit) = permits.next() else { return false };
        permit.send(piece);
        true
    }

    /// What `size` bytes count for; `None` when the caller has too many that it has not read.
    pub(super) fn count(&self, size: usize) -> Option<BytesPermit> {
        if size < SMALL { Some(BytesPermit::default()) } else { self.reader.take(size).ok() }
    }

    /// No bytes yet of those that the caller has not read.
    pub(super) fn counts_nothing(&self) -> BytesPermit {
        self.reader.empty()
    }

    /// Says that the task has to be sent again. An unstarted one's lane is empty: this always fits.
    pub(super) fn reattached(&self) {
        let _ = self.pieces.try_send(ResponsePiece::Reattached);
    }

    /// Hands over the last pieces. The publisher does not wait for one who reads slowly.
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

    /// Resolves when nobody reads any more.
    pub(super) async fn closed(&self) {
        self.pieces.closed().await;
    }
}

impl Slot<'_> {
    pub(super) fn send(self, mut piece: ResponsePiece) {
        piece.hold(self.held);
        self.permit.send(piece);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;

    use super::*;
    use crate::quota::Quota;

    const ALL: usize = 4 << 20;

    fn piece(size: usize) -> ResponsePiece {
        ResponsePiece::Events { bytes: vec![0; size].into(), usage: None, held: BytesPermit::default() }
    }

    /// A26, P7: whatever a publisher sends, a caller who reads nothing has 1 MiB waiting, or one larger piece alone.
    #[tokio::test]
    async fn a_large_piece_waits_until_it_is_alone() {
        let (lane, mut pieces) = ResponseChannel::new(ByteQuota::new(&Arc::default(), "bob", ALL, "answers"));
        assert!(lane.send(piece(10)).await);
        assert!(lane.send(piece(3 << 20)).now_or_never().is_none(), "there is a small one yet");
        assert!(lane.send(piece(SLOT_BYTES)).await, "whoever waited in vain is in nobody's way");
        pieces.recv().await.unwrap();
        pieces.recv().await.unwrap();
        assert!(lane.send(piece(3 << 20)).await);
        assert!(lane.send(piece(SLOT_BYTES + 1)).await);
        assert!(lane.send(piece(3 << 20)).now_or_never().is_none());
        for _ in 2..SLOTS {
            assert!(lane.send(piece(SLOT_BYTES)).await);
        }
        assert!(lane.send(piece(1)).now_or_never().is_none(), "all places are taken");
        drop(pieces);
        assert!(!lane.send(piece(1)).await);
    }

    /// A26, A27: what waits for one user on all of its calls is counted, and comes back when it is read.
    #[tokio::test]
    async fn what_waits_on_all_calls_of_a_user_is_counted_together() {
        tokio::time::pause();
        let seats = Arc::<Quota>::default();
        let lane = |user| ResponseChannel::new(ByteQuota::new(&seats, user, ALL, "answers"));
        let ((one, mut reader), (two, _unread), (other, _others)) = (lane("bob"), lane("bob"), lane("carol"));
        assert!(one.send(piece(3 << 20)).await);
        assert!(two.count(3 << 20).is_none());
        assert!(two.count(10).is_some(), "small ones are not counted");
        assert!(other.send(piece(3 << 20)).await, "another user has nothing to do with it");
        let (sent, read) = futures_util::join!(two.send(piece(2 << 20)), async {
            tokio::time::sleep(LOOK_AGAIN * 3).await;
            reader.recv().await.unwrap().size()
        });
        assert_eq!((sent, read), (true, 3 << 20));
    }

    /// P3: the last pieces of an answer reach a caller who has not read what came before, in order.
    #[tokio::test]
    async fn the_last_pieces_wait_for_a_reader_who_is_behind() {
        let (lane, mut pieces) = ResponseChannel::new(ByteQuota::new(&Arc::default(), "bob", ALL, "answers"));
        for size in 0..SLOTS {
            assert!(lane.send(piece(size)).await);
        }
        lane.deliver(vec![piece(100), piece(101), ResponsePiece::Done]);
        for size in (0..SLOTS).chain([100, 101]) {
            assert_eq!(pieces.recv().await.unwrap().size(), size);
        }
        assert!(matches!(pieces.recv().await, Some(ResponsePiece::Done)));
        assert!(pieces.recv().await.is_none());
    }
}
