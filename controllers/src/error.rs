//! What a reconciliation can fail with.

/// Why a reconciliation did not finish; each one is retried with a growing delay.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or could not be reached.
    #[error("call the API server: {0}")]
    Api(#[from] kube::Error),
    /// A selector in an object does not parse (the API server lets none pass).
    #[error("read the selector of {0}")]
    Selector(String),
    /// Content of a namespace that is being deleted is still there.
    #[error("empty the namespace {0}: {1} objects remain")]
    Remaining(String, usize),
    /// An owner reference names a kind that the API server does not serve.
    #[error("find the owner kind {0} {1}")]
    UnknownKind(String, String),
}

impl Error {
    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Error::Api(kube::Error::Api(status)) => Some(status),
            _ => None,
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.status().is_some_and(|s| s.is_not_found())
    }

    /// A lost race: somebody wrote first, and the watch will say what.
    pub(crate) fn is_conflict(&self) -> bool {
        self.status().is_some_and(|s| s.is_conflict() && !s.is_already_exists())
    }

    pub(crate) fn is_already_exists(&self) -> bool {
        self.status().is_some_and(|s| s.is_already_exists())
    }

    /// The message as the API server gave it, for events and conditions.
    pub(crate) fn message(&self) -> String {
        self.status().map_or_else(|| self.to_string(), |s| s.message.clone())
    }

    /// The namespace is going away: nothing can be made in it any more.
    pub(crate) fn is_namespace_terminating(&self) -> bool {
        self.status().is_some_and(|s| {
            s.is_forbidden()
                && s.details.as_ref().is_some_and(|d| d.causes.iter().any(|c| c.reason == "NamespaceTerminating"))
        })
    }
}

/// Turns "it is not there" into success: what was to be removed is gone.
pub(crate) fn gone_is_fine<T>(result: Result<T, kube::Error>) -> Result<(), Error> {
    match result.map_err(Error::from) {
        Ok(_) => Ok(()),
        Err(e) if e.is_not_found() => Ok(()),
        Err(e) => Err(e),
    }
}
