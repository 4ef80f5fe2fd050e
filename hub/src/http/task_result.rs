//! The result of an ended task, read from the store a part at a time: whoever asks for a large one, and does not read it,
//! holds a part of it.

use std::ops::Range;

use actix_web::HttpResponse;
use actix_web::body::SizedStream;
use backend::FairSemaphore;
use bytes::Bytes;
use futures_util::stream::unfold;
use serde_json::value::RawValue;

use super::HubData;
use crate::clock;
use crate::connections::turn;
use crate::error::ApiError;
use crate::hub::Hub;
use crate::model::{Caller, DurableTask, Role, TaskStatus};

/// Bytes of a part.
pub(super) const PART: usize = 256 << 10;
/// What comes behind a result.
const AFTER: &str = "}}";
/// Readings of the store: four at once, so that whoever wants something of it does not wait behind thousands.
pub(super) static READINGS: FairSemaphore = FairSemaphore::new(4, 2);

/// An ended task, without its result, and how many bytes that has.
pub(super) struct Ended {
    pub(super) task: DurableTask,
    pub(super) size: Option<u64>,
}

/// A task that the store has, for its owner and admins; for others there is none.
pub(super) async fn ended(hub: &Hub, caller: &Caller, id: &str) -> Result<Ended, ApiError> {
    let found = {
        let _turn = turn(&READINGS, &caller.user).await;
        hub.store.task_head(id).await?
    };
    found
        .filter(|(task, _)| caller.role == Role::Admin || caller.user == task.owner)
        .map(|(task, size)| Ended { task, size })
        .ok_or_else(|| gone(id))
}

fn gone(id: &str) -> ApiError {
    ApiError::not_found("task", id)
}

/// At most `most` bytes of a task's result from `at` on, when it is `user`'s turn.
pub(super) async fn part(hub: &Hub, user: &str, id: &str, at: u64, most: usize) -> Result<Bytes, ApiError> {
    let _turn = turn(&READINGS, user).await;
    let part = hub.store.result_part(id, at, most).await?;
    part.map(Bytes::from).ok_or_else(|| gone(id))
}

/// An object with the members of `view`, which is one, and the task's result.
/// A reader who does not read it holds a part of it, which counts for `caller`.
pub(super) async fn whole(
    hub: HubData,
    caller: &Caller,
    view: String,
    found: Ended,
) -> Result<HttpResponse, ApiError> {
    let Ended { task, size } = found;
    let (Some((status, _)), Some(size)) = (&task.result, size) else {
        return Ok(HttpResponse::Ok().content_type("application/json").body(view));
    };
    let chunked = task.streaming && task.state == TaskStatus::Completed;
    let key = if chunked { "chunks" } else { "body" };
    let view = view.strip_suffix('}').unwrap_or(&view);
    let before = format!(r#"{view},"result":{{"status":{status},"{key}":"#);
    let mut response = HttpResponse::Ok();
    response.content_type("application/json");
    if size <= PART as u64 {
        let result = part(&hub, &caller.user, &task.id, 0, PART).await?;
        return Ok(response.body([before.as_bytes(), &result, AFTER.as_bytes()].concat()));
    }
    let held = hub.unread_of(&caller.user).take(before.len() + PART)?;
    let total = (before.len() + AFTER.len()) as u64 + size;
    let (user, token) = (caller.user.clone(), caller.token_id.clone());
    let parts = unfold((0, Some(before)), move |(at, before)| {
        let (hub, id, user) = (hub.clone(), task.id.clone(), user.clone());
        let is_ended = hub.tokens.holder(&token, clock::now()).is_none();
        let _ = &held;
        async move {
            if let Some(before) = before {
                return Some((Ok(Bytes::from(before)), (at, None)));
            }
            if at > size {
                return None;
            }
            // Nothing more goes to a token that does not count any more.
            if is_ended {
                return Some((Err(ApiError::revoked()), (at, None)));
            }
            if at == size {
                return Some((Ok(Bytes::from_static(AFTER.as_bytes())), (at + 1, None)));
            }
            // A task that is deleted meanwhile breaks the answer off.
            let read = part(&hub, &user, &id, at, PART).await;
            let next = at + read.as_ref().map_or(0, |read| read.len() as u64);
            let read = if next == at { Err(gone(&id)) } else { read };
            Some((read, (next, None)))
        }
    });
    Ok(response.body(SizedStream::new(total, Box::pin(parts))))
}

/// Finds the members of a JSON array as its text comes. Pure.
#[derive(Debug, Default)]
pub(super) struct Members {
    text: Vec<u8>,
    /// All before this was given.
    at: usize,
}

/// What there is in the text so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Member {
    /// One of them: its place in the text.
    Here(Range<usize>),
    /// More text is needed.
    More,
    /// The array is over.
    End,
    /// It is no array.
    Broken,
}

