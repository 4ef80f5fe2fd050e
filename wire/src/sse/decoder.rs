//! Bytes to events, the same for any cut into chunks.

use super::block::{Block, Bytes, text};
use super::line::{Field, Line, field_of, line_end, milliseconds, value_of};
use super::{CR, Event, Frame, LF, NUL};
use memchr::memchr;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::{fmt, mem};

/// Bytes of one frame's values: twice the 32 MiB that a caller's body may have, since a task is that body in an
/// envelope, and a hub may escape more characters than the caller did.
pub const DEFAULT_MAX_FRAME: usize = 64 << 20;

/// A decoder for one connection.
///
/// Bytes are looked at once and values copied at most once, however they are cut; a frame that lies in one chunk is
/// not copied at all by [`decode`](Self::decode). An unfinished frame at the end of a stream is dropped with the
/// decoder, as the text demands.
pub struct Decoder {
    limit: usize,
    /// Bytes of the byte order mark seen so far; `None` once the stream has properly begun.
    bom: Option<usize>,
    /// The last byte was a CR, which ended its line at once: an LF that follows belongs to it.
    after_cr: bool,
    line: Line,
    block: Block<'static>,
    last_event_id: String,
    retry_ms: Option<u64>,
    discarded: u64,
    ready: VecDeque<Event>,
}

impl Decoder {
    /// A decoder with the limit [`DEFAULT_MAX_FRAME`].
    pub fn new() -> Self {
        Self::with_limit(DEFAULT_MAX_FRAME)
    }

    /// A decoder that discards frames whose values, joined with one byte for each line break, are longer than
    /// `max_frame_bytes`. Comments do not count, and are never held.
    pub fn with_limit(max_frame_bytes: usize) -> Self {
        Self {
            limit: max_frame_bytes,
            bom: Some(0),
            after_cr: false,
            line: Line::Start,
            block: Block::default(),
            last_event_id: String::new(),
            retry_ms: None,
            discarded: 0,
            ready: VecDeque::new(),
        }
    }

    /// Takes the next bytes of the stream. Drain [`next_event`](Self::next_event) after each call.
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

    /// The next of the events that [`feed`](Self::feed) completed.
    pub fn next_event(&mut self) -> Option<Event> {
        /// Room that an idle connection keeps: a chunk rarely completes more.
        const KEEP: usize = 4;

        let event = self.ready.pop_front();
        if event.is_none() {
            self.ready.shrink_to(KEEP);
        }
        event
    }

    /// The primitive below `feed`, without a copy: takes bytes off the front of `input` up to the end of the next
    /// event. `None` when all of `input` was taken; call it with the next chunk then. The event's id is
    /// [`last_event_id`](Self::last_event_id) right after the call.
    ///
    /// ```text
    /// let mut rest: &[u8] = &chunk;
    /// while let Some(frame) = decoder.decode(&mut rest) { … }
    /// ```
    pub fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Option<Frame<'a>> {
        self.skip_bom(input);
        let mut block: Block<'a> = mem::take(&mut self.block);
        loop {
            if mem::take(&mut self.after_cr) {
                match input.first() {
                    Some(&LF) => *input = &input[1..],
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            let Some(end) = line_end(input) else {
                self.hold(&mut block, mem::take(input));
                self.block = block.into_owned();
                return None;
            };
            let rest_of_line = &input[..end];
            self.after_cr = input[end] == CR;
            *input = &input[end + 1..];
            if end > 0 || !matches!(self.line, Line::Start) {
                self.end_line(&mut block, rest_of_line);
            } else if let Some(frame) = self.dispatch(mem::take(&mut block)) {
                return Some(frame);
            }
        }
    }

    /// The reconnection time that the stream asked for last, in milliseconds. It counts from its line on.
    pub fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    /// The id for `Last-Event-ID`, empty when there is none. It counts from its frame's blank line on.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// How many frames passed the limit so far. Each was dropped up to its blank line, with what it held.
    pub fn discarded(&self) -> u64 {
        self.discarded
    }

    /// Bytes of memory that the decoder keeps between two chunks: of a frame that is not whole.
    pub fn held(&self) -> usize {
        let capacity = |bytes: &Bytes<'_>| match bytes {
            Cow::Borrowed(_) => 0,
            Cow::Owned(bytes) => bytes.capacity(),
        };
        let line = if let Line::Held(line) = &self.line { line.capacity() } else { 0 };
        let Block { event, id, data, .. } = &self.block;
        let block: usize =
            [Some(event), id.as_ref(), data.as_ref()].into_iter().flatten().map(capacity).sum();
        line + block + self.last_event_id.capacity() + self.ready.capacity() * size_of::<Event>()
    }

