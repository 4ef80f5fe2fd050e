//! The text of a request as it is sent to a member.

use std::ops::Range;

use bytes::Bytes;
use wire::json::quote;

use super::{RequestBody, UsageOptions};

impl RequestBody {
    /// The text in pieces, with each `model` value replaced by `model`, and the last `stream_options` by `usage`, if given.
    /// Only these are new bytes.
    pub(in crate::dispatch) fn pieces(
        &self,
        model: Option<&str>,
        usage: Option<&UsageOptions>,
    ) -> Vec<Bytes> {
        let mut changes: Vec<(Range<usize>, Bytes)> = Vec::with_capacity(self.models.len() + 2);
        let mut missing = String::new();
        if let Some(model) = model.map(quote) {
            if self.models.is_empty() {
                missing = format!(r#","model":{model}"#);
            } else {
                let model = Bytes::from(model);
                changes.extend(self.models.iter().map(|span| (span.clone(), model.clone())));
            }
        }
        match (usage, &self.stream_options) {
            (Some(usage), Some(span)) => {
                let at = changes.partition_point(|(other, _)| other.start < span.start);
                changes.insert(at, (span.clone(), usage.bytes()));
            }
            (Some(usage), None) => {
                missing.push_str(r#","stream_options":"#);
                missing.push_str(usage.as_str());
            }
            (None, _) => (),
        }
        if !missing.is_empty() {
            // Insert before the closing bracket.
            let end = self.text.iter().rposition(|byte| *byte == b'}').unwrap_or(0);
            let is_empty = self.text[..end].trim_ascii_end().ends_with(b"{");
            changes.push((end..end, Bytes::from(missing).slice(usize::from(is_empty)..)));
        }
        let mut pieces = Vec::with_capacity(2 * changes.len() + 3);
        let mut at = 0;
        for (span, with) in changes {
            pieces.push(self.text.slice(at..span.start));
            pieces.push(with);
            at = span.end;
        }
        pieces.push(self.text.slice(at..));
        pieces
    }
}
