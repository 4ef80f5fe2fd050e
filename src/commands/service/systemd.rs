//! Units for systemd: a user unit for the registrar, a system unit for the hub.

use std::{env, path::PathBuf};

use super::{Service, home};
use crate::{cli::Served, exit::Failure};

/// The unit that runs a command line.
pub(super) fn service(what: Served, line: &[String]) -> Result<Service, Failure> {
    Ok(match what {
        Served::Publish => Service {
            path: user_units()?.join("virtual-llm.service"),
            text: publish(line),
            next: "  systemctl --user daemon-reload\n  systemctl --user enable --now virtual-llm\n  \
                   loginctl enable-linger        # to run while you are not logged in"
                .to_owned(),
        },
        Served::Hub => Service {
            path: PathBuf::from("/etc/systemd/system/virtual-llm-hub.service"),
            text: hub(line),
            next: "  systemctl daemon-reload\n  systemctl enable --now virtual-llm-hub\n  \
                   cat /var/lib/virtual-llm/admin-token"
                .to_owned(),
        },
    })
}

fn user_units() -> Result<PathBuf, Failure> {
    let config = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    Ok(config.map_or_else(|| home().map(|home| home.join(".config")), Ok)?.join("systemd/user"))
}

fn publish(line: &[String]) -> String {
    format!(
        "[Unit]
Description=virtual-llm: publishes the LLMs of this machine

[Service]
Type=notify
ExecStart={}
ExecReload=/bin/kill -HUP $MAINPID
# A restart does not help after a wrong configuration (2) or a refusal by the hub (3).
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=2 3
WatchdogSec=60
# A model server that a wake recipe has started keeps running after the registrar.
KillMode=process
# No restrictions: programs of recipes have the rights of this unit and may need a GPU, sudo or much memory.
UMask=0077
# A core dump would contain prompts and keys.
LimitCORE=0:infinity
# Longer than any sensible --drain-timeout, which the registrar observes itself.
TimeoutStopSec=15min

[Install]
WantedBy=default.target
",
        quoted(line)
    )
}

fn hub(line: &[String]) -> String {
    let mut line = line.to_vec();
    let has_data_dir = line.iter().any(|word| word == "--in-memory" || word.starts_with("--data-dir"));
    if !has_data_dir {
        // The folder of StateDirectory.
        line.extend(["--data-dir", "/var/lib/virtual-llm"].map(str::to_owned));
    }
    // In a user namespace (PrivateUsers) the hub could not bind a privileged port.
    let privileges = if has_privileged_port(&line) {
        "AmbientCapabilities=CAP_NET_BIND_SERVICE\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE"
    } else {
        "CapabilityBoundingSet=\nPrivateUsers=yes"
    };
    format!(
        "[Unit]
Description=virtual-llm hub
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
ExecStart={}
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=2
WatchdogSec=60
# Two descriptors for each publisher and each caller: the usual limit of 1024 is too low for a team.
LimitNOFILE=65536
# A safeguard: the hub refuses requests before it needs this much.
MemoryMax=50%
# A core dump would contain prompts and keys.
LimitCORE=0
UMask=0077
DynamicUser=yes
StateDirectory=virtual-llm
StateDirectoryMode=0700
# The hub needs its port and its folder only.
{privileges}
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# The hub raises its soft limit of open files to LimitNOFILE.
SystemCallFilter=prlimit64 getrlimit setrlimit

[Install]
WantedBy=multi-user.target
",
        quoted(&line)
    )
}

/// Whether the hub listens on a port below 1024.
fn has_privileged_port(line: &[String]) -> bool {
    let next = line.iter().skip(1).map(Some).chain([None]);
    let given = line.iter().zip(next).filter_map(|(word, next)| match word.strip_prefix("--listen") {
        Some("") => next.map(String::as_str),
        Some(rest) => rest.strip_prefix('='),
        None => None,
    });
    let port = given.last().and_then(|listen| listen.rsplit_once(':')?.1.parse().ok());
    port.is_some_and(|port: u16| (1..1024).contains(&port))
}

/// Quotes a command line for systemd: quotes, variables (`$`) and specifiers (`%`) are escaped.
fn quoted(line: &[String]) -> String {
    let words: Vec<_> = line
        .iter()
        .map(|word| {
            let safe = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
            let is_plain = !word.is_empty() && !word.contains([' ', '"', '\'', '\\', ';']);
            if is_plain { safe } else { format!("\"{safe}\"") }
        })
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_and_escaped() {
        let line = ["/opt/my llm/bin", "--home", "50%", "a\"b\\c", "$HOME", ""].map(str::to_owned);
        assert_eq!(quoted(&line), r#""/opt/my llm/bin" --home 50%% "a\"b\\c" $$HOME """#);
    }
}
