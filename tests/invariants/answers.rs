//! Requests and answers of the test: each token of an answer names its request and its run, so a caller can check that an
//! answer is the whole answer of one run.

use serde_json::Value;

/// A request: its nonce, and the number of tokens in its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub nonce: u64,
    pub tokens: usize,
}

impl Wanted {
    /// The user message of the request.
    pub fn text(self) -> String {
        format!("{} {}", self.nonce, self.tokens)
    }

    pub fn parse(text: &str) -> Option<Self> {
        let (nonce, tokens) = text.split_once(' ')?;
        Some(Self { nonce: nonce.parse().ok()?, tokens: tokens.parse().ok()? })
    }

    /// Returns the number of the run that produced `text`, or what is wrong with `text`. With `whole`, tokens must not be missing.
    pub fn check(self, text: &str, whole: bool) -> Result<Option<u64>, String> {
        let mut of_run = None;
        let mut count = 0;
        for token in text.split_terminator(';') {
            let parts: Vec<u64> = token.split('.').filter_map(|part| part.parse().ok()).collect();
            let [nonce, run, n] = parts[..] else { return Err(format!("not a token: {token:?}")) };
            if nonce != self.nonce {
                return Err(format!("token {n} belongs to another request"));
            }
            if *of_run.get_or_insert(run) != run {
                return Err(format!("token {n} belongs to another run"));
            }
            if n != count {
                return Err(format!("token {n} came where {count} was due"));
            }
            count += 1;
        }
        if whole && count != self.tokens as u64 {
            return Err(format!("{count} of {} tokens in an answer that is marked as complete", self.tokens));
        }
        Ok(of_run)
    }
}

/// One token of an answer.
pub fn token(nonce: u64, run: u64, n: usize) -> String {
    format!("{nonce}.{run}.{n};")
}

/// The text of a whole (not streamed) answer.
pub fn content(body: &Value) -> Option<&str> {
    body["choices"][0]["message"]["content"].as_str()
}

/// The text that a chunk of a streamed answer adds.
pub fn delta(chunk: &Value) -> &str {
    chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default()
}

#[test]
fn check_detects_each_kind_of_wrong_answer() {
    let wanted = Wanted { nonce: 5, tokens: 2 };
    assert_eq!(Wanted::parse(&wanted.text()), Some(wanted));
    assert_eq!(wanted.check("5.9.0;5.9.1;", true), Ok(Some(9)));
    assert_eq!(wanted.check("5.9.0;", false), Ok(Some(9)));
    for wrong in ["5.9.0;", "5.9.0;5.8.1;", "6.9.0;6.9.1;", "5.9.1;5.9.0;", "5.9.0;5.9.1;5.9.2;", "5.9"] {
        assert!(wanted.check(wrong, true).is_err(), "{wrong}");
    }
}
