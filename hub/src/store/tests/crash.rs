//! Crashes: this test binary runs itself as a child that kills itself at a failpoint, or is killed at a random time.

use super::*;
use crate::store::job::{DIE_AFTER, DIE_AT};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

/// Environment variable: the folder in which a child writes. Unset in the parent.
const FOLDER: &str = "VIRTUAL_LLM_TEST_FOLDER";
/// Number of lists that a child writes if it is not killed.
const LISTS: usize = 2000;

/// A list with two rows that have to agree.
fn pair(n: usize) -> Vec<Change> {
    let row = |id: &str| Llm { model: n.to_string(), ..llm(id, &format!("name-of-{id}")) };
    let task = task(&format!("t{n}"), TaskStatus::Pending);
    vec![put_llm(row("1")), put_task(task), put_llm(row("2"))]
}

/// The child: it writes list after list, and records each acknowledged one. Does nothing in the parent.
#[tokio::test]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let store = open(&folder.join("hub")).unwrap();
    let mut acknowledged = std::fs::File::create(folder.join("acknowledged")).unwrap();
    for n in 0..LISTS {
        store.write(pair(n)).await.unwrap();
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
    /// The number of lists that were acknowledged, and that the next hub finds.
    async fn end(mut self) -> (usize, usize) {
        assert_eq!(self.process.wait().unwrap().signal(), Some(9));
        let acknowledged =
            std::fs::read_to_string(self.folder.path().join("acknowledged")).unwrap_or_default();
        let found = open(&self.folder.path().join("hub")).unwrap().load().await.unwrap();
        let models: Vec<_> = found.llms.iter().map(|llm| llm.model.as_str()).collect();
        let written = found.tasks.len();
        match written.checked_sub(1) {
            Some(last) => assert_eq!(models, [last.to_string(), last.to_string()], "half a list"),
            None => assert!(models.is_empty(), "half a list"),
        }
        for (n, task) in found.tasks.iter().enumerate() {
            assert_eq!(task.id, format!("t{n}"), "in order, and none twice");
        }
        (acknowledged.lines().count(), written)
    }
}

/// F66: a process killed before its commit has written none of the list, one killed after it has written all of it, and no
/// acknowledged list is lost.
#[tokio::test]
async fn a_process_that_dies_around_its_commit_leaves_whole_lists() {
    for after in [0, 1, 7, 40] {
        assert_eq!(spawn(Some(("before commit", after))).end().await, (after, after));
        assert_eq!(spawn(Some(("after commit", after))).end().await, (after, after + 1));
    }
}

/// F66: after a SIGKILL at any time, the next hub finds whole lists, and all acknowledged ones.
#[tokio::test]
async fn a_process_killed_anywhere_leaves_whole_lists() {
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
