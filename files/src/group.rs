//! A group that is one user's alone, which many systems make with the user (umask 002): it shares with nobody.

use std::fs::read_to_string;

use nix::unistd::{Gid, Group, Uid, User};

/// Whether group `gid` is the private one of user `uid`: of the user's own name, the group of its login, and without
/// another member. What Debian's and Fedora's sshd asks before it believes a file that a group can write. Root has none.
pub(crate) fn is_private(uid: u32, gid: u32) -> bool {
    if uid == 0 || gid == 0 {
        return false;
    }
    let (Ok(Some(user)), Ok(Some(group))) =
        (User::from_uid(Uid::from_raw(uid)), Group::from_gid(Gid::from_raw(gid)))
    else {
        return false;
    };
    let users = read_to_string("/etc/passwd").unwrap_or_default();
    user.gid.as_raw() == gid && is_alone(&user.name, &group.name, &group.mem, gid, &users)
}

/// Whether `user` alone is in the group: no member of it has another name, and no other line of `users`, in the form of
/// `/etc/passwd`, has it as its group. Users of a directory service cannot be listed; the group's name stands for that.
pub(crate) fn is_alone(user: &str, group: &str, members: &[String], gid: u32, users: &str) -> bool {
    let has_it = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next().unwrap_or_default();
        name != user && fields.nth(2).is_some_and(|field| field.parse() == Ok(gid))
    };
    user == group && members.iter().all(|member| member == user) && !users.lines().any(has_it)
}
