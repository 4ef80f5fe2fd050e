//! Answers requests: those for inference with the hub's answer, all others with an error.

use actors::Secret;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hub::{Origins, inference_path};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri,
    body::Incoming,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
        ACCESS_CONTROL_REQUEST_METHOD, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, VARY,
        X_CONTENT_TYPE_OPTIONS,
    },
    http::request::Parts,
};
use tokio::net::TcpStream;

use super::{
    dialect::{Dialect, Refusal, is_read},
    guard::{self, Admitted},
    headers,
    outage::Outage,
    peer_user::PeerUsers,
    token::{Refused, Token},
};
use crate::client::{HubBody, HubRelay, RequestBody, status_text};

/// What a page may do, and read of an answer.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, DELETE");
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, x-virtual-llm-row, x-virtual-llm-estimate, server-timing, retry-after",
);
/// Seconds for which a browser may keep the answer to a preflight: Chromium's own limit.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
/// Chromium asks whether a public page may call a local address.
const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// Text at `/`: tools take it for the sign that Ollama's API is served here.
const ROOT_TEXT: &str = "Ollama is running";

/// Body of an answer: the hub's stream, or a text of this program.
pub(super) type AnswerBody = Either<HubBody, Full<Bytes>>;

pub(super) struct Handler {
    pub(super) relay: HubRelay,
    pub(super) token: Token,
    pub(super) origins: Origins,
    pub(super) outage: Outage,
    /// Who may use the token.
    pub(super) users: PeerUsers,
}

impl Handler {
    /// Whether a connection may be used.
    pub(super) async fn admits(&self, stream: &TcpStream) -> bool {
        !self.users.is_stranger(stream).await
    }

    /// Answers a request on a connection that is admitted or not.
    pub(super) async fn answer(&self, request: Request<Incoming>, is_admitted: bool) -> Response<AnswerBody> {
        let (head, body) = request.into_parts();
        let dialect = Dialect::of(head.uri.path(), &head.headers);
        // Reads the body to its end wherever the answer comes early.
        let body = RequestBody::new(body);
        let checked = if is_admitted { guard::check(&head, &self.origins) } else { Err(Refusal::stranger()) };
        let (admitted, answer) = match checked {
            Ok(admitted) => (admitted, self.admitted(head, body).await),
            Err(refusal) => (None, Err(refusal)),
        };
        let mut answer = answer.unwrap_or_else(|refusal| refused(&refusal, dialect));
        let headers = answer.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        add_cors(headers, admitted);
        answer
    }

    /// Answers a request of this machine.
    async fn admitted(&self, mut head: Parts, body: RequestBody) -> Result<Response<AnswerBody>, Refusal> {
        if head.method == Method::OPTIONS && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            return Ok(preflight(&head.headers));
        }
        if head.uri.path() == "/" {
            let text = is_read(&head.method).then_some(ROOT_TEXT).ok_or_else(Refusal::wrong_method)?;
            return Ok(own(StatusCode::OK, "text/plain; charset=utf-8", text.to_owned()));
        }
        head.uri = hub_path(&head.uri).ok_or_else(Refusal::unknown_path)?;
        let token = self.token.get().await.map_err(|Refused| self.token_refused())?;
        let secret = |text: String| {
            let value = HeaderValue::from_str(&text);
            value.map(|mut value| {
                value.set_sensitive(true);
                value
            })
        };
        let (Ok(bearer), Ok(key)) =
            (secret(format!("Bearer {}", token.reveal())), secret(token.reveal().to_owned()))
        else {
            return Err(self.token_refused());
        };
        headers::to_hub(&mut head.headers, bearer, key);
        self.pass(Request::from_parts(head, body), &token).await
    }

    /// Sends a request to the hub. Statuses that are about this program become its own errors.
    async fn pass(
        &self,
        request: Request<RequestBody>,
        token: &Secret,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let answer = self.relay.send(request).await.map_err(|error| self.failed(error.to_string()))?;
        let status = answer.status();
        if status == StatusCode::UNAUTHORIZED {
            self.token.refuse(token);
            return Err(self.token_refused());
        }
        if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
            return Err(self.failed(format!(
                "the hub at {} points elsewhere ({}), which is not followed: log in with its own address",
                self.relay.url(),
                status_text(to_actix(status))
            )));
        }
        self.token.accept(token);
        self.outage.works();
        let mut answer = answer.map(Either::Left);
        headers::to_caller(answer.headers_mut());
        Ok(answer)
    }

    fn token_refused(&self) -> Refusal {
        let url = self.relay.url();
        let text = format!(
            "the hub at {url} does not accept your token any more; `virtual-llm login {url}` writes a new one, which is \
             used at once"
        );
        self.outage.fails(&text);
        Refusal::token(text)
    }

    fn failed(&self, text: String) -> Refusal {
        self.outage.fails(&text);
        Refusal::hub(text)
    }
}

/// The hub's path and query for a request; `None` if it is not passed on.
fn hub_path(uri: &Uri) -> Option<Uri> {
    let path = inference_path(uri.path())?;
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    text.parse().ok()
}

fn to_actix(status: StatusCode) -> actix_web::http::StatusCode {
    actix_web::http::StatusCode::from_u16(status.as_u16()).unwrap_or_default()
}

/// Answers a browser's question whether a page may send a request.
fn preflight(request: &HeaderMap) -> Response<AnswerBody> {
    let mut answer = own(StatusCode::NO_CONTENT, "text/plain", String::new());
    let headers = answer.headers_mut();
    headers.remove(CONTENT_TYPE);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
    if let Some(names) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    if request.contains_key(REQUEST_PRIVATE_NETWORK) {
        headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
    answer
}

/// Lets the page of an admitted origin read the answer.
fn add_cors(headers: &mut HeaderMap, admitted: Admitted) {
    headers.append(VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = admitted {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

fn refused(refusal: &Refusal, dialect: Dialect) -> Response<AnswerBody> {
    let mut answer = own(refusal.status, "application/json", refusal.body(dialect));
    answer.headers_mut().extend(refusal.header());
    answer
}

fn own(status: StatusCode, content_type: &'static str, text: String) -> Response<AnswerBody> {
    let mut answer = Response::new(Either::Right(Full::from(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
