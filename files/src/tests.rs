//! Each test makes a way to a file and says who could have put another one there.

mod groups;
mod places;
mod races;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

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
        for mode in [0o777, 0o757, 0o2772] {
            set(part, mode);
            assert_eq!(doubted(&file).as_ref(), Some(part), "{mode:o}");
            assert!(OwnFile::open(&file).unwrap().trusted().is_err());
        }
        if is_root() {
            set(part, 0o770);
            assert_eq!(doubted(&file).as_ref(), Some(part), "root has no group of its own");
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

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether files can be given to others; says so where not.
fn can_give_away() -> bool {
    if !is_root() {
        assert!(std::env::var_os("REQUIRE_TOOLS").is_none_or(|value| value != "1"), "this wants root");
        eprintln!("skipped: files of another user, whom only root can make");
    }
    is_root()
}

#[test]
fn what_a_stranger_owns_on_the_way_raises_a_doubt() {
    if !can_give_away() {
        return;
    }
    let (top, file) = deep();
    let shared = make_folder(&top.path().join("shared"), 0o1777);
    // The second is who stands in a user namespace for all whom it does not know, and this is none, or one with `/` in it.
    for stranger in [STRANGER, 65_534] {
        for part in [top.path().join("a"), file.clone()] {
            chown(&part, Some(stranger), None).unwrap();
            let opened = OwnFile::open(&file).unwrap();
            let is_folder = part != file;
            let doubt = Doubt::Owner { path: part.clone(), owner: stranger, is_folder };
            assert_eq!(opened.doubt(), Some(&doubt));
            chown(&part, Some(0), None).unwrap();
        }
    }
    let link = shared.join("link");
    symlink(&file, &link).unwrap();
    assert_eq!(doubted(&link), None);
    std::os::unix::fs::lchown(&link, Some(STRANGER), None).unwrap();
    assert_eq!(doubted(&link), Some(link), "a link in a folder where anybody may put one");
}

/// Which a strange folder is there, too: `service install hub` puts the hub into one (`PrivateUsers=yes`).
#[test]
fn a_strangers_folder_raises_a_doubt_in_a_user_namespace_that_knows_root() {
    const WAY: &str = "OWN_FILES_WAY";

    if let Some(way) = std::env::var_os(WAY) {
        let seen = doubted(Path::new(&way));
        assert_eq!(seen.as_deref(), Path::new(&way).parent(), "in the namespace");
        return;
    }
    if !can_give_away() {
        return;
    }
    let top = tempfile::tempdir().unwrap();
    let folder = make_folder(&top.path().join("foreign"), 0o755);
    let file = make_file(&folder.join("file"), "text", 0o644);
    chown(&folder, Some(STRANGER), None).unwrap();
    let this = std::env::current_exe().unwrap();
    let test = "tests::a_strangers_folder_raises_a_doubt_in_a_user_namespace_that_knows_root";
    let ran = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(this)
        .args(["--exact", test, "--nocapture"])
        .env(WAY, &file)
        .output();
    let said = ran.as_ref().map(|ran| String::from_utf8_lossy(&ran.stderr).into_owned()).unwrap_or_default();
    if ran.is_err() || said.contains("unshare: ") {
        assert!(std::env::var_os("REQUIRE_TOOLS").is_none_or(|value| value != "1"), "this wants unshare");
        return eprintln!("skipped: a user namespace, which cannot be made here: {said}");
    }
    let ran = ran.unwrap();
    assert!(ran.status.success(), "{}{said}", String::from_utf8_lossy(&ran.stdout));
}

/// A pipe with a name is its maker's; one without is its reader's parent's.
#[test]
fn a_pipe_in_a_folder_where_others_can_make_one_is_judged_as_a_file_is() {
    let top = tempfile::tempdir().unwrap();
    let pipe = top.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let open = || {
        std::thread::scope(|threads| {
            let writer = threads.spawn(|| fs::write(&pipe, "token"));
            let opened = OwnFile::open_given(&pipe).unwrap();
            let doubt = opened.doubt().cloned();
            drop(opened.read(100));
            writer.join().unwrap().unwrap();
            doubt
        })
    };
    assert_eq!(open(), None);
    set(&pipe, 0o622);
    assert_eq!(open(), Some(Doubt::Mode { path: pipe.clone(), mode: 0o622, is_folder: false }));
    if can_give_away() {
        set(&pipe, 0o600);
        chown(&pipe, Some(STRANGER), None).unwrap();
        let doubt = Doubt::Owner { path: pipe.clone(), owner: STRANGER, is_folder: false };
        assert_eq!(open(), Some(doubt));
    }
}

#[test]
fn what_to_run_is_one_word_of_a_shell_whatever_the_name() {
    for (name, word) in [("plain-1_a.b", "plain-1_a.b"), ("my dir", "'my dir'"), ("it's", r"'it'\''s'")] {
        let doubt = Doubt::Mode { path: Path::new("/h").join(name), mode: 0o777, is_folder: false };
        let word = if word.starts_with('\'') { word.replacen('\'', "'/h/", 1) } else { format!("/h/{word}") };
        assert!(doubt.to_string().ends_with(&format!("`chmod go-w {word}`")), "{doubt}");
    }
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

/// A pipe is not waited for where a file is to be written either, with somebody who reads it or without.
#[test]
fn what_is_no_regular_file_is_not_written() {
    let (top, file) = deep();
    let pipe = top.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let write = |path: &Path, followed| open_to_write(path, OpenOptions::new().create(true), followed);
    for _ in 0..2 {
        for path in [top.path(), &pipe, Path::new("/dev/null")] {
            let error = write(path, true).unwrap_err();
            assert!(!error.to_string().contains("No such device"), "{path:?}: {error}");
        }
        // From the second time on somebody reads.
        let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
        std::mem::forget(OpenOptions::new().read(true).custom_flags(flags).open(&pipe).unwrap());
    }
    let link = top.path().join("link");
    symlink(&file, &link).unwrap();
    assert!(write(&link, false).is_err());
    write(&link, true).unwrap();
    write(&top.path().join("new"), false).unwrap();
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