impl Members {
    /// More of the text.
    pub(super) fn add(&mut self, part: &[u8]) {
        self.text.drain(..self.at);
        self.at = 0;
        self.text.extend_from_slice(part);
    }

    /// Bytes of text that is not given yet.
    pub(super) fn left(&self) -> usize {
        self.text.len() - self.at
    }

    /// Bytes of text that is held, given or not.
    pub(super) fn size(&self) -> usize {
        self.text.len()
    }

    /// The text of a member.
    pub(super) fn text(&self, place: Range<usize>) -> &str {
        self.text.get(place).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }

    /// The next member. Between members there is a comma and nothing else, before the first a bracket.
    pub(super) fn find(&mut self) -> Member {
        let start = match self.text.get(self.at) {
            None => return Member::More,
            Some(b']') => return Member::End,
            Some(b'[' | b',') => self.at + 1,
            Some(_) => return Member::Broken,
        };
        let rest = &self.text[start..];
        if rest.first() == Some(&b']') {
            return Member::End;
        }
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<&RawValue>();
        match values.next() {
            // What follows says that it is whole.
            Some(Ok(_)) if values.byte_offset() < rest.len() => {
                self.at = start + values.byte_offset();
                Member::Here(start..self.at)
            }
            None | Some(Ok(_)) => Member::More,
            Some(Err(error)) if error.is_eof() => Member::More,
            Some(Err(_)) => Member::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        /// The members of an array are found whole and in order, however its text is cut, in the middle of a letter too.
        #[test]
        fn members_are_found_however_the_text_is_cut(
            texts in prop::collection::vec("[a-zé€😀,\\[\\]{}\"\\\\ ]{0,12}", 0..12),
            cuts in prop::collection::vec(1_usize..9, 1..9),
        ) {
            let members: Vec<_> = texts.iter().enumerate().map(|(n, text)| json!({ "t": text, "n": [n] })).collect();
            let text = serde_json::to_string(&members).unwrap();
            let mut rest = text.as_bytes();
            let (mut found, mut reader, mut cuts) = (Vec::new(), Members::default(), cuts.into_iter().cycle());
            loop {
                match reader.find() {
                    Member::Here(place) => found.push(reader.text(place).to_owned()),
                    Member::More => {
                        prop_assert!(!rest.is_empty());
                        let (part, after) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                        reader.add(part);
                        rest = after;
                    }
                    Member::End => break,
                    Member::Broken => prop_assert!(false, "{text}"),
                }
            }
            let expected: Vec<_> = members.iter().map(ToString::to_string).collect();
            prop_assert_eq!(found, expected);
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn what_is_no_array_is_told() {
        for text in ["{}", "[{]", "x", "[1 2]"] {
            let mut members = Members::default();
            members.add(text.as_bytes());
            let last =
                std::iter::repeat_with(|| members.find()).find(|next| !matches!(next, Member::Here(_)));
            assert_eq!(last, Some(Member::Broken), "{text}");
        }
    }
}
