//! Property lists for launchd: an agent of the user for the registrar, a daemon for the hub.

use std::{fmt::Write as _, path::PathBuf};

use super::{Service, home};
use crate::{cli::Served, exit::Failure};

/// The property list that runs a command line.
pub(super) fn service(what: Served, line: &[String]) -> Result<Service, Failure> {
    Ok(match what {
        Served::Publish => {
            let home = home()?;
            let path = home.join("Library/LaunchAgents/virtual-llm.publish.plist");
            let log = home.join("Library/Logs/virtual-llm.log");
            Service {
                text: list("virtual-llm.publish", line, &log.to_string_lossy()),
                next: format!("  launchctl bootstrap gui/$(id -u) '{}'", path.display()),
                path,
            }
        }
        Served::Hub => {
            let path = PathBuf::from("/Library/LaunchDaemons/virtual-llm.hub.plist");
            Service {
                text: list("virtual-llm.hub", &with_data_dir(line), "/var/log/virtual-llm-hub.log"),
                next: format!("  sudo launchctl bootstrap system '{}'", path.display()),
                path,
            }
        }
    })
}

/// Adds a data directory, since a daemon has no home folder.
fn with_data_dir(line: &[String]) -> Vec<String> {
    let mut line = line.to_vec();
    if !line.iter().any(|word| word == "--in-memory" || word.starts_with("--data-dir")) {
        line.extend(["--data-dir", "/var/db/virtual-llm"].map(str::to_owned));
    }
    line
}

fn list(label: &str, line: &[String], log: &str) -> String {
    let mut words = String::new();
    for word in line {
        let _ = writeln!(words, "    <string>{}</string>", escaped(word));
    }
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>{label}</string>
  <key>ProgramArguments</key>
  <array>
{words}  </array>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <dict>
    <key>SuccessfulExit</key>
    <false/>
  </dict>
  <key>ThrottleInterval</key>
  <integer>60</integer>
  <key>StandardErrorPath</key>
  <string>{}</string>
</dict>
</plist>
"#,
        escaped(log)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
