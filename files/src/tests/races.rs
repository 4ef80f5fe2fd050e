//! Another process changes the path during the walk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::meanwhile::{self, Point};

/// Deadline for a race, far longer than one takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Calls `swap` in another thread, again and again, while this thread opens the file.
#[expect(clippy::disallowed_methods, reason = "these tests have no runtime, and so no paused clock")]
fn race(swap: impl Fn(bool) + Send + Sync, path: &Path) {
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut foreign = false;
            while !done.load(Ordering::Relaxed) {
                foreign = !foreign;
                swap(foreign);
            }
        });
        let deadline = Instant::now() + PATIENCE;
        let mut seen = [0_u32; 2];
        while seen.iter().any(|times| *times < 2_000) {
            if Instant::now() > deadline {
                done.store(true, Ordering::Relaxed);
                panic!("within a minute, only {seen:?} of both states were seen");
            }
            if let Ok(opened) = OwnFile::open(path) {
                let text = opened.read_text(100).unwrap();
                let foreign = text == "foreign";
                if foreign != opened.doubt().is_some() {
                    done.store(true, Ordering::Relaxed);
                    panic!("{text}: {:?}", opened.doubt());
                }
                seen[usize::from(foreign)] += 1;
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_file_renamed_over_another_during_the_walk_is_checked_itself() {
    let top = tempfile::tempdir().unwrap();
    let path = make_file(&top.path().join("file"), "good", 0o600);
    let next = top.path().join("next");
    race(
        |foreign| {
            let (text, mode) = if foreign { ("foreign", 0o666) } else { ("good", 0o600) };
            make_file(&next, text, mode);
            fs::rename(&next, &path).unwrap();
        },
        &path,
    );
}

#[test]
fn the_target_of_a_link_replaced_during_the_walk_is_checked() {
    let top = tempfile::tempdir().unwrap();
    for (name, text, mode) in [("good", "good", 0o755), ("foreign", "foreign", 0o777)] {
        make_folder(&top.path().join(name), mode);
        make_file(&top.path().join(name).join("file"), text, 0o600);
    }
    let next = top.path().join("next");
    // First the folder is a link, then the file itself.
    for (link, below) in [("folder", "file"), ("link", "")] {
        let path = top.path().join(link);
        let turn = |foreign: bool| {
            let target = Path::new(if foreign { "foreign" } else { "good" });
            symlink(if below.is_empty() { target.join("file") } else { target.to_owned() }, &next).unwrap();
            fs::rename(&next, &path).unwrap();
        };
        turn(false);
        race(turn, &if below.is_empty() { path.clone() } else { path.join(below) });
    }
}

#[test]
fn a_folder_that_alternates_with_a_link_is_checked_as_it_was_opened() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("folder");
    make_folder(&path, 0o755);
    make_file(&path.join("file"), "good", 0o600);
    make_folder(&top.path().join("foreign"), 0o777);
    make_file(&top.path().join("foreign/file"), "foreign", 0o600);
    let aside = top.path().join("aside");
    race(
        |foreign| {
            if foreign {
                fs::rename(&path, &aside).unwrap();
                symlink("foreign", &path).unwrap();
            } else {
                fs::remove_file(&path).unwrap();
                fs::rename(&aside, &path).unwrap();
            }
        },
        &path.join("file"),
    );
}

/// Creates a trusted folder with a file, and a world-writable folder with other files.
fn ways() -> (TempDir, PathBuf, PathBuf) {
    let top = tempfile::tempdir().unwrap();
    let real = top.path().canonicalize().unwrap();
    make_folder(&real.join("open"), 0o777);
    for (parent, text) in [(real.clone(), "good"), (real.join("open"), "foreign")] {
        let folder = make_folder(&parent.join("folder"), 0o755);
        make_file(&folder.join("file"), text, 0o600);
    }
    let (good, foreign) = (real.join("folder"), real.join("open/folder"));
    (top, good, foreign)
}

/// The text of the file in this folder, and whether it raises a doubt.
fn seen(folder: &Path) -> (String, bool) {
    let opened = OwnFile::open(&folder.join("file")).unwrap();
    assert!(meanwhile::is_done());
    (opened.read_text(100).unwrap(), opened.doubt().is_some())
}

/// A link that replaces a folder or file between its inspection and its opening is followed, and its target is checked.
#[test]
fn an_entry_replaced_by_a_link_before_its_opening_is_checked_as_a_link() {
    for of_file in [true, false] {
        let (_top, good, foreign) = ways();
        let changed = if of_file { good.join("file") } else { good.clone() };
        let target = if of_file { foreign.join("file") } else { foreign };
        let within = changed.parent().unwrap().to_owned();
        meanwhile::plan(Point::Looked, &within, move || {
            fs::rename(&changed, changed.with_extension("aside")).unwrap();
            symlink(&target, &changed).unwrap();
        });
        assert_eq!(
            seen(&good),
            ("foreign".into(), true),
            "the file (not its folder) was replaced: {of_file}"
        );
    }
}

/// The walk checks the folder that it has opened, even if another folder has its name by then.
#[test]
fn a_folder_is_checked_by_its_descriptor_after_a_rename() {
    let (_top, good, foreign) = ways();
    set(&good, 0o777);
    set(foreign.parent().unwrap(), 0o755);
    let way = good.clone();
    meanwhile::plan(Point::Entered, &good, move || {
        fs::rename(&way, way.with_extension("aside")).unwrap();
        fs::rename(&foreign, &way).unwrap();
    });
    assert_eq!(seen(&good), ("good".into(), true));
}
