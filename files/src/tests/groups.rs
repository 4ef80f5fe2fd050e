//! Files that the owner's private group can write.

use std::os::fd::AsFd;

use nix::unistd::User;

use super::*;

/// With umask 002, files are writable by the owner's private group.
#[test]
fn a_group_is_private_if_its_owner_is_the_only_member() {
    let users = "root:x:0:0:::\nalice:x:1000:1000:::\nbob:x:1001:1001:::\n";
    let members = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let alone = |group: &str, names: &[&str], gid, users: &str| {
        group::is_alone("alice", group, &members(names), gid, users)
    };
    assert!(alone("alice", &[], 1000, users));
    assert!(alone("alice", &["alice"], 1000, users));
    assert!(!alone("alice", &["alice", "bob"], 1000, users), "bob is a member of the group");
    assert!(!alone("users", &[], 1000, users), "the group does not have the user's name");
    let shared = format!("{users}carol:x:1002:1000:::\n");
    assert!(!alone("alice", &[], 1000, &shared), "the group is also carol's login group");
    assert!(!group::is_private(0, 0), "root has no private group");
    assert!(!group::is_private(STRANGER, STRANGER), "an unknown user has no private group");
}

/// A user of this system with a private group; `None` unless the test can give files to this user.
fn user_with_own_group() -> Option<User> {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let names = users.lines().filter_map(|line| line.split(':').next());
    let found = names
        .filter_map(|name| User::from_name(name).ok().flatten())
        .find(|user| group::is_private(user.uid.as_raw(), user.gid.as_raw()));
    let found = found.filter(|_| can_give_away());
    if found.is_none() {
        eprintln!("skipped: a user with a private group");
    }
    found
}

/// Uses a real user and a real group of this system.
#[test]
fn a_path_writable_by_its_owners_private_group_raises_no_doubt() {
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
    assert_eq!(judged(user.gid.as_raw(), 0o777), [true; 3], "all users can write");
    assert_eq!(judged(STRANGER, 0o775), [true; 3], "another group can write");
    assert_eq!(judged(0, 0o775), [true; 3], "root's group can write");
}

/// With an access control list, the group bits of the mode are the list's mask, so it does not matter whose group it is.
#[cfg(target_os = "linux")]
#[test]
fn an_access_control_list_that_lets_others_write_raises_a_doubt() {
    use rustix::fs::{XattrFlags, removexattr, setxattr};

    let Some(user) = user_with_own_group() else { return };
    // The kernel's format: version 2, then each entry with its tag, its rights, and the id of its user or group.
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
            return eprintln!("skipped: a file system with access control lists");
        }
        for (_, kind) in kinds.iter().filter(|(of, _)| *of == path) {
            assert_eq!(judged(path, *kind), [true; 2], "{name}, {kind:?}");
        }
        // Without write permission for the group, the mask also denies the user in the list.
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
