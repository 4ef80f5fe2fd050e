//! Reads a streamed answer, over one or more connections.

use serde_json::Value;
use testkit::client::Answer;
use wire::sse::Decoder;

use crate::answers::{Wanted, content, delta};
use crate::caller::Caller;

/// How a stream, or an answer, ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    Complete,
    Refused(u16),
    /// An error within a stream.
    Failed,
    /// The connection broke.
    Broken,
}

#[derive(Default)]
pub struct Reader {
    decoder: Decoder,
    text: String,
    /// The id of the last event.
    pub seen: Option<String>,
    done: bool,
    failed: bool,
}

impl Reader {
    /// Prepares the reader for a new connection. If the last connection broke after the end mark, the hub repeats the mark.
    pub fn resume(&mut self) {
        (self.decoder, self.done, self.failed) = (Decoder::new(), false, false);
    }
}

impl Caller {
    /// Reads a stream to its end.
    pub async fn stream(&self, wanted: Wanted, mut answer: Answer, reader: &mut Reader) -> Ended {
        let record = &self.world.record;
        loop {
            match answer.next().await {
                Ok(Some(piece)) => reader.decoder.feed(&piece),
                Ok(None) if reader.done => {
                    self.judge(wanted, &reader.text, true);
                    return Ended::Complete;
                }
                Ok(None) if reader.failed => {
                    self.judge(wanted, &reader.text, false);
                    return Ended::Failed;
                }
                // A stream that ends or fails without the end mark is broken.
                Ok(None) | Err(_) => {
                    self.judge(wanted, &reader.text, false);
                    return Ended::Broken;
                }
            }
            while let Some(event) = reader.decoder.next_event() {
                if reader.done || reader.failed {
                    record.violation(format!(
                        "P1: request {}: after the end came {:?}",
                        wanted.nonce, event.data
                    ));
                }
                if !reader.decoder.last_event_id().is_empty() {
                    reader.seen = Some(reader.decoder.last_event_id().to_owned());
                }
                if event.data == "[DONE]" {
                    reader.done = true;
                    continue;
                }
                let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
                if !data["error"].is_null() {
                    reader.failed = true;
                    continue;
                }
                reader.text.push_str(content(&data).unwrap_or_else(|| delta(&data)));
                if !reader.text.is_empty() {
                    record.answered(wanted.nonce);
                }
            }
        }
    }

    /// Checks that `text` comes from one run; with `whole`, that it is complete.
    pub fn judge(&self, wanted: Wanted, text: &str, whole: bool) {
        let known =
            |run| self.world.runs.of(wanted.nonce, |runs| runs.iter().any(|known| known.number == run));
        let wrong = match wanted.check(text, whole) {
            Ok(run) if run.is_none_or(known) => return,
            Ok(_) => "the text is of an unknown run".to_owned(),
            Err(wrong) => wrong,
        };
        self.world.record.violation(format!("P3: request {}: {wrong}", wanted.nonce));
    }
}

/// If a connection breaks between the end mark and the end of the response, the resumed stream has only the end mark.
#[actix_rt::test]
async fn a_reader_that_resumes_after_the_end_mark_gets_the_mark_again() {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use testkit::connection::{SSE, chunked};
    use testkit::peer::Peer;

    use crate::caller::World;
    use crate::record::{Kind, Record};
    use crate::runs::Runs;

    let (record, runs) = (Rc::new(Record::default()), Rc::new(Runs::default()));
    let wanted = Wanted { nonce: record.nonce(Kind::Durable), tokens: 1 };
    let token = crate::answers::token(wanted.nonce, runs.begin(wanted.nonce, 0, 1), 0);
    let event = |id, data: &str| chunked(&format!("id: {id}\ndata: {data}\n\n"));
    let chunk = serde_json::json!({ "choices": [{ "delta": { "content": token } }] }).to_string();
    let first = event(1, &chunk) + &event(2, "[DONE]");
    let bodies = [first, event(3, "[DONE]") + "0\r\n\r\n"];

    let asked = Rc::<RefCell<Vec<_>>>::default();
    let seen = Rc::clone(&asked);
    let server = Peer::start(async move |mut connection| {
        let request = connection.request().await?;
        seen.borrow_mut().push(request);
        connection.write(format!("{SSE}{}", bodies[connection.number])).await
    });
    let world = World { record: Rc::clone(&record), runs, token: String::new(), over: Cell::new(false) };
    Caller { world: Rc::new(world), port: server.port(), bad_network: false }.follow(wanted, "t").await;
    assert_eq!(asked.borrow()[1].header("last-event-id"), Some("2"));
    assert_eq!(record.violations(), 0);
}
