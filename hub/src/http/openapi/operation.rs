//! One route as the document describes it.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::error::ErrorKind;

/// Adds the schema of a JSON value, and of what it refers to.
pub(in crate::http) type Shape = fn(&mut SchemaGenerator) -> Schema;

/// The schema of a Rust type.
pub(in crate::http) fn shape<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<T>()
}

/// Errors in answers to a request with a body.
const BODY: &[ErrorKind] = &[
    ErrorKind::BadRequest,
    ErrorKind::SlowRequest,
    ErrorKind::TooLarge,
    ErrorKind::UnsupportedMedia,
    ErrorKind::Busy,
    ErrorKind::HubBusy,
];

/// Errors in answers to a request that changes what is stored.
const CHANGE: &[ErrorKind] = &[ErrorKind::Busy, ErrorKind::HubBusy, ErrorKind::StoreUnavailable];

/// A route's description. Errors that any route can have are added by the document.
#[derive(Debug, Clone)]
pub(in crate::http) struct Operation {
    /// One sentence.
    pub(super) summary: &'static str,
    pub(super) parameters: Vec<Parameter>,
    /// The JSON body of the request.
    pub(super) body: Option<Shape>,
    pub(super) answers: Vec<Answer>,
    pub(super) errors: Vec<ErrorKind>,
    /// Headers of successful answers, besides those that all answers have: name and description.
    pub(super) headers: Vec<(&'static str, &'static str)>,
    /// Whether a backend's own error is passed on with its status and body.
    pub(super) passes_errors: bool,
    /// Whether errors are in Anthropic's dialect for clients of its API, and in OpenAI's for others.
    pub(super) in_both_dialects: bool,
}

/// A parameter in the query or in the head. Those in the path are found in the path.
#[derive(Debug, Clone)]
pub(super) struct Parameter {
    /// `query` or `header`.
    pub(super) place: &'static str,
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) required: bool,
    pub(super) shape: Shape,
}

/// A successful answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Media types, each with its schema if it is JSON.
    pub(super) content: Vec<(Cow<'static, str>, Option<Shape>)>,
}

/// Begins the description of a route.
pub(in crate::http) fn about(summary: &'static str) -> Operation {
    Operation {
        summary,
        parameters: Vec::new(),
        body: None,
        answers: Vec::new(),
        errors: Vec::new(),
        headers: Vec::new(),
        passes_errors: false,
        in_both_dialects: false,
    }
}

impl Operation {
    /// Adds an optional text in the query.
    pub(in crate::http) fn query(self, name: &'static str, description: &'static str) -> Self {
        self.parameter("query", name, description, shape::<String>)
    }

    /// Adds `limit` in the query.
    pub(in crate::http) fn limit(self, description: &'static str) -> Self {
        let number: Shape = |_| schemars::json_schema!({ "type": "integer", "minimum": 1 });
        self.parameter("query", "limit", description, number).refuses(&[ErrorKind::BadRequest])
    }

    /// Adds an optional header of the request.
    pub(in crate::http) fn header(self, name: &'static str, description: &'static str, shape: Shape) -> Self {
        self.parameter("header", name, description, shape)
    }

    /// Makes the parameter that was added last a required one.
    pub(in crate::http) fn required(mut self) -> Self {
        if let Some(parameter) = self.parameters.last_mut() {
            parameter.required = true;
        }
        self.refuses(&[ErrorKind::BadRequest])
    }

    fn parameter(
        mut self,
        place: &'static str,
        name: &'static str,
        description: &'static str,
        shape: Shape,
    ) -> Self {
        self.parameters.push(Parameter { place, name, description, required: false, shape });
        self
    }

    /// Sets the JSON body of the request.
    pub(in crate::http) fn takes(mut self, shape: Shape) -> Self {
        self.body = Some(shape);
        self.refuses(BODY)
    }

    /// Adds the errors of a route that changes what is stored.
    pub(in crate::http) fn changes(self) -> Self {
        self.refuses(CHANGE)
    }

    /// Adds a successful answer in JSON.
    pub(in crate::http) fn returns(self, status: u16, shape: Shape) -> Self {
        self.answers_with(status, "application/json", Some(shape))
    }

    /// Adds a successful answer without a body.
    pub(in crate::http) fn returns_nothing(mut self, status: u16) -> Self {
        self.answers.push(Answer { status, content: Vec::new() });
        self
    }

    /// Adds a successful answer of another media type.
    pub(in crate::http) fn returns_media(self, status: u16, media: impl Into<Cow<'static, str>>) -> Self {
        self.answers_with(status, media, None)
    }

    fn answers_with(
        mut self,
        status: u16,
        media: impl Into<Cow<'static, str>>,
        shape: Option<Shape>,
    ) -> Self {
        let content = (media.into(), shape);
        match self.answers.iter_mut().find(|answer| answer.status == status) {
            Some(answer) => answer.content.push(content),
            None => self.answers.push(Answer { status, content: vec![content] }),
        }
        self
    }

    /// Adds a header of successful answers.
    pub(in crate::http) fn returns_header(mut self, name: &'static str, description: &'static str) -> Self {
        self.headers.push((name, description));
        self
    }

    /// Errors are in Anthropic's dialect for clients of its API.
    pub(in crate::http) fn in_both_dialects(mut self) -> Self {
        self.in_both_dialects = true;
        self
    }

    /// Adds errors.
    pub(in crate::http) fn refuses(mut self, errors: &[ErrorKind]) -> Self {
        self.errors.extend_from_slice(errors);
        self
    }

    /// Adds the errors of a backend, which are passed on with their status and body.
    pub(in crate::http) fn passes_errors(mut self) -> Self {
        self.passes_errors = true;
        self.refuses(&[ErrorKind::Backend])
    }
}
