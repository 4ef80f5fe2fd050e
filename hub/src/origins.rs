//! Origins of web pages whose scripts may call the hub (`--cors-origin`).

/// Allowed origins. The default is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    any: bool,
    listed: Vec<String>,
}

/// The text is not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an origin such as https://app.example or http://localhost:3000, or *")]
pub struct InvalidOrigin;

impl Origins {
    /// Allows one more: `*` for all, `null` for pages without an origin, else `scheme://host[:port]`.
    pub fn allow(&mut self, origin: &str) -> Result<(), InvalidOrigin> {
        match origin.trim() {
            "*" => self.any = true,
            "null" => self.listed.push("null".to_owned()),
            origin => self.listed.push(normalized(origin).ok_or(InvalidOrigin)?),
        }
        Ok(())
    }

    /// Whether no origin is allowed.
    pub fn is_empty(&self) -> bool {
        !self.any && self.listed.is_empty()
    }

    /// The value of `Access-Control-Allow-Origin` for `origin`; `None` if it is not allowed.
    pub fn allow_origin<'a>(&self, origin: &'a str) -> Option<&'a str> {
        if self.any {
            Some("*")
        } else {
            Some(origin).filter(|origin| self.listed.iter().any(|known| known == origin))
        }
    }
}

/// The origin as browsers write it: lower case, no slash, no default port.
fn normalized(origin: &str) -> Option<String> {
    let origin = origin.to_ascii_lowercase();
    let origin = origin.strip_suffix('/').unwrap_or(&origin);
    let (scheme, authority) = origin.split_once("://")?;
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let is_authority = |byte: u8| byte.is_ascii_graphic() && !b"/?#@\\*,\"".contains(&byte);
    let has_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic());
    if !has_scheme
        || authority.is_empty()
        || !scheme.bytes().all(is_scheme)
        || !authority.bytes().all(is_authority)
    {
        return None;
    }
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let host =
        Some(default_port).filter(|port| !port.is_empty()).and_then(|port| authority.strip_suffix(port));
    let (host, port) = match host {
        Some(host) => (host, ""),
        None => match authority.rsplit_once(':').filter(|_| !authority.ends_with(']')) {
            Some((host, port)) => (host, port),
            None => (authority, ""),
        },
    };
    let is_port = port.is_empty() || port.parse::<u16>().is_ok();
    let text =
        if port.is_empty() { format!("{scheme}://{host}") } else { format!("{scheme}://{host}:{port}") };
    (!host.is_empty() && is_port && !authority.ends_with(':')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(list: &[&str]) -> Origins {
        let mut origins = Origins::default();
        for origin in list {
            origins.allow(origin).unwrap();
        }
        origins
    }

    #[test]
    fn an_origin_is_compared_in_the_form_that_browsers_send() {
        let some = origins(&[
            "HTTPS://App.Example/",
            "http://localhost:3000",
            "https://b.example:443",
            "http://[::1]:80",
            "null",
            "app://obsidian.md",
        ]);
        for known in [
            "https://app.example",
            "http://localhost:3000",
            "https://b.example",
            "http://[::1]",
            "null",
            "app://obsidian.md",
        ] {
            assert_eq!(some.allow_origin(known), Some(known));
        }
        for other in [
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.evil",
            "https://x.app.example",
            "http://localhost",
            "",
            "*",
        ] {
            assert_eq!(some.allow_origin(other), None, "{other}");
        }
        assert_eq!(origins(&["https://a", "*"]).allow_origin("https://whoever"), Some("*"));
        assert_eq!(Origins::default().allow_origin("null"), None);
        assert!(Origins::default().is_empty() && !some.is_empty());
    }

    #[test]
    fn an_invalid_origin_is_refused() {
        for text in [
            "",
            "app.example",
            "https://",
            "https://a/path",
            "https://*.example",
            "https://a b",
            "://a",
            "https://u@a",
            "https://a:",
            "https://a:99999",
            "https://:443",
            "1://a",
            "https://a,b",
        ] {
            assert_eq!(Origins::default().allow(text), Err(InvalidOrigin), "{text}");
        }
    }
}
