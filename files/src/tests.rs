//! Each test creates a path to a file, and checks whether another user could have replaced the file.

mod groups;
mod places;
mod races;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;

/// A user id that is neither root nor the user of the tests.
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

/// A file two folders deep that no other user can write.
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
fn a_path_that_no_other_user_can_write_raises_no_doubt() {
    let (top, file) = deep();
    assert_eq!(doubted(&file), None);
    assert_eq!(OwnFile::open(&file).unwrap().read_text(4).unwrap(), "text");
    assert_eq!(
        folder(top.path()).unwrap(),
        None,
        "a private folder in the sticky /tmp is no reason for doubt"
    );
    symlink("a/b/file", top.path().join("relative")).unwrap();
    symlink(&file, top.path().join("absolute")).unwrap();
    symlink("../a/./b", top.path().join("a/folder")).unwrap();
    for way in ["relative", "absolute", "a/folder/file", "a/../relative", "a/b/../folder/../b/file"] {
        assert_eq!(doubted(&top.path().join(way)), None, "{way}");
    }
}

#[test]
fn a_file_or_folder_of_the_path_that_others_can_write_raises_a_doubt() {
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
            assert_eq!(doubted(&file).as_ref(), Some(part), "root has no private group");
        }
        // In a sticky folder others cannot remove the file. The sticky bit of a file has no effect.
        set(part, 0o1777);
        assert_eq!(doubted(&file).is_some(), part == &file);
        fs::set_permissions(part, before).unwrap();
    }
    assert_eq!(doubted(&file), None);
}

#[test]
fn the_folders_of_a_link_and_of_its_target_are_both_checked() {
    let (top, file) = deep();
    let open = make_folder(&top.path().join("open"), 0o777);
    symlink(&file, open.join("link")).unwrap();
    assert_eq!(doubted(&open.join("link")), Some(open.clone()), "others can replace the link");
    let loose = make_file(&open.join("loose"), "", 0o600);
    symlink(&loose, top.path().join("to-loose")).unwrap();
    assert_eq!(doubted(&top.path().join("to-loose")), Some(open.clone()), "others can replace the target");
    symlink("open", top.path().join("through")).unwrap();
    assert_eq!(
        doubted(&top.path().join("through/../a/b/file")),
        Some(open),
        "the path leads through the folder"
    );
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether the test can create files of other users. Prints a message if not.
fn can_give_away() -> bool {
    if !is_root() {
        assert!(std::env::var_os("REQUIRE_TOOLS").is_none_or(|value| value != "1"), "this test needs root");
        eprintln!("skipped: files of another user, which only root can create");
    }
    is_root()
}

#[test]
fn a_file_folder_or_link_of_another_user_raises_a_doubt() {
    if !can_give_away() {
        return;
    }
    let (top, file) = deep();
    let shared = make_folder(&top.path().join("shared"), 0o1777);
    // 65534 represents unknown users in a user namespace. It raises a doubt here because it does not own `/`.
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
    assert_eq!(doubted(&link), Some(link), "a link in a world-writable folder");
}

/// `service install hub` runs the hub in a user namespace (`PrivateUsers=yes`), where other users' folders still raise a doubt.
#[test]
fn another_users_folder_raises_a_doubt_in_a_user_namespace_with_root() {
    const WAY: &str = "OWN_FILES_WAY";

    if let Some(way) = std::env::var_os(WAY) {
        let seen = doubted(Path::new(&way));
        assert_eq!(seen.as_deref(), Path::new(&way).parent(), "the doubt in the user namespace");
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
    let test = "tests::another_users_folder_raises_a_doubt_in_a_user_namespace_with_root";
    let ran = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(this)
        .args(["--exact", test, "--nocapture"])
        .env(WAY, &file)
        .output();
    let said = ran.as_ref().map(|ran| String::from_utf8_lossy(&ran.stderr).into_owned()).unwrap_or_default();
    if ran.is_err() || said.contains("unshare: ") {
        assert!(
            std::env::var_os("REQUIRE_TOOLS").is_none_or(|value| value != "1"),
            "this test needs unshare"
        );
        return eprintln!("skipped: a user namespace, which cannot be created here: {said}");
    }
    let ran = ran.unwrap();
    assert!(ran.status.success(), "{}{said}", String::from_utf8_lossy(&ran.stdout));
}

/// A named pipe belongs to its creator; an anonymous pipe comes from the parent process.
#[test]
fn a_named_pipe_is_checked_like_a_file() {
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
fn the_advised_command_quotes_any_path_as_one_shell_word() {
    for (name, word) in [("plain-1_a.b", "plain-1_a.b"), ("my dir", "'my dir'"), ("it's", r"'it'\''s'")] {
        let doubt = Doubt::Mode { path: Path::new("/h").join(name), mode: 0o777, is_folder: false };
        let word = if word.starts_with('\'') { word.replacen('\'', "'/h/", 1) } else { format!("/h/{word}") };
        assert!(doubt.to_string().ends_with(&format!("`chmod go-w {word}`")), "{doubt}");
    }
}

#[test]
fn opening_anything_but_a_regular_file_fails_without_blocking() {
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

/// Opening a pipe to write does not block, with a reader or without one.
#[test]
fn anything_but_a_regular_file_is_not_written() {
    let (top, file) = deep();
    let pipe = top.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let write = |path: &Path, followed| open_to_write(path, OpenOptions::new().create(true), followed);
    for _ in 0..2 {
        for path in [top.path(), &pipe, Path::new("/dev/null")] {
            let error = write(path, true).unwrap_err();
            assert!(!error.to_string().contains("No such device"), "{path:?}: {error}");
        }
        // From the second round on, the pipe has a reader.
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
fn a_pipe_given_on_the_command_line_is_read() {
    let (reader, mut writer) = io::pipe().unwrap();
    io::Write::write_all(&mut writer, b"from a pipe").unwrap();
    drop(writer);
    let number = std::os::fd::AsRawFd::as_raw_fd(&reader);
    let opened = OwnFile::open_given(Path::new(&format!("/dev/fd/{number}"))).unwrap();
    assert_eq!((opened.read_text(100).unwrap().as_str(), opened.doubt()), ("from a pipe", None));
}

#[test]
fn reading_a_file_above_the_limit_is_an_error() {
    let (_top, file) = deep();
    assert!(OwnFile::open(&file).unwrap().read(3).is_err());
    fs::write(&file, b"\xff").unwrap();
    assert!(OwnFile::open(&file).unwrap().read_text(3).is_err());
}
