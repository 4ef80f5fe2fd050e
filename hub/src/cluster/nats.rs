//! The network between hubs over core NATS: nothing of it is stored by a server.
//!
//! ```text
//! vl.<cluster>.1.all.<topic>                            to all processes
//! vl.<cluster>.1.hub.<id>.<boot>.<lane>                 to one
//! vl.<cluster>.1.hub.<id>.<boot>.<lane>.answer.<number> to one that has asked
//! ```
//!
//! What the client library would do by itself and must not: keep messages while the server is away and send them later, wait
//! while its queue is full, give questions 10 s and keep those without an answer for ever, drop messages behind a full
//! subscription in silence, and notice a dead server after minutes. Therefore each send looks at the connection first and never
//! waits, questions and their deadlines are kept here, the queues have room for what credits allow, and the server is asked each
//! 5 s. That a connection is open says little: health is a
//! process's own beat that comes back ([`has_echo`](super::members::Members::has_echo)).

mod question;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, Message, StatusCode, Subscriber};
use backend::Secret;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, unconstrained};
use tokio::time::timeout;

use super::Process;
use super::bus::{Bus, Inbox, Incoming, Lane, Numbers, Pending, Reply, To, Unanswered, Unsent};
use super::frame::Frame;
use crate::news::news;
use crate::random;
use question::Question;

/// Version of the protocol between hubs.
const PROTOCOL: u16 = 1;
/// Messages that may wait in a subscription, or to be sent: more than all credits together allow. None is allocated.
const ROOM: usize = 1 << 22;
/// Time between two questions to a silent server. After two without an answer the connection is given up.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Time to open a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait before a new connection. Each is a random part of it, so that hubs do not return at once.
const LONGEST_DELAY: Duration = Duration::from_secs(4);
/// Largest message in bytes of a server with its own defaults.
const MAX_MESSAGE: usize = 1 << 20;
/// An asker that was told that nobody is there asks again after this time: a subscription that was just made may be unknown.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Where the servers are, and what is spoken there.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// Addresses of servers, with commas between them.
    pub url: String,
    /// The cluster's name.
    pub cluster: String,
    /// The text of a `.creds` file.
    pub credentials: Option<Secret>,
}

/// Whether `text` is that of a `.creds` file.
pub fn check_credentials(text: &Secret) -> Result<(), InvalidCredentials> {
    ConnectOptions::new().credentials(text.reveal()).map(drop).map_err(|_| InvalidCredentials)
}

/// A text that is not that of a `.creds` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a .creds file: a user's JWT and its seed, each between two lines of dashes")]
pub struct InvalidCredentials;

/// Questions that wait for their answers, by number.
type Questions = Mutex<HashMap<u64, oneshot::Sender<Result<Frame, Unanswered>>>>;

/// A process's connections, one for each lane.
pub struct Nats {
    me: Process,
    prefix: String,
    clients: [Client; 2],
    numbers: Numbers,
    questions: Arc<Questions>,
    /// Number of the last question.
    asked: Arc<AtomicU64>,
    receiving: Vec<JoinHandle<()>>,
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.receiving.iter().for_each(JoinHandle::abort);
    }
}

impl Nats {
    /// Connects, and goes on trying while no server is there. The connections are served by the thread that calls this.
    pub async fn connect(options: &NatsOptions, me: Process) -> Result<(Self, Inbox), String> {
        let prefix = format!("vl.{}.{PROTOCOL}", options.cluster);
        let [ctl, bulk] = Lane::ALL.map(|lane| client(options, me, lane));
        let clients = [ctl.await?, bulk.await?];
        let (sender, inbox) = mpsc::unbounded_channel();
        let mut receiving = Vec::new();
        let mut subjects = vec![(Lane::Ctl, format!("{prefix}.all.*"))];
        subjects.extend(Lane::ALL.map(|lane| (lane, subject(&prefix, To::Process(me, lane)))));
        for (lane, subject) in subjects {
            let client = &clients[lane as usize];
            let subscription = client.subscribe(subject).await.map_err(|error| error.to_string())?;
            receiving.push(tokio::spawn(receive(subscription, client.clone(), sender.clone())));
        }
        let questions = Arc::<Questions>::default();
        for lane in Lane::ALL {
            let subject = answers(&prefix, me, lane, "*");
            let subscription =
                clients[lane as usize].subscribe(subject).await.map_err(|error| error.to_string())?;
            receiving.push(tokio::spawn(receive_answers(subscription, questions.clone())));
        }
        let (numbers, asked) = (Numbers::default(), Arc::default());
        Ok((Self { me, prefix, clients, numbers, questions, asked, receiving }, inbox))
    }

    /// Whether the lane's connection is known to be broken.
    #[cfg(test)]
    pub fn is_away(&self, lane: Lane) -> bool {
        is_away(&self.clients[lane as usize])
    }

    fn send(&self, to: To, bytes: Bytes) -> Result<(), Unsent> {
        let client = &self.clients[lane_of(to) as usize];
        publish(client, subject(&self.prefix, to), None, bytes)
    }
}

