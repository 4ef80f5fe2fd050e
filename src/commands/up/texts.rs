//! Texts that `up` prints.

use std::fmt::Write as _;

use actors::Secret;

use super::offer::Offer;
use crate::{
    chat::Answer,
    output::{self, printable},
};

/// Lists the offered models.
pub(super) fn greeting(url: &str, offer: &Offer) -> String {
    let mut text = format!("A hub runs at {url} and offers\n");
    let width = offer.lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, source) in &offer.lines {
        let _ = writeln!(text, "  {name:width$}   {}", printable(source));
    }
    text
}

/// Number of tokens, and the speed of the answer.
pub(super) fn speed(answer: &Answer) -> String {
    let first = answer.to_first.as_millis();
    match answer.tokens_per_second() {
        Some(speed) => {
            let digits = usize::from(speed < 10.0);
            format!(
                "({} tokens, the first after {first} ms, then {speed:.digits$} a second)\n",
                answer.tokens
            )
        }
        None => format!("(the first token after {first} ms)\n"),
    }
}

/// URL, token and complete examples to paste.
pub(super) fn how_to_use(url: &str, token: &Secret, code: &Secret, model: &str) -> String {
    let (token, link) = (token.reveal(), output::sign_in_link(url, code.reveal()));
    format!(
        r#"URL    {url}
Token  {token}

In a browser the URL is a console. This link signs you in, once and within 15 minutes; afterwards use the token.
{link}

curl {url}/v1/chat/completions -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'

# pip install openai
from openai import OpenAI

client = OpenAI(base_url="{url}/v1", api_key="{token}")
answer = client.chat.completions.create(
    model="{model}",
    messages=[{{"role": "user", "content": "Hello"}}],
)
print(answer.choices[0].message.content)

Serving until Ctrl-C.
"#
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_speed_below_ten_has_a_decimal() {
        let answer = |seconds| Answer {
            tokens: 11,
            to_first: Duration::ZERO,
            total: Duration::from_secs(seconds),
            ..Answer::default()
        };
        assert!(speed(&answer(20)).ends_with("then 0.5 a second)\n"));
        assert!(speed(&answer(1)).ends_with("then 10 a second)\n"));
    }

    #[test]
    fn the_examples_contain_url_token_and_model() {
        let text = how_to_use("http://127.0.0.1:8787", &Secret::new("tok"), &Secret::new("code"), "qwen");
        let curl = text.lines().find(|line| line.starts_with("curl ")).unwrap();
        assert!(curl.contains("Bearer tok") && curl.contains(r#""model": "qwen""#));
        let body = curl.split("-d '").nth(1).unwrap().trim_end_matches('\'');
        serde_json::from_str::<serde_json::Value>(body).unwrap();
        assert!(text.contains("In a browser") && text.contains("\nhttp://127.0.0.1:8787/#/sign-in/code\n"));
        assert!(text.contains(r#"OpenAI(base_url="http://127.0.0.1:8787/v1", api_key="tok")"#));
    }
}
