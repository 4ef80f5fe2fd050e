//! Decodes bytes to events. The result does not depend on the boundaries of chunks.

use super::line::{Field, Line, field_of, line_end, milliseconds, value_of};
use super::partial::{Bytes, PartialFrame, text};
use super::{CR, Event, Frame, LF, NUL};
use memchr::memchr;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::{fmt, mem};

/// Default limit for the values of one frame, in bytes: twice the 32 MiB limit of a request body, because a task wraps the body
/// and a hub can escape more characters.
pub const DEFAULT_MAX_FRAME: usize = 64 << 20;

/// A decoder for one connection.
///
/// Each byte is read once, and copied at most once; [`decode`](Self::decode) does not copy a frame that is within one chunk. An
/// incomplete frame at the end of the stream is dropped with the decoder, as the standard demands.
pub struct Decoder {
    limit: usize,
    /// Bytes of the byte order mark read so far; `None` after the beginning of the stream.
    bom: Option<usize>,
    /// Whether the last byte was a CR, so that an LF that follows is part of the same line break.
    after_cr: bool,
    line: Line,
    partial: PartialFrame<'static>,
    last_event_id: String,
    retry_ms: Option<u64>,
    discarded: u64,
    ready: VecDeque<Event>,
}

impl Decoder {
    /// Creates a decoder with the limit [`DEFAULT_MAX_FRAME`].
    pub fn new() -> Self {
        Self::with_limit(DEFAULT_MAX_FRAME)
    }

    /// Creates a decoder that discards frames whose values, with one byte for each line break, exceed `max_frame_bytes`. Comments
    /// do not count.
    pub fn with_limit(max_frame_bytes: usize) -> Self {
        Self {
            limit: max_frame_bytes,
            bom: Some(0),
            after_cr: false,
            line: Line::Start,
            partial: PartialFrame::default(),
            last_event_id: String::new(),
            retry_ms: None,
            discarded: 0,
            ready: VecDeque::new(),
        }
    }

    /// Decodes the next bytes of the stream. Call [`next_event`](Self::next_event) until it returns `None` after each call.
    pub fn feed(&mut self, mut chunk: &[u8]) {
        while let Some(frame) = self.decode(&mut chunk) {
            let event = Event {
                event: frame.event.map(Cow::into_owned),
                data: frame.data.into_owned(),
                id: (!self.last_event_id.is_empty()).then(|| self.last_event_id.clone()),
            };
            self.ready.push_back(event);
        }
    }

    /// Returns the next event that [`feed`](Self::feed) completed.
    pub fn next_event(&mut self) -> Option<Event> {
        /// Capacity to keep; a chunk rarely completes more events.
        const KEEP: usize = 4;

        let event = self.ready.pop_front();
        if event.is_none() {
            self.ready.shrink_to(KEEP);
        }
        event
    }

    /// Like `feed`, without a copy: removes bytes from the front of `input` up to the end of the next event, and returns the event.
    /// `None` if all of `input` was removed. The event's id is [`last_event_id`](Self::last_event_id) right after the call.
    ///
    /// ```text
    /// let mut rest: &[u8] = &chunk;
    /// while let Some(frame) = decoder.decode(&mut rest) { … }
    /// ```
    pub fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Option<Frame<'a>> {
        self.skip_bom(input);
        let mut partial: PartialFrame<'a> = mem::take(&mut self.partial);
        loop {
            if mem::take(&mut self.after_cr) {
                match input.first() {
                    Some(&LF) => *input = &input[1..],
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            let Some(end) = line_end(input) else {
                self.hold(&mut partial, mem::take(input));
                self.partial = partial.into_owned();
                return None;
            };
            let rest_of_line = &input[..end];
            self.after_cr = input[end] == CR;
            *input = &input[end + 1..];
            if end > 0 || !matches!(self.line, Line::Start) {
                self.end_line(&mut partial, rest_of_line);
            } else if let Some(frame) = self.dispatch(mem::take(&mut partial)) {
                return Some(frame);
            }
        }
    }

    /// Returns the last reconnection time that the stream requested, in milliseconds.
    pub fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    /// Returns the id for `Last-Event-ID`, empty if there is none. It changes at the blank line of a frame.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// Returns the number of frames that exceeded the limit.
    pub fn discarded(&self) -> u64 {
        self.discarded
    }

    /// Returns the memory in use between two chunks, in bytes.
    pub fn buffered_bytes(&self) -> usize {
        let capacity = |bytes: &Bytes<'_>| match bytes {
            Cow::Borrowed(_) => 0,
            Cow::Owned(bytes) => bytes.capacity(),
        };
        let line = if let Line::Held(line) = &self.line { line.capacity() } else { 0 };
        let PartialFrame { event, id, data, .. } = &self.partial;
        let partial: usize =
            [Some(event), id.as_ref(), data.as_ref()].into_iter().flatten().map(capacity).sum();
        line + partial + self.last_event_id.capacity() + self.ready.capacity() * size_of::<Event>()
    }

