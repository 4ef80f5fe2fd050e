//! Bodies of static texts, in pieces: the server copies what it is given into the connection's buffer, and a stranger who reads
//! nothing would hold a copy of the whole text.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

/// Bytes of one piece: the server asks for the next one while less than 32 KiB wait.
const PIECE: usize = 16 << 10;

/// A text that is sent in pieces, which share its memory.
pub(super) struct Pieces(Bytes);

impl Pieces {
    /// The body `text`.
    pub(super) fn new(text: impl Into<Bytes>) -> Self {
        Self(text.into())
    }
}

impl MessageBody for Pieces {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0.len() as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let size = self.0.len().min(PIECE);
        Poll::Ready((size > 0).then(|| Ok(self.0.split_to(size))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A24: of each text that needs no token, a connection that is not read holds a few pieces.
    #[actix_web::test]
    async fn static_texts_are_sent_in_pieces_without_a_copy() {
        let text = Bytes::from_owner(vec![b'y'; 5 * PIECE + 7]);
        let mut body = std::pin::pin!(Pieces::new(text.clone()));
        let mut read = 0;
        while let Some(Ok(piece)) = std::future::poll_fn(|cx| body.as_mut().poll_next(cx)).await {
            assert_eq!(piece.as_ptr(), text[read..].as_ptr(), "a piece is a copy");
            assert!(piece.len() <= PIECE);
            read += piece.len();
        }
        assert_eq!(read, text.len());
    }

    #[actix_web::test]
    async fn the_largest_files_and_the_document_are_sent_in_pieces() {
        let app = actix_web::test::init_service(actix_web::App::new().configure(|config| {
            crate::http::add_routes(&mut crate::http::openapi::Routes::new(config));
        }))
        .await;
        for path in ["/openapi.json", "/console/vendor/highlight-11.12.0.js"] {
            let request = actix_web::test::TestRequest::get().uri(path).to_request();
            let answer = actix_web::test::call_service(&app, request).await;
            assert!(answer.status().is_success(), "{path}");
            let mut body = std::pin::pin!(answer.into_body());
            let BodySize::Sized(size) = body.size() else { panic!("{path} has no size") };
            assert!(size > 4 * PIECE as u64, "{path}: {size}");
            let mut read = 0;
            while let Some(Ok(piece)) = std::future::poll_fn(|cx| body.as_mut().poll_next(cx)).await {
                assert!(piece.len() <= PIECE, "{path}: {}", piece.len());
                read += piece.len() as u64;
            }
            assert_eq!(read, size, "{path}");
        }
    }
}
