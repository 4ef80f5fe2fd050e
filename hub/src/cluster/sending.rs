//! Sends parts of bodies to other hubs, and questions: again until they are answered.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use tokio::time::sleep;

use super::Process;
use super::bus::{Lane, Unanswered, Unsent};
use super::calls::{About, SMALL};
use super::frame::Frame;
use super::parts::Asks;
use super::peers::Peers;

/// Time for the first answer to a message, about which is then asked again.
const FIRST_WITHIN: Duration = Duration::from_millis(250);
/// Longest time for the answer to a message. Nobody waits longer than for the members to notice that the other hub is dead.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Time for which an answer that is late counts all the same.
const KEPT: Duration = Duration::from_secs(30);

/// The kinds of answers to a part.
pub(super) const TAKEN: &str = "taken";
const HELD: &str = "held";
const LACKS: &str = "lacks";

impl Peers {
    /// Sends a part of a body of `user`, again if it was lost, until it is taken. A large one first waits for its place in the window.
    pub(super) async fn send_part<T: Serialize>(
        &self,
        to: Process,
        lane: Lane,
        kind: &str,
        user: &str,
        mut about: About<T>,
        body: Bytes,
    ) -> Result<(), Unanswered> {
        let is_large = body.len() > SMALL;
        let mut place = None;
        loop {
            let is_body = about.asks == Asks::Part;
            if is_body && is_large && place.is_none() {
                place = Some(self.windows.place(to, user, body.len()).await);
            }
            let first = self.frame(kind, &about, if is_body { body.clone() } else { Bytes::new() })?;
            let again = if is_body && is_large {
                // The bytes may be on their way still. This comes behind them.
                about.asks = Asks::Arrival;
                self.frame(kind, &about, Bytes::new())?
            } else {
                first.clone()
            };
            match self.ask_until(to, lane, first, again).await?.kind.as_str() {
                TAKEN => return Ok(()),
                HELD => {
                    // It has come: who does not read it takes no place of others.
                    place = None;
                    about.asks = Asks::Room;
                }
                LACKS => about.asks = Asks::Part,
                _ => return Err(Unanswered::Late),
            }
        }
    }

    fn frame(&self, kind: &str, data: &impl Serialize, body: Bytes) -> Result<Frame, Unanswered> {
        let mut frame = Frame::new(self.process, kind, data).map_err(|_| Unsent::TooLong)?;
        frame.body = body;
        Ok(frame)
    }

    /// Asks another hub, again if its answer is late, while it is alive.
    pub(super) async fn ask<T: Serialize>(
        &self,
        to: Process,
        kind: &str,
        data: &T,
    ) -> Result<Frame, Unanswered> {
        let frame = self.frame(kind, data, Bytes::new())?;
        self.ask_until(to, Lane::Ctl, frame.clone(), frame).await
    }

    /// Asks another hub with the frame `first`, and with `again` while there is no answer and it is alive. The answer to any of them
    /// counts: behind a long queue none comes in time.
    async fn ask_until(
        &self,
        to: Process,
        lane: Lane,
        first: Frame,
        again: Frame,
    ) -> Result<Frame, Unanswered> {
        let (mut asked, mut within) = (FuturesUnordered::new(), FIRST_WITHIN);
        asked.push(self.bus.ask(to, lane, first, KEPT));
        loop {
            let pause = sleep(within);
            tokio::pin!(pause);
            loop {
                let answer = tokio::select! {
                    biased;
                    Some(answer) = asked.next() => answer,
                    () = &mut pause => break,
                };
                match answer {
                    // A later question may be answered.
                    Err(Unanswered::Late) => {}
                    Err(Unanswered::Nobody) => {
                        self.not_there(to);
                        return Err(Unanswered::Nobody);
                    }
                    answered => return answered,
                }
            }
            if !self.is_alive(to) {
                return Err(Unanswered::Late);
            }
            within = (2 * within).min(ANSWER_WITHIN);
            asked.push(self.bus.ask(to, lane, again.clone(), KEPT));
        }
    }
}