    fn skip_bom(&mut self, input: &mut &[u8]) {
        const BOM: &[u8] = "\u{feff}".as_bytes();

        while let Some(seen) = self.bom {
            let Some(first) = input.first() else { return };
            if *first == BOM[seen] {
                *input = &input[1..];
                self.bom = Some(seen + 1).filter(|seen| *seen < BOM.len());
            } else {
                // No byte order mark: the bytes belong to the first line.
                self.bom = None;
                if seen > 0 {
                    self.line = Line::Held(BOM[..seen].to_vec());
                }
            }
        }
    }

    /// Handles a part of a line whose end is not in this chunk.
    fn hold<'a>(&mut self, partial: &mut PartialFrame<'a>, part: &'a [u8]) {
        if part.is_empty() {
            return;
        }
        let line = match mem::take(&mut self.line) {
            Line::Start => Cow::Borrowed(part),
            Line::Held(mut line) => {
                line.extend_from_slice(part);
                Cow::Owned(line)
            }
            Line::Data => {
                self.line = if self.admit(partial, part.len()) {
                    partial.extend_data(part);
                    Line::Data
                } else {
                    Line::Ignored
                };
                return;
            }
            Line::Ignored => {
                self.line = Line::Ignored;
                return;
            }
        };
        self.line = match field_of(&line, false) {
            _ if partial.too_large => Line::Ignored,
            None => Line::Held(line.into_owned()),
            Some((Field::Data, at)) if self.admit(partial, line.len() - at) => {
                partial.add_data_line(value_of(line, at));
                Line::Data
            }
            // The value is counted at the end of the line; until then, it must fit into the limit.
            Some((Field::Event | Field::Id | Field::Retry, at)) if self.fits(partial, line.len() - at) => {
                Line::Held(line.into_owned())
            }
            // Unknown, or over the limit.
            Some(_) => Line::Ignored,
        };
    }

    /// Handles the last part of a line that is not blank.
    fn end_line<'a>(&mut self, partial: &mut PartialFrame<'a>, part: &'a [u8]) {
        match mem::take(&mut self.line) {
            Line::Start => self.take_line(partial, Cow::Borrowed(part)),
            Line::Held(mut line) => {
                line.extend_from_slice(part);
                self.take_line(partial, Cow::Owned(line));
            }
            Line::Data if self.admit(partial, part.len()) => {
                partial.extend_data(part);
                partial.size += 1;
            }
            Line::Data | Line::Ignored => {}
        }
    }

    fn take_line<'a>(&mut self, partial: &mut PartialFrame<'a>, line: Bytes<'a>) {
        let (field, at) = field_of(&line, true).unwrap_or((Field::Ignored, 0));
        if field == Field::Ignored || partial.too_large || !self.admit(partial, line.len() - at) {
            return;
        }
        partial.size += 1;
        let value = value_of(line, at);
        match field {
            Field::Data => partial.add_data_line(value),
            Field::Event => partial.event = value,
            Field::Id if memchr(NUL, &value).is_none() => partial.id = Some(value),
            Field::Retry => self.retry_ms = milliseconds(&value).or(self.retry_ms),
            Field::Id | Field::Ignored => {}
        }
    }

    fn dispatch<'a>(&mut self, mut partial: PartialFrame<'a>) -> Option<Frame<'a>> {
        if let Some(id) = partial.id.take() {
            self.last_event_id = text(id).into_owned();
        }
        partial.into_frame()
    }

    /// Counts `more` bytes of a value. If they exceed the limit, clears the frame and returns false.
    fn admit(&mut self, partial: &mut PartialFrame<'_>, more: usize) -> bool {
        let fits = self.fits(partial, more);
        if fits {
            partial.size += more;
        }
        fits
    }

    fn fits(&mut self, partial: &mut PartialFrame<'_>, more: usize) -> bool {
        let fits = partial.size.saturating_add(more) <= self.limit;
        if !fits {
            *partial = PartialFrame { too_large: true, ..PartialFrame::default() };
            self.discarded += 1;
        }
        fits
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows counts only, because data are prompts and answers.
impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("limit", &self.limit)
            .field("held", &self.partial.size)
            .field("discarded", &self.discarded)
            .finish_non_exhaustive()
    }
}
