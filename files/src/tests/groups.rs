//! What a group can write in which its owner is alone.

use std::os::fd::AsFd;

use nix::unistd::User;

use super::*;

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

/// A user of this system with a group of its own, to whom files can be given.
fn user_with_own_group() -> Option<User> {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let names = users.lines().filter_map(|line| line.split(':').next());
    let found = names
        .filter_map(|name| User::from_name(name).ok().flatten())
        .find(|user| group::is_private(user.uid.as_raw(), user.gid.as_raw()));
    let found = found.filter(|_| can_give_away());
    if found.is_none() {
        eprintln!("skipped: a user with a group of its own");
    }
    found
}

/// The same with a user and a group of this system.
#[test]
fn what_the_private_group_of_its_owner_can_write_raises_no_doubt() {
    let Some(user) = user_with_own_group() else { return };
    let top = tempfile::tempdir().unwrap();
    let path = make_folder(&top.path().join("folder"), 0o775);
    let judged = |gid: u32, mode: u32| {
        chown(&path, Some(user.uid.as_raw()), Some(gid)).unwrap();
        set(&path, mode);
        let stat = nix::sys::stat::stat(&path).unwrap();
        let opened = std::fs::File::open(&path).unwrap();
        [doubt::Kind::File, doubt::Kind::Folder, doubt::Kind::Place]
            .map(|kind| doubt::judge_for(user.uid, &path, &stat, kind, Some(opened.as_fd())).is_some())
    };
    assert_eq!(judged(user.gid.as_raw(), 0o2775), [false; 3], "{user:?}");
    assert_eq!(judged(user.gid.as_raw(), 0o777), [true; 3], "everybody can");
    assert_eq!(judged(STRANGER, 0o775), [true; 3], "another group can");
    assert_eq!(judged(0, 0o775), [true; 3], "root's group can");
}

/// The same where a list beside the mode lets a stranger write: the group's bits are the list's mask then, whose group
/// that is does not matter.
#[cfg(target_os = "linux")]
#[test]
fn what_a_list_lets_a_stranger_write_raises_a_doubt_whosever_the_group_is() {
    use rustix::fs::{XattrFlags, removexattr, setxattr};

    let Some(user) = user_with_own_group() else { return };
    // As the kernel takes it: version 2, and each entry with its tag, its rights, and whom it is of.
    let list: Vec<u8> = [
        (1_u16, 6_u16, u32::MAX),
        (2, 6, STRANGER),
        (4, 0, u32::MAX),
        (0x10, 6, u32::MAX),
        (0x20, 0, u32::MAX),
    ]
    .into_iter()
    .flat_map(|(tag, rights, of)| [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &of.to_le_bytes()].concat())
    .collect();
    let list = [&2_u32.to_le_bytes()[..], &list].concat();
    let top = tempfile::tempdir().unwrap();
    let folder = make_folder(&top.path().join("folder"), 0o770);
    let file = make_file(&folder.join("file"), "text", 0o660);
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    for path in [&folder, &file] {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
    let judged = |path: &Path, kind| {
        use nix::fcntl::{OFlag, open};

        let stat = nix::sys::stat::stat(path).unwrap();
        let whole = open(path, OFlag::O_RDONLY, nix::sys::stat::Mode::empty()).unwrap();
        let gone_through = open(path, OFlag::O_PATH, nix::sys::stat::Mode::empty()).unwrap();
        [whole, gone_through]
            .map(|fd| doubt::judge_for(user.uid, path, &stat, kind, Some(fd.as_fd())).is_some())
    };
    let kinds = [(&file, doubt::Kind::File), (&folder, doubt::Kind::Folder), (&folder, doubt::Kind::Place)];
    for (path, kind) in kinds {
        assert_eq!(judged(path, kind), [false; 2], "{kind:?}");
    }
    for (path, name) in [
        (&file, "system.posix_acl_access"),
        (&folder, "system.posix_acl_access"),
        (&folder, "system.posix_acl_default"),
    ] {
        if setxattr(path, name, &list, XattrFlags::empty()) == Err(rustix::io::Errno::OPNOTSUPP) {
            return eprintln!("skipped: a file system with lists");
        }
        for (_, kind) in kinds.iter().filter(|(of, _)| *of == path) {
            assert_eq!(judged(path, *kind), [true; 2], "{name}, {kind:?}");
        }
        // What is closed to the group is closed to whom the list names.
        let before = path.metadata().unwrap().permissions();
        set(path, 0o600);
        for (_, kind) in kinds.iter().filter(|(of, _)| *of == path) {
            assert_eq!(judged(path, *kind), [false; 2], "{name}, {kind:?}");
        }
        fs::set_permissions(path, before).unwrap();
        removexattr(path, name).unwrap();
        set(path, if path.is_dir() { 0o770 } else { 0o660 });
        for (_, kind) in kinds.iter().filter(|(of, _)| *of == path) {
            assert_eq!(judged(path, *kind), [false; 2], "{name}, {kind:?}");
        }
    }
}
