//! Private groups: many systems create one for each user (umask 002).

use std::fs::read_to_string;

use nix::unistd::{Gid, Group, Uid, User};

/// Whether `gid` is the private group of the user `uid`: it has the name of the user, is the user's login group, and has no
/// other member. The sshd of Debian and Fedora has the same rule. Root has no private group.
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

/// Whether `user` is the only member: `members` has no other name, and no other line of `users`, in the format of
/// `/etc/passwd`, has the login group `gid`. Users of a directory service cannot be listed: for them the name must suffice.
pub(crate) fn is_alone(user: &str, group: &str, members: &[String], gid: u32, users: &str) -> bool {
    let has_it = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next().unwrap_or_default();
        name != user && fields.nth(2).is_some_and(|field| field.parse() == Ok(gid))
    };
    user == group && members.iter().all(|member| member == user) && !users.lines().any(has_it)
}
