//! An echo of the hub: opens a WebSocket as the link does, and sends messages over it that the hub answers (SPEC.md section
//! 4.2).

use std::io;

use actix_codec::{Decoder, Encoder};
use actix_http::ws;
use awc::http::StatusCode;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use wire::echo::{MAX_MESSAGE, message};

use super::connection::Io;
use super::control_channel::BLOCKED;
use super::link::{Opened, Wanted};
use super::{CALL_TIMEOUT, HubClient, HubError};
use crate::tls_reason::connect_reason;

const CALL: &str = "provider-echo";
/// Longest header of a WebSocket frame (RFC 6455 section 5.2).
const MAX_HEADER: usize = 14;

/// What came of a request for an echo.
pub(crate) enum Echo {
    Open(EchoChannel),
    /// 404, or 200: the hub has no echo.
    NotOffered,
    /// The upgrade did not reach the hub, or its answer did not come back, for this reason.
    Blocked {
        reason: String,
        server: Option<String>,
    },
}

/// An open echo.
pub(crate) struct EchoChannel {
    connection: Box<dyn Io>,
    input: BytesMut,
    codec: ws::Codec,
}

impl HubClient {
    /// Asks for an echo.
    pub(crate) async fn open_echo(&self) -> Result<Echo, HubError> {
        let opened = match self.open_web_socket(&Wanted::echo()).await {
            // 200 with something else than a channel.
            Err(HubError::Invalid { .. }) => return Ok(Echo::NotOffered),
            opened => opened?,
        };
        Ok(match opened {
            Opened::Link { connection, input } => Echo::Open(EchoChannel {
                connection,
                input,
                codec: ws::Codec::new().client_mode().max_size(MAX_MESSAGE),
            }),
            Opened::Response(response) => match response.status {
                StatusCode::NOT_FOUND => Echo::NotOffered,
                // Before the blocked ones: the hub's own answer to a request that lost its upgrade.
                StatusCode::UPGRADE_REQUIRED => Echo::Blocked {
                    reason: "a proxy before the hub removes the upgrade".to_owned(),
                    server: response.server,
                },
                status if BLOCKED.contains(&status.as_u16()) => Echo::Blocked {
                    reason: format!("the upgrade is answered with HTTP {}", status.as_u16()),
                    server: response.server,
                },
                _ => return Err(self.refused(CALL, &response)),
            },
            // A hub with an echo answers 426 if the upgrade was removed, and never 200.
            Opened::Events(_) | Opened::NotUpgraded => Echo::NotOffered,
            Opened::Broken(error) => Echo::Blocked {
                reason: format!("the upgrade breaks off: {}", connect_reason(&error)),
                server: None,
            },
        })
    }
}

impl EchoChannel {
    /// Sends `count` messages of `length` bytes, each of which asks for an answer of `answer` bytes. Small ones only, or with
    /// small answers: nothing is read meanwhile.
    pub(crate) async fn send(&mut self, count: usize, length: usize, answer: usize) -> io::Result<()> {
        let message = Bytes::from(message(length, answer));
        for _ in 0..count {
            let mut out = BytesMut::new();
            self.codec.encode(ws::Message::Binary(message.clone()), &mut out).map_err(io::Error::other)?;
            timeout(CALL_TIMEOUT, self.connection.write_all(&out)).await.map_err(|_| silent())??;
        }
        timeout(CALL_TIMEOUT, self.connection.flush()).await.map_err(|_| silent())?
    }

    /// Reads the next message.
    pub(crate) async fn next(&mut self) -> io::Result<Bytes> {
        loop {
            match self.codec.decode(&mut self.input).map_err(|_| io::Error::other("an invalid frame came"))? {
                Some(ws::Frame::Binary(bytes)) => return Ok(bytes),
                Some(ws::Frame::Close(reason)) => {
                    let words = reason.and_then(|reason| reason.description).unwrap_or_default();
                    return Err(io::Error::other(format!(
                        "the hub ended it: {}",
                        super::error::short(&words)
                    )));
                }
                Some(_) => (),
                // The decoder looks at the length of a message when it has all of it.
                None if self.input.len() > MAX_MESSAGE + MAX_HEADER => {
                    return Err(io::Error::other("a message came that is too long"));
                }
                None => {
                    self.input.reserve(MAX_MESSAGE);
                    let reading = timeout(CALL_TIMEOUT, self.connection.read_buf(&mut self.input));
                    if reading.await.map_err(|_| silent())?? == 0 {
                        return Err(io::Error::other("the connection ended"));
                    }
                }
            }
        }
    }
}

fn silent() -> io::Error {
    io::Error::other(format!("nothing came through for {} s", CALL_TIMEOUT.as_secs()))
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// A24: of a message that is too long no more is read than the longest one.
    #[actix_rt::test]
    async fn an_echo_that_is_too_long_is_refused_before_its_end() {
        for declared in [MAX_MESSAGE as u64 + (1 << 20), u64::MAX >> 1] {
            let (ours, mut theirs) = duplex(1 << 20);
            let codec = ws::Codec::new().client_mode().max_size(MAX_MESSAGE);
            let mut channel = EchoChannel { connection: Box::new(ours), input: BytesMut::new(), codec };
            let mut head = vec![0x82, 127];
            head.extend_from_slice(&declared.to_be_bytes());
            theirs.write_all(&head).await.unwrap();
            theirs.write_all(&vec![0; MAX_MESSAGE + 1024]).await.unwrap();
            let error = channel.next().await.unwrap_err();
            assert_eq!(error.to_string(), "a message came that is too long");
        }
    }
}
