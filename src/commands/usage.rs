//! `usage`: calls and tokens of the last days, added up by user, LLM, token or day.

use serde_json::Value;
use wire::ids::encode_uri_component;

use super::{
    cells::{rows, span, text},
    table::{Column, Table, column},
};
use crate::{
    cli::{Global, UsageArgs, UsageBy, UsageFormat},
    exit::{Failure, Outcome},
    output,
};

/// Most rows that a hub answers.
const MOST: usize = 10_000;

pub(crate) async fn run(global: &Global, args: &UsageArgs) -> Outcome {
    let hub = super::hub_client(global)?;
    let by = word(args.by);
    let mut path = format!("/api/v1/usage?by={by}&limit={MOST}&since={}", encode_uri_component(&args.since));
    for (name, value) in [("until", &args.until), ("user", &args.user), ("llm", &args.llm)] {
        if let Some(value) = value {
            path.extend(["&", name, "=", &encode_uri_component(value)]);
        }
    }
    if args.owned {
        path.push_str("&scope=owned");
    }
    let Some(usage) = hub.find(&path).await? else {
        return Err(Failure::failed(format!("the hub at {} counts no usage", hub.url())));
    };
    if args.owned && usage["scope"] != "owned" {
        return Err(Failure::failed(format!("the hub at {} does not tell who used your LLMs", hub.url())));
    }
    let listed = rows(&usage["rows"]);
    match args.output {
        UsageFormat::Json => return output::document(&usage, false),
        UsageFormat::Csv => output::lines(csv(args.by, listed))?,
        UsageFormat::Table if listed.is_empty() => {
            let (since, until) = (text(&usage, "since"), text(&usage, "until"));
            let (of, rest) = if args.owned {
                (" to your LLMs", ".")
            } else {
                ("", "; a member sees its own alone, and with --owned those to its LLMs.")
            };
            output::note(format!("There were no calls{of} from {since} to {until} (UTC){rest}"));
        }
        UsageFormat::Table => {
            let total = total(args.by, &usage["total"]);
            Table::new(columns(args.by, &total)).print(&[listed, &[total]].concat())?;
        }
    }
    if usage["more"].as_u64().is_some_and(|more| more > 0) {
        let more = text(&usage, "more");
        output::note(format!("{more} rows with fewer tokens are left out; the total has them."));
    }
    Ok(())
}

const fn word(by: UsageBy) -> &'static str {
    match by {
        UsageBy::User => "user",
        UsageBy::Llm => "llm",
        UsageBy::Token => "token",
        UsageBy::Day => "day",
    }
}

/// Keys of a row's name.
const fn names(by: UsageBy) -> &'static [&'static str] {
    match by {
        UsageBy::User => &["user"],
        UsageBy::Llm => &["llm"],
        UsageBy::Token => &["token", "user"],
        UsageBy::Day => &["day"],
    }
}

/// The last line of the table.
fn total(by: UsageBy, total: &Value) -> Value {
    let mut row = total.clone();
    row[names(by)[0]] = "TOTAL".into();
    for rest in &names(by)[1..] {
        row[rest] = "".into();
    }
    row
}

/// The columns of the table. Calls that were cancelled or refused are shown if `total` has any.
fn columns(by: UsageBy, total: &Value) -> Vec<Column> {
    let mut columns = match by {
        UsageBy::User => vec![column("USER", |row| text(row, "user")).cut()],
        UsageBy::Llm => vec![column("LLM", |row| text(row, "llm")).cut()],
        UsageBy::Token => vec![
            column("TOKEN", |row| text(row, "token")).cut(),
            column("USER", |row| text(row, "user")).cut().droppable(4),
        ],
        UsageBy::Day => vec![column("DAY", |row| text(row, "day"))],
    };
    columns.extend([
        column("CALLS", |row| grouped(&row["calls"])).number(),
        column("FAILED", |row| grouped(&sum(&row["failures"]).into())).number().droppable(3),
    ]);
    if total["cancelled"].as_u64().is_some_and(|calls| calls > 0) {
        columns.push(column("CANCELLED", |row| grouped(&row["cancelled"])).number().droppable(5));
    }
    if sum(&total["refused"]) > 0 {
        columns.push(column("REFUSED", |row| grouped(&sum(&row["refused"]).into())).number().droppable(6));
    }
    columns.extend([
        column("INPUT", |row| grouped(&row["inputTokens"])).number(),
        column("CACHED", |row| grouped(&row["cachedTokens"])).number().droppable(2),
        column("OUTPUT", output_tokens).number(),
        column("TIME", time).number().droppable(1),
    ]);
    columns
}

/// The tokens of answers, with `~` in front if some of them are counted pieces.
fn output_tokens(row: &Value) -> String {
    let is_counted = row["countedTokens"].as_u64().is_some_and(|counted| counted > 0);
    format!("{}{}", if is_counted { "~" } else { "" }, grouped(&row["outputTokens"]))
}

