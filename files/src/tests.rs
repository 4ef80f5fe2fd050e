//! Each test makes a way to a file and says who could have put another one there.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;

/// Far longer than a race takes: a thread that panics in the other ends it, too.
const PATIENCE: Duration = Duration::from_mins(1);

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

/// The sticky bit protects what is there, not what is to come.
#[test]
fn a_folder_to_write_into_is_nobody_elses_and_has_no_sticky_bit_to_be_excused_by() {
    let top = tempfile::tempdir().unwrap();
    let shared = make_folder(&top.path().join("shared"), 0o1777);
    let doubt = Some(Doubt::Mode { path: shared.clone(), mode: 0o1777, is_folder: true });
    assert_eq!(folder(&shared).unwrap(), doubt);
    assert!(doubt.as_ref().unwrap().to_string().contains("choose a folder of your own"));
    assert_eq!(place(&shared.join("file")).unwrap().doubt, doubt);
    let below = shared.join("below/deep");
    assert_eq!(make_folder_and_judge(&below), None, "a folder of ours in it is ours");
    assert_eq!(below.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    set(&shared, 0o777);
    assert!(make_folder_and_judge(&shared.join("another/deep")).is_some());
    assert!(!shared.join("another").exists(), "nothing is made where it would not be used");
}

fn make_folder_and_judge(path: &Path) -> Option<Doubt> {
    super::make_folder(path).unwrap()
}

#[test]
fn a_file_is_written_where_the_last_link_leads_and_every_link_is_judged() {
    let top = tempfile::tempdir().unwrap();
    let safe = make_folder(&top.path().join("safe"), 0o700);
    let open = make_folder(&top.path().join("open"), 0o777);
    let plain = place(&safe.join("new")).unwrap();
    assert_eq!((plain.path, plain.is_linked, plain.doubt), (safe.join("new"), false, None));
    symlink("safe/target", top.path().join("first")).unwrap();
    symlink("first", top.path().join("second")).unwrap();
    for _ in 0..2 {
        let linked = place(&top.path().join("second")).unwrap();
        assert_eq!((linked.path, linked.is_linked, linked.doubt), (safe.join("target"), true, None));
        // There or not, it is the same place.
        make_file(&safe.join("target"), "", 0o600);
    }
    symlink("safe", top.path().join("folder")).unwrap();
    assert!(!place(&top.path().join("folder/new")).unwrap().is_linked, "the folder is, not the file");
    symlink(&safe, open.join("away")).unwrap();
    symlink(open.join("target"), safe.join("out")).unwrap();
    for way in [open.join("away/file"), safe.join("out")] {
        assert!(
            matches!(place(&way).unwrap().doubt, Some(Doubt::Mode { path, .. }) if path == open),
            "{way:?}"
        );
    }
    symlink("ring", top.path().join("ring")).unwrap();
    assert!(place(&top.path().join("ring")).is_err());
}

/// umask 002: what a group can write in which nobody else is.
#[test]
fn the_private_group_of_its_owner_is_nobody_else() {
    let users = "root:x:0:0:::\nalice:x:1000:1000:::\nbob:x:1001:1001:::\n";
    let members = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let alone = |group: &str, names: &[&str], gid, users: &str| {
        group::is_alone("alice", group, &members(names), gid, users)
    };
    assert!(alone("alice", &[], 1000, users));
    assert!(alone("alice", &["alice"], 1000, users));
    assert!(!alone("alice", &["alice", "bob"], 1000, users), "bob is in it");
    assert!(!alone("users", &[], 1000, users), "a group of another name");
    let shared = format!("{users}carol:x:1002:1000:::\n");
    assert!(!alone("alice", &[], 1000, &shared), "it is carol's group at login");
    assert!(!group::is_private(0, 0), "root's has whoever");
    assert!(!group::is_private(STRANGER, STRANGER), "nobody knows either");
}

/// The same with a user and a group of this system.
#[test]
fn what_the_private_group_of_its_owner_can_write_raises_no_doubt() {
    use nix::unistd::User;

    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let names = users.lines().filter_map(|line| line.split(':').next());
    let found = names
        .filter_map(|name| User::from_name(name).ok().flatten())
        .find(|user| group::is_private(user.uid.as_raw(), user.gid.as_raw()));
    let Some(user) = found.filter(|_| can_give_away()) else {
        return eprintln!("skipped: a user with a group of its own");
    };
    let top = tempfile::tempdir().unwrap();
    let path = make_folder(&top.path().join("folder"), 0o775);
    let judged = |gid: u32, mode: u32| {
        chown(&path, Some(user.uid.as_raw()), Some(gid)).unwrap();
        set(&path, mode);
        let stat = nix::sys::stat::stat(&path).unwrap();
        [doubt::Kind::File, doubt::Kind::Folder, doubt::Kind::Place]
            .map(|kind| doubt::judge_for(user.uid, &path, &stat, kind).is_some())
    };
    assert_eq!(judged(user.gid.as_raw(), 0o2775), [false; 3], "{user:?}");
    assert_eq!(judged(user.gid.as_raw(), 0o777), [true; 3], "everybody can");
    assert_eq!(judged(STRANGER, 0o775), [true; 3], "another group can");
    assert_eq!(judged(0, 0o775), [true; 3], "root's group can");
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
#[expect(clippy::disallowed_methods, reason = "nothing here has a runtime, and so no clock that is paused")]
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
                panic!("in a minute only {seen:?} of either were seen");
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
