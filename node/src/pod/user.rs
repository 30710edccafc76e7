//! Whom a container runs as: the image's user, looked up in the image's own files, and the
//! security contexts over it.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use shim::User;

/// The texts of an image's /etc/passwd and /etc/group; empty when it has none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    pub(crate) passwd: String,
    pub(crate) group: String,
}

impl Accounts {
    /// The fields of the first line of `text` that matches.
    fn find(text: &str, matches: impl Fn(&[&str]) -> bool) -> Option<Vec<&str>> {
        text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.len() > 2 && matches(fields))
    }

    fn user(&self, who: &str) -> Result<(u32, Option<u32>, String), String> {
        let number = who.parse::<u32>().ok();
        let line =
            Self::find(&self.passwd, |fields| fields[0] == who || number.is_some() && fields[2].parse().ok() == number);
        let gid = |fields: &[&str]| fields.get(3).and_then(|gid| gid.parse().ok());
        match (line, number) {
            (Some(fields), number) => {
                let uid = number.or_else(|| fields[2].parse().ok());
                let uid = uid.ok_or_else(|| format!("no uid for user {who:?} in /etc/passwd"))?;
                Ok((uid, gid(&fields), fields[0].to_owned()))
            }
            (None, Some(number)) => Ok((number, None, String::new())),
            (None, None) => Err(format!("unable to find user {who}: no matching entries in passwd file")),
        }
    }

    fn group(&self, which: &str) -> Result<u32, String> {
        if let Ok(gid) = which.parse() {
            return Ok(gid);
        }
        let line = Self::find(&self.group, |fields| fields[0] == which);
        let gid = line.and_then(|fields| fields[2].parse().ok());
        gid.ok_or_else(|| format!("unable to find group {which}: no matching entries in group file"))
    }

    /// The groups that list the user as a member.
    fn memberships(&self, name: &str) -> Vec<u32> {
        let member = |line: &&str| {
            let members = line.split(':').nth(3).unwrap_or_default();
            !name.is_empty() && members.split(',').any(|member| member.trim() == name)
        };
        let lines = self.group.lines().filter(member);
        lines.filter_map(|line| line.split(':').nth(2)?.parse().ok()).collect()
    }
}

/// The user of a container. `image` is the image's `User`: empty, `user`, `user:group`, names or
/// numbers.
///
/// # Errors
/// A text for the reason CreateContainerConfigError.
pub(crate) fn user(spec: &PodSpec, container: &Container, image: &str, accounts: &Accounts) -> Result<User, String> {
    let pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let id = |id: i64| u32::try_from(id).map_err(|_| format!("id {id} is out of range"));
    let (image_user, image_group) = match image.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (image, None),
    };
    let wanted = own.run_as_user.or(pod.run_as_user);
    let (uid, primary, name) = match wanted {
        Some(uid) => accounts.user(&id(uid)?.to_string())?,
        None if image_user.is_empty() => accounts.user("0")?,
        None => accounts.user(image_user)?,
    };
    let group = own.run_as_group.or(pod.run_as_group);
    let gid = match (group, image_group) {
        (Some(gid), _) => id(gid)?,
        (None, Some(group)) if wanted.is_none() => accounts.group(group)?,
        _ => primary.unwrap_or(0),
    };
    if own.run_as_non_root.or(pod.run_as_non_root) == Some(true) && uid == 0 {
        return Err(match wanted {
            Some(_) => "container's runAsUser breaks non-root policy".into(),
            None => "container has runAsNonRoot and image will run as root".into(),
        });
    }
    let mut groups = accounts.memberships(&name);
    for extra in pod.supplemental_groups.iter().flatten().chain(&pod.fs_group) {
        groups.push(id(*extra)?);
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(User { uid, gid, groups })
}

/// Fails when a node that has only one user would have to run a container as another one.
pub(crate) fn only_root(user: &User) -> Result<(), String> {
    if user.uid == 0 && user.gid == 0 {
        return Ok(());
    }
    Err(format!(
        "container runs as user {}:{}, but this node has only user 0: give the one who starts the \
         cluster a range in /etc/subuid and /etc/subgid (and install newuidmap), or start it as root",
        user.uid, user.gid
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0::/root:/bin/sh\nnginx:x:101:102::/:/bin/false\n".into(),
            group: "root:x:0:\nnginx:x:102:\nssl:x:110:www,nginx\n".into(),
        }
    }

    fn of(pod: serde_json::Value, own: serde_json::Value, image: &str) -> Result<(u32, u32, Vec<u32>), String> {
        let spec = json!({"securityContext": pod, "containers": []});
        let container = json!({"name": "c", "securityContext": own});
        let (spec, container) = (serde_json::from_value(spec).unwrap(), serde_json::from_value(container).unwrap());
        user(&spec, &container, image, &accounts()).map(|u| (u.uid, u.gid, u.groups))
    }

    #[test]
    fn the_image_names_a_user_and_contexts_overrule_it() {
        let none = || json!({});
        for (pod, own, image, expected) in [
            (none(), none(), "", (0, 0, vec![])),
            (none(), none(), "nginx", (101, 102, vec![110])),
            (none(), none(), "nginx:ssl", (101, 110, vec![110])),
            (none(), none(), "1000", (1000, 0, vec![])),
            (none(), none(), "1000:2000", (1000, 2000, vec![])),
            (json!({"runAsUser": 5}), none(), "nginx", (5, 0, vec![])),
            (
                json!({"runAsUser": 5, "fsGroup": 7, "supplementalGroups": [9]}),
                json!({"runAsUser": 6, "runAsGroup": 8}),
                "nginx:nginx",
                (6, 8, vec![7, 9]),
            ),
        ] {
            assert_eq!(of(pod, own, image).unwrap(), expected, "{image}");
        }
    }

    #[test]
    fn unknown_names_and_root_are_refused() {
        let error = of(json!({}), json!({}), "www").unwrap_err();
        assert_eq!(error, "unable to find user www: no matching entries in passwd file");
        let error = of(json!({}), json!({}), "nginx:www").unwrap_err();
        assert_eq!(error, "unable to find group www: no matching entries in group file");
        let error = of(json!({"runAsNonRoot": true}), json!({}), "").unwrap_err();
        assert_eq!(error, "container has runAsNonRoot and image will run as root");
        assert!(of(json!({"runAsNonRoot": true}), json!({"runAsUser": 0}), "nginx").is_err());
        assert!(of(json!({"runAsNonRoot": true}), json!({}), "nginx").is_ok());
        assert!(of(json!({"runAsUser": -1}), json!({}), "").is_err());
    }

    #[test]
    fn a_node_with_one_user_says_so() {
        assert!(only_root(&User::default()).is_ok());
        let nginx = User { uid: 101, gid: 102, groups: vec![] };
        assert!(only_root(&nginx).unwrap_err().contains("user 101:102"));
    }
}
