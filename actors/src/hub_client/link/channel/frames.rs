//! What a frame of the hub does.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;
use wire::Feature;
use wire::link::{Frame, Hello, MAX_TASKS, Piece, Received, Resume};

use super::{LinkChannel, LinkEvent};
use crate::hub_client::link::requests::Refused;
use crate::uplink::Outcome;

impl LinkChannel {
    pub(super) fn frame(&mut self, bytes: &Bytes) -> Result<(), &'static str> {
        let Some(frame) = Frame::decode(bytes).map_err(|_| "the hub sent an invalid frame")? else {
            return Ok(());
        };
        let received = self.state.link.borrow_mut().receive(frame);
        match received.map_err(|_| "the hub sent a frame against the rules")? {
            Received::Hello(json) => self.hello(&json)?,
            Received::Piece { task, piece, .. } => self.piece(&task, &piece)?,
            Received::Credit(_) => self.state.writable.notify_one(),
            Received::Taken { task, status } => self.state.decide(&task, outcome_of(status)),
            Received::Cancelled(task) => self.cancelled(task),
            Received::Superseded => self.ready.push_back(LinkEvent::Superseded),
            Received::Going(going) => {
                self.state.is_going.set(true);
                self.policy.borrow_mut().restarts(Instant::now());
                self.ready.push_back(LinkEvent::Going(going));
            }
            Received::Beaten { number, status, body } => self.state.beats.beaten(number, status, body),
            Received::Resume(_) => return Err("the hub sent a resume"),
            Received::Beat(..) => return Err("the hub sent a heartbeat"),
            Received::Nothing => (),
        }
        Ok(())
    }

    fn hello(&mut self, json: &[u8]) -> Result<(), &'static str> {
        let hello = Hello::parse(json).ok_or("the hub's hello is invalid")?;
        let mut link = self.state.link.borrow_mut();
        let lost = link.resume(&hello.tasks).map_err(|_| "the hub's hello is against the rules")?;
        let resume = Resume { tasks: link.tables() };
        link.send_control(&Frame::Resume(resume.to_json()));
        drop(link);
        self.hello_by = None;
        // Until now the hub did not know this end: answers were POSTs, unless an earlier connection had begun them.
        self.state.is_active.set(true);
        self.policy.borrow_mut().greeted();
        self.state.beats.greeted(hello.features().has(Feature::Beat));
        self.state.writable.notify_one();
        self.ready.push_back(LinkEvent::Hello { features: hello.features(), stream_id: hello.stream_id });
        for task in lost {
            self.cancelled(task);
        }
        Ok(())
    }

    fn cancelled(&mut self, task: Arc<str>) {
        self.state.requests.borrow_mut().remove(&task);
        self.state.decide(&task, Outcome::Gone);
        self.ready.push_back(LinkEvent::Cancel(task));
    }

    fn piece(&mut self, task: &Arc<str>, piece: &Piece) -> Result<(), &'static str> {
        if self.state.link.borrow().len() > MAX_TASKS {
            return Err("the hub sends tasks faster than it takes their results");
        }
        let mut requests = self.state.requests.borrow_mut();
        let data = requests.add(task, &piece.bytes, piece.is_last);
        if let Some(data) = data.map_err(|refused| match refused {
            Refused::TooLong => "the hub sent a task of more than 64 MiB",
            Refused::TooMany => "the hub sent parts of too many tasks",
        })? {
            let data = String::from_utf8(data).map_err(|_| "the hub sent a task that is not UTF-8")?;
            self.ready.push_back(LinkEvent::Task(data));
        }
        let mut link = self.state.link.borrow_mut();
        while let Some((task, length)) = requests.granted() {
            if link.consumed(&task, length) {
                self.state.writable.notify_one();
            }
        }
        Ok(())
    }
}

/// The decision about an answer, from the status that a POST would have had.
fn outcome_of(status: u16) -> Outcome {
    match status {
        200..=299 => Outcome::Taken,
        404 | 409 | 410 => Outcome::Gone,
        408 | 425 | 429 | 500.. => Outcome::Failed { retry_after: None, nothing_taken: true },
        status => Outcome::Refused { status },
    }
}
