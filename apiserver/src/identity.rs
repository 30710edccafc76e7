/// Who asks. Authentication makes it; authorisation and reviews read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's name; the common name of a client certificate.
    pub user: String,
    /// The groups; the organisations of a client certificate, and `system:authenticated`.
    pub groups: Vec<String>,
}

impl Identity {
    /// A user in these groups and in `system:authenticated`.
    pub fn new(user: impl Into<String>, groups: impl IntoIterator<Item = String>) -> Self {
        let mut groups: Vec<String> = groups.into_iter().collect();
        groups.push("system:authenticated".to_owned());
        Identity { user: user.into(), groups }
    }

    /// The cluster's own administrator, in the group `system:masters`.
    pub fn admin() -> Self {
        Self::new("system:admin", ["system:masters".to_owned()])
    }
}
