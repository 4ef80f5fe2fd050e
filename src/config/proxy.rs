//! The proxy on the way to the hub: the option over the credentials file, and that over the environment.

use std::path::Path;

use actors::http::{Proxy, proxy};

use super::variable;
use crate::{cli::Global, exit::Failure};

/// Finds the proxy for the hub at `url`. `stored` is the proxy in the credentials file `file`. An empty option or key means
/// no proxy, whatever the environment says.
pub(super) fn find(
    global: &Global,
    file: &Path,
    stored: Option<&str>,
    url: &str,
) -> Result<Option<Proxy>, Failure> {
    let found = match (&global.proxy, stored) {
        (Some(text), _) => proxy::explicit(url, text.reveal(), "--proxy"),
        (None, Some(text)) => proxy::explicit(url, text, &format!("{}: proxy", file.display())),
        (None, None) => proxy::from_environment(url, variable),
    };
    found.map_err(Failure::usage)
}
