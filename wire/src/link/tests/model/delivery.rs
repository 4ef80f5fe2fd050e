//! What each end does with a frame that arrives.

use bytes::Bytes;

use super::{Answer, GOING, World, number};
use crate::link::{Frame, Hello, Received, Resume};

impl World {
    pub(super) fn deliver(&mut self, to_hub: bool) {
        let Some(last) = self.connections.back_mut() else { return };
        // A frame is under way before it is delivered, so that a break loses some.
        if to_hub {
            last.to_hub.extend(self.registrar.next_frame());
            last.to_hub.extend(self.registrar.next_frame());
            return self.arrive_at_hub(self.connections.len() - 1);
        }
        last.to_registrar.extend(self.hub.next_frame(last.number));
        last.to_registrar.extend(self.hub.next_frame(last.number));
        let Some(bytes) = last.to_registrar.pop_front() else { return };
        self.at_registrar(Frame::decode(&bytes).unwrap().unwrap());
    }

    pub(super) fn arrive_at_hub(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        let Some(bytes) = connection.to_hub.pop_front() else { return };
        let number = connection.number;
        match (connection.has_resumed, Frame::decode(&bytes).unwrap().unwrap()) {
            (false, Frame::Resume(json)) => {
                connection.has_resumed = true;
                self.resume(number, &json);
            }
            (_, frame) => self.at_hub(number, frame),
        }
    }

    fn at_hub(&mut self, connection: u64, frame: Frame<'_>) {
        match self.hub.receive(connection, frame).unwrap() {
            Received::Piece { task, is_new, piece } => {
                if is_new {
                    // Its caller has left, or has read it on an older connection, which the last hello did not know.
                    let number = number(&task);
                    assert!(self.left.contains(&number) || self.callers[&number].is_whole);
                    return self.hub.take(&task, 410);
                }
                let caller = self.callers.get_mut(&number(&task)).unwrap();
                assert!(!caller.is_whole, "a piece behind the end");
                caller.is_whole = piece.is_last;
                caller.unread.push_back(piece.bytes);
            }
            Received::Beat(number, body) => {
                assert_eq!(body, number.to_string());
                self.hub.send_control(&Frame::Beaten { number, status: 200, body });
            }
            Received::Credit(_) | Received::Nothing => (),
            other => panic!("{other:?}"),
        }
    }

    fn at_registrar(&mut self, frame: Frame<'_>) {
        match self.registrar.receive(frame).unwrap() {
            Received::Piece { task, is_new, piece } => {
                let task = number(&task);
                if is_new {
                    *self.runs.entry(task).or_default() += 1;
                }
                let (request, is_whole) = self.requests.entry(task).or_default();
                assert!(!*is_whole, "a piece behind the end");
                request.extend_from_slice(&piece.bytes);
                self.registrar.consumed(&format!("t{task}"), piece.bytes.len());
                if piece.is_last {
                    *is_whole = true;
                    self.answers.insert(task, Answer::default());
                }
            }
            Received::Taken { task, status } => {
                if status == 200 {
                    self.taken.insert(number(&task));
                } else {
                    self.cancelled.insert(number(&task));
                }
            }
            Received::Cancelled(task) => {
                self.cancelled.insert(number(&task));
            }
            Received::Beaten { number, status, body } => {
                assert!(self.waits && number == self.beats, "an answer to another heartbeat");
                assert_eq!((status, body), (200, Bytes::from(number.to_string())));
                self.waits = false;
            }
            Received::Going(going) => assert_eq!(going, GOING),
            Received::Hello(json) => {
                for lost in self.registrar.resume(&Hello::parse(&json).unwrap().tasks).unwrap() {
                    self.cancelled.insert(number(&lost));
                }
                let resume = Resume { tasks: self.registrar.tables() };
                self.registrar.send_control(&Frame::Resume(resume.to_json()));
            }
            Received::Credit(_) | Received::Nothing => (),
            other => panic!("{other:?}"),
        }
    }
}
