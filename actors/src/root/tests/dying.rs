//! A registrar that dies at a named point: this test's own binary, run again as a child that kills itself there.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, Command};

use super::infer;
use super::puppet::provider;
use crate::Secret;
use crate::failpoint::{DIE_AFTER, DIE_AT};
use crate::options::{Credentials, Options};
use crate::registrar::Registrar;
use crate::test_hub::{Reply, TestHub, quick, wait_until};

/// Where a child's hub and its session file are; set for children alone.
const HUB: &str = "VIRTUAL_LLM_TEST_HUB";
const FILE: &str = "VIRTUAL_LLM_TEST_FILE";

/// The child's life: a registrar with one provider, until it dies. As a test of its own it does nothing.
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

fn live(hub: &TestHub, file: &Path, point: Option<&str>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "root::tests::dying::child"]).env(HUB, &hub.url).env(FILE, file);
    if let Some(point) = point {
        command.env(DIE_AT, point).env(DIE_AFTER, "0");
    }
    command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap()
}

fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

/// F56: a registrar that dies before the rename has the old id, one that dies after it the new; each is whole, and the
/// next start uses it.
#[actix::test]
async fn a_registrar_that_dies_around_the_rename_has_the_old_id_or_the_new() {
    for (point, left) in [("before rename", "old"), ("after rename", "new")] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("provider-session");
        std::fs::write(&file, "old\n").unwrap();
        let hub = TestHub::start().await;
        let given = r#"{"providerSessionId":"new","llms":[]}"#;
        hub.script("_provider-register", [Reply::Status(201, Vec::new(), given.to_owned())]);
        assert!(was_killed(live(&hub, &file, Some(point)).wait().await.unwrap()));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{left}\n"), "{point}");
        assert_eq!(hub.open_channels(), 0, "nobody uses an id that is not on disk");
        let _next = live(&hub, &file, None);
        assert_eq!(hub.nth("_provider-register", 2).await.json()["providerSessionId"], left, "{point}");
    }
}

/// P1: a registrar that dies before its result is sent has said nothing of it, one that dies when the hub has taken it
/// has said it once; the next start says nothing by itself.
#[actix::test]
async fn a_registrar_that_dies_around_a_result_says_it_once_or_not_at_all() {
    for (point, said) in [("before result", 0), ("after result", 1)] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("provider-session");
        let hub = TestHub::start().await;
        let mut first = live(&hub, &file, Some(point));
        wait_until("a channel", || hub.open_channels() == 1).await;
        hub.send_task(&infer("t1", "a"));
        assert!(was_killed(first.wait().await.unwrap()));
        assert_eq!(hub.calls("t1/result").len(), said, "{point}");
        wait_until("the channel is closed", || hub.open_channels() == 0).await;

        let _next = live(&hub, &file, None);
        wait_until("a channel", || hub.open_channels() == 1).await;
        // A hub that had no result gives the task to the same session again.
        let id = if said == 0 { "t1" } else { "t2" };
        hub.send_task(&infer(id, "a"));
        hub.nth(&format!("{id}/result"), 1).await;
        assert_eq!(hub.calls("t1/result").len(), 1, "{point}");
    }
}
