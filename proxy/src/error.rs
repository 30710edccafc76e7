//! What can go wrong with the data plane.

use std::io;

use rustix::io::Errno;

/// Why the kernel data plane could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration contradicts itself.
    #[error("configure the kernel data plane: {0}")]
    Config(&'static str),
    /// There is no nfnetlink to talk to.
    #[error("open a netfilter socket: {0}; the kernel needs nf_tables (CONFIG_NF_TABLES)")]
    Socket(#[source] io::Error),
    /// The caller may not change the rules of this network namespace.
    #[error("{doing}: not permitted; it takes CAP_NET_ADMIN in the network namespace (root, or a user namespace)")]
    Denied {
        /// What was tried.
        doing: String,
    },
    /// The kernel was built without something that the rules need.
    #[error("{doing}: the kernel lacks a part of nf_tables that this needs ({source})")]
    Lacks {
        /// What was tried, with the expressions that it used.
        doing: String,
        /// The kernel's own word.
        source: io::Error,
    },
    /// Something that was to be changed is not there: another program removed it.
    #[error("{doing}: it is not in the kernel any more; another program removed it")]
    Gone {
        /// What was tried.
        doing: String,
    },
    /// The kernel refused to balance connections where they begin.
    #[error("{doing}: {source}; that takes cgroup v2, and CAP_BPF with CAP_NET_ADMIN outside of user namespaces")]
    Bpf {
        /// What was tried.
        doing: String,
        /// The kernel's own word.
        source: io::Error,
    },
    /// The kernel refused for another reason.
    #[error("{doing}: {source}")]
    Kernel {
        /// What was tried.
        doing: String,
        /// The kernel's own word.
        source: io::Error,
    },
}

impl Error {
    /// The kernel's answer `code` to the attempt `doing`; `makes` is true where it would have made
    /// a rule, chain or set, for which "not found" means an unknown kind.
    pub(crate) fn from_kernel(code: i32, doing: &str, makes: bool) -> Self {
        let doing = doing.to_owned();
        let source = io::Error::from_raw_os_error(code);
        match Errno::from_raw_os_error(code) {
            Errno::PERM | Errno::ACCESS => Error::Denied { doing },
            Errno::NOENT if !makes => Error::Gone { doing },
            Errno::NOENT | Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT => {
                Error::Lacks { doing, source }
            }
            _ => Error::Kernel { doing, source },
        }
    }
}
