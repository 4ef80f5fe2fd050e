//! Units for systemd: the registrar for one person, the hub for the whole system.

use std::{env, path::PathBuf};

use super::{Service, home};
use crate::{cli::Served, exit::Failure};

/// The unit for this command line.
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
# A wrong configuration (2) and a hub that refuses (3) want a person, not another try.
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=2 3
WatchdogSec=60
# A model server that a wake recipe started outlives the registrar.
KillMode=process
# Longer than any sensible --drain-timeout: the registrar keeps to that by itself.
TimeoutStopSec=15min

[Install]
WantedBy=default.target
",
        quoted(line)
    )
}

fn hub(line: &[String]) -> String {
    let mut line = line.to_vec();
    let has_place = line.iter().any(|word| word == "--in-memory" || word.starts_with("--data-dir"));
    if !has_place {
        // The folder that StateDirectory makes.
        line.extend(["--data-dir", "/var/lib/virtual-llm"].map(str::to_owned));
    }
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
# Two descriptors a publisher and two a caller; the usual 1024 would be the limit of a team.
LimitNOFILE=65536
DynamicUser=yes
StateDirectory=virtual-llm
StateDirectoryMode=0700
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes

[Install]
WantedBy=multi-user.target
",
        quoted(&line)
    )
}

/// The words of a command line, each safe from systemd's own quotes, variables (`$`) and specifiers (`%`).
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
    fn every_word_stays_one_word() {
        let line = ["/opt/my llm/bin", "--home", "50%", "a\"b\\c", "$HOME", ""].map(str::to_owned);
        assert_eq!(quoted(&line), r#""/opt/my llm/bin" --home 50%% "a\"b\\c" $$HOME """#);
    }
}
