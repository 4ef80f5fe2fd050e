//! `GET /api/v1/usage?by=&since=&until=&user=&llm=&scope=&limit=`: calls and tokens of days, added up; a member's own, or those to
//! its LLMs; all for an admin.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use actix_web::web::Query;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::row::Timestamp;

use super::list::{is_owned, limit, moment};
use super::openapi::{Routes, about, shape};
use crate::clock;
use crate::error::{ApiError, ErrorKind};
use crate::hub::HubData;
use crate::model::{Caller, Day, REFUSED, Role, UsageCounts, UsageKey};
use crate::store::{UsageBy, UsageQuery, UsageTable, UsageTotal};

/// Largest `limit`.
const MAX_ROWS: usize = 10_000;
/// Default of `limit`.
const DEFAULT_ROWS: usize = 1000;
/// Default of `since`, in milliseconds before now.
const WEEK: i64 = 7 * 86_400_000;

pub(super) fn register(routes: &mut Routes<'_>) {
    routes.get(
        "/api/v1/usage",
        list,
        about("Calls and tokens of days, added up; a member's own, all for an admin")
            .query("by", "What they are added up by: user (unless given), llm, token or day")
            .query(
                "since",
                "The first day: a date, a time before now such as 30d, or a moment; 7d unless given",
            )
            .query("until", "The last day, written as the first; today unless given")
            .query("user", "Only calls of this user; a member always gets its own")
            .query("llm", "Only calls of this LLM")
            .query("scope", "`owned`: calls of all users to LLMs of the caller")
            .limit("Most rows, 1,000 unless given, at most 10,000")
            .returns(200, shape::<UsageView>)
            .refuses(&[ErrorKind::StoreUnavailable]),
    );
}

#[derive(Deserialize)]
struct UsageParams {
    #[serde(default)]
    by: Option<String>,
    #[serde(default)]
    since: Option<String>,
    #[serde(default)]
    until: Option<String>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    llm: Option<String>,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    limit: Option<String>,
}

/// Calls and tokens of some days.
#[derive(Serialize, JsonSchema)]
struct UsageView {
    /// What the rows are added up by.
    by: &'static str,
    /// `owned` if they are calls to LLMs of the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    /// The first day, in UTC.
    since: Day,
    /// The last day.
    until: Day,
    /// Days with the newest first; all others with the most tokens first.
    rows: Vec<UsageRow>,
    /// All rows, also those that are left out.
    total: UsageNumbers,
    /// Number of rows that are left out.
    more: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct UsageRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<Day>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// The token's id; empty if it is unknown, or the row is that of others.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    llm: Option<String>,
    #[serde(flatten)]
    numbers: UsageNumbers,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct UsageNumbers {
    /// All calls that began, also those that failed.
    calls: u64,
    /// The calls that failed, by the code of their error.
    failures: BTreeMap<String, u64>,
    /// The calls whose caller left before the end of the answer.
    cancelled: u64,
    /// Calls that did not begin, by the limit that refused them.
    refused: BTreeMap<String, u64>,
    input_tokens: u64,
    /// Those of the input that backends had in their cache.
    cached_tokens: u64,
    output_tokens: u64,
    /// Those of the output that are events of streams without usage.
    counted_tokens: u64,
    /// Seconds from when calls were sent to their LLM until they ended.
    seconds: f64,
}

async fn list(hub: HubData, caller: Caller, query: Query<UsageParams>) -> Result<HttpResponse, ApiError> {
    let UsageParams { by, since, until, user, llm, scope, limit: rows } = query.into_inner();
    let limit = limit(rows.as_deref(), DEFAULT_ROWS, MAX_ROWS)?;
    let by = by.as_deref().map_or(Ok(UsageBy::User), parse_by)?;
    let now = clock::now();
    let since = since.map_or(Ok(Day::of(now.plus_millis(-WEEK))), |text| day("since", &text, now))?;
    let until = until.map_or(Ok(Day::of(now)), |text| day("until", &text, now))?;
    if until < since {
        return Err(ApiError::bad_request(format!("until: {until} is before the first day, {since}")));
    }
    let owner = is_owned(scope.as_deref())?.then(|| caller.user.clone());
    if owner.is_some() && by == UsageBy::Token {
        // With which token another user called is that user's own affair.
        return Err(ApiError::bad_request("by: 'user', 'llm' or 'day' with scope=owned"));
    }
    let as_member = caller.role == Role::Member && owner.is_none();
    let user = if as_member { Some(caller.user.clone()) } else { user.map(|user| hub.tokens.spelling(user)) };
    let scope = owner.as_ref().map(|_| "owned");
    let query = UsageQuery { by, since, until, user, llm, owner, limit, as_member };
    let UsageTable { rows, total, more } = hub.usage(&caller, query).await?;
    let rows = rows.into_iter().map(|(key, total)| shown(by, key, total)).collect();
    let answer = UsageView { by: word(by), scope, since, until, rows, total: numbers(total), more };
    Ok(HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(answer))
}

const WORDS: [(&str, UsageBy); 4] =
    [("user", UsageBy::User), ("llm", UsageBy::Llm), ("token", UsageBy::Token), ("day", UsageBy::Day)];

fn parse_by(text: &str) -> Result<UsageBy, ApiError> {
    let found = WORDS.iter().find(|(word, _)| *word == text);
    found.map(|(_, by)| *by).ok_or_else(|| ApiError::bad_request("by: 'user', 'llm', 'token' or 'day'"))
}

fn word(by: UsageBy) -> &'static str {
    WORDS.iter().find(|(_, known)| *known == by).map_or("", |(word, _)| *word)
}

