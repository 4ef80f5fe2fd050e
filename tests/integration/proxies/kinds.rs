//! The proxy programs and their configurations.

use std::process::Stdio;

use tempfile::TempDir;
use testkit::process::Process;
use testkit::skipped;
use testkit::wait::wait_until;
use tokio::process::Command;

const PAGE: &str = include_str!("../../../docs/reverse-proxy.md");

/// nginx with its defaults.
pub const PLAIN_NGINX: &str = "
server {
    listen 443 ssl;
    location / { proxy_pass http://127.0.0.1:8787; }
}";

/// How a proxy program is configured and started.
pub struct Kind {
    /// The program, and its section of the page.
    pub program: &'static str,
    pub section: &'static str,
    /// Arguments; `DIR` is the proxy's folder, which has the file `conf`.
    args: &'static [&'static str],
    /// Lines of the page's block that are replaced, by their beginning; `PORT` is the proxy's port. An empty replacement
    /// removes a line.
    lines: &'static [(&'static str, &'static str)],
    /// The rest of the configuration; `BLOCK` is the page's block.
    frame: &'static str,
    /// Lines of the page's block with a time limit, by their beginning, and the same with [`SHORT`].
    pub timeouts: &'static [(&'static str, &'static str)],
    /// Whether it notices that a caller left without sending anything to it.
    pub sees_callers_leave: bool,
}

// Every program runs as a single process, so that killing it ends the proxy.
pub const NGINX: Kind = Kind {
    program: "nginx",
    section: "nginx",
    args: &["-e", "stderr", "-p", "DIR", "-c", "DIR/conf"],
    lines: &[("listen 443", "listen 127.0.0.1:PORT;")],
    frame: "daemon off; master_process off; pid DIR/pid; error_log stderr; events {} http { access_log off; \
            client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/fastcgi; \
            uwsgi_temp_path DIR/uwsgi; scgi_temp_path DIR/scgi;\nBLOCK\n}",
    timeouts: &[
        ("proxy_read_timeout", "proxy_read_timeout 2s;"),
        ("proxy_send_timeout", "proxy_send_timeout 2s;"),
    ],
    sees_callers_leave: true,
};

pub const CADDY: Kind = Kind {
    program: "caddy",
    section: "Caddy",
    args: &["run", "--config", "DIR/conf", "--adapter", "caddyfile"],
    lines: &[("hub.example {", "http://127.0.0.1:PORT {")],
    frame: "{\n admin off\n auto_https off\n}\nBLOCK\n",
    timeouts: &[],
    sees_callers_leave: true,
};

pub const HAPROXY: Kind = Kind {
    program: "haproxy",
    section: "HAProxy",
    args: &["-db", "-f", "DIR/conf"],
    lines: &[("bind :443", "bind 127.0.0.1:PORT")],
    frame: "BLOCK\n",
    timeouts: &[
        ("timeout client", "timeout client 2s"),
        ("timeout server", "timeout server 2s"),
        ("timeout tunnel", "timeout tunnel 2s"),
    ],
    sees_callers_leave: true,
};

// mod_reqtimeout with Debian's setting would cut a body that takes too long.
pub const APACHE: Kind = Kind {
    program: "apache2",
    section: "Apache",
    args: &["-X", "-d", "DIR", "-f", "DIR/conf"],
    lines: &[("<VirtualHost", "<VirtualHost 127.0.0.1:PORT>"), ("SSL", "")],
    frame: "LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so\n\
            LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\n\
            LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so\n\
            LoadModule reqtimeout_module /usr/lib/apache2/modules/mod_reqtimeout.so\n\
            LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so\n\
            LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so\n\
            RequestReadTimeout header=20-40,MinRate=500 body=20,MinRate=500\n\
            DefaultRuntimeDir DIR\nPidFile DIR/pid\nErrorLog /dev/stderr\nServerName hub.example\n\
            User www-data\nGroup www-data\nListen 127.0.0.1:PORT\nBLOCK\n",
    timeouts: &[("ProxyTimeout", "ProxyTimeout 2")],
    sees_callers_leave: false,
};

/// The block of a section of the page.
pub fn block(section: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("\n## {section}\n")).unwrap();
    rest.split("```").nth(1).unwrap()
}

/// `block` with these lines in place of its own that begin so.
pub fn with_lines(block: &str, lines: &[(&str, &str)]) -> String {
    for (beginning, _) in lines {
        assert!(block.contains(beginning), "no {beginning:?} in:\n{block}");
    }
    let ours = |line: &str| {
        let of_line = |(beginning, _): &&(&str, &str)| line.trim_start().starts_with(beginning);
        lines.iter().find(of_line).map_or_else(|| line.to_owned(), |(_, ours)| (*ours).to_owned())
    };
    block.lines().map(ours).collect::<Vec<_>>().join("\n")
}

impl Kind {
    /// The file `conf` for a hub and a proxy on these ports.
    fn conf(&self, block: &str, hub: u16, port: u16) -> String {
        assert!(block.contains("127.0.0.1:8787"), "{block}");
        let block = with_lines(block, self.lines).replace("127.0.0.1:8787", &format!("127.0.0.1:{hub}"));
        self.frame.replace("BLOCK", &block).replace("PORT", &port.to_string())
    }

    pub async fn start(&self, block: &str, hub: u16, port: u16) -> Option<(Process, TempDir)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        std::fs::write(folder.path().join("conf"), self.conf(block, hub, port).replace("DIR", path)).unwrap();
        let mut command = Command::new(self.program);
        command
            .args(self.args.iter().map(|arg| arg.replace("DIR", path)))
            .env_clear()
            .env("HOME", path)
            // Debian has servers in sbin, which is not in everybody's path.
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let Ok(child) = command.spawn() else {
            skipped(&format!("the hub behind {}, which is not installed", self.program));
            return None;
        };
        let process = Process::new(child);
        wait_until(&format!("{} listens", self.program), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .await;
        Some((process, folder))
    }
}