/// Opens the connection of a lane.
async fn client(options: &NatsOptions, me: Process, lane: Lane) -> Result<Client, String> {
    let connect = match &options.credentials {
        Some(text) => ConnectOptions::new().credentials(text.reveal()).map_err(|error| error.to_string())?,
        None => ConnectOptions::new(),
    };
    connect
        .name(format!("virtual-llm hub {me} {}", lane.as_str()))
        .ping_interval(PING_EVERY)
        .connection_timeout(CONNECT_TIMEOUT)
        .subscription_capacity(ROOM)
        .client_capacity(ROOM)
        .retry_on_initial_connect()
        .reconnect_delay_callback(delay)
        .event_callback(async |event| log_event(&event))
        .connect(options.url.split(',').map(str::trim).collect::<Vec<_>>())
        .await
        .map_err(|error| error.to_string())
}

/// Logs what happens to a connection.
fn log_event(event: &Event) {
    match event {
        Event::ServerError(_) | Event::ClientError(_) | Event::SlowConsumer(_) => {
            news!(warn, "nats", "the server", "nats: {event}");
        }
        _ => log::info!("nats: {event}"),
    }
}

/// The time before the attempt `attempt` to connect: a random part of twice as much as before.
fn delay(attempt: usize) -> Duration {
    let longest = Duration::from_millis(100).saturating_mul(1 << attempt.min(10)).min(LONGEST_DELAY);
    longest.mul_f64(f64::from(u16::from_be_bytes(random::bytes())) / f64::from(u16::MAX))
}

fn lane_of(to: To) -> Lane {
    match to {
        To::All(_) => Lane::Ctl,
        To::Process(_, lane) => lane,
    }
}

fn subject(prefix: &str, to: To) -> String {
    match to {
        To::All(topic) => format!("{prefix}.all.{}", topic.as_str()),
        To::Process(process, lane) => format!("{prefix}.hub.{process}.{}", lane.as_str()),
    }
}

/// The subject of the answer to a question.
fn answers(prefix: &str, me: Process, lane: Lane, number: impl std::fmt::Display) -> String {
    format!("{}.answer.{number}", subject(prefix, To::Process(me, lane)))
}

fn is_away(client: &Client) -> bool {
    client.connection_state() != State::Connected
}

/// Sends a message now or not at all.
fn publish(client: &Client, subject: String, reply: Option<String>, bytes: Bytes) -> Result<(), Unsent> {
    if bytes.len() > MAX_MESSAGE {
        return Err(Unsent::TooLong);
    }
    if is_away(client) {
        return Err(Unsent::Away);
    }
    let publishing = async {
        match reply {
            Some(reply) => client.publish_with_reply(subject, reply, bytes).await,
            None => client.publish(subject, bytes).await,
        }
    };
    // It waits for a place in the client's queue alone, and is not to be told to give way to other tasks.
    match unconstrained(publishing).now_or_never() {
        Some(Ok(())) => Ok(()),
        Some(Err(_)) | None => Err(Unsent::Away),
    }
}

/// Puts what arrives into the inbox.
async fn receive(mut messages: Subscriber, client: Client, inbox: mpsc::UnboundedSender<Incoming>) {
    while let Some(Message { payload, reply, .. }) = messages.next().await {
        let incoming = match (Frame::decode(&payload), reply) {
            (Ok(frame), None) => Incoming::Told(frame),
            (Ok(frame), Some(subject)) => {
                let client = client.clone();
                Incoming::Asked(
                    frame,
                    Reply::new(move |answer| {
                        let bytes = answer.encode().map_err(|_| Unsent::TooLong)?;
                        publish(&client, subject.to_string(), None, bytes)
                    }),
                )
            }
            (Err(error), _) => {
                log::debug!("nats: {error}");
                continue;
            }
        };
        if inbox.send(incoming).is_err() {
            return;
        }
    }
}

impl Bus for Nats {
    fn begin_beat(&self, number: u64) {
        self.numbers.set_beat(number);
    }

    fn tell(&self, to: To, mut frame: Frame) -> Result<(), Unsent> {
        self.numbers.stamp(to, &mut frame);
        self.send(to, frame.encode().map_err(|_| Unsent::TooLong)?)
    }

    fn ask(&self, process: Process, lane: Lane, mut frame: Frame, within: Duration) -> Pending<Frame> {
        let to = To::Process(process, lane);
        self.numbers.stamp(to, &mut frame);
        let question = Question {
            client: self.clients[lane as usize].clone(),
            subject: subject(&self.prefix, to),
            answers: answers(&self.prefix, self.me, lane, ""),
            bytes: frame.encode(),
            asked: self.asked.clone(),
            questions: self.questions.clone(),
        };
        Box::pin(async move { timeout(within, question.ask()).await.unwrap_or(Err(Unanswered::Late)) })
    }

    fn forget(&self, process: Process) {
        self.numbers.forget(process);
    }
}

/// Passes answers on to who has asked.
async fn receive_answers(mut messages: Subscriber, questions: Arc<Questions>) {
    while let Some(message) = messages.next().await {
        let number = message.subject.rsplit('.').next().and_then(|number| number.parse().ok());
        // Nobody may wait for it any more.
        let Some(asked) = number.and_then(|number: u64| questions.lock().remove(&number)) else { continue };
        let answer = if message.status == Some(StatusCode::NO_RESPONDERS) {
            Err(Unanswered::Nobody)
        } else {
            match Frame::decode(&message.payload) {
                Ok(frame) => Ok(frame),
                Err(_) => continue,
            }
        };
        let _ = asked.send(answer);
    }
}

#[cfg(test)]
mod tests;
