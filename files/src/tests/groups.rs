//! What a group can write in which its owner is alone.

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