    fn skip_bom(&mut self, input: &mut &[u8]) {
        const BOM: &[u8] = "\u{feff}".as_bytes();

        while let Some(seen) = self.bom {
            let Some(first) = input.first() else { return };
            if *first == BOM[seen] {
                *input = &input[1..];
                self.bom = Some(seen + 1).filter(|seen| *seen < BOM.len());
            } else {
                // Not a mark after all: its bytes begin the first line.
                self.bom = None;
                if seen > 0 {
                    self.line = Line::Held(BOM[..seen].to_vec());
                }
            }
        }
    }

    /// A piece of a line whose end is not in this chunk. Empty when the chunk is.
    fn hold<'a>(&mut self, block: &mut Block<'a>, piece: &'a [u8]) {
        if piece.is_empty() {
            return;
        }
        let line = match mem::take(&mut self.line) {
            Line::Start => Cow::Borrowed(piece),
            Line::Held(mut line) => {
                line.extend_from_slice(piece);
                Cow::Owned(line)
            }
            Line::Data => {
                self.line = if self.admit(block, piece.len()) {
                    block.extend_data(piece);
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
            _ if block.too_large => Line::Ignored,
            None => Line::Held(line.into_owned()),
            Some((Field::Data, at)) if self.admit(block, line.len() - at) => {
                block.add_data_line(value_of(line, at));
                Line::Data
            }
            // Counted as a whole at its end; until then it must fit.
            Some((Field::Event | Field::Id | Field::Retry, at)) if self.fits(block, line.len() - at) => {
                Line::Held(line.into_owned())
            }
            // Means nothing, or has just passed the limit.
            Some(_) => Line::Ignored,
        };
    }

    /// The last piece of a line that is not blank.
    fn end_line<'a>(&mut self, block: &mut Block<'a>, piece: &'a [u8]) {
        match mem::take(&mut self.line) {
            Line::Start => self.take_line(block, Cow::Borrowed(piece)),
            Line::Held(mut line) => {
                line.extend_from_slice(piece);
                self.take_line(block, Cow::Owned(line));
            }
            Line::Data if self.admit(block, piece.len()) => {
                block.extend_data(piece);
                block.size += 1;
            }
            Line::Data | Line::Ignored => {}
        }
    }

    fn take_line<'a>(&mut self, block: &mut Block<'a>, line: Bytes<'a>) {
        let (field, at) = field_of(&line, true).unwrap_or((Field::Ignored, 0));
        if field == Field::Ignored || block.too_large || !self.admit(block, line.len() - at) {
            return;
        }
        block.size += 1;
        let value = value_of(line, at);
        match field {
            Field::Data => block.add_data_line(value),
            Field::Event => block.event = value,
            Field::Id if memchr(NUL, &value).is_none() => block.id = Some(value),
            Field::Retry => self.retry_ms = milliseconds(&value).or(self.retry_ms),
            Field::Id | Field::Ignored => {}
        }
    }

    fn dispatch<'a>(&mut self, mut block: Block<'a>) -> Option<Frame<'a>> {
        if let Some(id) = block.id.take() {
            self.last_event_id = text(id).into_owned();
        }
        block.into_frame()
    }

    /// Counts `more` bytes of a value against the limit; at the limit the block gives up all that it holds.
    fn admit(&mut self, block: &mut Block<'_>, more: usize) -> bool {
        let fits = self.fits(block, more);
        if fits {
            block.size += more;
        }
        fits
    }

    fn fits(&mut self, block: &mut Block<'_>, more: usize) -> bool {
        let fits = block.size.saturating_add(more) <= self.limit;
        if !fits {
            *block = Block { too_large: true, ..Block::default() };
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

/// Shows counts only, for [`Event`]'s reason.
impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("limit", &self.limit)
            .field("held", &self.block.size)
            .field("discarded", &self.discarded)
            .finish_non_exhaustive()
    }
}
