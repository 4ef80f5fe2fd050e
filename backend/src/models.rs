//! Lists the models of a backend.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING};
use wire::json::{each_element, member, unquote};

use crate::Secret;
use crate::http::{BodyError, Client, SendError, decode, read_body};

/// Maximum size of a list in bytes: a few thousand models with the details that llama.cpp adds.
const MAX_LIST: usize = 4 << 20;

/// Time for the whole list, as a multiple of the limit for its silence: a server that trickles is given up.
const WHOLE_LIST: u32 = 10;

/// Why there is no list. The text never contains the key.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// There was no answer.
    #[error("{0}")]
    Unanswered(#[from] SendError),
    /// The status was not a success.
    #[error("it answered {0}")]
    Status(hyper::StatusCode),
    /// The answer could not be read.
    #[error("{0}")]
    Unread(#[from] BodyError),
    /// The answer had not ended when its time was over.
    #[error("its list of models did not arrive in time")]
    Late,
    /// The answer is no list of models.
    #[error("its answer is not a list of models")]
    NoList,
}

/// Returns the ids that `GET {url}/models` lists. Times out after silence of `limit`, and in any case after ten times `limit`.
pub async fn models(
    http: &Client,
    url: &str,
    key: Option<&Secret>,
    limit: Duration,
) -> Result<Vec<String>, ListError> {
    let listing = list(http, url, key, limit);
    tokio::time::timeout(limit * WHOLE_LIST, listing).await.unwrap_or(Err(ListError::Late))
}

async fn list(
    http: &Client,
    url: &str,
    key: Option<&Secret>,
    limit: Duration,
) -> Result<Vec<String>, ListError> {
    let mut request = Request::get(format!("{url}/models")).header(ACCEPT_ENCODING, "identity");
    if let Some(key) = key {
        request = request.header(AUTHORIZATION, format!("Bearer {}", key.reveal()));
    }
    let request = request.body(Bytes::new()).map_err(|_| SendError::Invalid)?;
    let (head, body) = http.send(request, limit).await?.into_parts();
    let body = read_body(body, MAX_LIST, limit).await?;
    if !head.status.is_success() {
        return Err(ListError::Status(head.status));
    }
    let coding = head.headers.get(CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    let body = decode(coding.unwrap_or_default(), &body, MAX_LIST).map_err(|_| ListError::NoList)?;
    ids(&body).ok_or(ListError::NoList)
}

/// Returns the ids in the list `body`, without a tree: a hostile list has a million values. `None` if it is no list.
fn ids(body: &[u8]) -> Option<Vec<String>> {
    let models = member(std::str::from_utf8(body).ok()?, "data").filter(|data| data.starts_with('['))?;
    let mut ids = Vec::new();
    let each = |model: &str| ids.extend(member(model, "id").and_then(unquote).map(Cow::into_owned));
    each_element(models, each).ok()?;
    Some(ids)
}

#[cfg(test)]
mod tests {
    use testkit::peer::Peer;
    use testkit::wait::PATIENCE;
    use tokio::time::{sleep, timeout};

    use super::*;

    #[test]
    fn ids_are_read_of_any_list() {
        let of = |body: &str| ids(body.as_bytes());
        let list = r#" {"object":"list", "data": [{"id":"a\/b","x":{"id":"no"}},{"id":7},[{"id":"no"}],{},{"id":"c"}]}"#;
        assert_eq!(of(list), Some(vec!["a/b".to_owned(), "c".to_owned()]));
        assert_eq!(of(r#"{"data":[]}"#), Some(Vec::new()));
        for no_list in ["", "[]", "{}", r#"{"data":{"id":"a"}}"#, r#"{"data":"[]"}"#, r#"{"data":[}"#] {
            assert_eq!(of(no_list), None, "{no_list}");
        }
    }

    /// Each byte comes before the limit for silence.
    #[actix_rt::test]
    async fn a_list_that_trickles_is_given_up() {
        let server = Peer::start(async |mut connection| {
            connection.request().await?;
            connection.write("HTTP/1.1 200 OK\r\ncontent-length: 4000000\r\n\r\n").await?;
            loop {
                sleep(Duration::from_millis(5)).await;
                connection.write(" ").await?;
            }
        });
        let (client, url) = (Client::new(None), server.url());
        let listing = models(&client, &url, None, Duration::from_millis(200));
        let listed = timeout(PATIENCE, listing).await.expect("the list is given up");
        let error = listed.unwrap_err();
        assert!(matches!(error, ListError::Late), "{error:?}");
    }
}