/// Number of calls that failed or were refused, whatever their reasons.
fn sum(reasons: &Value) -> u64 {
    let reasons = reasons.as_object().into_iter().flatten();
    reasons.filter_map(|(_, calls)| calls.as_u64()).fold(0, u64::saturating_add)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a conversion to an integer saturates"
)]
fn time(row: &Value) -> String {
    span(row["seconds"].as_f64().unwrap_or_default().round() as u64)
}

/// A number with a comma between thousands; `-` for anything else.
fn grouped(number: &Value) -> String {
    let Some(number) = number.as_u64() else { return "-".to_owned() };
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Lines of comma-separated values, with the heads first.
fn csv(by: UsageBy, rows: &[Value]) -> Vec<String> {
    const NUMBERS: [&str; 5] = ["inputTokens", "cachedTokens", "outputTokens", "countedTokens", "seconds"];
    let heads = names(by).iter().chain(&["calls", "failed", "cancelled", "refused"]).chain(&NUMBERS);
    let mut lines = vec![heads.copied().collect::<Vec<_>>().join(",")];
    lines.extend(rows.iter().map(|row| {
        let names = names(by).iter().map(|name| field(row[name].as_str().unwrap_or_default()));
        let count = |name: &str| row[name].as_u64().unwrap_or_default();
        let counts = [count("calls"), sum(&row["failures"]), count("cancelled"), sum(&row["refused"])];
        let counts = counts.map(|count| count.to_string());
        let numbers =
            NUMBERS.iter().map(|name| row[name].as_number().map_or("0".to_owned(), ToString::to_string));
        names.chain(counts).chain(numbers).collect::<Vec<_>>().join(",")
    }));
    lines
}

/// A text as a field (RFC 4180). A spreadsheet takes no field for a formula: the hub checks names, but may be another one.
fn field(text: &str) -> String {
    let text = output::printable(text);
    let is_formula = text.starts_with(['=', '+', '-', '@']);
    let text = format!("{}{text}", if is_formula { "'" } else { "" });
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(user: &str) -> Value {
        json!({ "user": user, "calls": 1234, "failures": { "interrupted": 2, "timeout": 3 }, "cancelled": 0, "refused": {}, "inputTokens": 1_234_567,
            "cachedTokens": 0, "outputTokens": 999, "countedTokens": 5, "seconds": 3900.25 })
    }

    #[test]
    fn a_table_ends_with_the_total() {
        let rows = [row("alice"), total(UsageBy::User, &row("x"))];
        assert_eq!(
            Table::unlimited(columns(UsageBy::User, &rows[1])).lines(&rows),
            [
                "USER    CALLS   FAILED       INPUT   CACHED   OUTPUT   TIME",
                "alice   1,234        5   1,234,567        0     ~999    65m",
                "TOTAL   1,234        5   1,234,567        0     ~999    65m",
            ]
        );
        for (number, shown) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (u64::MAX, "18,446,744,073,709,551,615")]
        {
            assert_eq!(grouped(&number.into()), shown);
        }
    }

    #[test]
    fn calls_that_were_cancelled_or_refused_are_shown_if_there_are_any() {
        let mut some = row("alice");
        some["cancelled"] = 7.into();
        some["refused"] = json!({ "requests_per_minute": 2000, "tokens_per_day": 1 });
        let rows = [row("bob"), some];
        assert_eq!(
            Table::unlimited(columns(UsageBy::User, &rows[1])).lines(&rows),
            [
                "USER    CALLS   FAILED   CANCELLED   REFUSED       INPUT   CACHED   OUTPUT   TIME",
                "bob     1,234        5           0         0   1,234,567        0     ~999    65m",
                "alice   1,234        5           7     2,001   1,234,567        0     ~999    65m",
            ]
        );
        assert!(csv(UsageBy::User, &rows)[2].starts_with("alice,1234,5,7,2001,"));
    }

    /// A14: a field stays a field, and is no formula.
    #[test]
    fn csv_has_a_row_for_each_row_of_the_hub() {
        let rows = [row("alice"), row("a,\"b\"\n=c"), row("=HYPERLINK(\"http://x\")")];
        assert_eq!(
            csv(UsageBy::User, &rows),
            [
                "user,calls,failed,cancelled,refused,inputTokens,cachedTokens,outputTokens,countedTokens,seconds",
                "alice,1234,5,0,0,1234567,0,999,5,3900.25",
                "\"a,\"\"b\"\"\\u{a}=c\",1234,5,0,0,1234567,0,999,5,3900.25",
                "\"'=HYPERLINK(\"\"http://x\"\")\",1234,5,0,0,1234567,0,999,5,3900.25",
            ]
        );
    }
}
