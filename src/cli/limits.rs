//! Limits of a user or a token, as flags.

use clap::Args;

/// What is not given stays as it is.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Limits (those of a token and of its user both hold)")]
pub(crate) struct LimitArgs {
    /// The LLMs, pools and agents that can be used, by name or as 'qwen*'; '*' for all
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', num_args = 1, value_parser = model)]
    pub(crate) models: Option<Vec<String>>,
    /// Input and output tokens of a day (UTC), such as 500000, 500k or 2M; none for no limit
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) tokens_per_day: Option<LimitArg>,
    /// Requests a minute; none for no limit
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) requests_per_minute: Option<LimitArg>,
    /// Calls at a time; none for no limit
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) max_concurrent: Option<LimitArg>,
}

/// Parses the name or pattern of a model.
fn model(text: &str) -> Result<String, String> {
    match text {
        "none" => Err("'*' is for all models; to end all use, revoke the user's tokens".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// A limit, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitArg(pub(crate) Option<u64>);

/// Parses `none`, or a number with `k` or `M` behind it.
fn count(text: &str) -> Result<LimitArg, String> {
    if text == "none" {
        return Ok(LimitArg(None));
    }
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1000),
        None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1_000_000)),
    };
    let number =
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>().ok()).flatten();
    let count = number.and_then(|number| number.checked_mul(factor)).filter(|count| *count > 0);
    count
        .map(|count| LimitArg(Some(count)))
        .ok_or_else(|| "expected a number from 1, such as 500, 500k or 2M, or none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_or_none() {
        for (text, expected) in
            [("1", Some(1)), ("500k", Some(500_000)), ("2M", Some(2_000_000)), ("none", None)]
        {
            assert_eq!(count(text), Ok(LimitArg(expected)), "{text}");
        }
        for bad in
            ["", "0", "0k", "-1", "k", "1.5M", "1 k", "+1", "99999999999999999999", "99999999999999999M"]
        {
            assert!(count(bad).is_err(), "{bad}");
        }
    }
}
