//! Wake and sleep recipes.

use actix_web::http::header::{HeaderName, HeaderValue};
use actors::{
    Secret,
    options::{Action, SleepRecipe, WakeRecipe},
};
use serde_json::Value;

use super::{
    keys,
    reader::{ObjectReader, expected},
    report::Report,
    url,
};

pub(super) fn wake(
    provider: &ObjectReader<'_>,
    secret_variables: &[String],
    report: &mut Report,
) -> Option<WakeRecipe> {
    let object = provider.reader("wake", keys::RECIPE, report)?;
    let action = action(&object, &["http", "command", "wol"], secret_variables, report);
    let max_wait = object.seconds("maxWaitSeconds", report).unwrap_or_default();
    Some(WakeRecipe { action: action?, max_wait })
}

pub(super) fn sleep(
    provider: &ObjectReader<'_>,
    secret_variables: &[String],
    report: &mut Report,
) -> Option<SleepRecipe> {
    let object = provider.reader("sleep", keys::RECIPE, report)?;
    let action = action(&object, &["http", "command"], secret_variables, report);
    let max_wait = object.seconds("maxWaitSeconds", report).unwrap_or_default();
    let idle = object.seconds("idleSeconds", report);
    Some(SleepRecipe { action: action?, max_wait, idle })
}

/// The URL under `url`, a secret. Kept as written, since a slash at the end of its path is significant.
pub(super) fn url(object: &ObjectReader<'_>, report: &mut Report) -> Option<Secret> {
    let text = object.required_text("url", report)?;
    url::http(text).map_err(|why| report.error(object.path_of("url"), why)).ok()?;
    Some(Secret::new(text.trim().to_owned()))
}

fn action(
    object: &ObjectReader<'_>,
    types: &[&str],
    secret_variables: &[String],
    report: &mut Report,
) -> Option<Action> {
    let list: Vec<_> = types.iter().map(|name| format!("\"{name}\"")).collect();
    if !object.require("type", &list.join(" or "), report) {
        return None;
    }
    let types: Vec<_> = types.iter().map(|name| (*name, *name)).collect();
    match object.word("type", &types, report)? {
        "http" => http(object, report),
        "command" => command(object, secret_variables, report),
        _ => wake_on_lan(object, report),
    }
}

fn http(object: &ObjectReader<'_>, report: &mut Report) -> Option<Action> {
    let url = url(object, report);
    let method = object.text_or_default("method", report).to_ascii_uppercase();
    if !method.bytes().all(|byte| byte.is_ascii_uppercase()) || method == "CONNECT" {
        report.error(object.path_of("method"), "expected a method such as \"POST\"");
    }
    let headers = headers(object, report);
    // A body that is not a text is sent as JSON.
    let body = object.get("body").map(|body| body.as_str().map_or_else(|| body.to_string(), str::to_owned));
    Some(Action::Http { url: url?, method, headers, body: body.map(Secret::new) })
}

fn headers(object: &ObjectReader<'_>, report: &mut Report) -> Vec<(String, Secret)> {
    let mut headers = Vec::new();
    for (name, value) in object.object("headers", report).into_iter().flatten() {
        let path = format!("{}.{name}", object.path_of("headers"));
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

fn command(object: &ObjectReader<'_>, secret_variables: &[String], report: &mut Report) -> Option<Action> {
    let command = object.required_text("command", report);
    let mut args = Vec::new();
    for (i, value) in object.list("args", report).into_iter().flatten().enumerate() {
        let path = format!("{}[{i}]", object.path_of("args"));
        match value {
            Value::String(text) if text.contains('\0') => report.error(path, "expected a text without NUL"),
            Value::String(text) => args.push(text.clone()),
            _ => report.error(path, expected("a string", value)),
        }
    }
    Some(Action::Command { command: command?.to_owned(), args, scrub_env: secret_variables.to_vec() })
}

fn wake_on_lan(object: &ObjectReader<'_>, report: &mut Report) -> Option<Action> {
    let text = object.required_text("mac", report);
    let mac = text.and_then(mac);
    if text.is_some() && mac.is_none() {
        report.error(object.path_of("mac"), "expected an address such as \"00:11:22:aa:bb:cc\"");
    }
    let broadcast = object.text_or_default("broadcast", report).to_owned();
    if broadcast.parse::<std::net::IpAddr>().is_err() {
        report.error(object.path_of("broadcast"), "expected an IP address such as \"192.168.1.255\"");
    }
    let port = u16::try_from(object.count("port", report).unwrap_or_default());
    if port.is_err() {
        report.error(object.path_of("port"), "expected a port, 1 to 65535");
    }
    Some(Action::WakeOnLan { mac: mac?, broadcast, port: port.ok()? })
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split([':', '-'])
        .map(|part| {
            let is_hex = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
            is_hex.then(|| u8::from_str_radix(part, 16).ok()).flatten()
        })
        .collect::<Option<_>>()?;
    bytes.try_into().ok()
}
