//! What to change in a reverse proxy that does not pass the upgrade on. Pure.

const NGINX: &[&str] = &[
    "nginx passes it on with these lines in its location block:",
    "    proxy_http_version 1.1;",
    "    proxy_set_header Upgrade $http_upgrade;",
    "    proxy_set_header Connection $connection_upgrade;",
];
const APACHE: &[&str] =
    &["Apache (2.4.47) passes it on with:", "    ProxyPass / http://127.0.0.1:8787/ upgrade=websocket"];
const OTHERS: &[&str] = &[
    "HAProxy passes it on without an option; it has no such line then:",
    "    http-request del-header Upgrade",
];
const PAGE: &str = "docs/reverse-proxy.md has the whole configuration of each.";

/// The lines for the proxy that `server`, a `Server` or `Via` header, names; those for all proxies if it names none.
pub(super) fn pass_upgrade(server: Option<&str>) -> Vec<String> {
    let name = server.unwrap_or_default().to_ascii_lowercase();
    let of_proxy: &[&[&str]] = if name.contains("nginx") || name.contains("openresty") {
        &[NGINX]
    } else if name.contains("apache") {
        &[APACHE]
    } else {
        &[NGINX, APACHE, OTHERS]
    };
    of_proxy.concat().into_iter().chain([PAGE]).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_those_of_the_proxy_that_answered() {
        for (server, words, not) in [
            (Some("nginx/1.22.1"), "proxy_set_header Upgrade $http_upgrade;", "ProxyPass"),
            (Some("Apache/2.4.57 (Debian)"), "upgrade=websocket", "proxy_set_header"),
            (None, "http-request del-header Upgrade", "\0"),
            (Some("1.1 office"), "upgrade=websocket", "\0"),
        ] {
            let lines = pass_upgrade(server);
            let text = lines.join("\n");
            assert!(text.contains(words) && !text.contains(not) && text.contains(PAGE), "{server:?}: {text}");
            assert!(lines.iter().all(|line| line.len() <= 70), "{text}");
        }
    }

    /// Each line that is advised stands in the page, too, whose blocks the tests run.
    #[test]
    fn the_lines_are_those_of_the_page() {
        let page = include_str!("../../../docs/reverse-proxy.md");
        for line in [NGINX, APACHE].concat().iter().filter(|line| line.starts_with(' ')) {
            assert!(page.contains(line.trim()), "{line}");
        }
    }
}
