//! Wake and sleep recipes.

use actors::{
    Secret,
    options::{Action, SleepRecipe, WakeRecipe},
};
use serde_json::Value;

use super::{
    keys,
    report::Report,
    table::{Table, expected},
    url,
};

/// The recipe under `wake`.
pub(super) fn wake(provider: &Table<'_>, scrubbed: &[String], report: &mut Report) -> Option<WakeRecipe> {
    let table = provider.table("wake", keys::RECIPE, report)?;
    let action = action(&table, &["http", "command", "wol"], scrubbed, report);
    let max_wait = table.seconds("maxWaitSeconds", report).unwrap_or_default();
    Some(WakeRecipe { action: action?, max_wait })
}

/// The recipe under `sleep`.
pub(super) fn sleep(provider: &Table<'_>, scrubbed: &[String], report: &mut Report) -> Option<SleepRecipe> {
    let table = provider.table("sleep", keys::RECIPE, report)?;
    let action = action(&table, &["http", "command"], scrubbed, report);
    let max_wait = table.seconds("maxWaitSeconds", report).unwrap_or_default();
    let idle = table.seconds("idleSeconds", report);
    Some(SleepRecipe { action: action?, max_wait, idle })
}

/// The address under `url`, which counts as a secret.
pub(super) fn address(table: &Table<'_>, report: &mut Report) -> Option<Secret> {
    match url::http(table.required_text("url", report)?) {
        // As written: a path that ends in a slash is another path.
        Ok(_) => table.text("url", report).map(|url| Secret::new(url.trim().to_owned())),
        Err(why) => {
            report.error(table.path_of("url"), why);
            None
        }
    }
}

fn action(table: &Table<'_>, kinds: &[&str], scrubbed: &[String], report: &mut Report) -> Option<Action> {
    let list: Vec<_> = kinds.iter().map(|kind| format!("\"{kind}\"")).collect();
    if !table.require("type", &list.join(" or "), report) {
        return None;
    }
    let kinds: Vec<_> = kinds.iter().map(|kind| (*kind, *kind)).collect();
    match table.word("type", &kinds, report)? {
        "http" => http(table, report),
        "command" => command(table, scrubbed, report),
        _ => wake_on_lan(table, report),
    }
}

fn http(table: &Table<'_>, report: &mut Report) -> Option<Action> {
    let url = address(table, report);
    let method = table.text_or_default("method", report).to_ascii_uppercase();
    if !method.bytes().all(|byte| byte.is_ascii_uppercase()) || method == "CONNECT" {
        report.error(table.path_of("method"), "expected a method such as \"POST\"");
    }
    let headers = headers(table, report);
    // An object is what people mean to send as JSON.
    let body = table.get("body").map(|body| match body {
        Value::String(text) => Secret::new(text.clone()),
        other => Secret::new(other.to_string()),
    });
    Some(Action::Http { url: url?, method, headers, body })
}

fn headers(table: &Table<'_>, report: &mut Report) -> Vec<(String, Secret)> {
    use actix_web::http::header::{HeaderName, HeaderValue};
    let mut headers = Vec::new();
    for (name, value) in table.object("headers", report).into_iter().flatten() {
        let path = format!("{}.{name}", table.path_of("headers"));
        match value.as_str() {
            None => report.error(path, expected("a string", value)),
            Some(_) if HeaderName::try_from(name.as_str()).is_err() => {
                report.error(path, "is not the name of a header");
            }
            Some(text) if HeaderValue::from_str(text).is_err() => {
                report.error(path, "expected a text without control characters");
            }
            Some(text) => headers.push((name.clone(), Secret::new(text.to_owned()))),
        }
    }
    headers
}

fn command(table: &Table<'_>, scrubbed: &[String], report: &mut Report) -> Option<Action> {
    let command = table.required_text("command", report);
    let mut args = Vec::new();
    for (i, value) in table.list("args", report).into_iter().flatten().enumerate() {
        match value.as_str() {
            Some(text) if !text.contains('\0') => args.push(text.to_owned()),
            Some(_) => report.error(format!("{}[{i}]", table.path_of("args")), "expected a text without NUL"),
            None => report.error(format!("{}[{i}]", table.path_of("args")), expected("a string", value)),
        }
    }
    Some(Action::Command { command: command?.to_owned(), args, scrub_env: scrubbed.to_vec() })
}

fn wake_on_lan(table: &Table<'_>, report: &mut Report) -> Option<Action> {
    let text = table.required_text("mac", report);
    let mac = text.and_then(mac);
    if text.is_some() && mac.is_none() {
        report.error(table.path_of("mac"), "expected an address such as \"00:11:22:aa:bb:cc\"");
    }
    let broadcast = table.text_or_default("broadcast", report).to_owned();
    if broadcast.parse::<std::net::IpAddr>().is_err() {
        report.error(table.path_of("broadcast"), "expected an IP address such as \"192.168.1.255\"");
    }
    let port = table.count("port", report).unwrap_or_default();
    let port = u16::try_from(port).unwrap_or_else(|_| {
        report.error(table.path_of("port"), "expected a port, 1 to 65535");
        0
    });
    Some(Action::WakeOnLan { mac: mac?, broadcast, port })
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next()?;
        let is_hex = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
        *byte = is_hex.then(|| u8::from_str_radix(part, 16).ok()).flatten()?;
    }
    parts.next().is_none().then_some(mac)
}
