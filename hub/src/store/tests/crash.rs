//! A process that dies in the middle: this test's own binary, run again as a child that kills itself at a named point,
//! or is killed at a random one.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::super::failpoint::{DIE_AFTER, DIE_AT};
use super::*;

/// The folder in which a child writes; set for children alone.
const FOLDER: &str = "VIRTUAL_LLM_TEST_FOLDER";
/// Lists of changes that a child would write if nobody stopped it.
const LISTS: usize = 2000;

/// One list: two rows that have to agree.
fn pair(n: usize) -> Vec<Change> {
    let row = |id: &str| Llm { model: n.to_string(), ..llm(id, &format!("name-of-{id}")) };
    let task = task(&format!("t{n}"), TaskStatus::Pending);
    vec![
        Change::PutLlm(Box::new(row("1"))),
        Change::PutTask(Box::new(task)),
        Change::PutLlm(Box::new(row("2"))),
    ]
}

/// The child's life: a list, its commit, a note that it was acknowledged, and the next. As a test of its own it does
/// nothing.
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

struct Life {
    folder: tempfile::TempDir,
    child: std::process::Child,
}

fn live(point: Option<(&str, usize)>) -> Life {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "store::tests::crash::child"]).env(FOLDER, folder.path());
    if let Some((point, after)) = point {
        command.env(DIE_AT, point).env(DIE_AFTER, after.to_string());
    }
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    Life { folder, child }
}

impl Life {
    /// How many lists were acknowledged, and how many the next hub finds.
    async fn end(mut self) -> (usize, usize) {
        assert_eq!(self.child.wait().unwrap().signal(), Some(9));
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

/// F66: a process killed before its commit has written nothing of it, one killed after it has written all of it, and
/// nothing that was acknowledged is lost.
#[tokio::test]
async fn a_process_that_dies_around_its_commit_leaves_whole_lists() {
    for after in [0, 1, 7, 40] {
        assert_eq!(live(Some(("before commit", after))).end().await, (after, after));
        assert_eq!(live(Some(("after commit", after))).end().await, (after, after + 1));
    }
}

/// F66: wherever SIGKILL hits, the next hub finds whole lists, and all that were acknowledged.
#[tokio::test]
async fn a_process_killed_anywhere_leaves_whole_lists() {
    for _ in 0..12 {
        let mut random = [0];
        getrandom::fill(&mut random).unwrap();
        let wait = Duration::from_micros(60_000 + u64::from(random[0]) * 500);
        let mut life = live(None);
        tokio::time::sleep(wait).await;
        life.child.kill().unwrap();
        let (acknowledged, written) = life.end().await;
        let left = written - acknowledged;
        assert!(left <= 1, "killed after {wait:?}: {acknowledged} acknowledged, {written} written");
    }
}
