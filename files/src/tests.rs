//! Each test makes a way to a file and says who could have put another one there.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::*;

/// Neither root nor anybody who runs these tests.
const STRANGER: u32 = 54_321;

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn make_folder(path: &Path, mode: u32) -> PathBuf {
    fs::create_dir(path).unwrap();
    set(path, mode);
    path.to_owned()
}

fn make_file(path: &Path, text: &str, mode: u32) -> PathBuf {
    fs::write(path, text).unwrap();
    set(path, mode);
    path.to_owned()
}

/// A file two folders deep, which is nobody else's.
fn deep() -> (TempDir, PathBuf) {
    let top = tempfile::tempdir().unwrap();
    let folder = make_folder(&top.path().join("a"), 0o755);
    let folder = make_folder(&folder.join("b"), 0o755);
    let file = make_file(&folder.join("file"), "text", 0o644);
    (top, file)
}

fn doubted(path: &Path) -> Option<PathBuf> {
    OwnFile::open(path).unwrap().doubt().map(|doubt| match doubt {
        Doubt::Mode { path, .. } | Doubt::Owner { path, .. } => path.clone(),
    })
}

#[test]
fn a_way_that_is_nobody_elses_raises_no_doubt() {
    let (top, file) = deep();
    assert_eq!(doubted(&file), None);
    assert_eq!(OwnFile::open(&file).unwrap().read_text(4).unwrap(), "text");
    assert_eq!(folder(top.path()).unwrap(), None, "a folder below /tmp, which is sticky");
    symlink("a/b/file", top.path().join("relative")).unwrap();
    symlink(&file, top.path().join("absolute")).unwrap();
    symlink("../a/./b", top.path().join("a/folder")).unwrap();
    for way in ["relative", "absolute", "a/folder/file", "a/../relative", "a/b/../folder/../b/file"] {
        assert_eq!(doubted(&top.path().join(way)), None, "{way}");
    }
}

#[test]
fn a_file_or_any_folder_on_the_way_that_others_can_write_raises_a_doubt() {
    let (top, file) = deep();
    let parts = [top.path().to_owned(), top.path().join("a"), top.path().join("a/b"), file.clone()];
    for part in &parts {
        let before = part.metadata().unwrap().permissions();
        for mode in [0o775, 0o757, 0o2770] {
            set(part, mode);
            assert_eq!(doubted(&file).as_ref(), Some(part), "{mode:o}");
            assert!(OwnFile::open(&file).unwrap().trusted().is_err());
        }
        // In a sticky folder nobody takes our file away; a file's own bit means nothing.
        set(part, 0o1777);
        assert_eq!(doubted(&file).is_some(), part == &file);
        fs::set_permissions(part, before).unwrap();
    }
    assert_eq!(doubted(&file), None);
}

#[test]
fn a_link_is_judged_by_the_folders_on_both_of_its_sides() {
    let (top, file) = deep();
    let open = make_folder(&top.path().join("open"), 0o777);
    symlink(&file, open.join("link")).unwrap();
    assert_eq!(doubted(&open.join("link")), Some(open.clone()), "others can turn the link");
    let loose = make_file(&open.join("loose"), "", 0o600);
    symlink(&loose, top.path().join("to-loose")).unwrap();
    assert_eq!(doubted(&top.path().join("to-loose")), Some(open.clone()), "others can take its end away");
    symlink("open", top.path().join("through")).unwrap();
    assert_eq!(doubted(&top.path().join("through/../a/b/file")), Some(open), "the way led through it");
}

#[test]
fn what_a_stranger_owns_on_the_way_raises_a_doubt() {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("REQUIRE_TOOLS").is_none_or(|value| value != "1"), "this wants root");
        return eprintln!("skipped: files of another user, whom only root can make");
    }
    let (top, file) = deep();
    let shared = make_folder(&top.path().join("shared"), 0o1777);
    for part in [top.path().join("a"), file.clone()] {
        chown(&part, Some(STRANGER), None).unwrap();
        let opened = OwnFile::open(&file).unwrap();
        assert_eq!(opened.doubt(), Some(&Doubt::Owner { path: part.clone(), owner: STRANGER }));
        chown(&part, Some(0), None).unwrap();
    }
    let link = shared.join("link");
    symlink(&file, &link).unwrap();
    assert_eq!(doubted(&link), None);
    std::os::unix::fs::lchown(&link, Some(STRANGER), None).unwrap();
    assert_eq!(doubted(&link), Some(link), "a link in a folder where anybody may put one");
}

#[test]
fn what_is_no_regular_file_is_an_error_and_nothing_waits() {
    let (top, file) = deep();
    let pipe = top.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    for path in [top.path(), &pipe, Path::new("/dev/null")] {
        assert_eq!(OwnFile::open(path).unwrap_err().kind(), io::ErrorKind::InvalidData, "{path:?}");
    }
    let ring = top.path().join("ring");
    symlink("ring", &ring).unwrap();
    assert!(OwnFile::open(&ring).is_err());
    symlink(&file, top.path().join("link")).unwrap();
    assert!(OwnFile::open_itself(&top.path().join("link")).is_err());
    OwnFile::open_itself(&file).unwrap();
    for missing in ["none", "a/b/file/below", "none/file"] {
        let kind = OwnFile::open(&top.path().join(missing)).unwrap_err().kind();
        assert!(matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory), "{missing}");
    }
}

#[test]
fn a_pipe_that_a_person_names_is_read() {
    let (reader, mut writer) = io::pipe().unwrap();
    io::Write::write_all(&mut writer, b"from a pipe").unwrap();
    drop(writer);
    let number = std::os::fd::AsRawFd::as_raw_fd(&reader);
    let opened = OwnFile::open_given(Path::new(&format!("/dev/fd/{number}"))).unwrap();
    assert_eq!((opened.read_text(100).unwrap().as_str(), opened.doubt()), ("from a pipe", None));
}

#[test]
fn more_than_was_asked_for_is_an_error() {
    let (_top, file) = deep();
    assert!(OwnFile::open(&file).unwrap().read(3).is_err());
    fs::write(&file, b"\xff").unwrap();
    assert!(OwnFile::open(&file).unwrap().read_text(3).is_err());
}

/// What another thread does to the file while it is opened, again and again.
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
        let mut seen = [0_u32; 2];
        while seen.iter().any(|times| *times < 2_000) {
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
fn a_file_that_is_renamed_over_another_is_never_read_under_its_name() {
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
fn a_link_that_is_turned_leads_to_what_is_judged() {
    let top = tempfile::tempdir().unwrap();
    for (name, text, mode) in [("good", "good", 0o755), ("foreign", "foreign", 0o777)] {
        make_folder(&top.path().join(name), mode);
        make_file(&top.path().join(name).join("file"), text, 0o600);
    }
    let next = top.path().join("next");
    // Of the folder; then of the file itself.
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
fn a_folder_that_becomes_a_link_and_back_is_judged_as_it_was_gone_through() {
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