/// Parses the query parameter `name`: a date, a moment, or a time before now.
fn day(name: &str, text: &str, now: Timestamp) -> Result<Day, ApiError> {
    let moment = || Some(Day::of(moment(text, now)?));
    // A day that dates cannot express is before all sums.
    let is_date = |day: &Day| Day::parse(&day.to_string()) == Some(*day);
    Day::parse(text.trim()).or_else(moment).filter(is_date).ok_or_else(|| {
        ApiError::bad_request(format!("{name}: a date such as 2026-01-31, or a time before now such as 30d"))
    })
}

fn shown(by: UsageBy, key: UsageKey, total: UsageTotal) -> UsageRow {
    let UsageKey { day, user, token, llm, .. } = key;
    let of_user = matches!(by, UsageBy::User | UsageBy::Token);
    UsageRow {
        day: (by == UsageBy::Day).then_some(day),
        user: of_user.then_some(user),
        token: (by == UsageBy::Token).then_some(token),
        llm: (by == UsageBy::Llm).then_some(llm),
        numbers: numbers(total),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count has at most 53 bits")]
fn numbers(UsageTotal { counts, mut failures }: UsageTotal) -> UsageNumbers {
    let UsageCounts { calls, input, cached, output, counted, millis } = counts;
    let cancelled = failures.remove(ErrorKind::CallerLeft.code()).unwrap_or_default();
    let mut refused = BTreeMap::new();
    failures.retain(|code, calls| match code.strip_prefix(REFUSED) {
        Some(limit) => refused.insert(limit.to_owned(), *calls).is_some(),
        None => true,
    });
    UsageNumbers {
        calls: calls.saturating_sub(refused.values().sum()),
        failures,
        cancelled,
        refused,
        input_tokens: input,
        cached_tokens: cached,
        output_tokens: output,
        counted_tokens: counted,
        seconds: millis as f64 / 1000.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_date_or_a_time_before_now() {
        let now = Timestamp(100 * 86_400_000);
        let read = |text: &str| day("since", text, now).map(|day| day.0).ok();
        for (text, expected) in [
            ("1970-01-05", Some(4)),
            ("1970-01-05T23:59:59Z", Some(4)),
            ("7d", Some(93)),
            ("0d", Some(100)),
            ("36h", Some(98)),
            ("999999999999d", None),
            ("1970-02-30", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
