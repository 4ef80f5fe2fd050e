//! A registrar killed at a failpoint. The registrar runs in a child process of the test binary.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use testkit::classic_hub::{ClassicHub, Reply};
use testkit::wait::wait_until;
use tokio::process::{Child, Command};

use super::controlled_backend::provider;
use super::infer;
use crate::Secret;
use crate::failpoint::{DIE_AFTER, DIE_AT};
use crate::fakes::quick;
use crate::options::{Credentials, Options};
use crate::registrar::Registrar;

/// Environment variables of the child: the URL of its hub, and its session file.
const HUB: &str = "VIRTUAL_LLM_TEST_HUB";
const FILE: &str = "VIRTUAL_LLM_TEST_FILE";

/// The child process: a registrar with one provider. Without the variables this test does nothing.
#[actix::test]
async fn child() {
    let (Ok(hub), Some(file)) = (std::env::var(HUB), std::env::var_os(FILE)) else { return };
    let credentials = Credentials::new(&hub, Secret::new("token-of-the-test"));
    let options = Options {
        session_file: Some(PathBuf::from(file)),
        timings: quick(),
        ..Options::new(credentials, vec![provider("a")])
    };
    Registrar::start(options).unwrap().wait().await;
}

fn spawn_child(hub: &ClassicHub, file: &Path, point: Option<&str>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "root::tests::dying::child"]).env(HUB, hub.url()).env(FILE, file);
    if let Some(point) = point {
        command.env(DIE_AT, point).env(DIE_AFTER, "0");
    }
    command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap()
}

fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

/// F56: the next start uses the id in the file.
#[actix::test]
async fn a_registrar_killed_around_the_rename_keeps_the_old_or_the_new_id() {
    for (point, id) in [("before rename", "old"), ("after rename", "new")] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("provider-session");
        std::fs::write(&file, "old\n").unwrap();
        let hub = ClassicHub::start();
        let given = r#"{"providerSessionId":"new","llms":[]}"#;
        hub.script("_provider-register", [Reply::Status(201, Vec::new(), given.to_owned())]);
        assert!(was_killed(spawn_child(&hub, &file, Some(point)).wait().await.unwrap()));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{id}\n"), "{point}");
        assert_eq!(hub.open_channels(), 0, "the registrar uses an id only after it is on disk");
        let _next = spawn_child(&hub, &file, None);
        assert_eq!(hub.request("_provider-register", 2).await.json()["providerSessionId"], id, "{point}");
    }
}

/// P1: the next start does not send the result again.
#[actix::test]
async fn a_registrar_killed_around_a_result_sends_it_at_most_once() {
    for (point, sent) in [("before result", 0), ("after result", 1)] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("provider-session");
        let hub = ClassicHub::start();
        let mut first = spawn_child(&hub, &file, Some(point));
        wait_until("the channel is open", || hub.open_channels() == 1).await;
        hub.task(infer("t1", "a"));
        assert!(was_killed(first.wait().await.unwrap()));
        assert_eq!(hub.requests("t1/result").len(), sent, "{point}");
        wait_until("the channel is closed", || hub.open_channels() == 0).await;

        let _next = spawn_child(&hub, &file, None);
        wait_until("the channel is open", || hub.open_channels() == 1).await;
        // A hub that has no result sends the task again.
        let id = if sent == 0 { "t1" } else { "t2" };
        hub.task(infer(id, "a"));
        hub.request(&format!("{id}/result"), 1).await;
        assert_eq!(hub.requests("t1/result").len(), 1, "{point}");
    }
}
