//! Crashes: the test binary starts itself as a child process, which dies at a failpoint or is killed at a random time.

use super::*;
use crate::store::job::{DIE_AFTER, DIE_AT};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

/// Environment variable with the folder in which a child writes. Not set in the parent.
const FOLDER: &str = "VIRTUAL_LLM_TEST_FOLDER";
/// Number of lists of changes that a child writes if it is not killed.
const LISTS: usize = 2000;

/// List number `n`: two rows with the model `n` around a task.
fn change_list(n: usize) -> Vec<Change> {
    let row = |id: &str| Llm { model: n.to_string(), ..llm(id, &format!("name-of-{id}")) };
    let task = task(&format!("t{n}"), TaskStatus::Pending);
    vec![put_llm(row("1")), put_task(task), put_llm(row("2"))]
}

/// Code of the child: writes lists one after the other, and records each acknowledged list. Does nothing in the parent.
#[tokio::test]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let store = open(&folder.join("hub")).unwrap();
    let mut acknowledged = std::fs::File::create(folder.join("acknowledged")).unwrap();
    for n in 0..LISTS {
        store.write(change_list(n)).await.unwrap();
        writeln!(acknowledged, "{n}").unwrap();
    }
}

struct Child {
    folder: tempfile::TempDir,
    process: std::process::Child,
}

fn spawn(point: Option<(&str, usize)>) -> Child {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "store::tests::crash::child"]).env(FOLDER, folder.path());
    if let Some((point, after)) = point {
        command.env(DIE_AT, point).env(DIE_AFTER, after.to_string());
    }
    let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    Child { folder, process }
}

impl Child {
    /// Waits until the child is dead. Returns the number of acknowledged lists and of lists that the next hub finds.
    async fn end(mut self) -> (usize, usize) {
        assert_eq!(self.process.wait().unwrap().signal(), Some(9));
        let acknowledged =
            std::fs::read_to_string(self.folder.path().join("acknowledged")).unwrap_or_default();
        let found = open(&self.folder.path().join("hub")).unwrap().load().await.unwrap();
        let models: Vec<_> = found.llms.iter().map(|llm| llm.model.as_str()).collect();
        let written = found.tasks.len();
        match written.checked_sub(1) {
            Some(last) => assert_eq!(models, [last.to_string(), last.to_string()], "a list is half written"),
            None => assert!(models.is_empty(), "a list is half written"),
        }
        for (n, task) in found.tasks.iter().enumerate() {
            assert_eq!(task.id, format!("t{n}"), "lists are out of order or written twice");
        }
        (acknowledged.lines().count(), written)
    }
}

/// F66: a process that dies just before a commit has written none of its list, one that dies just after it the whole
/// list, and no acknowledged list is lost.
#[tokio::test]
async fn a_process_that_dies_around_its_commit_leaves_whole_lists() {
    for after in [0, 1, 7, 40] {
        assert_eq!(spawn(Some(("before commit", after))).end().await, (after, after));
        assert_eq!(spawn(Some(("after commit", after))).end().await, (after, after + 1));
    }
}

/// F66: after a SIGKILL at a random time, the next hub finds only whole lists, and all acknowledged ones.
#[tokio::test]
async fn a_process_killed_at_any_time_leaves_whole_lists() {
    for _ in 0..12 {
        let mut random = [0];
        getrandom::fill(&mut random).unwrap();
        let wait = Duration::from_micros(60_000 + u64::from(random[0]) * 500);
        let mut child = spawn(None);
        tokio::time::sleep(wait).await;
        child.process.kill().unwrap();
        let (acknowledged, written) = child.end().await;
        let left = written - acknowledged;
        assert!(left <= 1, "killed after {wait:?}: {acknowledged} acknowledged, {written} written");
    }
}
