//! Giving up root after the ports are bound: `[galerne]runas` (CONF-95). Called before the first
//! thread is started, so that it holds for all of them.

use std::fs;

use rustix::process::{Gid, Uid};

/// Who the process becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// The further groups that the user belongs to.
    pub groups: Vec<u32>,
}

/// Whether we are root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The identity of `user` or `user:group`, as the files of the system know it.
///
/// # Errors
/// No such user or group.
pub fn identity(runas: &str) -> Result<Identity, String> {
    let passwd = fs::read_to_string("/etc/passwd").map_err(|e| format!("/etc/passwd: {e}"))?;
    let group = fs::read_to_string("/etc/group").unwrap_or_default();
    find(runas, &passwd, &group)
}

fn find(runas: &str, passwd: &str, groups: &str) -> Result<Identity, String> {
    let (user, group) = match runas.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (runas, None),
    };
    let line = |text: &str, name: &str| {
        let found = text
            .lines()
            .find(|line| line.split(':').next() == Some(name));
        found.map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>())
    };
    let number =
        |fields: &[String], at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok());
    let entry = line(passwd, user).ok_or_else(|| format!("there is no user {user}"))?;
    let uid = number(&entry, 2).ok_or_else(|| format!("{user} has no number"))?;
    let gid = match group {
        None => number(&entry, 3),
        Some(group) => {
            let entry = line(groups, group).ok_or_else(|| format!("there is no group {group}"))?;
            number(&entry, 2)
        }
    };
    let gid = gid.ok_or_else(|| format!("the group of {runas} has no number"))?;
    Ok(Identity {
        uid,
        gid,
        groups: groups_of(user, groups),
    })
}

/// Numbers of the groups that name the user as a member.
fn groups_of(user: &str, groups: &str) -> Vec<u32> {
    let fields = groups
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let is_member = |fields: &Vec<&str>| {
        fields
            .get(3)
            .is_some_and(|members| members.split(',').any(|m| m == user))
    };
    fields
        .filter(is_member)
        .filter_map(|fields| fields.get(2)?.parse().ok())
        .collect()
}

/// Becomes that identity, for good.
///
/// # Errors
/// The system refuses: the process must not go on as root.
pub fn become_identity(identity: &Identity) -> Result<(), String> {
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    let refused = |e: rustix::io::Errno| format!("the system refuses: {e}");
    let groups: Vec<Gid> = std::iter::once(gid)
        .chain(identity.groups.iter().copied().map(Gid::from_raw))
        .collect();
    rustix::thread::set_thread_groups(&groups).map_err(refused)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(refused)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(refused)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nmail:x:8:12::/var/mail:/usr/sbin/nologin\n";
    const GROUPS: &str = "root:x:0:\nmail:x:12:\ntls:x:101:mail\n";

    #[test]
    fn conf_95_runas_names_a_user_or_user_and_group_and_keeps_its_groups() {
        assert_eq!(
            find("mail", PASSWD, GROUPS),
            Ok(Identity {
                uid: 8,
                gid: 12,
                groups: vec![101]
            })
        );
        assert_eq!(
            find("mail:tls", PASSWD, GROUPS),
            Ok(Identity {
                uid: 8,
                gid: 101,
                groups: vec![101]
            })
        );
        assert!(
            find("nobody", PASSWD, GROUPS)
                .unwrap_err()
                .contains("no user nobody")
        );
        assert!(
            find("mail:x", PASSWD, GROUPS)
                .unwrap_err()
                .contains("no group x")
        );
    }
}
